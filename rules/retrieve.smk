# Original files of datasets: copied from a local folder, else downloaded; verified either way.


rule retrieve_dataset:
    # no code among the inputs: the checksum vouches for the content, whatever code fetched it
    output:
        # on this machine, as its only reader below, where all other results are in a storage
        local("resources/{dataset}/{file}"),
    log:
        f"{LOGS}/retrieve_dataset/{{dataset}}/{{file}}.log",
    benchmark:
        f"{BENCHMARKS}/retrieve_dataset/{{dataset}}/{{file}}.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
        runtime=60,
    params:
        folder=lambda w: folder_option(w.dataset),
    message:
        "Retrieving {wildcards.file} of {wildcards.dataset}"
    shell:
        "python scripts/retrieve_dataset.py --dataset {wildcards.dataset} {params.folder}"
        " --output {output} 2> {log}"


rule prepare_dataset:
    input:
        code=code_of("prepare_dataset"),
        # checksums vouch for them: where they came from, and when, reruns nothing
        files=lambda w: ancient(
            [
                local(f"resources/{w.dataset}/{f.name}")
                for f in DATASETS[w.dataset].files
            ]
        ),
    output:
        **{split: f"{DATA}/{split}.safetensors" for split in SPLITS},
    log:
        f"{LOGS}/prepare_dataset/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_dataset/{{dataset}}.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=version_of(code_of("prepare_dataset")),
        splits=lambda w: json.dumps(STUDY.datasets[w.dataset].splits.model_dump()),
        folder=lambda w: f"resources/{w.dataset}",
    message:
        "Drawing the splits of {wildcards.dataset}"
    shell:
        "python scripts/prepare_dataset.py --dataset {wildcards.dataset} --folder {params.folder}"
        " --splits {params.splits:q} --output $(dirname {output.train}) 2> {log}"
