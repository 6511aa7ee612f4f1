# One covariance per source, for a block of trials.


rule fit_covariance:
    input:
        code=lambda w: code_for("fit_covariance", w.network),
        modified=calibration_images,
        network=NETWORK,
        clean=calibrated_on,
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
        code=lambda w: version_of(code_for("fit_covariance", w.network)),
        clean=lambda w: "--activations" if has_recorded(w) else "--data",
        rank=STUDY.noise.rank,
        ridge=STUDY.noise.ridge.model_dump_json(exclude_none=True),
    message:
        "Fitting the covariance of {wildcards.source} at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/fit_covariance.py --modified {input.modified} --network {input.network}"
        " {params.clean} {input.clean} --site {wildcards.site} --rank {params.rank}"
        " --ridge {params.ridge:q} --output {output.covariance} --diagnostics {output.diagnostics}"
        " 2> {log}"
