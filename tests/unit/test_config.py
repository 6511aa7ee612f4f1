"""The schema of a study file: what is shipped loads; a fault names its key and what is allowed."""

import re
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
SOURCES = f"{EXPERIMENT}.sources"
VALUES = [
    # what nothing is registered under
    ("networks.v2.dataset", "mnist", "'mnist'; allowed: mnist_5k$"),
    ("networks.v2.training", "fast", "'fast'; allowed: standard$"),
    ("networks.v2.architecture", "v9", "'v9'; allowed: v1, v2, v3 "),
    ("networks.v2.activation", "gelu", "'gelu'; allowed: tanh, relu "),
    ("noise.arms", ["none", "fall"], r"\.1: .*'fall'; allowed: none, identity, diagonal, full"),
    (f"{EXPERIMENT}.network", "v7", "'v7'; allowed: v2$"),
    (f"{EXPERIMENT}.site", "L6", "'L6'; allowed: L1, L2, L3, L4, L5$"),
    (f"{EXPERIMENT}.suites", ["al"], "'al'; allowed: all$"),
    # modifications
    ("suites.all", ["snwo@5"], r"\.0: 'snwo@5'.*'snwo'; known are gaussian_noise, .*, rotate, "),
    ("suites.all", ["snow"], r"\.0: 'snow' has no '@': write name@strength"),
    ("suites.all", ["snow@6"], r"\.0: 'snow@6'.*a severity of 1, 2, 3, 4 or 5"),
    ("suites.all", ["rotate@3.0"], r"\.0: 'rotate@3\.0'.*a scale from 0\.2 to 2\.0"),
    ("suites.all", ["pgd@1.5"], r"\.0: 'pgd@1\.5'.*an epsilon above 0, up to 1"),
    (SOURCES, ["clean@0"], "clean images cannot be a source"),
    # numbers
    (f"{EXPERIMENT}.tau", 0, r"greater than 0 \(found 0\)"),
    (f"{EXPERIMENT}.tau", -0.5, r"greater than 0 \(found -0\.5\)"),
    (f"{EXPERIMENT}.tau", float("inf"), r"finite number \(found inf\)"),
    (f"{EXPERIMENT}.tau", "half", r"valid number.* \(found 'half'\)"),
    ("trainings.standard.learning_rate", 0, r"greater than 0 \(found 0\)"),
    ("trainings.standard.epochs", 0, r"greater than or equal to 1 \(found 0\)"),
    ("noise.rank", 0, r"greater than or equal to 1 \(found 0\)"),
    ("evaluation.passes", 0, r"greater than or equal to 1 \(found 0\)"),
    ("checks.transfer.clean_accuracy", 90, r"less than or equal to 1 \(found 90\)"),
    # splits
    (f"{SPLITS}.test", 0, r"greater than or equal to 1 \(found 0\)"),
    (SPLITS, {"train": 4500, "test": 501}, r"train \+ validation \+ test = 5001.* has 5000"),
    # lists
    (SOURCES, ["snow@5", "snow@5"], "listed twice: snow@5 "),
    (SOURCES, ["rotate@2", "rotate@2.0"], r"listed twice: rotate@2\.0 "),
    ("noise.arms", ["full", "none", "full"], "listed twice: full "),
    (SOURCES, [], "at least 1 item"),
    ("suites.all", [], "at least 1 item"),
    # trials
    ("trials", ["0-2", "2-4"], "blocks 0-2, 2-4 overlap"),
    ("trials", [3, "3"], "blocks 3, 3 overlap"),
    ("trials", ["0-1", "4-2"], r"\.1: '4-2' is no block of trials; write one as 0-4 or 3"),
    ("trials", ["a"], r"\.0: 'a' is no block of trials; write one as 0-4 or 3"),
    ("trials", [-1], r"\.0: -1 is no block of trials; write one as 0-4 or 3"),
    # ridge
    ("noise.ridge", {"absolute": 1e-4, "relative": 1e-3}, r"either absolute or relative.*0\.0001"),
    ("noise.ridge", {}, r"either absolute or relative \(found {}\)"),
    # shape of the file
    (f"{EXPERIMENT}.tau", GONE, "Field required"),
    ("noise", GONE, "Field required"),
    ("networks", "v2", r"valid dictionary \(found 'v2'\)"),
    (f"{EXPERIMENT}.suites", "all", r"valid list \(found 'all'\)"),
    ("study", "my/study", r"\(found 'my/study'\)"),
]


@pytest.mark.parametrize(("key", "value", "text"), VALUES)
def test_bad_value_is_named_with_its_key_and_what_is_allowed(key, value, text):
    head, *lines = fault({key: value}).splitlines()
    assert head == "mine.yaml is not a valid study:"
    assert [line for line in lines if re.match(rf"  {re.escape(key)}.*{text}", line)]


FAULTS = {
    "dataset that is not in the registry": (
        {"datasets.cifar": {"splits": {"train": 2, "test": 1}}},
        "datasets: unknown 'cifar'; allowed: fashion_mnist, mnist, mnist_5k",
    ),
    "one training image too many": (
        fashion(train=60000, validation=1, test=1),
        "datasets.fashion_mnist.splits: train + validation = 60001 images, "
        "but fashion_mnist has 60000 for them",
    ),
    "one test image too many": (
        fashion(train=2, test=10001),
        "datasets.fashion_mnist.splits: test = 10001 images, but fashion_mnist has 10000 for them",
    ),
    "budget of an unknown attack": (
        {"attacks.pdg": {"steps": 5, "step_size": 0.1}},
        "attacks: unknown 'pdg'; allowed: pgd",
    ),
    "target of an attack without budget": (
        {"attacks": {}, SOURCES: ["snow@5"]},
        "suites.all: pgd needs its budget under attacks",
    ),
    "source of an attack without budget": (
        {"attacks": {}, "suites.all": ["clean@0", "snow@5"]},
        f"{SOURCES}: pgd needs its budget under attacks",
    ),
    "target in two suites": (
        {"suites.more": ["fog@5", "snow@5"], f"{EXPERIMENT}.suites": ["all", "more"]},
        f"{EXPERIMENT}.suites: in two suites: snow@5",
    ),
    "check of clean accuracy without clean targets": (
        {"suites.all": ["snow@5"]},
        "checks.transfer.clean_accuracy: needs clean@0 in a suite of transfer",
    ),
    "check of clean accuracy without arm none": (
        {"noise.arms": ["identity", "full"]},
        "checks.transfer.clean_accuracy: needs none among noise.arms",
    ),
    "check of gains without their arms": (
        {"noise.arms": ["none", "diagonal"]},
        "checks.transfer.own_gain: needs full, identity among noise.arms",
    ),
    "check of own gains where no source is a target": (
        {"suites.all": ["clean@0", "fog@3"]},
        "checks.transfer.own_gain: no source of transfer is among its targets",
    ),
    "check against a published heatmap of an arm without sources": (
        {
            "checks.transfer": {
                "published": {
                    "table": "x.csv",
                    "arm": "identity",
                    "spearman": 0.9,
                    "mean_absolute_difference": 0.1,
                    "own_best": 1,
                }
            }
        },
        "checks.transfer.published.arm: identity belongs to no source",
    ),
    "check of no experiment": (
        {"checks.transfre": {}},
        "checks: unknown experiment 'transfre'; allowed: transfer",
    ),
}


@pytest.mark.parametrize(("edits", "line"), FAULTS.values(), ids=FAULTS)
def test_sections_that_do_not_fit_each_other_are_named(edits, line):
    assert fault(edits).splitlines()[1:] == [f"  {line}"]


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
    edits = {"suites.all": [written], f"{EXPERIMENT}.sources": [written], "checks": {}}
    study = load(edited(edits))
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
