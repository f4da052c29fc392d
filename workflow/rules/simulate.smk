"""simulate: raw scans of a specimen whose truth is known."""

if CONFIG.simulate:

    rule simulate_truth:
        output:
            f"{ROOT}/simulate/truth.json",
        params:
            settings=settings("simulate"),
            folder=f"{ROOT}/simulate",
        log:
            f"{ROOT}/simulate/logs/truth.log",
        benchmark:
            f"{ROOT}/simulate/benchmarks/truth.tsv"
        shell:
            "tessera simulate truth --settings {params.settings:q} {params.folder} > {log} 2>&1"

    rule simulate_scan:
        output:
            f"{ROOT}/simulate/{{tile}}.h5",
        params:
            settings=settings("simulate"),
        log:
            f"{ROOT}/simulate/logs/{{tile}}.log",
        benchmark:
            f"{ROOT}/simulate/benchmarks/{{tile}}.tsv"
        shell:
            "tessera simulate scan --settings {params.settings:q} --tile {wildcards.tile} "
            "{output} > {log} 2>&1"
