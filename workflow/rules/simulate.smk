"""simulate: raw scans of a specimen whose truth is known."""

if CONFIG.simulate:

    rule simulate_truth:
        output:
            f"{ROOT}/simulate/truth.json",
        log:
            f"{ROOT}/simulate/logs/truth.log",
        benchmark:
            f"{ROOT}/simulate/benchmarks/truth.tsv"
        conda:
            "../../envs/tessera.yaml"
        params:
            launch=launch,
            settings=settings("simulate"),
            folder=above(1),
        shell:
            "{params.launch}tessera simulate truth --settings {params.settings:q} {params.folder} > {log} 2>&1"

    rule simulate_scan:
        output:
            f"{ROOT}/simulate/{{tile}}.h5",
        log:
            f"{ROOT}/simulate/logs/{{tile}}.log",
        benchmark:
            f"{ROOT}/simulate/benchmarks/{{tile}}.tsv"
        conda:
            "../../envs/tessera.yaml"
        params:
            launch=launch,
            settings=settings("simulate"),
        shell:
            "{params.launch}tessera simulate scan --settings {params.settings:q} --tile {wildcards.tile} "
            "{output} > {log} 2>&1"
