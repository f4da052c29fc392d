"""train: volumes and labels to one model bundle, on N Horovod ranks."""


rule train_import:
    output:
        f"{ROOT}/train/{{model}}/volumes/{{number}}/volume.json",
    log:
        f"{ROOT}/train/logs/{{model}}_volume_{{number}}.log",
    benchmark:
        f"{ROOT}/train/benchmarks/{{model}}_volume_{{number}}.tsv"
    wildcard_constraints:
        number=r"\d+",
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=2048,
    params:
        settings=settings("mosaic"),
        source=lambda wildcards: section_json(
            CONFIG.models[wildcards.model].volumes[int(wildcards.number)].volume
        ),
        folder=above(1),
        launch=launch,
    shell:
        "{params.launch}tessera mosaic import --settings {params.settings:q} "
        "--source {params.source:q} {params.folder} --ranks {resources.tasks} > {log} 2>&1"


rule train:
    input:
        volume=VOLUME,
        truth=lambda wildcards: (
            f"{ROOT}/simulate/truth.json"
            if CONFIG.simulate
            and CONFIG.models[wildcards.model].is_trained
            and not CONFIG.models[wildcards.model].labels
            else []
        ),
        labels=lambda wildcards: (
            labelled(wildcards.model)
            if CONFIG.models[wildcards.model].is_trained
            else []
        ),
        weights=lambda wildcards: layout.weights(CONFIG.models[wildcards.model]),
        volumes=lambda wildcards: [
            f"{ROOT}/train/{wildcards.model}/volumes/{number}/volume.json"
            for number in range(len(CONFIG.models[wildcards.model].volumes))
        ],
        bundle=lambda wildcards: (
            [f"{CONFIG.models[wildcards.model].bundle}/model.json"]
            if CONFIG.models[wildcards.model].bundle
            else []
        ),
        members=lambda wildcards: [
            f"{ROOT}/train/{member}/model.json"
            for member in CONFIG.models[wildcards.model].ensemble
        ],
    output:
        f"{ROOT}/train/{{model}}/model.safetensors",
        f"{ROOT}/train/{{model}}/model.json",
    log:
        f"{ROOT}/train/logs/{{model}}.log",
    benchmark:
        f"{ROOT}/train/benchmarks/{{model}}.tsv"
    conda:
        "../../envs/tessera.yaml"
    threads: 2
    resources:
        tasks=2,
        mem_mb=4096,
    params:
        settings=model_settings,
        folder=above(1),
        truth=lambda wildcards, input: (
            f"--truth {ROOT}/simulate/truth.zarr" if input.truth else ""
        ),
        members=lambda wildcards, input: " ".join(
            f"--member {os.path.dirname(path)}" for path in input.members
        ),
        volumes=lambda wildcards, input: " ".join(
            f"--also {path}" for path in input.volumes
        ),
        launch=launch,
    shell:
        "{params.launch}tessera train {wildcards.model} --settings {params.settings:q} "
        "--volume {input.volume} {params.truth} --out {params.folder} {params.members} "
        "{params.volumes} "
        "--ranks {resources.tasks} > {log} 2>&1"
