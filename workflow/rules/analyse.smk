"""analyse: what was found, measured in micrometres."""


rule analyse:
    input:
        f"{ROOT}/label/{{model}}/{{cls}}/labels.json",
    output:
        f"{ROOT}/analyse/{{model}}/{{cls}}.csv",
        f"{ROOT}/analyse/{{model}}/{{cls}}.json",
    log:
        f"{ROOT}/analyse/logs/{{model}}_{{cls}}.log",
    benchmark:
        f"{ROOT}/analyse/benchmarks/{{model}}_{{cls}}.tsv"
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=2048,
    params:
        launch=launch,
        settings=settings("analyse"),
        folder=above(1),
    shell:
        "{params.launch}tessera analyse --settings {params.settings:q} --labels {input} --out {params.folder} "
        "> {log} 2>&1"
