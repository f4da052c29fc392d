"""plan: what the run will cost, before it begins; the report holds it against what it took."""


localrules:
    plan,


rule plan:
    output:
        f"{ROOT}/plan/plan.json",
    log:
        f"{ROOT}/plan/logs/plan.log",
    # Before all others and beside none: it measures how fast this machine is.
    priority: 100
    conda:
        "../../envs/tessera.yaml"
    threads: 2
    params:
        settings=section_json(CONFIG),
        # Not of the settings: another profile makes no other results.
        profile=lambda wildcards, threads: PROFILE,
    shell:
        "tessera plan --settings {params.settings:q} {params.profile} --json {output} > {log} 2>&1"
