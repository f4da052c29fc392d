"""label: connected components whose ids are global, in four passes.

local (a batch) -> merge (one job) -> relabel (a batch) -> finish

What flood-filling networks filled is labelled by assemble.smk; finish is the same.
"""


localrules:
    label_store,


rule label_store:
    input:
        seams=f"{ROOT}/predict/{{model}}/seams.json",
        store=f"{ROOT}/predict/{{model}}/store.json",
    output:
        f"{ROOT}/label/{{model}}/{{cls}}/store.json",
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_store.log",
    wildcard_constraints:
        model=one_of(BLOCKWISE),
    conda:
        "../../envs/tessera.yaml"
    params:
        settings=settings("label"),
        folder=above(1),
        batches=LABEL_BATCHES,
    shell:
        "tessera label store --settings {params.settings:q} --class {wildcards.cls} "
        "--prediction {input.store} --batches {params.batches} --out {params.folder} "
        "> {log} 2>&1"


rule label_local:
    input:
        f"{ROOT}/label/{{model}}/{{cls}}/store.json",
    output:
        update(f"{ROOT}/label/{{model}}/{{cls}}/local/records/{{batch}}.json"),
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_local_{{batch}}.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_local_{{batch}}.tsv"
    wildcard_constraints:
        model=one_of(BLOCKWISE),
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=1024,
    params:
        folder=above(3),
        batches=LABEL_BATCHES,
        launch=launch,
    shell:
        "{params.launch}tessera label local --batch {wildcards.batch} --of {params.batches} "
        "{params.folder} --ranks {resources.tasks} > {log} 2>&1"


rule label_merge:
    input:
        lambda wildcards: records(
            f"{ROOT}/label/{wildcards.model}/{wildcards.cls}/local", LABEL_BATCHES
        ),
    output:
        f"{ROOT}/label/{{model}}/{{cls}}/merge.npz",
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_merge.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_merge.tsv"
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
        "{params.launch}tessera label merge {params.folder} > {log} 2>&1"


rule label_relabel:
    input:
        f"{ROOT}/label/{{model}}/{{cls}}/merge.npz",
    output:
        update(f"{ROOT}/label/{{model}}/{{cls}}/records/{{batch}}.json"),
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_relabel_{{batch}}.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_relabel_{{batch}}.tsv"
    wildcard_constraints:
        model=one_of(BLOCKWISE),
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=1024,
    params:
        folder=above(2),
        batches=LABEL_BATCHES,
        launch=launch,
    shell:
        "{params.launch}tessera label relabel --batch {wildcards.batch} --of {params.batches} "
        "{params.folder} --ranks {resources.tasks} > {log} 2>&1"


rule label_finish:
    input:
        lambda wildcards: records(
            f"{ROOT}/label/{wildcards.model}/{wildcards.cls}",
            label_batches(wildcards.model),
        ),
    output:
        f"{ROOT}/label/{{model}}/{{cls}}/labels.json",
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_finish.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_finish.tsv"
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=1024,
    params:
        launch=launch,
        folder=above(1),
    shell:
        "{params.launch}tessera label finish {params.folder} > {log} 2>&1"
