# Tables, figures, checks and provenance.


rule tabulate_results:
    input:
        code=code_of("tabulate_results"),
        records=lambda w: records_of(w.experiment),
    output:
        multiext(TABLE, ".parquet", ".csv"),
    log:
        f"{LOGS}/tabulate_results/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_results/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=version_of(code_of("tabulate_results")),
    message:
        "Table of experiment {wildcards.experiment}"
    shell:
        "python scripts/tabulate_results.py --records {input.records} --output {output} 2> {log}"


rule summarise_results:
    input:
        code=code_of("summarise_results"),
        records=lambda w: records_of(w.experiment),
    output:
        expand(
            f"{TABLE}_{{kind}}.{{suffix}}",
            kind=SUMMARIES,
            suffix=["parquet", "csv"],
            allow_missing=True,
        ),
    log:
        f"{LOGS}/summarise_results/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/summarise_results/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        code=version_of(code_of("summarise_results")),
        attacks=lambda w: possible_attacks(w.experiment),
        seed=STUDY.seed,
        folder=lambda w, output: str(Path(output[0]).parent),
    message:
        "Intervals and tests of experiment {wildcards.experiment}"
    shell:
        "python scripts/summarise_results.py --records {input.records} --attacks {params.attacks}"
        " --seed {params.seed} --name {wildcards.experiment} --output {params.folder} 2> {log}"


rule tabulate_losses:
    input:
        code=code_of("tabulate_losses"),
        losses=lambda w: losses_of(w.experiment),
    output:
        multiext(LOSSES, ".parquet", ".csv"),
    log:
        f"{LOGS}/tabulate_losses/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_losses/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=version_of(code_of("tabulate_losses")),
        study=STUDY.study,
    message:
        "Learning curves of experiment {wildcards.experiment}"
    shell:
        "python scripts/tabulate_losses.py --losses {input.losses} --study {params.study}"
        " --output {output} 2> {log}"


rule tabulate_matched:
    input:
        code=code_of("tabulate_matched"),
        table=f"{TABLE}.parquet",
        validation=lambda w: records_of(w.experiment, "validation"),
    output:
        multiext(MATCHED, ".parquet", ".csv"),
    log:
        f"{LOGS}/tabulate_matched/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_matched/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=version_of(code_of("tabulate_matched")),
    message:
        "Accuracies of experiment {wildcards.experiment} at equal clean accuracy"
    shell:
        "python scripts/tabulate_matched.py --table {input.table} --validation {input.validation}"
        " --output {output} 2> {log}"


rule tabulate_audit:
    input:
        code=code_of("tabulate_audit"),
        records=lambda w: records_of(w.experiment),
        probes=lambda w: probes_of(w.experiment),
    output:
        audit=multiext(AUDITED, ".parquet", ".csv"),
        verdicts=multiext(VERDICTS, ".parquet", ".csv"),
        probes=multiext(PROBED, ".parquet", ".csv"),
    log:
        f"{LOGS}/tabulate_audit/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_audit/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=version_of(code_of("tabulate_audit")),
        budgets=lambda w: json.dumps(budgets_of(w.experiment)),
        seed=STUDY.seed,
    message:
        "Audit of experiment {wildcards.experiment}"
    shell:
        "python scripts/tabulate_audit.py --records {input.records} --budgets {params.budgets:q}"
        " --seed {params.seed} --probed {input.probes} --audit {output.audit} --verdicts {output.verdicts}"
        " --probes {output.probes} 2> {log}"


rule plot_transfer:
    input:
        code=code_of("plot_transfer"),
        table=f"{TABLE}_summary.parquet",
    output:
        expand(
            f"{FIGURES}/{{experiment}}_{{value}}.{{format}}",
            value=[*VALUES, CLUSTERED],
            format=VECTORS,
            allow_missing=True,
        ),
        report(
            expand(
                f"{FIGURES}/{{experiment}}_{{value}}.png",
                value=[*VALUES, CLUSTERED],
                allow_missing=True,
            ),
            caption="figure.rst",
            category="Figures",
            subcategory="{experiment}",
        ),
    log:
        f"{LOGS}/plot_transfer/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_transfer/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=version_of(code_of("plot_transfer")),
        title=lambda w: f"{STUDY.study}, {w.experiment}",
        order=lambda w: order_of(w.experiment),
        folder=lambda w, output: str(Path(output[0]).parent),
        values=VALUES,
        formats=FORMATS,
    message:
        "Heatmaps of {wildcards.experiment}"
    shell:
        "python scripts/plot_transfer.py --table {input.table} --name {wildcards.experiment}"
        " --values {params.values} --formats {params.formats} --title {params.title:q}"
        " --order {params.order} --output {params.folder} 2> {log}"


rule plot_experiment:
    input:
        code=code_of("plot_experiment"),
        table=drawn_from,
    output:
        multiext(f"{FIGURES}/{{experiment}}_{{kind}}", *[f".{f}" for f in VECTORS]),
        report(
            f"{FIGURES}/{{experiment}}_{{kind}}.png",
            caption="figure.rst",
            category="Figures",
            subcategory="{experiment}",
        ),
    log:
        f"{LOGS}/plot_experiment/{{experiment}}_{{kind}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_experiment/{{experiment}}_{{kind}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=version_of(code_of("plot_experiment")),
        title=lambda w: f"{STUDY.study}, {w.experiment}",
    message:
        "Figure {wildcards.kind} of {wildcards.experiment}"
    shell:
        "python scripts/plot_experiment.py --table {input.table} --kind {wildcards.kind}"
        " --title {params.title:q} --output {output} 2> {log}"


rule plot_audit:
    input:
        code=code_of("plot_audit"),
        audit=f"{AUDITED}.parquet",
        verdicts=f"{VERDICTS}.parquet",
        probes=f"{PROBED}.parquet",
    output:
        multiext(f"{FIGURES}/{{experiment}}_audit", *[f".{f}" for f in FORMATS]),
    log:
        f"{LOGS}/plot_audit/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_audit/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=version_of(code_of("plot_audit")),
        title=lambda w: f"{STUDY.study}, {w.experiment}",
    message:
        "Figure of the audit {wildcards.experiment}"
    shell:
        "python scripts/plot_audit.py --audit {input.audit} --verdicts {input.verdicts}"
        " --probes {input.probes} --title {params.title:q} --output {output} 2> {log}"


rule plot_modifications:
    input:
        code=code_of("plot_modifications"),
        data=f"{DATA}/test.safetensors",
        train=lambda w: f"{DATA}/{calibrated(w.dataset)}.safetensors".format(**w),
        modified=lambda w: shown_targets(w.dataset),
        attacked=lambda w: shown_attacks(w.dataset),
    output:
        figures=multiext(
            f"{FIGURES}/modifications/{{dataset}}", *[f".{f}" for f in FORMATS]
        ),
        examples=f"{FIGURES}/modifications/{{dataset}}.safetensors",
    log:
        f"{LOGS}/plot_modifications/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_modifications/{{dataset}}.tsv"
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=growing(6000),
        runtime=growing(10),
    params:
        code=version_of(code_of("plot_modifications")),
    message:
        "Contact sheet of the modifications of {wildcards.dataset}"
    shell:
        "python scripts/plot_modifications.py --data {input.data} --train {input.train}"
        " --modified {input.modified} --attacked {input.attacked}"
        " --output {output.figures} --examples {output.examples} 2> {log}"


rule check_results:
    input:
        unpack(lambda w: published_of(w.experiment)),
        code=code_of("check_results"),
        table=f"{TABLE}.parquet",
        records=lambda w: gated_records(w.experiment),
        probes=lambda w: gated_probes(w.experiment),
    output:
        report=f"{CHECKS}.json",
        cells=f"{CHECKS}_cells.parquet",
    log:
        f"{LOGS}/check_results/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/check_results/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=version_of(code_of("check_results")),
        checks=lambda w: STUDY.checks[w.experiment].model_dump_json(),
        published=lambda w: " ".join(
            f"--{kind.replace('_', '-')} {table}"
            for kind, table in published_of(w.experiment).items()
        ),
        gates=lambda w, input: (
            f"--records {input.records} --budgets {shlex.quote(json.dumps(budgets_of(w.experiment)))}"
            if input.records
            else ""
        ),
        probes=lambda w, input: f"--probes {input.probes}" if input.probes else "",
    message:
        "Checking experiment {wildcards.experiment}"
    shell:
        "python scripts/check_results.py --table {input.table} --checks {params.checks:q}"
        " {params.published} {params.gates} {params.probes} --report {output.report} --cells {output.cells} 2> {log}"


# after the figures: what disagrees is to be seen
rule require_checks:
    input:
        lambda w: drawings_of(w.experiment),
        code=code_of("require_checks"),
        report=f"{CHECKS}.json",
    output:
        f"{CHECKS}.passed",
    log:
        f"{LOGS}/require_checks/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/require_checks/{{experiment}}.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        code=version_of(code_of("require_checks")),
    message:
        "Requiring the checks of experiment {wildcards.experiment}"
    shell:
        "python scripts/require_checks.py --report {input.report} --output {output} 2> {log}"


rule write_provenance:
    input:
        code=code_of("write_provenance"),
        results=[path for name in STUDY.experiments for path in made_of(name)],
        sheets=contact_sheets(),
    output:
        f"{RESULTS}/provenance.json",
    log:
        f"{LOGS}/write_provenance.log",
    benchmark:
        f"{BENCHMARKS}/write_provenance.tsv"
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=version_of(code_of("write_provenance")),
        study=STUDY.model_dump_json(),
        benchmarks=BENCHMARKS,
        logs=LOGS,
    message:
        "Provenance"
    shell:
        "python scripts/write_provenance.py --study {params.study:q}"
        " --benchmarks {params.benchmarks} --logs {params.logs} --output {output} 2> {log}"


# after the provenance, which it shows; whether the checks hold or not: what disagrees is to be seen
rule build_report:
    input:
        code=code_of("build_report"),
        page=[source(path) for path in PAGE],
        provenance=f"{RESULTS}/provenance.json",
        results=[path for name in STUDY.experiments for path in made_of(name)],
        sheets=contact_sheets(),
        diagnostics=diagnostics(),
    output:
        report(REPORT, caption="report.rst", category="Report"),
    log:
        f"{LOGS}/build_report.log",
    benchmark:
        f"{BENCHMARKS}/build_report.tsv"
    localrule: True
    conda:
        "../envs/plot.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=version_of(code_of("build_report")),
        page=version_of(PAGE),
        results=lambda w, input: str(Path(input.provenance).parent),
    message:
        "Report"
    shell:
        "python scripts/build_report.py --results {params.results} --diagnostics {input.diagnostics}"
        " --output {output} 2> {log}"
