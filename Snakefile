"""tessera, the whole way: from raw tiles to a segmented, measured volume.

    snakemake --profile profiles/local --configfile mine.yaml      runs it
    snakemake --profile profiles/local --configfile mine.yaml -n   shows what would run

Without --configfile it is the demo of config.yaml. Each stage is one file in workflow/rules/.
"""

from snakemake.utils import min_version

min_version("9.0")

# A user's own file stands alone: merged into the demo's, it would inherit the demo's specimen.
if not config:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/recon.smk"
include: "workflow/rules/mosaic.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/label.smk"
include: "workflow/rules/assemble.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        f"{ROOT}/report/index.html",
        # Also what lies between: a record that `tessera verify` struck is made again.
        RECORDS,
