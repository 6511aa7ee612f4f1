# Modified images: corruptions and transforms once per dataset, attacks once per base network.


rule modify_images:
    input:
        code=code_of("modify_images"),
        data=f"{DATA}/{{split}}.safetensors",
    output:
        MODIFIED,
    log:
        f"{LOGS}/modify_images/{{dataset}}/{{modification}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/modify_images/{{dataset}}/{{modification}}/{{split}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(240),
    params:
        code=version_of(code_of("modify_images")),
        seed=STUDY.seed,
    message:
        "Applying {wildcards.modification} to the {wildcards.split} images of {wildcards.dataset}"
    shell:
        "python scripts/modify_images.py --data {input.data} --seed {params.seed}"
        " --modification {wildcards.modification} --workers {threads} --output {output} 2> {log}"


rule attack_images:
    input:
        code=code_of("attack_images"),
        data=f"{DATA}/train.safetensors",
        network=NETWORK,
    output:
        ATTACKED,
    log:
        f"{LOGS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(240),
    params:
        code=version_of(code_of("attack_images")),
        attack=lambda w: json.dumps(attack(w.attack)),
        seed=STUDY.seed,
        trials=lambda w: trials_of(w.trials),
    message:
        "Crafting {wildcards.attack} against {wildcards.network}, trials {wildcards.trials}"
    shell:
        "python scripts/attack_images.py --data {input.data} --network {input.network}"
        " --modification {wildcards.attack} --attack {params.attack:q} --seed {params.seed}"
        " --trials {params.trials} --output {output} 2> {log}"
