# Every noisy network of a source under every target of a suite: one record per image.


rule evaluate:
    input:
        code=code_of("evaluate"),
        data=lambda w: split_of(w.network, "test"),
        network=NETWORK,
        noisy=f"{NOISY}.safetensors",
        covariance=covariance_of,
        modified=lambda w: natural_targets(w.network, w.suite),
    output:
        RECORDS,
    log:
        f"{LOGS}/evaluate/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=lambda w: memory_of(w.trials),
        runtime=240,
    params:
        study=STUDY.study,
        targets=lambda w: STUDY.suites[w.suite],
        attacks=lambda w: json.dumps(
            {t: attack(t) for t in STUDY.suites[w.suite] if is_attack(t)}
        ),
        arms=lambda w: arms_of(w.source),
        passes=STUDY.evaluation.passes,
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
    message:
        "Testing noise of {wildcards.source} under suite {wildcards.suite}"
    shell:
        "python scripts/evaluate.py --data {input.data} --network {input.network}"
        " --noisy {input.noisy} --targets {params.targets} --modified {input.modified}"
        " --attacks {params.attacks:q} --site {wildcards.site} --study {params.study}"
        " --name {wildcards.network} --passes {params.passes} --source {wildcards.source}"
        " --arms {params.arms} --tau {wildcards.tau} --covariance {input.covariance} --seed {params.seed}"
        " --trials {params.trials} --output {output} 2> {log}"
