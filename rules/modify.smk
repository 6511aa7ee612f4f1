# Modified images: corruptions, transforms and those that are read once per dataset, attacks once per base network.


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
    wildcard_constraints:
        modification=r"[a-z_]+@[0-9.e-]+",
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_images,
        runtime=growing(240),
    params:
        code=version_of(code_of("modify_images")),
        seed=STUDY.seed,
        trials="",
    message:
        "Applying {wildcards.modification} to the {wildcards.split} images of {wildcards.dataset}"
    shell:
        "python scripts/modify_images.py --data {input.data} --seed {params.seed}"
        " --modification {wildcards.modification} {params.trials} --workers {threads} --output {output} 2> {log}"


# the same stage where each trial draws images of its own: files of other names
use rule modify_images as redraw_images with:
    output:
        REDRAWN,
    log:
        f"{LOGS}/redraw_images/{{dataset}}/{{modification}}/{{trials}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/redraw_images/{{dataset}}/{{modification}}/{{trials}}/{{split}}.tsv"
    params:
        code=version_of(code_of("modify_images")),
        seed=STUDY.seed,
        trials=lambda w: "--trials " + " ".join(map(str, trials_of(w.trials))),
    message:
        "Applying {wildcards.modification} to the {wildcards.split} images of {wildcards.dataset}, trials {wildcards.trials}"


rule read_modified:
    input:
        code=code_of("read_modified"),
        data=f"{DATA}/{{split}}.safetensors",
        files=lambda w: ancient(published_files(w.dataset, w.modification)),
    output:
        MODIFIED,
    log:
        f"{LOGS}/read_modified/{{dataset}}/{{modification}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/read_modified/{{dataset}}/{{modification}}/{{split}}.tsv"
    wildcard_constraints:
        modification=r"[a-z0-9_]+\.[a-z0-9_]+@[0-9.e-]+",
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=version_of(code_of("read_modified")),
        images=lambda w: images_of_dataset(w.dataset),
        folder=lambda w: modified_folder(w.dataset, w.modification),
        state=lambda w: state_of_modified(w.dataset, w.modification),
    message:
        "Reading {wildcards.modification} of the {wildcards.split} images of {wildcards.dataset}"
    shell:
        "python scripts/read_modified.py --data {input.data} --modification {wildcards.modification}"
        " {params.images} --modified {params.folder:q} --output {output} 2> {log}"


rule attack_images:
    input:
        code=lambda w: code_for("attack_images", w.network),
        data=f"{DATA}/{{split}}.safetensors",
        network=NETWORK,
    output:
        ATTACKED,
    log:
        f"{LOGS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}/{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/attack_images/{{dataset}}/{{attack}}/{{network}}/{{trials}}/{{split}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=growing(240),
    params:
        code=lambda w: version_of(code_for("attack_images", w.network)),
        attack=lambda w: json.dumps(attack(w.attack)),
        seed=STUDY.seed,
        trials=lambda w: trials_of(w.trials),
    message:
        "Crafting {wildcards.attack} against {wildcards.network}, trials {wildcards.trials}"
    shell:
        "python scripts/attack_images.py --data {input.data} --network {input.network}"
        " --modification {wildcards.attack} --attack {params.attack:q} --seed {params.seed}"
        " --trials {params.trials} --output {output} 2> {log}"
