# Suffixes retrained under noise: all arms of one source and a block of trials as one stack.


rule retrain_suffix:
    input:
        code=lambda w: code_for("retrain_suffix", w.network),
        data=lambda w: split_of(w.network, "train"),
        network=network_of,
        covariance=covariance_of,
        activations=lambda w: [] if is_fine_tuned(w) else recorded_of(w),
        modified=lambda w: calibration_images(w) if is_fine_tuned(w) else [],
    output:
        suffixes=f"{NOISY}.safetensors",
        losses=f"{NOISY}.losses.safetensors",
    log:
        f"{LOGS}/retrain_suffix/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/retrain_suffix/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(240),
    params:
        code=lambda w: version_of(code_for("retrain_suffix", w.network)),
        activations=lambda w, input: (
            f"--activations {input.activations}" if input.activations else ""
        ),
        modified=lambda w, input: (
            f"--modified {input.modified}" if input.modified else ""
        ),
        noise=noise_of,
        input_noise=lambda w: variant(w.network).input_noise,
        covariance=lambda w, input: (
            f"--covariance {input.covariance}" if input.covariance else ""
        ),
        training=lambda w: training_of(w.network),
        trials=lambda w: trials_of(w.trials),
        seed=STUDY.seed,
    message:
        "Retraining behind {wildcards.site} of {wildcards.network} under noise of {wildcards.source}"
    shell:
        "python scripts/retrain_suffix.py --data {input.data} --network {input.network}"
        " {params.activations} {params.modified} --name {wildcards.network} --site {wildcards.site}"
        " {params.noise} {params.covariance} --input-noise {params.input_noise} {params.training}"
        " --seed {params.seed} --trials {params.trials} --output {output.suffixes}"
        " --losses {output.losses} 2> {log}"
