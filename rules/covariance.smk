# One covariance per source, for a block of trials.


rule fit_covariance:
    input:
        code=code_of("fit_covariance"),
        modified=calibration_images,
        network=NETWORK,
        activations=ACTIVATIONS,
    output:
        covariance=f"{COVARIANCE}.safetensors",
        diagnostics=f"{COVARIANCE}.json",
    log:
        f"{LOGS}/fit_covariance/{{network}}/{{site}}/{{source}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/fit_covariance/{{network}}/{{site}}/{{source}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(120),
    params:
        code=version_of(code_of("fit_covariance")),
        rank=STUDY.noise.rank,
        ridge=STUDY.noise.ridge.model_dump_json(exclude_none=True),
    message:
        "Fitting the covariance of {wildcards.source} at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/fit_covariance.py --modified {input.modified} --network {input.network}"
        " --activations {input.activations} --site {wildcards.site} --rank {params.rank}"
        " --ridge {params.ridge:q} --output {output.covariance} --diagnostics {output.diagnostics}"
        " 2> {log}"
