"""What all rules share: the settings, checked before the first job, and how a job is launched."""

import os
import re
import shlex
import sys

from tessera import layout
from tessera.check import check_config
from tessera.config import parse_config, section_json
from tessera.errors import TesseraError

layout.set_environment()

try:
    CONFIG = parse_config(config)
    SCANS = layout.scans(CONFIG)
    # Cluster jobs parse this file again; what they run was checked when the run began.
    if workflow.is_main_process:
        check_config(CONFIG)
    MOSAIC_BATCHES = layout.batches(CONFIG, CONFIG.mosaic.batches, CONFIG.mosaic.shard)
    PREDICT_BATCHES = layout.batches(
        CONFIG, CONFIG.predict.batches, CONFIG.predict.block
    )
    LABEL_BATCHES = layout.batches(CONFIG, CONFIG.label.batches, CONFIG.label.block)
    FILL_BATCHES = layout.fill_batches(CONFIG)
except TesseraError as error:
    print(f"tessera: {error}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(error.exit_status)

ROOT = layout.specimen_root(CONFIG)
VOLUME = f"{ROOT}/mosaic/volume.json"
# model -> classes of it whose objects get ids
OBJECTS = {
    name: [c for c in CONFIG.label.classes if c in model.classes]
    for name, model in CONFIG.models.items()
}
# Flood-filling networks fill subvolumes; all others predict block by block.
FILLING = [name for name, model in CONFIG.models.items() if model.net == "ffn"]
BLOCKWISE = [name for name in CONFIG.models if name not in FILLING]
# Where an assembly lies below label/{model}/{cls}/: what is agglomerated later, apart.
AGGLOMERATE = CONFIG.label.assembly.agglomerate
FRAGMENTS = "fragments/" if AGGLOMERATE else ""
AGGLOMERATED = [(m, c) for m in FILLING for c in OBJECTS[m] if AGGLOMERATE]


def one_of(names):
    """A wildcard's constraint."""
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    tile=one_of(SCANS),
    model=one_of(CONFIG.models),
    cls=r"[A-Za-z0-9_-]+",
    batch=r"\d{4}",


def settings(section):
    """One stage's section as canonical JSON: it changes only when the section does."""
    return section_json(getattr(CONFIG, section))


def model_settings(wildcards):
    """One model's section as canonical JSON."""
    return section_json(CONFIG.models[wildcards.model])


def records(folder, count):
    """The records of a stage's batches."""
    return [f"{folder}/records/{number:04d}.json" for number in range(count)]


def labelled(model):
    """Files with labels that a model learns from."""
    settings = CONFIG.models[model]
    sources = [*settings.labels, *(s for v in settings.volumes for s in v.labels)]
    return [source.path for source in sources]


def predict_batches(model):
    """How many batches a model's prediction has."""
    return FILL_BATCHES if model in FILLING else PREDICT_BATCHES


ASSEMBLY = f"{ROOT}/label/{{model}}/{{cls}}/{FRAGMENTS}"


def assembly(wildcards):
    """Where one class is assembled, as a prefix of paths."""
    return ASSEMBLY.format(model=wildcards.model, cls=wildcards.cls)


def label_batches(model):
    """How many batches label a model's objects: those of a fill are by subvolumes, too."""
    return FILL_BATCHES if model in FILLING else LABEL_BATCHES


def above(levels):
    """The folder that many levels above a rule's first output, as a params function."""

    def folder(wildcards, output):
        path = str(output[0])
        for _ in range(levels):
            path = os.path.dirname(path)
        return path

    return folder


RECORDS = [f"{ROOT}/recon/{tile}/records/0000.json" for tile in SCANS]
if not CONFIG.volume:
    RECORDS += records(f"{ROOT}/mosaic", MOSAIC_BATCHES)
for name, classes in OBJECTS.items():
    RECORDS += records(f"{ROOT}/predict/{name}", predict_batches(name))
    for cls in classes:
        folder = f"{ROOT}/label/{name}/{cls}"
        RECORDS += records(folder, label_batches(name))
        if name in BLOCKWISE:
            RECORDS += records(f"{folder}/local", LABEL_BATCHES)
            continue
        RECORDS += records(f"{folder}/{FRAGMENTS}match", FILL_BATCHES)
        if AGGLOMERATE:
            RECORDS += records(f"{folder}/fragments", FILL_BATCHES)
            RECORDS += records(f"{folder}/fragments/contacts", FILL_BATCHES)
            RECORDS += records(f"{ROOT}/predict/{name}/refill", FILL_BATCHES)


# On one machine; a cluster's profile names its own as the resource `mpi`. Jobs beside each other
# would otherwise bind their ranks to the same first cores, and ranks that wait would spin.
MPIEXEC = "mpiexec --oversubscribe --bind-to none --mca mpi_yield_when_idle 1"
# The mpiexec that is found, but where a killed one's files are in its way.
SCRIPT = shlex.quote(os.path.join(workflow.basedir, "workflow/scripts/mpiexec"))


def launch(wildcards, resources, threads):
    """What stands before a command: a site's modules and scratch, and MPI's launcher for ranks.

    All three come from the profile, as the resources `modules`, `scratch` and `mpi`.
    """
    before = ""
    if modules := resources.get("modules"):
        # A batch shell may not know `module` yet, and its scripts read variables that are not set.
        before += (
            "set +u; type module > /dev/null 2>&1 || . $MODULESHOME/init/bash; "
            f"module load {modules} || exit 1; set -u; "
        )
    if scratch := resources.get("scratch"):
        before += f"mkdir -p {scratch} && export TMPDIR={scratch} && "
    ranks = int(resources.get("tasks", 1))
    if ranks == 1:
        return before
    launcher = resources.get("mpi", MPIEXEC)
    if launcher.split()[0] == "mpiexec":
        launcher = launcher.replace("mpiexec", f"sh {SCRIPT}", 1)
    # srun does not know what sbatch was asked for and would give each rank one core.
    cores = f" --cpus-per-task={threads}" if launcher.split()[0] == "srun" else ""
    return f"{before}{launcher} -n {ranks}{cores} "


SIMULATED = f"{ROOT}/simulate"


def truth_options(wildcards, input):
    """What is known of a simulated specimen, kept aside until now."""
    if not CONFIG.simulate:
        return ""
    return (
        f"--truth {SIMULATED}/truth.json --truth-classes {SIMULATED}/truth.zarr "
        f"--truth-ids {SIMULATED}/soma_ids.zarr --density {SIMULATED}/density.zarr "
    )


def tile_options(wildcards):
    """Where the tiles lie, if the way starts from scans."""
    if not SCANS:
        return ""
    axes = " ".join(f"{ROOT}/recon/{tile}/axis.json" for tile in SCANS)
    return f"--positions {ROOT}/mosaic/positions.json --axis {axes}"


def profile_option():
    """The profile of this run, as its command line names it: it says how jobs are placed."""
    given = [word.partition("=") for word in sys.argv]
    for (name, equals, value), after in zip(given, [*sys.argv[1:], ""]):
        folder = value if equals else after
        if name == "--profile" and os.path.isdir(folder):
            return f"--profile {shlex.quote(folder)}"
    return ""


PROFILE = profile_option()
