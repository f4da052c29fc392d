"""report: one self-contained page of all of the above."""


rule report:
    input:
        plan=f"{ROOT}/plan/plan.json",
        metrics=f"{ROOT}/evaluate/metrics.json",
        tables=[
            f"{ROOT}/analyse/{model}/{cls}.json"
            for model, classes in OBJECTS.items()
            for cls in classes
        ],
    output:
        f"{ROOT}/report/index.html",
    log:
        f"{ROOT}/report/logs/report.log",
    benchmark:
        f"{ROOT}/report/benchmarks/report.tsv"
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=2048,
    params:
        launch=launch,
        settings=settings("report"),
        root=above(2),
    shell:
        "{params.launch}tessera report --settings {params.settings:q} --results {params.root} --out {output} "
        "> {log} 2>&1"
