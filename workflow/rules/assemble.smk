"""label, of what a flood-filling network filled: from overlapping subvolumes to global ids.

match (a batch) -> merge (one job) -> relabel (a batch) -> label_finish

and with label.assembly.agglomerate, on the fragments that this leaves,

contacts (a batch) -> contacts_merge -> refill (a batch) -> join_store -> join (a batch) -> finish
"""


localrules:
    assemble_store,


rule assemble_store:
    input:
        store=f"{ROOT}/predict/{{model}}/store.json",
        filled=lambda wildcards: records(
            f"{ROOT}/predict/{wildcards.model}", FILL_BATCHES
        ),
    output:
        f"{ASSEMBLY}store.json",
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_assemble_store.log",
    wildcard_constraints:
        model=one_of(FILLING),
    conda:
        "../../envs/tessera.yaml"
    params:
        settings=settings("label"),
        folder=above(1),
        batches=FILL_BATCHES,
    shell:
        "tessera label assemble store --settings {params.settings:q} --class {wildcards.cls} "
        "--prediction {input.store} --batches {params.batches} --out {params.folder} "
        "> {log} 2>&1"


rule assemble_match:
    input:
        f"{ASSEMBLY}store.json",
    output:
        update(f"{ASSEMBLY}match/records/{{batch}}.json"),
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_match_{{batch}}.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_match_{{batch}}.tsv"
    wildcard_constraints:
        model=one_of(FILLING),
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=1024,
    params:
        folder=above(3),
        batches=FILL_BATCHES,
        launch=launch,
    shell:
        "{params.launch}tessera label assemble match --batch {wildcards.batch} "
        "--of {params.batches} {params.folder} --ranks {resources.tasks} > {log} 2>&1"


rule assemble_merge:
    input:
        lambda wildcards: records(f"{assembly(wildcards)}match", FILL_BATCHES),
    output:
        f"{ASSEMBLY}merge.npz",
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_assemble_merge.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_assemble_merge.tsv"
    wildcard_constraints:
        model=one_of(FILLING),
    conda:
        "../../envs/tessera.yaml"
    resources:
        mem_mb=2048,
    params:
        launch=launch,
        folder=above(1),
    shell:
        "{params.launch}tessera label assemble merge {params.folder} > {log} 2>&1"


rule assemble_relabel:
    input:
        f"{ASSEMBLY}merge.npz",
    output:
        update(f"{ASSEMBLY}records/{{batch}}.json"),
    log:
        f"{ROOT}/label/logs/{{model}}_{{cls}}_assemble_relabel_{{batch}}.log",
    benchmark:
        f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_assemble_relabel_{{batch}}.tsv"
    wildcard_constraints:
        model=one_of(FILLING),
    conda:
        "../../envs/tessera.yaml"
    resources:
        tasks=1,
        mem_mb=1024,
    params:
        folder=above(2),
        batches=FILL_BATCHES,
        launch=launch,
    shell:
        "{params.launch}tessera label assemble relabel --batch {wildcards.batch} "
        "--of {params.batches} {params.folder} --ranks {resources.tasks} > {log} 2>&1"


if AGGLOMERATE:

    localrules:
        join_store,

    rule fragments_finish:
        input:
            lambda wildcards: records(assembly(wildcards)[:-1], FILL_BATCHES),
        output:
            f"{ASSEMBLY}labels.json",
        log:
            f"{ROOT}/label/logs/{{model}}_{{cls}}_fragments_finish.log",
        benchmark:
            f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_fragments_finish.tsv"
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        resources:
            mem_mb=1024,
        params:
            launch=launch,
            folder=above(1),
        shell:
            "{params.launch}tessera label finish {params.folder} > {log} 2>&1"

    rule contacts:
        input:
            f"{ASSEMBLY}labels.json",
        output:
            update(f"{ASSEMBLY}contacts/records/{{batch}}.json"),
        log:
            f"{ROOT}/label/logs/{{model}}_{{cls}}_contacts_{{batch}}.log",
        benchmark:
            f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_contacts_{{batch}}.tsv"
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        resources:
            tasks=1,
            mem_mb=1024,
        params:
            folder=above(3),
            batches=FILL_BATCHES,
            launch=launch,
        shell:
            "{params.launch}tessera label assemble contacts --batch {wildcards.batch} "
            "--of {params.batches} {params.folder} --ranks {resources.tasks} > {log} 2>&1"

    rule contacts_merge:
        input:
            lambda wildcards: records(f"{assembly(wildcards)}contacts", FILL_BATCHES),
        output:
            f"{ASSEMBLY}contacts.npz",
        log:
            f"{ROOT}/label/logs/{{model}}_{{cls}}_contacts_merge.log",
        benchmark:
            f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_contacts_merge.tsv"
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        resources:
            mem_mb=1024,
        params:
            launch=launch,
            settings=settings("label"),
            folder=above(1),
        shell:
            "{params.launch}tessera label assemble contacts-merge --settings {params.settings:q} "
            "{params.folder} > {log} 2>&1"

    rule refill:
        input:
            store=f"{ROOT}/predict/{{model}}/store.json",
            contacts=lambda wildcards: [
                f"{ROOT}/label/{wildcards.model}/{cls}/fragments/contacts.npz"
                for cls in OBJECTS[wildcards.model]
            ],
        output:
            update(f"{ROOT}/predict/{{model}}/refill/records/{{batch}}.json"),
        log:
            f"{ROOT}/predict/logs/{{model}}_refill_{{batch}}.log",
        benchmark:
            f"{ROOT}/predict/benchmarks/{{model}}_refill_{{batch}}.tsv"
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        resources:
            tasks=1,
            mem_mb=3072,
        params:
            settings=settings("predict"),
            folder=above(2),
            fill=lambda wildcards, input: os.path.dirname(input.store),
            labels=lambda wildcards, input: (
                input.contacts[0].replace("contacts.npz", "labels.zarr")
            ),
            batches=FILL_BATCHES,
            launch=launch,
        shell:
            "{params.launch}tessera predict fill refill {params.folder} --fill {params.fill} "
            "--labels {params.labels} --contacts {input.contacts} --settings {params.settings:q} "
            "--batch {wildcards.batch} --of {params.batches} --ranks {resources.tasks} "
            "> {log} 2>&1"

    rule join_store:
        input:
            fragments=f"{ASSEMBLY}labels.json",
            refilled=lambda wildcards: records(
                f"{ROOT}/predict/{wildcards.model}/refill", FILL_BATCHES
            ),
        output:
            f"{ROOT}/label/{{model}}/{{cls}}/store.json",
        log:
            f"{ROOT}/label/logs/{{model}}_{{cls}}_join_store.log",
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        params:
            settings=settings("label"),
            folder=above(1),
            fragments=lambda wildcards, input: os.path.dirname(input.fragments),
            scores=lambda wildcards: f"{ROOT}/predict/{wildcards.model}/refill",
            batches=FILL_BATCHES,
        shell:
            "tessera label assemble join-store --settings {params.settings:q} "
            "--fragments {params.fragments} --scores {params.scores} --batches {params.batches} "
            "--out {params.folder} > {log} 2>&1"

    rule join:
        input:
            f"{ROOT}/label/{{model}}/{{cls}}/store.json",
        output:
            update(f"{ROOT}/label/{{model}}/{{cls}}/records/{{batch}}.json"),
        log:
            f"{ROOT}/label/logs/{{model}}_{{cls}}_join_{{batch}}.log",
        benchmark:
            f"{ROOT}/label/benchmarks/{{model}}_{{cls}}_join_{{batch}}.tsv"
        wildcard_constraints:
            model=one_of(FILLING),
        conda:
            "../../envs/tessera.yaml"
        resources:
            tasks=1,
            mem_mb=1024,
        params:
            folder=above(2),
            batches=FILL_BATCHES,
            launch=launch,
        shell:
            "{params.launch}tessera label assemble join --batch {wildcards.batch} "
            "--of {params.batches} {params.folder} --ranks {resources.tasks} > {log} 2>&1"
