# Original files of datasets: copied from a local folder, else downloaded; verified either way.


rule retrieve_dataset:
    localrule: True
    message:
        "Retrieving {wildcards.file} of {wildcards.dataset}"
    params:
        folder=lambda w: folder_option(w.dataset),
    # no code among the inputs: the checksum vouches for the content, whatever code fetched it
    output:
        "resources/{dataset}/{file}",
    log:
        f"{LOGS}/retrieve_dataset/{{dataset}}/{{file}}.log",
    benchmark:
        f"{BENCHMARKS}/retrieve_dataset/{{dataset}}/{{file}}.tsv"
    resources:
        mem_mb=500,
        runtime=60,
    conda:
        "../envs/workflow.yaml"
    shell:
        "python scripts/retrieve_dataset.py --dataset {wildcards.dataset} {params.folder}"
        " --output {output} 2> {log}"


rule prepare_dataset:
    message:
        "Drawing the splits of {wildcards.dataset}"
    input:
        code=code_of("prepare_dataset"),
        files=lambda w: [f"resources/{w.dataset}/{f.name}" for f in DATASETS[w.dataset].files],
    params:
        splits=lambda w: json.dumps(STUDY.datasets[w.dataset].splits.model_dump()),
        folder=lambda w: f"resources/{w.dataset}",
    output:
        expand(f"{DATA}/{{split}}.safetensors", split=SPLITS, allow_missing=True),
    log:
        f"{LOGS}/prepare_dataset/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_dataset/{{dataset}}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../envs/workflow.yaml"
    shell:
        "python scripts/prepare_dataset.py --dataset {wildcards.dataset} --folder {params.folder}"
        " --splits {params.splits:q} --output $(dirname {output[0]}) 2> {log}"
