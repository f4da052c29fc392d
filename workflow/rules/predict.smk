"""predict: a model over a volume, block by block; a job a batch of blocks.

The blocks of a flood-filling network are subvolumes that overlap, and `predict fill` fills them.
"""


localrules:
    predict_store,


rule predict_store:
    input:
        volume=VOLUME,
        model=f"{ROOT}/train/{{model}}/model.json",
    output:
        f"{ROOT}/predict/{{model}}/store.json",
    log:
        f"{ROOT}/predict/logs/{{model}}_store.log",
    conda:
        "../../envs/tessera.yaml"
    params:
        settings=settings("predict"),
        bundle=lambda wildcards, input: os.path.dirname(input.model),
        folder=above(1),
        fill=lambda wildcards: "fill " if wildcards.model in FILLING else "",
        batches=lambda wildcards: predict_batches(wildcards.model),
    shell:
        "tessera predict {params.fill}store --settings {params.settings:q} --volume {input.volume} "
        "--model {params.bundle} --batches {params.batches} --out {params.folder} > {log} 2>&1"


rule predict:
    input:
        f"{ROOT}/predict/{{model}}/store.json",
    output:
        update(f"{ROOT}/predict/{{model}}/records/{{batch}}.json"),
    log:
        f"{ROOT}/predict/logs/{{model}}_{{batch}}.log",
    benchmark:
        f"{ROOT}/predict/benchmarks/{{model}}_{{batch}}.tsv"
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=3072,
    params:
        folder=above(2),
        fill=lambda wildcards: "fill " if wildcards.model in FILLING else "",
        batches=lambda wildcards: predict_batches(wildcards.model),
        launch=launch,
    shell:
        "{params.launch}tessera predict {params.fill}run --batch {wildcards.batch} --of {params.batches} "
        "{params.folder} --ranks {resources.tasks} > {log} 2>&1"


rule predict_finish:
    input:
        lambda wildcards: records(f"{ROOT}/predict/{wildcards.model}", PREDICT_BATCHES),
    output:
        f"{ROOT}/predict/{{model}}/seams.json",
    log:
        f"{ROOT}/predict/logs/{{model}}_finish.log",
    benchmark:
        f"{ROOT}/predict/benchmarks/{{model}}_finish.tsv"
    wildcard_constraints:
        model=one_of(BLOCKWISE),
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=2048,
    params:
        launch=launch,
        folder=above(1),
    shell:
        "{params.launch}tessera predict finish {params.folder} > {log} 2>&1"
