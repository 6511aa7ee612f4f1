# Paths, wildcards, and which code a stage depends on.
import json
import re
import shlex
from dataclasses import asdict
from functools import cache

from noisetransfer import dependencies, modifications, plan
from noisetransfer.arms import FINE_TUNED, NO_NOISE, NO_SOURCE
from noisetransfer.attack_order import possible
from noisetransfer.compared import compared as compared_noises
from noisetransfer.config import CURVES
from noisetransfer.corrupted_sets import SETS
from noisetransfer.datasets import (
    CALIBRATION,
    DATASETS,
    SPLITS,
    find,
    in_place,
    validation_is_unseen,
)
from noisetransfer.drawable import AUDIT, HEATMAP
from noisetransfer.folders import fingerprint
from noisetransfer.halves import HALVES
from noisetransfer.plan import PRETRAINED, trials_of
from noisetransfer.regimes import REGIMES
from noisetransfer.variants import variant

RESULTS = f"results/{STUDY.study}"
DATA = f"{RESULTS}/data/{{dataset}}"
MODIFIED = f"{RESULTS}/modified/{{dataset}}/{{modification}}/{{split}}.safetensors"
REDRAWN = (
    f"{RESULTS}/modified/{{dataset}}/{{modification}}/{{trials}}/{{split}}.safetensors"
)
ATTACKED = f"{RESULTS}/modified/{{dataset}}/{{attack}}/{{network}}/{{trials}}/{{split}}.safetensors"
NETWORK = f"{RESULTS}/networks/{{network}}/{{trials}}.safetensors"
WEIGHTS = f"{RESULTS}/weights/{{network}}.safetensors"
ACTIVATIONS = f"{RESULTS}/activations/{{network}}/{{site}}/{{trials}}.safetensors"
POOLED = f"{NO_SOURCE}+pooled"
COVARIANCE = f"{RESULTS}/covariance/{{network}}/{{site}}/{{source}}/{{trials}}"
NOISY = f"{RESULTS}/noisy/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}"
RECORDS = f"{RESULTS}/evaluation/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.parquet"
PROBES = f"{RESULTS}/probes/{{regime}}/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}.parquet"
TABLE = f"{RESULTS}/tables/{{experiment}}"
MATCHED = f"{RESULTS}/tables/{{experiment}}_matched"
LOSSES = f"{RESULTS}/tables/{{experiment}}_losses"
AUDITED = f"{RESULTS}/tables/{{experiment}}_audit"
VERDICTS = f"{RESULTS}/tables/{{experiment}}_verdicts"
PROBED = f"{RESULTS}/tables/{{experiment}}_probes"
CLASSES = f"{RESULTS}/classes/{{network}}/{{site}}/{{trials}}.safetensors"
GEOMETRY = f"{RESULTS}/tables/{{experiment}}_geometry"
SPECTRA = f"{RESULTS}/tables/{{experiment}}_spectra"
MANTEL = f"{RESULTS}/tables/{{experiment}}_mantel"
CHECKS = f"{RESULTS}/checks/{{experiment}}"
FIGURES = f"{RESULTS}/figures"
SAMPLES = f"{FIGURES}/noise/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}"
REPORT = f"{RESULTS}/report.html"
PAGE = [f"scripts/noisetransfer/page/page.{part}" for part in ("html.j2", "css", "js")]
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
VECTORS = ["pdf", "svg"]
FORMATS = [*VECTORS, "png"]
VALUES = ["accuracy", "gain_over_none", "gain_over_identity"]
CLUSTERED = "clustered"
SUMMARIES = ["summary", "families", "variance", "robustness"]
GEOMETRIES = ["geometry", "spectra"]


wildcard_constraints:
    dataset=r"[^/@]+",
    modification=r"[a-z0-9_.]+@[0-9.e-]+",
    attack=r"[a-z0-9_.]+@[0-9.e-]+",
    split="|".join(SPLITS),
    regime="|".join(REGIMES),
    network=r"[^/]+",
    site=r"[^/]+",
    source=r"[^/]+",
    suite=r"[^/]+",
    tau=r"[0-9.e+-]+|unscaled",
    trials=rf"\d+(-\d+)?|{PRETRAINED}",
    experiment="|".join(STUDY.experiments),
    kind="|".join([*CURVES, "published_heatmap", "published_cells"]),


def source(path):
    """A file of the workflow, which jobs have beside them wherever they run: in no storage."""
    stored = workflow.storage_settings.default_storage_provider
    return sourcecache_entry(path, path) if stored else path


def code_of(stage):
    """The command line of a stage and the library code that it runs: an edit of it reruns the stage."""
    return list(map(source, dependencies.code(Path(f"scripts/{stage}.py"))))


def code_of_training(network):
    """As `code_of`; an edit of the attacks retrains only the networks that are trained on them."""
    own = [
        f"scripts/noisetransfer/{name}.py"
        for name in (
            "adaptive",
            "attack_parts",
            "attacks",
            "auto_attack",
            "blind",
            "expectation",
        )
    ]
    attacked = variant(network).attack
    return [path for path in code_of("train_network") if attacked or path not in own]


def code_for(stage, network):
    """As `code_of`; how pretrained networks are made touches no other."""
    own = [] if is_pretrained(network) else code_of_zoo()
    return [path for path in code_of(stage) if path not in own]


def code_of_zoo():
    """The library code that only pretrained networks need."""
    return [
        source(path)
        for path in dependencies.code(Path("scripts/noisetransfer/zoo.py"))
        if path not in dependencies.code(Path("scripts/train_network.py"))
    ]


def version_of(code):
    """The content of a stage's code: with a clock set back, times would not tell of an edit."""
    return dependencies.fingerprint(tuple(map(str, code)))


def is_attack(modification):
    return modifications.parse(modification)[0].kind == "attack"


def is_stored(modification):
    """Whether its images are those of a file, the same for every network."""
    return modifications.parse(modification)[0].kind not in ("attack", "clean")


def images_of_modification(modification, dataset, split, network, trials):
    """The file of the images of a split as a modification makes them: for all trials, or each its own."""
    if is_attack(modification):
        pattern = ATTACKED
    elif STUDY.datasets[dataset].redraw_per_trial and is_made(modification):
        pattern = REDRAWN
    else:
        pattern = MODIFIED
    paths = {"dataset": dataset, "split": split, "network": network, "trials": trials}
    return pattern.format(modification=modification, attack=modification, **paths)


def is_made(modification):
    """Whether its images are made from those of the dataset alone, not read and not crafted."""
    return modifications.parse(modification)[0].kind in ("corruption", "transform")


def is_pretrained(network):
    return STUDY.network(network).pretrained is not None


def base_of(w):
    """The block of trials of the base network."""
    return PRETRAINED if is_pretrained(w.network) else w.trials


def pretrained_network(network):
    """What a pretrained network is, as its command lines take it."""
    keys = {"pretrained", "architecture", "mean", "std", "classes"}
    return STUDY.network(network).model_dump_json(include=keys, exclude_none=True)


def weights_file(network):
    """The file that a pretrained network is read from, if it is one of the user's."""
    zoo, _, path = STUDY.network(network).pretrained.partition(":")
    return [local(path)] if zoo == "file" else []


def expected_accuracy(network):
    """The clean accuracy that the study demands of a pretrained network, if it does."""
    expected = STUDY.network(network).clean_accuracy
    return f"--expected {shlex.quote(expected.model_dump_json())}" if expected else ""


def ways_of(network):
    """The faster ways to run a pretrained network, as command lines take them."""
    wanted = STUDY.evaluation.ways if is_pretrained(network) else {}
    return " ".join(f"--{way.replace('_', '-')}" for way, on in wanted.items() if on)


def network_of(w):
    return NETWORK.format(network=w.network, trials=base_of(w))


def attack(modification):
    """Name, ε and budget of an attack, as command lines take them."""
    entry, epsilon = modifications.parse(modification)
    name = modifications.attack_of(entry.name)
    return {"attack": name, "epsilon": epsilon, **STUDY.budget(entry.name)}


def budgets_of(experiment):
    """What each attack among the targets of an experiment may do, by its name."""
    found = {}
    for job in plan.evaluations(STUDY, experiment):
        for target in filter(is_attack, targets_of(job)):
            known = attack(target)
            del known["epsilon"]
            found[target.partition("@")[0]] = known
    return found


def possible_attacks(experiment):
    """The attacks among the targets of an experiment that someone could run."""
    return sorted(name for name, own in budgets_of(experiment).items() if possible(own))


def gated_records(experiment):
    """The records that the order of the attacks is checked on: those under attacks."""
    if not STUDY.checks[experiment].gates:
        return []
    jobs = [
        job
        for job in plan.evaluations(STUDY, experiment)
        if any(map(is_attack, targets_of(job)))
    ]
    return [RECORDS.format(**asdict(j), trials=t) for j in jobs for t in STUDY.trials]


def gated_probes(experiment):
    """The table of an audit that the noise itself is checked on."""
    audited = AUDIT in STUDY.figures_of(experiment) and STUDY.checks[experiment].gates
    return f"{PROBED}.parquet".format(experiment=experiment) if audited else []


def dataset_of(network):
    return STUDY.network(network).dataset


def split_of(network, split):
    return f"{DATA}/{split}.safetensors".format(dataset=dataset_of(network))


def calibration_split(network):
    return calibrated(dataset_of(network))


def calibrated(dataset):
    """The split of a dataset that covariances are fitted on."""
    return CALIBRATION if STUDY.datasets[dataset].splits.calibration else "train"


def held_out(network):
    """The images that a base network is measured on: test images only where it has seen all others."""
    dataset = dataset_of(network)
    unseen = not is_pretrained(network) or validation_is_unseen(id_of(dataset))
    validated = STUDY.datasets[dataset].splits.validation and unseen
    return split_of(network, "validation" if validated else "test")


def memory_of_images(w, attempt):
    """MB of the images of a split, as bytes and as float32 and both once more, and of the libraries."""
    section = STUDY.datasets[w.dataset]
    shape = find(id_of(w.dataset), resize=section.resize, crop=section.crop).shape
    images = getattr(section.splits, w.split) * len(
        trials_of(getattr(w, "trials", "0"))
    )
    values = images * shape[0] * shape[1] * shape[2]
    return attempt * (1500 + 10 * values // 10**6)


def growing(amount):
    """A need that is stated anew, larger, each time that a cluster ends a job for exceeding it."""
    return lambda wildcards, attempt: attempt * amount


def memory_of(w, attempt):
    """MB that a block of trials needs at d = 3136 and 60,000 images; the largest pretrained network."""
    if is_pretrained(w.network):
        return attempt * 16000
    factors = 100 * len(sources_of(getattr(w, "source", NO_SOURCE)))
    return attempt * (2500 + (1500 + factors) * len(trials_of(w.trials)))


def memory_of_pool(w, attempt):
    """MB of the factors of all pooled sources, as `memory_of`, and of those of one trial once more."""
    if is_pretrained(w.network):
        return attempt * 16000
    factors = 100 * len(pooled_sources())
    return attempt * (2500 + factors * (1 + len(trials_of(w.trials))))


def training_of(network):
    """The hyperparameters of a network's training, as its command line takes them."""
    training = STUDY.trainings[STUDY.network(network).training]
    return " ".join(
        f"--{key.replace('_', '-')} {value}"
        for key, value in training.model_dump().items()
    )


def images_of(network):
    """What a network sees instead of clean images, as command lines take it."""
    v = variant(network)
    noise = f"--input-noise {v.input_noise}" if v.input_noise else ""
    attacked = (
        shlex.quote(json.dumps({**attack(v.attack), "ratio": v.ratio}))
        if v.attack
        else ""
    )
    return f"{noise} --attack {attacked}" if attacked else noise


def noise_of(w):
    """The noise of a job: its sources, arms and trace scale, as command lines take them."""
    arms = plan.arms(STUDY.noise.arms, w.source, w.tau)
    # a covariance without a source is filed as that of any
    sources = sources_of(w.source) or [NO_SOURCE] * plan.has_covariance(w.source)
    named = f"--sources {' '.join(sources)}" if sources else ""
    return f"--arms {' '.join(arms)} --tau {w.tau} {named}"


def sources_of(unit):
    """The sources of a unit, none of the arms without a source."""
    plain = plan.source_of(unit) == NO_SOURCE
    return [] if plain else plan.members(STUDY.suites, unit)


def pooled_sources():
    """The sources whose covariances arm pooled averages."""
    return [source for unit in STUDY.noise.pooled for source in sources_of(unit)]


def half_of(w):
    """The half of the calibration images that a covariance is fitted to, as command lines take it."""
    if plan.apart(w.source) not in HALVES:
        return ""
    trials = " ".join(map(str, trials_of(w.trials)))
    return f"--half {plan.apart(w.source)} --seed {STUDY.seed} --trials {trials}"


def calibration_images(w):
    """The training images as each source of a unit modifies them."""
    dataset, split = dataset_of(w.network), calibration_split(w.network)
    return [
        images_of_modification(source, dataset, split, w.network, base_of(w))
        for source in sources_of(w.source)
    ]


def is_fine_tuned(w):
    return plan.apart(w.source) == FINE_TUNED


def pairs_of(w):
    return plan.pairs(STUDY.suites, w.source, w.suite)


def targets_of(w):
    """Every target of an evaluation, once."""
    return list(
        dict.fromkeys(target for listed in pairs_of(w).values() for target in listed)
    )


def stored_targets(w, trials):
    """The modified test images of an evaluation; attacks are crafted during it."""
    dataset = dataset_of(w.network)
    return [
        images_of_modification(target, dataset, "test", w.network, trials)
        for target in targets_of(w)
        if is_stored(target)
    ]


def has_recorded(w):
    """Whether a covariance is fitted on recorded activations: those of all training images."""
    return not is_pretrained(w.network) and calibration_split(w.network) == "train"


def calibrated_on(w):
    """The clean images that a covariance is fitted on, or their recorded activations."""
    return (
        recorded_of(w)
        if has_recorded(w)
        else split_of(w.network, calibration_split(w.network))
    )


def recorded_of(w):
    """The recorded activations of a network that the study trains; others are computed when needed."""
    if is_pretrained(w.network):
        return []
    return ACTIVATIONS.format(network=w.network, site=w.site, trials=w.trials)


def covariance_of(w):
    """The covariances of a unit; none for the arms that need none."""
    paths = {"network": w.network, "site": w.site, "source": w.source}
    stem = COVARIANCE.format(**paths, trials=base_of(w))
    return f"{stem}.safetensors" if plan.has_covariance(w.source) else []


def covariances_of_pool(w):
    """The covariances that arm pooled averages."""
    paths = {"network": w.network, "site": w.site, "trials": w.trials}
    return [
        f"{COVARIANCE}.safetensors".format(**paths, source=unit)
        for unit in STUDY.noise.pooled
    ]


def covariance_in_test(w):
    """The covariances of the noise that is on at test."""
    return covariance_of(w) if REGIMES[w.regime].tested else []


def noisy_of(w):
    """The retrained suffixes, arm none's where no noise was on; none where the network is tested as it is."""
    suffix = REGIMES[w.regime].suffix
    if suffix == "base":
        return []
    without = {"source": NO_SOURCE, "tau": NO_NOISE} if suffix == "none" else {}
    return NOISY.format(**{**w, **without}) + ".safetensors"


def records_of(experiment, split="test"):
    """The records of an experiment; those of validation images are in no table of test images."""
    jobs = [j for j in plan.evaluations(STUDY, experiment) if j.split == split]
    return [RECORDS.format(**asdict(j), trials=t) for j in jobs for t in STUDY.trials]


def probes_of(experiment):
    """What is measured of every noisy network of an experiment, beside its records."""
    jobs = plan.evaluations(STUDY, experiment)
    paths = [PROBES.format(**asdict(j), trials=t) for j in jobs for t in STUDY.trials]
    return list(dict.fromkeys(paths))


def losses_of(experiment):
    """The losses of every suffix that an experiment retrains."""
    jobs = [
        j
        for j in plan.evaluations(STUDY, experiment)
        if REGIMES[j.regime].suffix == "arm"
    ]
    paths = [
        f"{NOISY}.losses.safetensors".format(**asdict(j), trials=t)
        for j in jobs
        for t in STUDY.trials
    ]
    return list(dict.fromkeys(paths))


def id_of(dataset):
    return STUDY.datasets[dataset].id or dataset


def originals_of(dataset):
    """The original files that are retrieved before a dataset is read; none where it is read in place."""
    if folder_in_place(dataset):
        return []
    id = id_of(dataset)
    return [local(f"resources/{id}/{file.name}") for file in find(id).files]


def folder_in_place(dataset):
    return in_place(id_of(dataset), STUDY.datasets[dataset].folder)


def folder_of(dataset):
    """Where the original files of a dataset are read."""
    return folder_in_place(dataset) or Path(f"resources/{id_of(dataset)}")


def state_of(folder):
    """What changes with the images of a folder of the user's, which no rule makes."""
    return fingerprint(folder) if folder else ""


def images_of_dataset(dataset):
    """The images of a dataset, as command lines take them."""
    section = STUDY.datasets[dataset]
    sizes = [("resize", section.resize), ("crop", section.crop)]
    options = "".join(f" --{name} {size}" for name, size in sizes if size)
    paths = f"--id {shlex.quote(id_of(dataset))} --folder {shlex.quote(str(folder_of(dataset)))}"
    return paths + options


def modified_folder(dataset, modification):
    """Where the modified images lie that are read, not made."""
    entry, _ = modifications.parse(modification)
    group, _, name = entry.name.partition(".")
    section = STUDY.datasets[dataset]
    if entry.kind == "paired":
        return section.paired[name]
    return section.corrupted or Path(f"resources/{group}")


def state_of_modified(dataset, modification):
    """As `state_of`; published sets never change."""
    paired = modifications.parse(modification)[0].kind == "paired"
    return state_of(modified_folder(dataset, modification)) if paired else ""


def published_files(dataset, modification):
    """The files of a published corrupted set that are downloaded; none where there is a local folder."""
    entry, _ = modifications.parse(modification)
    group = entry.name.partition(".")[0]
    if entry.kind == "paired" or STUDY.datasets[dataset].corrupted:
        return []
    return [local(f"resources/{group}/{file.name}") for file in SETS[group].files]


def local_original(id):
    """The local folder that the study names for the original files of a dataset."""
    sections = [
        section for name, section in STUDY.datasets.items() if id_of(name) == id
    ]
    folder = next((section.folder for section in sections if section.folder), None)
    return f"--folder {shlex.quote(str(folder))}" if folder else ""


def evaluations_on(dataset):
    """Every evaluation of the study on a dataset."""
    jobs = [job for name in STUDY.experiments for job in plan.evaluations(STUDY, name)]
    return [job for job in dict.fromkeys(jobs) if dataset_of(job.network) == dataset]


def shown_targets(dataset):
    """The modified test images of a dataset that some experiment uses."""
    paths = [
        path
        for job in evaluations_on(dataset)
        for path in stored_targets(job, STUDY.trials[0])
    ]
    return list(dict.fromkeys(paths))


def shown_attacks(dataset):
    """The training images of a dataset under each attack that is a source, of one network and block of trials."""
    paths = [
        images_of_modification(
            source,
            dataset,
            calibration_split(job.network),
            job.network,
            PRETRAINED if is_pretrained(job.network) else STUDY.trials[0],
        )
        for job in evaluations_on(dataset)
        for source in sources_of(job.source)
        if is_attack(source)
    ]
    by_attack = {Path(path).parts[4]: path for path in reversed(paths)}
    return list(reversed(by_attack.values()))


def contact_sheets():
    networks = [
        job.network
        for name in STUDY.experiments
        for job in plan.evaluations(STUDY, name)
    ]
    return expand(
        f"{FIGURES}/modifications/{{dataset}}.{{format}}",
        dataset=dict.fromkeys(map(dataset_of, networks)),
        format=[*FORMATS, "safetensors"],
    )


def checked_of(experiment):
    """The verdicts of an experiment, and the cells behind them."""
    return [
        path.format(experiment=experiment)
        for path in (f"{CHECKS}.json", f"{CHECKS}_cells.parquet")
    ]


def published_of(experiment):
    """The published tables that an experiment is compared with."""
    checks = STUDY.checks[experiment]
    return {
        kind: source(str(found.table))
        for kind in ("published", "published_cells")
        if (found := getattr(checks, kind))
    }


def diagnostics():
    """What the fits of all covariances of the study tell of themselves."""
    jobs = [job for name in STUDY.experiments for job in plan.evaluations(STUDY, name)]
    paths = [
        f"{COVARIANCE}.json".format(
            network=job.network,
            site=job.site,
            source=job.source,
            trials=PRETRAINED if is_pretrained(job.network) else block,
        )
        for job in jobs
        if plan.has_covariance(job.source)
        for block in STUDY.trials
    ]
    return list(dict.fromkeys(paths))


def order_of(experiment):
    """Rows and columns of an experiment's figures, in the order of the study file."""
    jobs = [j for j in plan.evaluations(STUDY, experiment) if j.split == "test"]
    found = [name for j in jobs for name in [*targets_of(j), *sources_of(j.source)]]
    return list(dict.fromkeys(found))


def figures_of(experiment):
    """The figures of an experiment, those first that are read first."""
    names = []
    for kind in STUDY.figures_of(experiment):
        heatmaps = [f"{experiment}_{v}" for v in [*reversed(VALUES), CLUSTERED]]
        names += heatmaps if kind == HEATMAP else [f"{experiment}_{kind}"]
    names += [f"{experiment}_{kind}" for kind in GEOMETRIES if compared(experiment)]
    if experiment in STUDY.checks:
        comparisons = {
            "published": "published_heatmap",
            "published_cells": "published_cells",
        }
        names += [f"{experiment}_{comparisons[k]}" for k in published_of(experiment)]
    return names


def drawn_from(w):
    """The table that a figure shows."""
    if w.kind.startswith("published"):
        return f"{CHECKS}_cells.parquet".format(**w)
    own = {
        "learning_curve": LOSSES,
        "matched_accuracy": MATCHED,
        "pareto": f"{TABLE}_robustness",
    }
    return f"{own.get(w.kind, TABLE)}.parquet".format(**w)


def tables_of(experiment):
    drawn = STUDY.figures_of(experiment)
    summaries = [f"{TABLE}_{kind}" for kind in SUMMARIES]
    losses = [LOSSES] if "learning_curve" in drawn else []
    matched = [MATCHED] if plan.is_matched(STUDY, experiment) else []
    audit = [AUDITED, VERDICTS, PROBED] if AUDIT in drawn else []
    geometry = [GEOMETRY, SPECTRA, MANTEL] if compared(experiment) else []
    return [TABLE, *summaries, *losses, *matched, *audit, *geometry]


def headlines_of(experiment):
    """What a finished run names: the figures, and the tables that are read first."""
    figures = [f"{FIGURES}/{name}.png" for name in figures_of(experiment)]
    first = {TABLE, f"{TABLE}_summary", VERDICTS}
    tables = [f"{table}.csv" for table in tables_of(experiment) if table in first]
    return [*figures, *[path.format(experiment=experiment) for path in tables]]


def drawings_of(experiment):
    """The files of an experiment's figures."""
    names = figures_of(experiment)
    drawn = expand(f"{FIGURES}/{{figure}}.{{format}}", figure=names, format=FORMATS)
    return [*drawn, *samples_of(experiment)]


def made_of(experiment):
    """What an experiment makes, whether its checks hold or not."""
    tables = [table.format(experiment=experiment) for table in tables_of(experiment)]
    return [
        *[f"{table}.{suffix}" for table in tables for suffix in ("parquet", "csv")],
        *drawings_of(experiment),
        *(checked_of(experiment) if experiment in STUDY.checks else []),
    ]


def results_of(experiment):
    """What a user asks for with an experiment's name."""
    checked = STUDY.checks.keys() & {experiment}
    passed = [f"{CHECKS}.passed".format(experiment=name) for name in checked]
    return [*made_of(experiment), *passed]


@cache
def compared(experiment):
    """The noises of a heatmap whose covariances are compared."""
    return compared_noises(STUDY, experiment)


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
