"""mosaic: solve the tiles' positions, fuse them; or take in a volume that exists."""

if CONFIG.volume:

    rule mosaic_import:
        output:
            VOLUME,
        params:
            settings=settings("mosaic"),
            source=section_json(CONFIG.volume),
            folder=f"{ROOT}/mosaic",
            launch=launch,
        log:
            f"{ROOT}/mosaic/logs/import.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/import.tsv"
        resources:
            tasks=1,
            mem_mb=2048,
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
        params:
            settings=settings("mosaic"),
            tiles=[f"{ROOT}/recon/{tile}" for tile in SCANS],
        log:
            f"{ROOT}/mosaic/logs/register.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/register.tsv"
        resources:
            mem_mb=4096,
        shell:
            "tessera mosaic register --settings {params.settings:q} --out {output} "
            "{params.tiles} > {log} 2>&1"

    rule mosaic_store:
        input:
            f"{ROOT}/mosaic/positions.json",
        output:
            f"{ROOT}/mosaic/store.json",
        params:
            settings=settings("mosaic"),
            folder=f"{ROOT}/mosaic",
            batches=MOSAIC_BATCHES,
        log:
            f"{ROOT}/mosaic/logs/store.log",
        shell:
            "tessera mosaic store --settings {params.settings:q} --batches {params.batches} "
            "--out {params.folder} {input} > {log} 2>&1"

    rule mosaic_fuse:
        input:
            f"{ROOT}/mosaic/store.json",
        output:
            update(f"{ROOT}/mosaic/records/{{batch}}.json"),
        params:
            folder=f"{ROOT}/mosaic",
            batches=MOSAIC_BATCHES,
            launch=launch,
        log:
            f"{ROOT}/mosaic/logs/fuse_{{batch}}.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/fuse_{{batch}}.tsv"
        resources:
            tasks=1,
            mem_mb=2048,
        shell:
            "{params.launch}tessera mosaic fuse --batch {wildcards.batch} --of {params.batches} "
            "{params.folder} --ranks {resources.tasks} > {log} 2>&1"

    rule mosaic_finish:
        input:
            records(f"{ROOT}/mosaic", MOSAIC_BATCHES),
        output:
            VOLUME,
        params:
            folder=f"{ROOT}/mosaic",
        log:
            f"{ROOT}/mosaic/logs/finish.log",
        benchmark:
            f"{ROOT}/mosaic/benchmarks/finish.tsv"
        resources:
            mem_mb=2048,
        shell:
            "tessera mosaic finish {params.folder} > {log} 2>&1"
