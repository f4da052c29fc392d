"""mosaic: solve the tiles' positions, fuse them; or take in a volume that exists."""

if CONFIG.volume:

    rule mosaic_import:
        output:
            VOLUME,
        log:
            f"{ROOT}/mosaic/logs/import.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/import.tsv"
        conda:
            "../../envs/tessera.yaml"
        resources:
            tasks=1,
            mem_mb=2048,
        params:
            settings=settings("mosaic"),
            source=section_json(CONFIG.volume),
            folder=above(1),
            launch=launch,
        shell:
            "{params.launch}tessera mosaic import --settings {params.settings:q} "
            "--source {params.source:q} {params.folder} --ranks {resources.tasks} > {log} 2>&1"

else:

    localrules:
        mosaic_store,

    rule mosaic_register:
        input:
            [f"{ROOT}/recon/{tile}/records/0000.json" for tile in SCANS],
        output:
            f"{ROOT}/mosaic/positions.json",
        log:
            f"{ROOT}/mosaic/logs/register.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/register.tsv"
        conda:
            "../../envs/tessera.yaml"
        resources:
            mem_mb=4096,
        params:
            launch=launch,
            settings=settings("mosaic"),
            tiles=lambda wildcards, input: [
                os.path.dirname(os.path.dirname(f)) for f in input
            ],
        shell:
            "{params.launch}tessera mosaic register --settings {params.settings:q} --out {output} "
            "{params.tiles} > {log} 2>&1"

    rule mosaic_store:
        input:
            f"{ROOT}/mosaic/positions.json",
        output:
            f"{ROOT}/mosaic/store.json",
        log:
            f"{ROOT}/mosaic/logs/store.log",
        conda:
            "../../envs/tessera.yaml"
        params:
            settings=settings("mosaic"),
            folder=above(1),
            batches=MOSAIC_BATCHES,
        shell:
            "tessera mosaic store --settings {params.settings:q} --batches {params.batches} "
            "--out {params.folder} {input} > {log} 2>&1"

    rule mosaic_fuse:
        input:
            f"{ROOT}/mosaic/store.json",
        output:
            update(f"{ROOT}/mosaic/records/{{batch}}.json"),
        log:
            f"{ROOT}/mosaic/logs/fuse_{{batch}}.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/fuse_{{batch}}.tsv"
        conda:
            "../../envs/tessera.yaml"
        resources:
            tasks=1,
            mem_mb=2048,
        params:
            folder=above(2),
            batches=MOSAIC_BATCHES,
            launch=launch,
        shell:
            "{params.launch}tessera mosaic fuse --batch {wildcards.batch} --of {params.batches} "
            "{params.folder} --ranks {resources.tasks} > {log} 2>&1"

    rule mosaic_finish:
        input:
            records(f"{ROOT}/mosaic", MOSAIC_BATCHES),
        output:
            VOLUME,
        log:
            f"{ROOT}/mosaic/logs/finish.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/finish.tsv"
        conda:
            "../../envs/tessera.yaml"
        resources:
            mem_mb=2048,
        params:
            launch=launch,
            folder=above(1),
        shell:
            "{params.launch}tessera mosaic finish {params.folder} > {log} 2>&1"
