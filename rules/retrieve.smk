# Original files of datasets and networks: from a local folder or file, else downloaded; verified either way.


rule retrieve_dataset:
    # no code among the inputs: the checksum vouches for the content, whatever code fetched it
    output:
        # on this machine, as its only reader below, where all other results are in a storage
        local("resources/{dataset}/{file}"),
    log:
        f"{LOGS}/retrieve_dataset/{{dataset}}/{{file}}.log",
    benchmark:
        f"{BENCHMARKS}/retrieve_dataset/{{dataset}}/{{file}}.tsv"
    wildcard_constraints:
        dataset="|".join(DATASETS),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
        runtime=60,
    params:
        folder=lambda w: local_original(w.dataset),
    message:
        "Retrieving {wildcards.file} of {wildcards.dataset}"
    shell:
        "python scripts/retrieve_dataset.py --dataset {wildcards.dataset} {params.folder}"
        " --output {output} 2> {log}"


rule prepare_dataset:
    input:
        code=code_of("prepare_dataset"),
        # checksums vouch for them: where they came from, and when, reruns nothing
        files=lambda w: ancient(originals_of(w.dataset)),
    output:
        **{split: f"{DATA}/{split}.safetensors" for split in SPLITS},
    log:
        f"{LOGS}/prepare_dataset/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_dataset/{{dataset}}.tsv"
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=version_of(code_of("prepare_dataset")),
        splits=lambda w: json.dumps(STUDY.datasets[w.dataset].splits.model_dump()),
        images=lambda w: images_of_dataset(w.dataset),
        state=lambda w: state_of(folder_in_place(w.dataset)),
    message:
        "Drawing the splits of {wildcards.dataset}"
    shell:
        "python scripts/prepare_dataset.py --dataset {wildcards.dataset} {params.images}"
        " --splits {params.splits:q} --output $(dirname {output.train}) 2> {log}"


rule retrieve_network:
    input:
        code=code_of("retrieve_network"),
        weights=lambda w: weights_file(w.network),
    output:
        WEIGHTS,
    log:
        f"{LOGS}/retrieve_network/{{network}}.log",
    benchmark:
        f"{BENCHMARKS}/retrieve_network/{{network}}.tsv"
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=version_of(code_of("retrieve_network")),
        network=lambda w: pretrained_network(w.network),
    message:
        "Retrieving the weights of {wildcards.network}"
    shell:
        "python scripts/retrieve_network.py --network {params.network:q}"
        " --folder resources/downloads --output {output} 2> {log}"


rule retrieve_corrupted:
    # no code among the inputs: the checksum vouches for the content, whatever code fetched it
    output:
        local("resources/{published}/{file}"),
    log:
        f"{LOGS}/retrieve_corrupted/{{published}}/{{file}}.log",
    benchmark:
        f"{BENCHMARKS}/retrieve_corrupted/{{published}}/{{file}}.tsv"
    wildcard_constraints:
        published="|".join(SETS),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
        runtime=240,
    message:
        "Downloading {wildcards.file} of {wildcards.published}"
    shell:
        "python scripts/retrieve_corrupted.py --set {wildcards.published} --output {output} 2> {log}"
