# Modified images: corruptions and transforms once per dataset, attacks once per base network.


rule modify_images:
    message:
        "Applying {wildcards.modification} to the {wildcards.split} images of {wildcards.dataset}"
    input:
        code=code_of("modify_images"),
        data=f"{DATA}/{{split}}.safetensors",
    params:
        seed=STUDY.seed,
    output:
        MODIFIED,
    log:
        f"{LOGS}/modify_images/{{dataset}}/{{modification}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/modify_images/{{dataset}}/{{modification}}/{{split}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    conda:
        "../envs/torch.yaml"
    shell:
        "python scripts/modify_images.py --data {input.data} --seed {params.seed}"
        " --modification {wildcards.modification} --workers {threads} --output {output} 2> {log}"


rule attack_images:
    message:
        "Crafting {wildcards.attack} against {wildcards.network}, trials {wildcards.trials}"
    input:
        code=code_of("attack_images"),
        data=f"{DATA}/train.safetensors",
        network=NETWORK,
    params:
        attack=lambda w: json.dumps(attack(w.attack)),
    output:
        ATTACKED,
    log:
        f"{LOGS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}.log",
    benchmark:
        f"{BENCHMARKS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=240,
    conda:
        "../envs/torch.yaml"
    shell:
        "python scripts/attack_images.py --data {input.data} --network {input.network}"
        " --modification {wildcards.attack} --attack {params.attack:q} --output {output} 2> {log}"
