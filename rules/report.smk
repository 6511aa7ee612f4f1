# Tables, figures, checks and provenance.


rule tabulate_results:
    message:
        "Table of experiment {wildcards.experiment}"
    input:
        code=code_of("tabulate_results"),
        records=lambda w: records_of(w.experiment),
    output:
        multiext(TABLE, ".parquet", ".csv"),
    log:
        f"{LOGS}/tabulate_results/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_results/{{experiment}}.tsv"
    resources:
        mem_mb=4000,
        runtime=30,
    conda:
        "../envs/plot.yaml"
    shell:
        "python scripts/tabulate_results.py --records {input.records} --output {output} 2> {log}"


rule plot_transfer:
    message:
        "Heatmap of {wildcards.experiment}: {wildcards.value}"
    input:
        code=code_of("plot_transfer"),
        table=f"{TABLE}.parquet",
    params:
        title=lambda w: f"{STUDY.study}, {w.experiment}",
        order=lambda w: order_of(w.experiment),
    output:
        multiext(FIGURE.format(figure="{experiment}_{value}"), *[f".{f}" for f in FORMATS]),
    wildcard_constraints:
        value="|".join(VALUES),
    log:
        f"{LOGS}/plot_transfer/{{experiment}}_{{value}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_transfer/{{experiment}}_{{value}}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/plot.yaml"
    shell:
        "python scripts/plot_transfer.py --table {input.table} --value {wildcards.value}"
        " --title {params.title:q} --order {params.order} --output {output} 2> {log}"


rule plot_modifications:
    message:
        "Contact sheet of the modifications of {wildcards.dataset}"
    input:
        code=code_of("plot_modifications"),
        data=f"{DATA}/test.safetensors",
        modified=lambda w: shown_targets(w.dataset),
    output:
        multiext(FIGURE.format(figure="modifications_{dataset}"), *[f".{f}" for f in FORMATS]),
    log:
        f"{LOGS}/plot_modifications/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_modifications/{{dataset}}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/plot.yaml"
    shell:
        "python scripts/plot_modifications.py --data {input.data} --modified {input.modified}"
        " --output {output} 2> {log}"


rule check_results:
    message:
        "Checking experiment {wildcards.experiment}"
    input:
        code=code_of("check_results"),
        table=f"{TABLE}.parquet",
        published=lambda w: published_of(w.experiment),
    params:
        checks=lambda w: STUDY.checks[w.experiment].model_dump_json(),
        published=lambda w, input: f"--published {input.published}" if input.published else "",
    output:
        f"{RESULTS}/checks/{{experiment}}.json",
    log:
        f"{LOGS}/check_results/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/check_results/{{experiment}}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/plot.yaml"
    shell:
        "python scripts/check_results.py --table {input.table} --checks {params.checks:q}"
        " {params.published} --report {output} 2> {log}"


rule write_provenance:
    message:
        "Provenance"
    input:
        code=code_of("write_provenance"),
        results=[path for name in STUDY.experiments for path in results_of(name)],
    params:
        study=STUDY.model_dump_json(),
        benchmarks=BENCHMARKS,
    output:
        f"{RESULTS}/provenance.json",
    log:
        f"{LOGS}/write_provenance.log",
    benchmark:
        f"{BENCHMARKS}/write_provenance.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../envs/torch.yaml"
    shell:
        "python scripts/write_provenance.py --study {params.study:q}"
        " --benchmarks {params.benchmarks} --output {output} 2> {log}"
