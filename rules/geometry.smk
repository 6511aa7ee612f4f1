# Geometry of the covariances of an experiment, and whether it tells how their noise transfers.


rule average_classes:
    input:
        code=lambda w: code_for("average_classes", w.network),
        data=lambda w: split_of(w.network, calibration_split(w.network)),
        network=NETWORK,
        activations=lambda w: recorded_of(w) if has_recorded(w) else [],
    output:
        CLASSES,
    log:
        f"{LOGS}/average_classes/{{network}}/{{site}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/average_classes/{{network}}/{{site}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(60),
    params:
        code=lambda w: version_of(code_for("average_classes", w.network)),
        activations=lambda w, input: (
            f"--activations {input.activations}" if input.activations else ""
        ),
        trials=lambda w: trials_of(w.trials),
    message:
        "Averaging activations by class at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/average_classes.py --data {input.data} --network {input.network}"
        " {params.activations} --name {wildcards.network} --site {wildcards.site}"
        " --trials {params.trials} --output {output} 2> {log}"


rule compare_covariances:
    input:
        code=code_of("compare_covariances"),
        covariance=lambda w: [
            f"{COVARIANCE}.safetensors".format(**fit) for fit in fits_of(w.experiment)
        ],
        classes=lambda w: [CLASSES.format(**fit) for fit in fits_of(w.experiment)],
    output:
        geometry=multiext(GEOMETRY, ".parquet", ".csv"),
        spectra=multiext(SPECTRA, ".parquet", ".csv"),
    log:
        f"{LOGS}/compare_covariances/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/compare_covariances/{{experiment}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        code=version_of(code_of("compare_covariances")),
        study=STUDY.study,
    message:
        "Comparing the covariances of {wildcards.experiment}"
    shell:
        "python scripts/compare_covariances.py --covariance {input.covariance}"
        " --classes {input.classes} --study {params.study} --geometry {output.geometry}"
        " --spectra {output.spectra} 2> {log}"


rule plot_geometry:
    input:
        code=code_of("plot_geometry"),
        table=f"{TABLE}.parquet",
        geometry=f"{GEOMETRY}.parquet",
        spectra=f"{SPECTRA}.parquet",
    output:
        tests=multiext(MANTEL, ".parquet", ".csv"),
        figures=expand(
            f"{FIGURES}/{{experiment}}_{{kind}}.{{format}}",
            kind=GEOMETRIES,
            format=FORMATS,
            allow_missing=True,
        ),
    log:
        f"{LOGS}/plot_geometry/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_geometry/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=version_of(code_of("plot_geometry")),
        title=lambda w: f"{STUDY.study}, {w.experiment}",
        folder=lambda w, output: str(Path(output.figures[0]).parent),
        formats=FORMATS,
        seed=STUDY.seed,
    message:
        "Geometry of the covariances of {wildcards.experiment}"
    shell:
        "python scripts/plot_geometry.py --table {input.table} --geometry {input.geometry}"
        " --spectra {input.spectra} --name {wildcards.experiment} --formats {params.formats}"
        " --title {params.title:q} --seed {params.seed} --output {params.folder}"
        " --tests {output.tests} 2> {log}"


rule show_noise:
    input:
        code=lambda w: code_for("show_noise", w.network),
        data=lambda w: split_of(w.network, calibration_split(w.network)),
        modified=calibration_images,
        network=NETWORK,
        covariance=covariance_of,
    output:
        multiext(SAMPLES, *[f".{f}" for f in FORMATS]),
    log:
        f"{LOGS}/show_noise/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/show_noise/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(60),
    params:
        code=lambda w: version_of(code_for("show_noise", w.network)),
        sources=lambda w: sources_of(w.source),
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
        title=lambda w: f"{STUDY.study}, {w.network}, {w.site}, τ = {w.tau}",
    message:
        "Showing noise of {wildcards.source} at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/show_noise.py --data {input.data} --network {input.network}"
        " --modified {input.modified} --site {wildcards.site} --title {params.title:q}"
        " --sources {params.sources} --arms identity full --tau {wildcards.tau}"
        " --covariance {input.covariance} --seed {params.seed} --trials {params.trials}"
        " --output {output} 2> {log}"
