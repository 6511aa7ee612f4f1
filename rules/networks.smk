# Base networks: trained, one per trial, or pretrained.


rule train_network:
    input:
        code=lambda w: code_of_training(w.network),
        train=lambda w: split_of(w.network, "train"),
        held_out=lambda w: held_out(w.network),
    output:
        network=NETWORK,
        report=f"{RESULTS}/networks/{{network}}/{{trials}}.json",
    log:
        f"{LOGS}/train_network/{{network}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/train_network/{{network}}/{{trials}}.tsv"
    wildcard_constraints:
        trials=r"\d+(-\d+)?",
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(120),
    params:
        code=lambda w: version_of(code_of_training(w.network)),
        architecture=lambda w: STUDY.network(w.network).architecture,
        activation=lambda w: STUDY.network(w.network).activation,
        training=lambda w: training_of(w.network),
        images=lambda w: images_of(w.network),
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
    message:
        "Training base networks {wildcards.network}, trials {wildcards.trials}"
    shell:
        "python scripts/train_network.py --train {input.train} --held-out {input.held_out}"
        " --architecture {params.architecture} --activation {params.activation}"
        " {params.images} {params.training} --seed {params.seed} --trials {params.trials}"
        " --output {output.network} --report {output.report} 2> {log}"


rule prepare_network:
    input:
        code=code_of("prepare_network"),
        weights=WEIGHTS,
        held_out=lambda w: held_out(w.network),
    output:
        network=NETWORK.replace("{trials}", PRETRAINED),
        report=f"{RESULTS}/networks/{{network}}/{PRETRAINED}.json",
    log:
        f"{LOGS}/prepare_network/{{network}}/{PRETRAINED}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_network/{{network}}/{PRETRAINED}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=growing(120),
    params:
        code=version_of(code_of("prepare_network")),
        expected=lambda w: expected_accuracy(w.network),
    message:
        "Measuring the clean accuracy of {wildcards.network}"
    shell:
        "python scripts/prepare_network.py --weights {input.weights} --held-out {input.held_out}"
        " {params.expected} --output {output.network} --report {output.report} 2> {log}"


# not temp(): made anew for a new source, they would rerun all the others
rule record_activations:
    input:
        code=code_of("record_activations"),
        data=lambda w: split_of(w.network, "train"),
        network=NETWORK,
    output:
        ACTIVATIONS,
    log:
        f"{LOGS}/record_activations/{{network}}/{{site}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/record_activations/{{network}}/{{site}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(60),
    params:
        code=version_of(code_of("record_activations")),
    message:
        "Recording clean activations at {wildcards.site} of {wildcards.network}"
    shell:
        "python scripts/record_activations.py --data {input.data} --network {input.network}"
        " --site {wildcards.site} --output {output} 2> {log}"
