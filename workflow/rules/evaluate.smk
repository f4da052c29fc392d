"""evaluate: scores against truth, on boxes that training never saw."""


rule evaluate:
    input:
        volume=VOLUME,
        truth=f"{SIMULATED}/truth.json" if CONFIG.simulate else [],
        stores=[f"{ROOT}/predict/{model}/store.json" for model in CONFIG.models],
        seams=[f"{ROOT}/predict/{model}/seams.json" for model in BLOCKWISE],
        labels=[
            f"{ROOT}/label/{model}/{cls}/labels.json"
            for model, classes in OBJECTS.items()
            for cls in classes
        ],
        # What agglomeration joins at each threshold is scored on the fragments.
        fragments=[
            f"{ROOT}/label/{model}/{cls}/fragments/labels.json"
            for model, cls in AGGLOMERATED
        ],
        given=[s.path for model in CONFIG.models.values() for s in model.labels],
    output:
        f"{ROOT}/evaluate/metrics.json",
    log:
        f"{ROOT}/evaluate/logs/evaluate.log",
    benchmark:
        f"{ROOT}/evaluate/benchmarks/evaluate.tsv"
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=2048,
    params:
        launch=launch,
        settings=settings("evaluate"),
        folder=above(1),
        truth=truth_options,
        tiles=tile_options,
        models=" ".join(
            f"--model {name} --model-settings {shlex.quote(section_json(model))} "
            f"--prediction {ROOT}/predict/{name}/store.json "
            + " ".join(
                f"--labels {cls}={ROOT}/label/{name}/{cls}/labels.json"
                for cls in OBJECTS[name]
            )
            + "".join(
                f" --fragments {cls}={ROOT}/label/{name}/{cls}/fragments/labels.json"
                for model_name, cls in AGGLOMERATED
                if model_name == name
            )
            for name, model in CONFIG.models.items()
        ),
    shell:
        "{params.launch}tessera evaluate --settings {params.settings:q} {params.truth} {params.tiles} "
        "--volume {input.volume} {params.models} --out {params.folder} > {log} 2>&1"
