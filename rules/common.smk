# Paths, wildcards, and which code a stage depends on.
import json
import shlex

from noisetransfer import dependencies, modifications
from noisetransfer.arms import ARMS
from noisetransfer.config import trials_of
from noisetransfer.datasets import DATASETS, SPLITS
from noisetransfer.statistics import NO_SOURCE

RESULTS = f"results/{STUDY.study}"
DATA = f"{RESULTS}/data/{{dataset}}"
MODIFIED = f"{RESULTS}/modified/{{dataset}}/{{modification}}/{{split}}.safetensors"
ATTACKED = f"{RESULTS}/modified/{{dataset}}/{{attack}}/{{network}}/{{trials}}/train.safetensors"
NETWORK = f"{RESULTS}/networks/{{network}}/{{trials}}.safetensors"
ACTIVATIONS = f"{RESULTS}/activations/{{network}}/{{site}}/{{trials}}.safetensors"
COVARIANCE = f"{RESULTS}/covariance/{{network}}/{{site}}/{{source}}/{{trials}}"
NOISY = f"{RESULTS}/noisy/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{trials}}"
RECORDS = f"{RESULTS}/evaluation/{{network}}/{{site}}/tau{{tau}}/{{source}}/{{suite}}/{{trials}}.parquet"
TABLE = f"{RESULTS}/tables/{{experiment}}"
FIGURES = f"{RESULTS}/figures"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
FORMATS = ["pdf", "svg", "png"]
VALUES = ["accuracy", "gain_over_none", "gain_over_identity"]


wildcard_constraints:
    dataset=r"[^/@]+",
    modification=r"[a-z_]+@[0-9.e-]+",
    attack=r"[a-z_]+@[0-9.e-]+",
    split=r"train|validation|test",
    network=r"[^/]+",
    site=r"[^/]+",
    source=r"[^/]+",
    suite=r"[^/]+",
    tau=r"[0-9.e+-]+",
    trials=r"\d+(-\d+)?",
    experiment=r"[^/]+",


def code_of(stage):
    """The command line of a stage and the library code that it runs: an edit of it reruns the stage."""
    return dependencies.code(Path(f"scripts/{stage}.py"))


def is_attack(modification):
    return (
        modification != NO_SOURCE
        and modifications.parse(modification)[0].kind == "attack"
    )


def attack(modification):
    """Name, ε and budget of an attack, as its command line takes them."""
    entry, epsilon = modifications.parse(modification)
    return {
        "attack": entry.name,
        "epsilon": epsilon,
        **STUDY.attacks[entry.name].model_dump(),
    }


def dataset_of(network):
    return STUDY.networks[network].dataset


def split_of(network, split):
    return f"{DATA}/{split}.safetensors".format(dataset=dataset_of(network))


def held_out(network):
    """The images that a base network is measured on: test images only where there are no others."""
    splits = STUDY.datasets[dataset_of(network)].splits
    return split_of(network, "validation" if splits.validation else "test")


def memory_of(trials):
    """MB that a block of trials needs at d = 3136 and 60,000 images."""
    return 2500 + 1500 * len(trials_of(trials))


def training_of(network):
    """The hyperparameters of a network's training, as its command line takes them."""
    training = STUDY.trainings[STUDY.networks[network].training]
    return " ".join(
        f"--{key.replace('_', '-')} {value}"
        for key, value in training.model_dump().items()
    )


def arms_of(source):
    """The arms that a source has; those without a source belong to `any`."""
    return [
        arm
        for arm in STUDY.noise.arms
        if ARMS[arm].from_source == (source != NO_SOURCE)
    ]


def calibration_images(w):
    """The training images as the source modifies them."""
    paths = {
        "dataset": dataset_of(w.network),
        "modification": w.source,
        "attack": w.source,
    }
    paths |= {"split": "train", "network": w.network, "trials": w.trials}
    return (ATTACKED if is_attack(w.source) else MODIFIED).format(**paths)


def natural_targets(network, suite):
    """The modified test images of a suite; attacks are crafted during the evaluation."""
    return [
        MODIFIED.format(dataset=dataset_of(network), modification=target, split="test")
        for target in STUDY.suites[suite]
        if modifications.parse(target)[0].kind in ("corruption", "transform")
    ]


def covariance_of(w):
    """The covariance of the source; none for the arms without a source."""
    return [] if w.source == NO_SOURCE else COVARIANCE.format(**w) + ".safetensors"


def sources_of(experiment):
    """The sources of an experiment that have arms in this study."""
    sources = [NO_SOURCE, *STUDY.experiments[experiment].sources]
    return [source for source in sources if arms_of(source)]


def records_of(experiment):
    e = STUDY.experiments[experiment]
    return expand(
        RECORDS,
        network=e.network,
        site=e.site,
        tau=e.tau,
        source=sources_of(experiment),
        suite=e.suites,
        trials=STUDY.trials,
    )


def folder_option(dataset):
    folder = STUDY.datasets[dataset].folder
    return f"--folder {shlex.quote(str(folder))}" if folder else ""


def experiments_on(dataset):
    return [e for e in STUDY.experiments.values() if dataset_of(e.network) == dataset]


def shown_targets(dataset):
    """The modified test images of a dataset that some experiment uses."""
    pairs = [(e.network, suite) for e in experiments_on(dataset) for suite in e.suites]
    return list(
        dict.fromkeys(path for pair in pairs for path in natural_targets(*pair))
    )


def shown_attacks(dataset):
    """The attacked training images of a dataset that some experiment uses, of the first trials."""
    paths = [
        ATTACKED.format(
            dataset=dataset, attack=source, network=e.network, trials=STUDY.trials[0]
        )
        for e in experiments_on(dataset)
        for source in e.sources
        if is_attack(source)
    ]
    return list(dict.fromkeys(paths))


def contact_sheets():
    datasets = dict.fromkeys(dataset_of(e.network) for e in STUDY.experiments.values())
    return expand(
        f"{FIGURES}/modifications/{{dataset}}.{{format}}",
        dataset=datasets,
        format=FORMATS,
    )


def published_of(experiment):
    published = STUDY.checks[experiment].published
    return str(published.table) if published else []


def order_of(experiment):
    """Rows and columns of an experiment's figures, in the order of the study file."""
    e = STUDY.experiments[experiment]
    targets = [target for suite in e.suites for target in STUDY.suites[suite]]
    return list(dict.fromkeys([*targets, *e.sources]))


def headlines_of(experiment):
    """What a finished run names: the heatmaps that gains are read from first, and the table."""
    heatmaps = [f"{FIGURES}/{experiment}_{value}.png" for value in reversed(VALUES)]
    return [*heatmaps, f"{TABLE.format(experiment=experiment)}.csv"]


def results_of(experiment):
    """What a user asks for with an experiment's name."""
    figures = [f"{experiment}_{value}" for value in VALUES]
    checks = (
        [f"{RESULTS}/checks/{experiment}.json"] if experiment in STUDY.checks else []
    )
    return [
        *multiext(TABLE.format(experiment=experiment), ".parquet", ".csv"),
        *expand(f"{FIGURES}/{{figure}}.{{format}}", figure=figures, format=FORMATS),
        *checks,
    ]
