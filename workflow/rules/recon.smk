"""recon: one raw scan to one reconstructed tile; a job a tile."""


rule recon:
    input:
        lambda wildcards: SCANS[wildcards.tile],
    output:
        update(f"{ROOT}/recon/{{tile}}/records/0000.json"),
    log:
        f"{ROOT}/recon/logs/{{tile}}.log",
    benchmark:
        f"{ROOT}/recon/benchmarks/{{tile}}.tsv"
    conda:
        "../../envs/recon.yaml"
    threads: 1
    resources:
        tasks=1,
        mem_mb=2048,
    params:
        settings=settings("recon"),
        folder=above(2),
        launch=launch,
    shell:
        "{params.launch}tessera recon --settings {params.settings:q} {input} {params.folder} "
        "--threads {threads} --ranks {resources.tasks} > {log} 2>&1"
