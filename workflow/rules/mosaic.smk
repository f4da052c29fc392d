"""mosaic: solve the tiles' positions, fuse them; or take in a volume that exists."""

if CONFIG.volume:

    rule mosaic_import:
        output:
            VOLUME,
        log:
            f"{ROOT}/mosaic/logs/import.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/import.tsv"
        resources:
            tasks=1,
            mem_mb=2048,
        params:
            settings=settings("mosaic"),
            source=section_json(CONFIG.volume),
            folder=f"{ROOT}/mosaic",
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
        resources:
            mem_mb=4096,
        params:
            launch=launch,
            settings=settings("mosaic"),
            tiles=[f"{ROOT}/recon/{tile}" for tile in SCANS],
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
        params:
            settings=settings("mosaic"),
            folder=f"{ROOT}/mosaic",
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
        resources:
            tasks=1,
            mem_mb=2048,
        params:
            folder=f"{ROOT}/mosaic",
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
        resources:
            mem_mb=2048,
        params:
            launch=launch,
            folder=f"{ROOT}/mosaic",
        shell:
            "{params.launch}tessera mosaic finish {params.folder} > {log} 2>&1"
