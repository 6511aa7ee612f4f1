# One covariance per source, for a block of trials; those of other arms only where a study has the arm.


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
    wildcard_constraints:
        source=rf"(?!{re.escape(POOLED)}/)[^/]+",
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
        rows=lambda w, input: (
            f"--modified {input.modified}"
            if input.modified
            else f"--signal {NO_SOURCE}"
        ),
        half=half_of,
    message:
        "Fitting the covariance of {wildcards.source} at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/fit_covariance.py {params.rows} --network {input.network}"
        " {params.clean} {input.clean} --site {wildcards.site} --rank {params.rank}"
        " --ridge {params.ridge:q} {params.half} --output {output.covariance} --diagnostics {output.diagnostics}"
        " 2> {log}"


rule pool_covariances:
    input:
        code=code_of("pool_covariances"),
        covariances=covariances_of_pool,
    output:
        covariance=f"{COVARIANCE}.safetensors",
        diagnostics=f"{COVARIANCE}.json",
    log:
        f"{LOGS}/pool_covariances/{{network}}/{{site}}/{{source}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/pool_covariances/{{network}}/{{site}}/{{source}}/{{trials}}.tsv"
    wildcard_constraints:
        source=re.escape(POOLED),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_pool,
        runtime=growing(60),
    params:
        code=version_of(code_of("pool_covariances")),
        sources=pooled_sources(),
        rank=STUDY.noise.rank,
    message:
        "Pooling the covariances at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/pool_covariances.py --covariances {input.covariances}"
        " --sources {params.sources} --rank {params.rank} --output {output.covariance}"
        " --diagnostics {output.diagnostics} 2> {log}"
