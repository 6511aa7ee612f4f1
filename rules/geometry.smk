# Geometry of the covariances of an experiment, and whether it tells how their noise transfers.


from functools import cache

FEWEST = 3  # modifications: of two, no correlation could be tested


@cache
def compared(experiment):
    """The noises of a heatmap whose covariances are compared; none where too few sources are targets too."""
    if HEATMAP not in STUDY.figures_of(experiment):
        return []
    if not {"full", "identity"} <= {*STUDY.noise.arms}:
        return []
    jobs = [
        job
        for job in plan.evaluations(STUDY, experiment)
        if job.source != NO_SOURCE and job.tau != UNSCALED
        if not plan.apart(job.source)  # a control compares nothing anew
    ]
    places = dict.fromkeys((job.network, job.site) for job in jobs)
    groups = [[j for j in jobs if (j.network, j.site) == place] for place in places]
    return [job for group in groups if len(crossed(group)) >= FEWEST for job in group]


def crossed(jobs):
    """The modifications that are source of one cell and target of another, source ≠ target."""
    cells = [
        (own, target)
        for job in jobs
        for own, targets in pairs_of(job).items()
        for target in targets
    ]
    sources = {own for own, _ in cells}
    other = [cell for cell in cells if cell[0] != cell[1] and cell[1] in sources]
    return {name for cell in other for name in cell}


def fits_of(experiment):
    """Every covariance of an experiment once, as network, site, source and trials."""
    names = [
        (job.network, job.site, job.source, PRETRAINED if pretrained else block)
        for job in compared(experiment)
        for pretrained in [is_pretrained(job.network)]
        for block in STUDY.trials
    ]
    keys = "network", "site", "source", "trials"
    return [dict(zip(keys, name)) for name in dict.fromkeys(names)]


def samples_of(experiment):
    """The sheets that show what the noises of an experiment do, in the first trial."""
    names = [
        SAMPLES.format(**asdict(job), trials=PRETRAINED if pretrained else block)
        for job in compared(experiment)
        for pretrained in [is_pretrained(job.network)]
        for block in STUDY.trials[:1]
    ]
    return [f"{name}.{format}" for name in dict.fromkeys(names) for format in FORMATS]


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
