# Every noisy network of a source under every target of a suite: one record per image.


rule evaluate:
    input:
        code=lambda w: code_for("evaluate", w.network),
        data=lambda w: split_of(w.network, plan.split_of(w.suite)),
        network=network_of,
        noisy=noisy_of,
        covariance=covariance_in_test,
        modified=lambda w: stored_targets(w, w.trials),
    output:
        RECORDS,
    log:
        f"{LOGS}/evaluate/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(240),
    params:
        code=lambda w: version_of(code_for("evaluate", w.network)),
        study=STUDY.study,
        pairs=lambda w: json.dumps(pairs_of(w)),
        attacks=lambda w: json.dumps(
            {t: attack(t) for t in targets_of(w) if is_attack(t)}
        ),
        noise=noise_of,
        input_noise=lambda w: variant(w.network).input_noise,
        covariance=lambda w, input: (
            f"--covariance {input.covariance}" if input.covariance else ""
        ),
        noisy=lambda w, input: f"--noisy {input.noisy}" if input.noisy else "",
        passes=STUDY.evaluation.passes,
        ways=lambda w: ways_of(w.network),
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
    message:
        "Testing noise of {wildcards.source} under suite {wildcards.suite}"
    shell:
        "python scripts/evaluate.py --data {input.data} --network {input.network}"
        " {params.noisy} --pairs {params.pairs:q} --modified {input.modified}"
        " --attacks {params.attacks:q} --regime {wildcards.regime} --site {wildcards.site} --study {params.study}"
        " --name {wildcards.network} --passes {params.passes} {params.ways} {params.noise} {params.covariance}"
        " --input-noise {params.input_noise} --seed {params.seed} --trials {params.trials}"
        " --output {output} 2> {log}"


# what an audit tells of the networks beside the attacks
rule probe_noise:
    input:
        code=lambda w: code_for("probe_noise", w.network),
        data=lambda w: split_of(w.network, "test"),
        network=network_of,
        noisy=noisy_of,
        covariance=covariance_in_test,
    output:
        PROBES,
    log:
        f"{LOGS}/probe_noise/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_noise/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(60),
    params:
        code=lambda w: version_of(code_for("probe_noise", w.network)),
        study=STUDY.study,
        noise=noise_of,
        input_noise=lambda w: variant(w.network).input_noise,
        covariance=lambda w, input: (
            f"--covariance {input.covariance}" if input.covariance else ""
        ),
        noisy=lambda w, input: f"--noisy {input.noisy}" if input.noisy else "",
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
    message:
        "Probing noise of {wildcards.source} and the gradients through it"
    shell:
        "python scripts/probe_noise.py --data {input.data} --network {input.network}"
        " {params.noisy} --regime {wildcards.regime} --site {wildcards.site} --study {params.study}"
        " --name {wildcards.network} {params.noise} {params.covariance}"
        " --input-noise {params.input_noise} --seed {params.seed} --trials {params.trials}"
        " --output {output} 2> {log}"
