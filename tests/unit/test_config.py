"""The schema of a study file: what is shipped loads, and a fault names its key, its value and a remedy."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisetransfer.config import Study, load, trials_of
from noisetransfer.errors import StudyError

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]
GONE = object()


def edited(edits: dict) -> dict:
    """Return the default study with some keys, written as `a.b.c`, set anew (or GONE)."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    for place, value in edits.items():
        *parents, last = place.split(".")
        section = study
        for parent in parents:
            section = section[parent]
        section[last] = value
        if value is GONE:
            del section[last]
    return study


def fault(edits: dict) -> str:
    """Return the message that the default study gives once it is edited."""
    with pytest.raises(StudyError) as caught:
        load(edited(edits), "mine.yaml")
    return str(caught.value)


def fashion(**splits: int) -> dict:
    """Return edits that put Fashion-MNIST, split so, in the place of the digits."""
    return {
        "datasets": {"fashion_mnist": {"splits": splits}},
        "networks.v2.dataset": "fashion_mnist",
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_study_loads(path):
    study = load(yaml.safe_load(path.read_text()), path.name)
    assert study.study
    assert all(study.suites[suite] for e in study.experiments.values() for suite in e.suites)


def test_shipped_studies_have_names_of_their_own():
    names = [yaml.safe_load(path.read_text())["study"] for path in SHIPPED]
    assert sorted(set(names)) == sorted(names)


KEYS = {
    "datasets.mnist_5k": "folder, splits",
    "datasets.mnist_5k.splits": "test, train, validation",
    "trainings.standard": "batch_size, epochs, learning_rate",
    "networks.v2": "activation, architecture, dataset, training",
    "noise": "arms, rank, ridge",
    "noise.ridge": "absolute, relative",
    "evaluation": "passes",
    "attacks.pgd": "step_size, steps",
    "experiments.transfer": "network, site, sources, suites, tau",
    "checks.transfer": "clean_accuracy, own_gain, published",
}


@pytest.mark.parametrize(("section", "allowed"), KEYS.items())
def test_unknown_key_is_named_with_those_allowed_beside_it(section, allowed):
    assert f"{section}.bogus: unknown key; allowed: {allowed}" in fault({f"{section}.bogus": 1})


def test_unknown_key_at_the_top_is_named_with_those_allowed():
    assert f"sed: unknown key; allowed: {', '.join(sorted(Study.model_fields))}" in fault(
        {"sed": 1}
    )


def test_unknown_key_of_a_check_against_a_published_heatmap():
    message = fault({"checks.transfer.published": {"tabel": "x.csv"}})
    assert "checks.transfer.published.tabel: unknown key; allowed: arm, " in message


def test_unknown_key_under_an_id_that_is_itself_the_name_of_a_key():
    experiment = edited({})["experiments"]["transfer"] | {"bogus": 1}
    message = fault({"experiments.site": experiment})
    assert "experiments.site.bogus: unknown key; allowed: network, site, " in message


SPLITS = "datasets.mnist_5k.splits"
EXPERIMENT = "experiments.transfer"
FAULTS = {
    # names that nothing is registered under
    "dataset of the registry": (
        {"datasets.cifar": {"splits": {"train": 2, "test": 1}}},
        ["datasets: ", "'cifar'", "mnist, mnist_5k"],
    ),
    "dataset": (
        {"networks.v2.dataset": "mnist"},
        ["networks.v2.dataset: ", "'mnist'", "allowed: mnist_5k"],
    ),
    "training": (
        {"networks.v2.training": "fast"},
        ["networks.v2.training: ", "'fast'", "allowed: standard"],
    ),
    "architecture": (
        {"networks.v2.architecture": "v9"},
        ["networks.v2.architecture: ", "'v9'", "v1, v2, v3"],
    ),
    "activation": (
        {"networks.v2.activation": "gelu"},
        ["networks.v2.activation: ", "'gelu'", "tanh, relu"],
    ),
    "arm": (
        {"noise.arms": ["none", "fall"]},
        ["noise.arms.1: ", "'fall'", "none, identity, diagonal, full"],
    ),
    "network": (
        {f"{EXPERIMENT}.network": "v7"},
        [f"{EXPERIMENT}.network: ", "'v7'", "allowed: v2"],
    ),
    "site": ({f"{EXPERIMENT}.site": "L6"}, [f"{EXPERIMENT}.site: ", "'L6'", "L1, L2, L3, L4, L5"]),
    "suite": ({f"{EXPERIMENT}.suites": ["al"]}, [f"{EXPERIMENT}.suites: ", "'al'", "allowed: all"]),
    "modification": (
        {"suites.all": ["snwo@5"]},
        ["suites.all.0: ", "'snwo'", "gaussian_noise, ", ", rotate, "],
    ),
    "experiment of a check": (
        {"checks.transfre": {}},
        ["checks: ", "'transfre'", "allowed: transfer"],
    ),
    "attack of a budget": (
        {"attacks.pdg": {"steps": 5, "step_size": 0.1}},
        ["attacks", "pdg", "allowed: pgd"],
    ),
    # modifications
    "no strength": ({"suites.all": ["snow"]}, ["suites.all.0: ", "'snow'", "name@strength"]),
    "severity 6": ({"suites.all": ["snow@6"]}, ["suites.all.0: ", "'snow@6'", "1, 2, 3, 4 or 5"]),
    "scale 3": (
        {"suites.all": ["rotate@3.0"]},
        ["suites.all.0: ", "'rotate@3.0'", "from 0.2 to 2.0"],
    ),
    "epsilon 1.5": (
        {"suites.all": ["pgd@1.5"]},
        ["suites.all.0: ", "'pgd@1.5'", "above 0, up to 1"],
    ),
    "attack without budget": ({"attacks": {}}, ["suites.all: pgd needs its budget under attacks"]),
    "clean source": (
        {f"{EXPERIMENT}.sources": ["clean@0"]},
        [f"{EXPERIMENT}.sources: ", "clean images cannot be a source"],
    ),
    # numbers out of bounds
    "tau 0": ({f"{EXPERIMENT}.tau": 0}, [f"{EXPERIMENT}.tau: ", "greater than 0", "found 0)"]),
    "tau below 0": (
        {f"{EXPERIMENT}.tau": -0.5},
        [f"{EXPERIMENT}.tau: ", "greater than 0", "found -0.5)"],
    ),
    "tau infinite": (
        {f"{EXPERIMENT}.tau": float("inf")},
        [f"{EXPERIMENT}.tau: ", "finite", "found inf)"],
    ),
    "tau no number": (
        {f"{EXPERIMENT}.tau": "half"},
        [f"{EXPERIMENT}.tau: ", "valid number", "found 'half')"],
    ),
    "learning rate 0": (
        {"trainings.standard.learning_rate": 0},
        ["trainings.standard.learning_rate: ", "greater than 0", "found 0)"],
    ),
    "epochs 0": (
        {"trainings.standard.epochs": 0},
        ["trainings.standard.epochs: ", "or equal to 1", "found 0)"],
    ),
    "rank 0": ({"noise.rank": 0}, ["noise.rank: ", "or equal to 1", "found 0)"]),
    "passes 0": ({"evaluation.passes": 0}, ["evaluation.passes: ", "or equal to 1", "found 0)"]),
    "clean accuracy 90": (
        {"checks.transfer.clean_accuracy": 90},
        ["checks.transfer.clean_accuracy: ", "or equal to 1", "found 90)"],
    ),
    # splits
    "no test images": ({f"{SPLITS}.test": 0}, [f"{SPLITS}.test: ", "or equal to 1", "found 0)"]),
    "one digit too many": (
        {SPLITS: {"train": 3500, "validation": 500, "test": 1001}},
        [f"{SPLITS}: ", "train + validation + test = 5001", "mnist_5k has 5000"],
    ),
    "one garment too many": (
        fashion(train=60000, validation=1, test=1),
        [
            "datasets.fashion_mnist.splits: ",
            "train + validation = 60001",
            "fashion_mnist has 60000",
        ],
    ),
    "too many to test": (
        fashion(train=2, test=10001),
        ["datasets.fashion_mnist.splits: ", "test = 10001", "fashion_mnist has 10000"],
    ),
    # lists
    "source twice": (
        {f"{EXPERIMENT}.sources": ["snow@5", "snow@5"]},
        [f"{EXPERIMENT}.sources: ", "listed twice: snow@5"],
    ),
    "source twice, two spellings": (
        {f"{EXPERIMENT}.sources": ["rotate@2", "rotate@2.0"]},
        [f"{EXPERIMENT}.sources: ", "listed twice: rotate@2.0"],
    ),
    "arm twice": ({"noise.arms": ["full", "none", "full"]}, ["noise.arms: ", "listed twice: full"]),
    "target in two suites": (
        {"suites.more": ["fog@5", "snow@5"], f"{EXPERIMENT}.suites": ["all", "more"]},
        [f"{EXPERIMENT}.suites: ", "in two suites: snow@5"],
    ),
    "no source": ({f"{EXPERIMENT}.sources": []}, [f"{EXPERIMENT}.sources: ", "at least 1 item"]),
    "no target": ({"suites.all": []}, ["suites.all: ", "at least 1 item"]),
    # trials
    "blocks that overlap": ({"trials": ["0-2", "2-4"]}, ["trials: ", "0-2, 2-4 overlap"]),
    "block twice": ({"trials": [3, "3"]}, ["trials: ", "3, 3 overlap"]),
    "block backwards": (
        {"trials": ["0-1", "4-2"]},
        ["trials.1: ", "'4-2' is no block", "0-4 or 3"],
    ),
    "block of letters": ({"trials": ["a"]}, ["trials.0: ", "'a' is no block", "0-4 or 3"]),
    "block below 0": ({"trials": [-1]}, ["trials.0: ", "-1 is no block", "0-4 or 3"]),
    # ridge
    "two ridges": (
        {"noise.ridge": {"absolute": 1e-4, "relative": 1e-3}},
        ["noise.ridge: ", "either absolute or relative", "0.0001", "0.001"],
    ),
    "empty ridge": (
        {"noise.ridge": {}},
        ["noise.ridge: ", "either absolute or relative", "found {})"],
    ),
    # shape of the file
    "key missing": ({f"{EXPERIMENT}.tau": GONE}, [f"{EXPERIMENT}.tau: Field required"]),
    "section missing": ({"noise": GONE}, ["noise: Field required"]),
    "name instead of a section": (
        {"networks": "v2"},
        ["networks: ", "valid dictionary", "found 'v2')"],
    ),
    "name instead of a list": (
        {f"{EXPERIMENT}.suites": "all"},
        [f"{EXPERIMENT}.suites: ", "valid list", "found 'all')"],
    ),
    "id with a slash": ({"study": "my/study"}, ["study: ", "found 'my/study')"]),
}


@pytest.mark.parametrize(("edits", "fragments"), FAULTS.values(), ids=FAULTS)
def test_fault_names_its_key_its_value_and_what_is_allowed(edits, fragments):
    message = fault(edits)
    assert message.startswith("mine.yaml is not a valid study:\n")
    assert [part for part in fragments if part not in message] == []


@pytest.mark.parametrize(
    "edits",
    [
        {"noise.rank": 0, f"{EXPERIMENT}.tau": 0, "trials": ["a"], "suites.all": ["snow@6"]},
        {"networks.v2.dataset": "mnist", f"{EXPERIMENT}.site": "L6", "trials": [0, 0]},
    ],
    ids=["values", "references"],
)
def test_several_faults_are_all_listed_a_line_each(edits):
    _, *lines = fault(edits).splitlines()
    places = sorted(line.strip().partition(":")[0] for line in lines)
    assert [place.removesuffix(".0") for place in places] == sorted(edits)


@pytest.mark.parametrize(
    "edits",
    [
        {"noise.rank": None},
        {"noise.ridge": GONE},
        {"noise.ridge": {"absolute": 0}},
        {"trials": [3, "5-6", "0-2"]},
        {SPLITS: {"train": 4999, "test": 1}},
        {"checks": GONE, "evaluation": GONE, "seed": GONE},
        fashion(train=60000, test=10000),
    ],
    ids=lambda edits: " ".join(edits),
)
def test_study_at_the_bounds_is_accepted(edits):
    assert load(edited(edits)).study == "embedded"


@pytest.mark.parametrize(
    ("written", "read"),
    [("rotate@2", "rotate@2.0"), ("snow@5.0", "snow@5"), ("pgd@1e-1", "pgd@0.1")],
)
def test_modification_is_read_in_its_one_spelling(written, read):
    study = load(edited({"suites.all": [written], f"{EXPERIMENT}.sources": [written]}))
    assert study.suites["all"] == study.experiments["transfer"].sources == [read]


@pytest.mark.parametrize(
    ("block", "trials"), [("0-2", [0, 1, 2]), ("3", [3]), ("7-7", [7]), ("9-11", [9, 10, 11])]
)
def test_trials_of_a_block(block, trials):
    assert trials_of(block) == trials


def test_schema_imports_nothing_heavy():
    heavy = "{'torch', 'torchvision', 'pandas', 'matplotlib', 'imagecorruptions'}"
    program = f"import sys, noisetransfer.config; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
