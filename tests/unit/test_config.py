"""The schema of a study file: what is shipped loads; a fault names its key and what is allowed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisetransfer import auditing, curves
from noisetransfer.arms import ARMS, CONTROLS, FINE_TUNED
from noisetransfer.config import CURVES, HEATMAP, Grid, Study, load, require_files
from noisetransfer.corrupted_sets import SETS
from noisetransfer.datasets import DATASETS, in_place
from noisetransfer.drawable import AUDIT_PASSES
from noisetransfer.errors import StudyError
from noisetransfer.regimes import REGIMES

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]
TESTED = sorted((ROOT / "tests/workflow").glob("*.yaml"))
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


def transfer(edits: dict) -> Grid:
    """Return the one grid of the default study's experiment, once the study is edited."""
    (grid,) = load(edited({"checks": {}, **edits})).experiments["transfer"]
    return grid


@pytest.mark.parametrize("path", [*SHIPPED, *TESTED], ids=lambda path: path.name)
def test_shipped_study_loads_and_its_published_tables_are_there(path):
    study = load(yaml.safe_load(path.read_text()), path.name)
    found = [
        c for checks in study.checks.values() for c in (checks.published, checks.published_cells)
    ]
    assert all((ROOT / check.table).is_file() for check in found if check)


def test_shipped_studies_have_names_of_their_own():
    names = [yaml.safe_load(path.read_text())["study"] for path in (*SHIPPED, *TESTED)]
    assert sorted(set(names)) == sorted(names)


KEYS = {
    "datasets.mnist_5k": "corrupted, crop, folder, id, paired, redraw_per_trial, resize, splits",
    "datasets.mnist_5k.splits": "calibration, test, train, validation",
    "trainings.standard": "batch_size, epochs, learning_rate",
    "networks.v2": "activation, architecture, classes, clean_accuracy, dataset, mean, pretrained, std, "
    "training",
    "noise": "arms, pooled, rank, ridge",
    "noise.ridge": "absolute, held_out, relative",
    "evaluation": "bfloat16, channels_last, compile, passes",
    "experiments.transfer": "controls, network, regime, site, sources, targets, tau",
    "checks.transfer": "clean_accuracy, gates, own_gain, published, published_cells",
}


@pytest.mark.parametrize(("section", "allowed"), KEYS.items())
def test_unknown_key_is_named_with_those_allowed_beside_it(section, allowed):
    assert f"{section}.bogus: unknown key; allowed: {allowed}" in fault({f"{section}.bogus": 1})


def test_unknown_key_at_the_top_is_named_with_those_allowed():
    assert f"sed: unknown key; allowed: {', '.join(sorted(Study.model_fields))}" in fault(
        {"sed": 1}
    )


def test_unknown_key_of_a_grid_in_a_list_is_named_with_its_position():
    grid = edited({})["experiments"]["transfer"]
    message = fault({EXPERIMENT: [grid, grid | {"bogus": 1}]})
    allowed = KEYS[EXPERIMENT]
    assert f"{EXPERIMENT}.1.bogus: unknown key; allowed: {allowed}" in message


@pytest.mark.parametrize(
    ("check", "allowed"),
    [
        (
            "published",
            "arm, diagonal_mean, largest_difference, mean_absolute_difference, off_diagonal_mean, "
            "own_best, required, spearman, table",
        ),
        ("published_cells", "agreeing, required, table, tolerance"),
    ],
)
def test_unknown_key_of_a_check_against_published_values(check, allowed):
    message = fault({f"checks.transfer.{check}": {"table": "x.csv", "tabel": "x.csv"}})
    assert f"checks.transfer.{check}.tabel: unknown key; allowed: {allowed}" in message


def test_unknown_key_of_a_published_mean():
    mean = {"value": 0.5, "within": 0.1, "about": 1}
    message = fault({"checks.transfer.published": {"table": "x.csv", "diagonal_mean": mean}})
    place = "checks.transfer.published.diagonal_mean.about"
    assert f"{place}: unknown key; allowed: value, within" in message


def test_unknown_key_of_an_expected_accuracy():
    message = fault({"checks.transfer.clean_accuracy": {"value": 0.9, "within": 0.1, "about": 1}})
    place = "checks.transfer.clean_accuracy.about"
    assert f"{place}: unknown key; allowed: value, within" in message


def test_an_audit_has_as_many_draws_as_it_tries():
    assert AUDIT_PASSES >= auditing.TRIES


def test_unknown_key_under_an_id_that_is_itself_the_name_of_a_key():
    experiment = edited({})["experiments"]["transfer"] | {"bogus": 1}
    message = fault({"experiments.site": experiment})
    assert (
        "experiments.site.bogus: unknown key; allowed: controls, network, regime, site, " in message
    )


SPLITS = "datasets.mnist_5k.splits"
EXPERIMENT = "experiments.transfer"
SOURCES, TARGETS, TAU = (f"{EXPERIMENT}.{key}" for key in ("sources", "targets", "tau"))
NETWORK = f"{EXPERIMENT}.network"
SUITES = "all, noise_and_weather, others"
NO_TAU = r"no trace scale; write a number above 0, or unscaled"
NO_RANK = (
    r"no rank; write a whole number from 1, full, held_out, or explained@ with a share of the trace above "
    r"0 and up to 1, such as explained@0\.95"
)
ONE_RIDGE = "give either absolute, relative or held_out"
VALUES = [
    # what nothing is registered under
    ("networks.v2.dataset", "mnist", "unknown 'mnist'; allowed: mnist_5k$"),
    ("networks.v2.training", "fast", "unknown 'fast'; allowed: standard$"),
    ("networks.v2.architecture", "v9", "unknown 'v9'; allowed: v1, v2, v3$"),
    ("networks.v2.activation", "gelu", "unknown activation 'gelu'; allowed: tanh, relu "),
    ("noise.arms", ["none", FINE_TUNED], r"\.1: .*is a control, .*controls: \[fine_tuned\]"),
    ("noise.arms", ["none", "fall"], r"\.1: .*'fall'; allowed: none, identity, diagonal, full"),
    (NETWORK, "v7", "unknown 'v7'; allowed: v2$"),
    (NETWORK, ["v2", "v7+input_noise@0.1"], "unknown 'v7'; allowed: v2$"),
    (f"{EXPERIMENT}.site", "L6", "unknown 'L6'; allowed: L1, L2, L3, L4, L5$"),
    (f"{EXPERIMENT}.site", ["L1", "L6"], "unknown 'L6'; allowed: L1, L2, L3, L4, L5$"),
    (
        f"{EXPERIMENT}.regime",
        "retain",
        "'retain'; allowed: retrain, trained_only, tested_only, inf",
    ),
    (f"{EXPERIMENT}.controls", "ful", "unknown control 'ful'; allowed: diagonal, .*, fine_tuned "),
    (
        f"{EXPERIMENT}.controls",
        ["identity"],
        "unknown control 'identity'; allowed: diagonal, .*; none and identity are written under noise.arms ",
    ),
    ("noise.pooled", ["al"], f"unknown suite 'al'; allowed: {SUITES}, or a modification as name"),
    ("noise.pooled", ["clean@0"], "clean@0: is no source, which needs modified training images"),
    ("noise.pooled", ["cifar10_c.fog@3"], "cifar10_c.fog@3: is no source, which needs modified tr"),
    ("noise.pooled", ["all", "pgd@0.1"], "a source is in two of its suites; once is enough"),
    (SOURCES, ["al"], f"unknown suite 'al'; allowed: {SUITES}, or a modification as name@strength"),
    (TARGETS, ["al"], f"unknown suite 'al'; allowed: {SUITES}, or a modification as name@strength"),
    (TARGETS, ["all+al"], f"unknown suite 'al'; allowed: {SUITES}, or a modification"),
    (TARGETS, ["fog@5+"], f"unknown suite ''; allowed: {SUITES}, or a modification"),
    (TARGETS, ["pdg@own"], "unknown modification in 'pdg@own'"),
    ("figures", {"transfer": "heat"}, f"transfer: unknown figure 'heat'; allowed: {HEATMAP}, "),
    ("figures", {"transfer": ["strength", "x"]}, r"transfer\.1: unknown figure 'x'; allowed: "),
    # modifications
    ("suites.all", ["snwo@5"], r"\.0: 'snwo@5'.*'snwo'; known are gaussian_noise, .*, rotate, "),
    ("suites.all", ["snow"], r"\.0: 'snow' has no '@': write name@strength"),
    ("suites.all", ["snow@6"], r"\.0: 'snow@6'.*a severity of 1, 2, 3, 4 or 5"),
    ("suites.all", ["rotate@3.0"], r"\.0: 'rotate@3\.0'.*a scale from 0\.2 to 2\.0"),
    ("suites.all", ["pgd@1.5"], r"\.0: 'pgd@1\.5'.*an epsilon above 0, up to 1"),
    (SOURCES, ["others", "snow@6"], r"\.1: 'snow@6'.*a severity of 1, 2, 3, 4 or 5"),
    (TARGETS, ["all", "snow@6"], r"\.1: 'snow@6'.*a severity of 1, 2, 3, 4 or 5"),
    (TARGETS, ["own+snow@6"], r"\.0: 'snow@6'.*a severity of 1, 2, 3, 4 or 5"),
    (SOURCES, ["clean@0"], "clean images cannot be a source"),
    # networks trained on other images
    (NETWORK, "v2+pgd@0.1", "'pgd@0.1' is no change of a network; allowed: input_noise@σ "),
    (NETWORK, ["v2", "v2+fog@5x0.5"], r"\.1: .*'fog@5x0\.5' is no change of a network; allowed: "),
    (NETWORK, "v2+input_noise@0", "'input_noise@0' is no change of a network; allowed: "),
    # numbers
    ("trainings.standard.learning_rate", 0, r"greater than 0 \(found 0\)"),
    ("trainings.standard.epochs", 0, r"greater than or equal to 1 \(found 0\)"),
    ("noise.rank", 0, rf"0 is {NO_RANK} \(found 0\)"),
    ("noise.rank", "0", rf"'0' is {NO_RANK} "),
    ("noise.rank", "all", rf"'all' is {NO_RANK} \(found 'all'\)"),
    ("noise.rank", 2.5, rf"2\.5 is {NO_RANK} "),
    ("noise.rank", True, rf"True is {NO_RANK} "),
    ("noise.rank", None, rf"None is {NO_RANK} "),
    ("noise.rank", "explained@1.5", rf"'explained@1\.5' is {NO_RANK} "),
    ("noise.rank", "explained@0", rf"'explained@0' is {NO_RANK} "),
    ("noise.rank", "heldout", rf"'heldout' is {NO_RANK} "),
    ("evaluation.bfloat16", 2, r"valid boolean.* \(found 2\)"),
    ("evaluation.passes", 0, r"greater than or equal to 1 \(found 0\)"),
    ("checks.transfer.clean_accuracy", 90, r"less than or equal to 1 \(found 90\)$"),
    ("checks.transfer.clean_accuracy", "high", r"valid number.* \(found 'high'\)"),
    ("checks.transfer.clean_accuracy", {"value": 2, "within": 0.1}, r"\.value: .*\(found 2\)"),
    ("checks.transfer.clean_accuracy", {"value": 0.9}, r"\.within: Field required"),
    # trace scales
    (TAU, 0, rf"0 is {NO_TAU} \(found 0\)"),
    (TAU, -0.5, rf"-0\.5 is {NO_TAU} "),
    (TAU, float("inf"), rf"inf is {NO_TAU} "),
    (TAU, "half", rf"'half' is {NO_TAU} "),
    (TAU, True, rf"True is {NO_TAU} "),
    (TAU, [0.5, 0], rf"\.1: 0 is {NO_TAU} "),
    (TAU, {"others": 0, "noise_and_weather": 1}, rf"\.others: 0 is {NO_TAU} "),
    (TAU, {"others": [1, 0], "noise_and_weather": 1}, rf"\.others\.1: 0 is {NO_TAU} "),
    (TAU, [2, 2.0], r"listed twice: 2\.0 "),
    (TAU, GONE, "noise_and_weather has none; write a number above 0"),
    (TAU, [], "others has none; write a number above 0"),
    (TAU, {"others": 0.5}, "noise_and_weather has none; write a number above 0"),
    (TAU, {"snow@5": 0.5}, "'snow@5' is not among its sources: noise_and_weather, others"),
    # splits
    (f"{SPLITS}.test", 0, r"greater than or equal to 1 \(found 0\)"),
    (f"{SPLITS}.calibration", -1, r"greater than or equal to 0 \(found -1\)"),
    (SPLITS, {"train": 4500, "test": 501}, r"train \+ validation \+ test = 5001.* has 5000"),
    # lists
    (SOURCES, ["snow@5", "snow@5"], "listed twice: snow@5 "),
    (SOURCES, ["rotate@2", "rotate@2.0"], r"listed twice: rotate@2\.0 "),
    (TARGETS, ["all", "all"], "listed twice: all "),
    ("suites.all", ["fog@1", "fog@1.0"], "listed twice: fog@1 "),
    ("noise.arms", ["full", "none", "full"], "listed twice: full "),
    ("noise.arms", [], "at least 1 item"),
    (TARGETS, [], "at least 1 item"),
    (NETWORK, [], "at least 1 item"),
    (EXPERIMENT, [], "at least 1 item"),
    ("suites.all", [], "at least 1 item"),
    # trials
    ("trials", ["0-2", "2-4"], "blocks 0-2, 2-4 overlap"),
    ("trials", [3, "3"], "blocks 3, 3 overlap"),
    ("trials", ["0-1", "4-2"], r"\.1: '4-2' is no block of trials; write one as 0-4 or 3"),
    ("trials", ["a"], r"\.0: 'a' is no block of trials; write one as 0-4 or 3"),
    ("trials", [-1], r"\.0: -1 is no block of trials; write one as 0-4 or 3"),
    # ridge
    ("noise.ridge", {"absolute": 1e-4, "relative": 1e-3}, rf"{ONE_RIDGE} \(found .*0\.0001"),
    ("noise.ridge", {"relative": 1e-3, "held_out": True}, rf"{ONE_RIDGE} \(found .*0\.001"),
    ("noise.ridge", {}, rf"{ONE_RIDGE} \(found {{}}\)"),
    ("noise.ridge", {"relative": 1.5}, r"\.relative: .*less than or equal to 1 \(found 1\.5\)"),
    ("noise.ridge", {"held_out": False}, r"\.held_out: .*should be True \(found False\)"),
    # shape of the file
    (f"{EXPERIMENT}.site", GONE, "Field required"),
    ("noise", GONE, "Field required"),
    ("networks", "v2", r"valid dictionary \(found 'v2'\)"),
    (TARGETS, "all", r"valid list \(found 'all'\)"),
    (NETWORK, {"v2": 1}, r"valid string \(found {'v2': 1}\)"),
    (EXPERIMENT, None, "valid dictionary"),
    ("attacks.pgd", None, r"valid dictionary \(found None\)"),
    ("attacks.pgd", {"step": 5}, "not permitted.*keys of pgd: step_size, steps"),
    ("study", "my/study", r"\(found 'my/study'\)"),
    ("experiments.a b", {}, r"match pattern .* \(found 'a b'\)"),
]


@pytest.mark.parametrize(("key", "value", "text"), VALUES)
def test_bad_value_is_named_with_its_key_and_what_is_allowed(key, value, text):
    head, *lines = fault({key: value}).splitlines()
    assert head == "mine.yaml is not a valid study:"
    assert [line for line in lines if re.match(rf"  {re.escape(key)}.*{text}", line)]


def grids(*changes: dict) -> list[dict]:
    """Return grids of the default study's experiment, each with changes."""
    return [edited({})["experiments"]["transfer"] | change for change in changes]


@pytest.mark.parametrize(
    ("edits", "place"),
    [
        ({TAU: 0}, TAU),
        ({TAU: [1, 0]}, f"{TAU}.1"),
        ({NETWORK: "v2+"}, NETWORK),
        ({NETWORK: ["v2+"]}, f"{NETWORK}.0"),
        ({EXPERIMENT: grids({"tau": 0})}, f"{EXPERIMENT}.0.tau"),
        ({EXPERIMENT: [{"network": "v2", "targets": ["all"]}]}, f"{EXPERIMENT}.0.site"),
        ({"noise.rank": 0}, "noise.rank"),
        ({"figures": {"transfer": "heat"}}, "figures.transfer"),
        ({"noise.ridge": {}}, "noise.ridge"),
    ],
)
def test_place_of_a_fault_is_as_the_file_writes_it(edits, place):
    _, *lines = fault(edits).splitlines()
    assert {line.strip().partition(":")[0] for line in lines} == {place}


ALONE = {"checks": {}, SOURCES: ["snow@5"], TARGETS: ["own"]}
GATED = {**ALONE, "checks": {"transfer": {"gates": True}}}
AUDITED = {
    **ALONE,
    "evaluation.passes": 32,
    SOURCES: ["pgd@0.1"],
    TARGETS: ["own", "auto_pgd_eot@0.1"],
    "figures": {"transfer": "audit"},
}
AUDITED_GRIDS = grids({"sources": ["pgd@0.1"], "targets": ["own", "auto_pgd_eot@0.1"]})
STANDARD = {
    "auto_attack.std": {"version": "standard"},
    "auto_attack.off": {"version": "standard", "against": "noise_off"},
}
NO_GATE = (
    "checks.transfer.gates: no two attacks of transfer can be compared; a gate needs two of which one is "
    "stronger by construction (such as fgm and pgd, pgd and auto_pgd_eot: docs/audit.md), at one epsilon "
    "under the same noise"
)
NO_AUDIT = (
    "figures.transfer: audit needs among the targets of every noise, and of the network without noise, at "
    "one epsilon, an attack through one draw a gradient (such as pgd; in L2 an adaptive one with passes: 1) "
    "and one that averages over draws of the noise (such as auto_pgd_eot, with against: noisy and passes "
    "above 1); without them: "
)
NOISES = "any of v2 at tau 0, any of v2 at tau 0.5, pgd@0.1 of v2 at tau 0.5"


def weakened(**budget) -> dict:
    """Return edits to a study whose audit has one adaptive attack, with a budget of its own."""
    own = {"attacks": {"auto_pgd_eot.own": budget}}
    return {**AUDITED, TARGETS: ["own", "auto_pgd_eot.own@0.1"], **own}


SNOW = [f"snow@{severity}" for severity in range(1, 6)]
ATTACKED = {"transfer": "attack_transfer"}
FAULTS = {
    "dataset that is not in the registry": (
        {"datasets.cifar": {"splits": {"train": 2, "test": 1}}},
        f"datasets.cifar: unknown dataset 'cifar'; known are {', '.join(DATASETS)} and folder:PATH, "
        "your own images",
    ),
    "dataset whose id is not in the registry": (
        {"datasets.mnist_5k.id": "digits"},
        f"datasets.mnist_5k: unknown dataset 'digits'; known are {', '.join(DATASETS)} and "
        "folder:PATH, your own images",
    ),
    "resizing images of one size": (
        {"datasets.mnist_5k.resize": 32},
        "datasets.mnist_5k: dataset mnist_5k: resize: its images are of one size, 28 pixels; only "
        "photographs can be resized and cropped",
    ),
    "more calibration images than training images": (
        {f"{SPLITS}.calibration": 3501},
        f"{SPLITS}: calibration images are training images: 0, or 2 to 3500 (found {{'calibration': "
        "3501, 'test': 600, 'train': 3500, 'validation': 500})",
    ),
    "one calibration image": (
        {f"{SPLITS}.calibration": 1},
        f"{SPLITS}: calibration images are training images: 0, or 2 to 3500 (found {{'calibration': "
        "1, 'test': 600, 'train': 3500, 'validation': 500})",
    ),
    "trained network without architecture and training": (
        {"networks.v2.architecture": GONE, "networks.v2.training": GONE},
        "networks.v2.architecture: missing; allowed: v1, v2, v3",
        "networks.v2.training: missing; allowed: standard",
    ),
    "expected accuracy of a trained network": (
        {"networks.v2.clean_accuracy": {"value": 0.9, "within": 0.1}},
        "networks.v2.clean_accuracy: only of a pretrained network",
    ),
    "normalisation and classes of a trained network": (
        {"networks.v2.mean": [0.5], "networks.v2.std": [0.5], "networks.v2.classes": 10},
        "networks.v2.mean: only of a pretrained network",
        "networks.v2.std: only of a pretrained network",
        "networks.v2.classes: only of a pretrained network",
    ),
    "colour images for a network of grey ones": (
        {
            "datasets": {"cifar10": {"splits": {"train": 2, "test": 1}}},
            "networks.v2.dataset": "cifar10",
        },
        "networks.v2.dataset: v2 takes images of 1 × 28 × 28, but cifar10 has 3 × 32 × 32; "
        "allowed: fashion_mnist, mnist, mnist_5k",
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
    "suite with the name of the own source": (
        {"suites.own": ["fog@5"]},
        "suites.own: 'own' has a meaning of its own, choose another name",
    ),
    "suite with the name of the arms without a source": (
        {"suites.any": ["fog@5"]},
        "suites.any: 'any' has a meaning of its own, choose another name",
    ),
    "budget of an unknown attack": (
        {"attacks.pdg": {"steps": 5, "step_size": 0.1}},
        "attacks: unknown 'pdg'; allowed: auto_attack, auto_attack_l2, auto_pgd, auto_pgd_eot, "
        "auto_pgd_l2_eot, fgm, pgd, pgd_eot, pgd_l2_eot, random_noise, rays_eot, square, square_eot",
    ),
    "number in a budget that its attack refuses": (
        {"attacks.pgd.steps": 0},
        "attacks.pgd.steps: Input should be greater than or equal to 1 "
        "(keys of pgd: step_size, steps)",
    ),
    "key in a budget of another attack": (
        {"attacks.pgd.restarts": 5},
        "attacks.pgd.restarts: Extra inputs are not permitted (keys of pgd: step_size, steps)",
    ),
    "budget of an attack that has none": (
        {"attacks.fgm": {"steps": 5}},
        "attacks.fgm.steps: Extra inputs are not permitted (keys of fgm: (none))",
    ),
    "key in a budget of its own": (
        {"attacks": {"pgd.weak": {"restarts": 5}}},
        "attacks.pgd.weak.restarts: Extra inputs are not permitted (keys of pgd: step_size, steps)",
    ),
    "name of a budget": (
        {"attacks": {"pgd.Weak": {}}},
        "attacks.pgd.Weak: write ATTACK.NAME with a NAME of a-z, 0-9 and _",
    ),
    "attack whose own budget is missing": (
        {"attacks": {"pgd.weak": {}}, TARGETS: ["pgd.week@0.1"]},
        "experiments.transfer: attacks has no 'pgd.week'; allowed: pgd.weak",
    ),
    "clean images in a suite of sources": (
        {SOURCES: ["all"]},
        f"{SOURCES}: clean images cannot be a source, their difference is 0",
    ),
    "validation images in a suite": (
        {**ALONE, "suites.more": ["fog@5", "validation@0"]},
        "suites.more: validation@0 is no test image; list it among targets, by itself",
    ),
    "validation images beside test images": (
        {**ALONE, TARGETS: ["own+validation@0"]},
        f"{TARGETS}: own+validation@0: list validation@0 by itself",
    ),
    "validation images and nothing else": (
        {**ALONE, TARGETS: ["validation@0"]},
        f"{TARGETS}: validation@0 needs targets of test images beside it",
    ),
    "validation images where there are none": (
        {
            **ALONE,
            "datasets.mnist_5k.splits": {"train": 400, "test": 100},
            TARGETS: ["own", "validation@0"],
        },
        f"{TARGETS}: validation@0 needs images in datasets.mnist_5k.splits.validation",
    ),
    "validation images as a source": (
        {**ALONE, SOURCES: ["validation@0"], TARGETS: ["clean@0"]},
        f"{SOURCES}: clean images cannot be a source, their difference is 0",
    ),
    **{
        f"matched accuracy without {lack}": (
            {
                **ALONE,
                TARGETS: ["own", "validation@0"],
                TAU: [0.5, 2.0],
                "figures": {"transfer": "matched_accuracy"},
                **edits,
            },
            "figures.transfer: matched_accuracy needs validation@0 among the targets, two numbers as tau "
            "of a source, and full among noise.arms",
        )
        for lack, edits in {
            "validation images": {TARGETS: ["own"]},
            "a sweep": {TAU: ["unscaled", 0.5]},
            "arm full": {"noise.arms": ["none", "identity", "diagonal"]},
        }.items()
    },
    "source in two suites": (
        {
            "checks": {},
            "suites.more": ["fog@5", "snow@5"],
            SOURCES: ["noise_and_weather", "more"],
            TARGETS: ["clean@0"],
        },
        f"{SOURCES}: snow@5 is in noise_and_weather and more; once is enough",
        f"{TARGETS}: clean@0 is listed twice for snow@5",
    ),
    "source in a suite of another experiment": (
        {
            **ALONE,
            "experiments.other": grids(
                {"sources": ["noise_and_weather"], "targets": ["own"], "tau": [0.5, 2.0]}
            ),
            "figures": {"other": "strength"},
        },
        "experiments.other.sources: snow@5 is in snow@5 and noise_and_weather; once is enough",
    ),
    "target in two suites": (
        {**ALONE, "suites.more": ["fog@5", "clean@0"], TARGETS: ["all", "more"]},
        f"{TARGETS}: clean@0 is listed twice for snow@5",
    ),
    "target in two grids": (
        {
            "checks": {},
            EXPERIMENT: grids(
                *[{"sources": ["fog@5"], "targets": t} for t in (["snow@5"], ["snow@5+clean@0"])]
            ),
        },
        f"{TARGETS}: snow@5 is listed twice for fog@5",
    ),
    "source that is a target beside itself": (
        {**ALONE, TARGETS: ["own", "snow@5"]},
        f"{TARGETS}: snow@5 is listed twice for snow@5",
    ),
    "attack at a strength that is none of it": (
        {**ALONE, TARGETS: ["pgd@own"]},
        f"{TARGETS}: pgd@own of snow@5: "
        "'pgd@5.0': 5.0 is not allowed; pgd takes an epsilon above 0, up to 1",
    ),
    "figure of no experiment": (
        {"figures": {"transfre": "strength"}},
        "figures: unknown experiment 'transfre'; allowed: transfer",
    ),
    "heatmap of several trace scales": (
        {TAU: [2, 0.5]},
        f"figures.transfer: {HEATMAP} shows one tau of a source, but transfer has 0.5, 2.0; "
        "split the experiment or choose another figure",
    ),
    "curves of several sites": (
        {f"{EXPERIMENT}.site": ["L1", "L2"], "figures": {"transfer": "strength"}},
        "figures.transfer: strength shows one site of a source, but transfer has L1, L2; "
        "split the experiment or choose another figure",
    ),
    **{
        f"{figure} of grids of another {field}": (
            {
                EXPERIMENT: grids({}, {"sources": ["fog@5"], field: value}),
                "suites.all": ["pgd@0.1", "auto_pgd_eot@0.1"],
                "evaluation.passes": 32,
                "figures": {"transfer": figure},
            },
            f"figures.transfer: {figure} shows all sources at one {field}, but transfer has {found}; "
            "split the experiment or choose another figure",
        )
        for figure in (HEATMAP, "audit")
        for field, value, found in (
            ("network", "v2+input_noise@0.1", "v2, v2+input_noise@0.1"),
            ("site", "L3", "L2, L3"),
            ("tau", 2, "0.5, 2.0"),
            ("regime", "inference", "inference, retrain"),
        )
        if figure == HEATMAP or field in ("site", "tau")
    },
    "audit of a network in two regimes": (
        {
            **AUDITED,
            EXPERIMENT: [grid | {"regime": ["retrain", "trained_only"]} for grid in AUDITED_GRIDS],
        },
        "figures.transfer: audit shows one regime of a network, but v2 has retrain, trained_only; "
        "split the experiment",
    ),
    "audit of a variant alone": (
        {**AUDITED, NETWORK: "v2+input_noise@0.1"},
        NO_AUDIT + NOISES.replace("v2", "v2+input_noise@0.1"),
        "figures.transfer: audit needs the network without changes beside its variants; add a grid of v2",
    ),
    "audit in two norms": (
        {**AUDITED, TARGETS: ["own", "auto_pgd_l2_eot@0.1"]},
        NO_AUDIT + NOISES,
    ),
    "audit of noise and network under other attacks": (
        {
            **AUDITED,
            EXPERIMENT: [
                *AUDITED_GRIDS,
                {
                    "network": "v2+input_noise@0.1",
                    "site": "L2",
                    "regime": "inference",
                    "targets": ["fgm@0.1", "pgd_eot@0.1"],
                },
            ],
        },
        f"{NO_AUDIT}any of v2+input_noise@0.1 at tau 0",
    ),
    "attack transfer without arm full": (
        {
            **AUDITED,
            "noise.arms": ["none", "identity", "diagonal"],
            "figures": {"transfer": "attack_transfer"},
        },
        "figures.transfer: attack_transfer needs full among noise.arms",
    ),
    "audit of two networks": (
        {
            **AUDITED,
            "networks.v3": {**edited({})["networks"]["v2"], "architecture": "v3"},
            EXPERIMENT: [*AUDITED_GRIDS, AUDITED_GRIDS[0] | {"network": "v3"}],
        },
        "figures.transfer: audit shows one network and its variants, but transfer has v2, v3; split the "
        "experiment",
    ),
    "heatmap of noise without a source at another trace scale": (
        {EXPERIMENT: [*grids({}), {**grids({"tau": 2, "targets": ["fog@5"]})[0], "sources": []}]},
        f"figures.transfer: {HEATMAP} shows all sources at one tau, but transfer has 0.5, 2.0; "
        "split the experiment or choose another figure",
    ),
    "attack transfer without attacks": (
        {**ALONE, TARGETS: ["clean@0", "snow"], "suites.snow": SNOW, "figures": ATTACKED},
        "figures.transfer: attack_transfer needs a source that is tested under attacks, but transfer has "
        "none; allowed: fixed_strength, which draws targets of every kind",
    ),
    "attack transfer without sources": (
        {"checks": {}, SOURCES: [], "figures": ATTACKED},
        "figures.transfer: attack_transfer needs a source that is tested under attacks, but transfer has "
        "none; allowed: fixed_strength, which draws targets of every kind",
    ),
    "fixed strength on clean images": (
        {**ALONE, TARGETS: ["clean@0"], "figures": {"transfer": "fixed_strength"}},
        "figures.transfer: fixed_strength needs a source that is tested under modified images, but "
        "transfer has none",
    ),
    "check of clean accuracy without clean targets": (
        {"suites.all": ["snow@5"]},
        "checks.transfer.clean_accuracy: needs clean@0 among the targets of transfer",
    ),
    "check of clean accuracy without arm none": (
        {"noise.arms": ["identity", "full"]},
        "checks.transfer.clean_accuracy: needs none among noise.arms",
    ),
    "fine-tuning under noise at test": (
        {f"{EXPERIMENT}.controls": FINE_TUNED, f"{EXPERIMENT}.regime": ["retrain", "tested_only"]},
        "experiments.transfer.regime: tested_only: control fine_tuned has no noise; allowed beside it: "
        "retrain. Write the other regimes as another item of the experiment",
    ),
    "fine-tuning of no suffix": (
        {f"{EXPERIMENT}.controls": FINE_TUNED, f"{EXPERIMENT}.regime": "inference"},
        "experiments.transfer.regime: inference: control fine_tuned has no noise; allowed beside it: "
        "retrain. Write the other regimes as another item of the experiment",
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
        {"checks.transfer": {"published": {"table": "x.csv", "arm": "identity", "spearman": 0.9}}},
        "checks.transfer.published.arm: identity belongs to no source",
    ),
    "check against a published heatmap of an arm that is not run": (
        {"checks.transfer": {"published": {"table": "x.csv", "arm": "permuted"}}},
        "checks.transfer.published: needs permuted among noise.arms",
    ),
    "gates of one attack": ({**GATED, TARGETS: ["own", "pgd@0.1", "pgd@0.2"]}, NO_GATE),
    "gates of attacks at no common epsilon": ({**GATED, TARGETS: ["fgm@0.1", "pgd@0.2"]}, NO_GATE),
    "gates of attacks without an order": ({**GATED, TARGETS: ["fgm@0.1", "square@0.1"]}, NO_GATE),
    "gates of attacks under no common noise": (
        {
            **GATED,
            "noise.arms": ["full"],
            EXPERIMENT: grids(
                {"sources": ["snow@5"], "targets": ["fgm@0.1"]},
                {"sources": ["fog@5"], "targets": ["pgd@0.1"]},
            ),
        },
        NO_GATE,
    ),
    "audit without arm none": (
        {**AUDITED, "noise.arms": ["identity", "full"]},
        "figures.transfer: audit needs none among noise.arms",
    ),
    "audit with few draws": (
        {**AUDITED, "evaluation.passes": 31},
        "figures.transfer: audit needs evaluation.passes of 32 or more: so many fresh draws score a finished "
        "image",
    ),
    "audit whose adaptive attack looks at one draw": (
        weakened(passes=1),
        NO_AUDIT + NOISES,
    ),
    **{
        f"audit whose adaptive attack is against {network}": (
            weakened(against=network),
            NO_AUDIT + NOISES,
        )
        for network in ("base", "noise_off", "known_seed")
    },
    "audit at no common epsilon": (
        {**AUDITED, TARGETS: ["own", "auto_pgd_eot@0.2"]},
        NO_AUDIT + NOISES,
    ),
    "audit beside random noise alone": (
        {**AUDITED, TARGETS: ["random_noise@0.1", "auto_pgd_eot@0.1"]},
        NO_AUDIT + NOISES,
    ),
    "audit of which one source lacks attacks": (
        {**AUDITED, SOURCES: ["pgd@0.1", "fog@5", "snow@5"], TARGETS: ["own+auto_pgd_eot@0.1"]},
        f"{NO_AUDIT}fog@5 of v2 at tau 0.5, snow@5 of v2 at tau 0.5",
    ),
    "audit of which one source has no attack": (
        {
            **AUDITED,
            EXPERIMENT: grids(
                {"sources": ["pgd@0.1"], "targets": ["own+auto_pgd_eot@0.1"]},
                {"sources": ["fog@5"], "targets": ["own+clean@0"]},
            ),
        },
        f"{NO_AUDIT}fog@5 of v2 at tau 0.5",
    ),
    "audit of which a control lacks attacks": (
        {
            **AUDITED,
            EXPERIMENT: grids(
                {"sources": ["pgd@0.1"], "targets": ["own+auto_pgd_eot@0.1"]},
                {"sources": ["pgd@0.1"], "targets": ["clean@0"], "controls": ["half_a"]},
            ),
        },
        f"{NO_AUDIT}pgd@0.1+half_a of v2 at tau 0.5",
    ),
    "AutoAttack for networks without noise on noisy ones": (
        {**ALONE, TARGETS: ["auto_attack.off@0.1", "auto_attack.std@0.1"], "attacks": STANDARD},
        *(
            "experiments.transfer: attacks.auto_attack.std: version standard is for networks without noise, "
            f"but {source} at tau 0.5 has noise; use auto or rand, or against: noise_off"
            for source in ("snow@5", "any")
        ),
    ),
    "check of no experiment": (
        {"checks.transfre": {}},
        "checks: unknown experiment 'transfre'; allowed: transfer",
    ),
}


@pytest.mark.parametrize(
    ("edits", "lines"), [(edits, lines) for edits, *lines in FAULTS.values()], ids=FAULTS
)
def test_sections_that_do_not_fit_each_other_are_named(edits, lines):
    assert fault(edits).splitlines()[1:] == [f"  {line}" for line in lines]


RESNET = {"pretrained": "torchvision:resnet18/DEFAULT", "dataset": "photos"}
PHOTOS = {"id": "folder:photos", "splits": {"train": 9, "test": 9}}


def pretrained(section=(), /, dataset=PHOTOS, name="photos", **grid) -> dict:
    """Return edits to a study of a pretrained network as it is, or of a grid with changes."""
    experiment = grids({"regime": "inference", "site": "layer3", "network": "resnet", **grid})
    return {
        "checks": {},
        "datasets": {name: dataset},
        "networks": {"resnet": RESNET | {"dataset": name} | dict(section)},
        EXPERIMENT: experiment[0],
    }


def from_file(**keys) -> dict:
    return {"pretrained": "file:weights.pt", **keys}


def registered(name: str, **keys) -> dict:
    """Return arguments of `pretrained` for a dataset of the registry."""
    return {"name": name, "dataset": {"splits": {"train": 9, "test": 9}, **keys}}


ZOOS = [
    "networks.resnet.pretrained: network 'hub:resnet18': unknown zoo; allowed are",
    "robustbench:DATASET/THREAT/MODEL, such as robustbench:cifar10/Linf/Standard",
    "torchvision:MODEL/WEIGHTS, such as torchvision:resnet50/IMAGENET1K_V2",
    "timm:MODEL or timm:MODEL.TAG, such as timm:resnet50.a1_in1k",
    "package:NAME, one of package:efficientnet_lite0",
    "file:PATH, with an architecture beside it (found 'hub:resnet18')",
]
ARCHITECTURES = (
    "resnet20, resnet32, resnet44, resnet56, resnet110, torchvision:MODEL, timm:MODEL or "
    "robustbench:DATASET/THREAT/MODEL"
)
FOG = {"targets": ["imagenet_c.fog@3"]}
PRETRAINED = {
    "unknown zoo": (pretrained({"pretrained": "hub:resnet18"}), *ZOOS),
    "model that RobustBench does not have": (
        pretrained({"pretrained": "robustbench:cifar10/Linf/Standart"}),
        "networks.resnet.pretrained: network robustbench:cifar10/Linf/Standart: there is none of that "
        "name, but Standard, ",
    ),
    "file without an architecture": (
        pretrained(from_file()),
        "networks.resnet: network file:weights.pt: architecture: none is given; allowed: "
        f"{ARCHITECTURES} (found ",
    ),
    "file with the architecture of a trained network": (
        pretrained(from_file(architecture="v2")),
        f"networks.resnet: network file:weights.pt: architecture: v2; allowed: {ARCHITECTURES} (found ",
    ),
    "mean without std": (
        pretrained(from_file(architecture="resnet20", mean=[0.5, 0.5, 0.5])),
        "networks.resnet: network file:weights.pt: mean and std: give both or neither (found ",
    ),
    "std of 0": (
        pretrained(from_file(architecture="resnet20", mean=[0.5] * 3, std=[0.2, 0.2, 0])),
        "networks.resnet: network file:weights.pt: mean [0.5, 0.5, 0.5], std [0.2, 0.2, 0.0]: of each 3 "
        "numbers, of pixels from 0 to 1 (divide those of 0 to 255 by 255), of std above 0 (found ",
    ),
    "architecture of a network of a zoo": (
        pretrained({"architecture": "resnet20"}),
        "networks.resnet: network torchvision:resnet18/DEFAULT: architecture: only for a network of a "
        "file (found ",
    ),
    "unknown training": (
        pretrained({"training": "fast"}),
        "networks.resnet.training: unknown 'fast'; allowed: standard",
    ),
    "unknown dataset": (
        pretrained({"dataset": "pictures"}),
        "networks.resnet.dataset: unknown 'pictures'; allowed: photos",
    ),
    "retraining without a training": (
        pretrained(regime="retrain"),
        f"{EXPERIMENT}.regime: retrain needs networks.resnet.training, the hyperparameters of the new "
        "suffix; or write regime: inference",
    ),
    "variant that would be trained on adversarial images": (
        pretrained({"training": "standard"}, network="resnet+pgd@0.1x0.5"),
        f"{EXPERIMENT}.network: resnet+pgd@0.1x0.5: a pretrained network has no variants, they would be "
        "trained",
    ),
    "variant that would be trained on noisy images": (
        pretrained(network=["resnet", "resnet+input_noise@0.1"]),
        f"{EXPERIMENT}.network: resnet+input_noise@0.1: a pretrained network has no variants, they would "
        "be trained",
    ),
    "half an expected accuracy": (
        pretrained({"clean_accuracy": {"value": 0.9}}),
        "networks.resnet.clean_accuracy.within: Field required",
    ),
    "photographs smaller than their crop": (
        pretrained(dataset=PHOTOS | {"resize": 200}),
        "datasets.photos: resize: 200 pixels are fewer than crop: 224; allowed: 224 or more",
    ),
    "pairs that the dataset does not have": (
        pretrained(dataset=PHOTOS | {"paired": {"rain": "wet"}}, targets=["paired.snow@1"]),
        f"{EXPERIMENT}: paired.snow@1: datasets.photos.paired has no 'snow'; allowed: rain",
    ),
    "pairs as a source that the dataset does not have": (
        pretrained(sources=["paired.snow@1"], targets=["clean@0"]),
        f"{EXPERIMENT}: paired.snow@1: datasets.photos.paired has no 'snow'; allowed: (none)",
    ),
    "name of pairs that is no name": (
        pretrained(dataset=PHOTOS | {"paired": {"Rain": "wet"}}),
        "datasets.photos.paired.Rain: String should match pattern '^[a-z0-9_]+$' (found 'Rain')",
    ),
    "pairs of images that have no file names": (
        pretrained(**registered("cifar10", paired={"rain": "wet"}), targets=["paired.rain@1"]),
        "datasets.cifar10.paired: only photographs, which have file names, have pairs",
    ),
    "published set of another dataset": (
        pretrained(**registered("mnist_5k"), targets=["cifar10_c.fog@3"]),
        f"{EXPERIMENT}: cifar10_c.fog@3: CIFAR-10-C holds images of cifar10, not of mnist_5k",
    ),
    "published set of another dataset under a name of the study": (
        pretrained(**registered("cifar10", id="mnist_5k"), targets=["cifar10_c.fog@3"]),
        f"{EXPERIMENT}: cifar10_c.fog@3: CIFAR-10-C holds images of cifar10, not of mnist_5k",
    ),
    "published set of another crop": (
        pretrained(**registered("imagenet", crop=160, corrupted="c"), **FOG),
        f"{EXPERIMENT}: imagenet_c.fog@3: ImageNet-C was made with resize: 256 and crop: 224; only "
        "these fit imagenet's images to it",
    ),
    "published set that cannot be downloaded": (
        pretrained(**registered("imagenet"), **FOG),
        f"{EXPERIMENT}: imagenet_c.fog@3: datasets.imagenet.corrupted is to name its folder. "
        f"{SETS['imagenet_c'].hint}",
    ),
    "validation images that a pretrained network was trained on": (
        pretrained(
            **registered("cifar10", splits={"train": 9, "validation": 9, "test": 9}),
            targets=["clean@0", "validation@0"],
        ),
        f"{TARGETS}: validation@0: pretrained resnet was trained on the images that cifar10 has for "
        "validation; allowed for networks that the study trains",
    ),
    "images redrawn for a network that is the same in all trials": (
        pretrained(**registered("cifar10", redraw_per_trial=True), targets=["clean@0"]),
        "datasets.cifar10.redraw_per_trial: pretrained resnet is one network for all trials, and so are "
        "its images; allowed for networks that the study trains",
    ),
    "published set as a source": (
        pretrained(**registered("cifar10"), sources=["cifar10_c.fog@3"], targets=["clean@0"]),
        f"{EXPERIMENT}.sources: cifar10_c.fog@3: published sets hold test images, a source needs "
        "training images",
    ),
}


@pytest.mark.parametrize(
    ("edits", "lines"), [(edits, lines) for edits, *lines in PRETRAINED.values()], ids=PRETRAINED
)
def test_a_mistake_with_a_pretrained_network_or_its_images_is_named(edits, lines):
    _, *found = fault(edits).splitlines()
    assert len(found) == len(lines)
    for line, told in zip(found, lines, strict=True):
        assert line.startswith(f"  {told}")
        assert line == f"  {told}" or told.endswith((" (found ", "Standard, "))


@pytest.mark.parametrize(
    "edits",
    [
        pretrained(),
        pretrained(site="anything.that.it.has"),
        pretrained({"training": "standard"}, regime="retrain"),
        pretrained({"clean_accuracy": {"value": 0.9, "within": 0.01}}),
        pretrained(from_file(architecture="resnet20", classes=7)),
        pretrained(from_file(architecture="timm:x", mean=[0.5] * 3, std=[1, 1, 1])),
        pretrained({"pretrained": "robustbench:cifar10/Linf/Standard"}, **registered("cifar10")),
        pretrained(dataset=PHOTOS | {"crop": 299}),
        pretrained(dataset=PHOTOS | {"resize": 180, "crop": 160}),
        pretrained(dataset=PHOTOS | {"paired": {"rain": "wet"}}, sources=["paired.rain@1"]),
        pretrained(**registered("cifar10"), targets=["cifar10_c.fog@3"]),
        pretrained(**registered("imagenet", corrupted="c"), **FOG),
        pretrained(**registered("imagenet", corrupted="c", resize=256, crop=224), **FOG),
        pretrained(**registered("tiny", id="imagenet", corrupted="c"), **FOG),
        {f"{SPLITS}.calibration": 3500},
        {f"{SPLITS}.calibration": 2},
        {"noise.rank": "explained@1"},
        {"noise.rank": "held_out", "noise.ridge": {"held_out": True}},
        {"evaluation": {"bfloat16": True, "channels_last": True, "compile": True}},
    ],
    ids=str,
)
def test_a_study_of_what_is_new_is_accepted_and_read_again(edits):
    study = load(edited(edits))
    assert load(json.loads(study.model_dump_json())) == study


def test_a_folder_that_does_not_exist_is_named_before_any_job():
    """By `in_place`, which the Snakefile asks for every dataset: the schema looks at no file."""
    study = load(edited(pretrained(dataset=PHOTOS | {"id": "folder:/no/photos"})))
    (section,) = study.datasets.values()
    with pytest.raises(StudyError, match=r"^dataset folder:/no/photos: /no/photos: no such folder"):
        in_place(section.id, section.folder)
    study = load(edited(pretrained(**registered("imagenet", folder="/no/imagenet"))))
    with pytest.raises(StudyError, match=r"^dataset imagenet: /no/imagenet: no such folder"):
        in_place("imagenet", study.datasets["imagenet"].folder)


def test_a_folder_is_found_from_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {"folder": "~/a", "corrupted": "~/b", "paired": {"rain": "~/c"}}
    section = load(edited(pretrained(**registered("imagenet", **keys)))).datasets["imagenet"]
    assert (section.folder, section.corrupted) == (tmp_path / "a", tmp_path / "b")
    assert section.paired == {"rain": tmp_path / "c"}


@pytest.mark.parametrize(
    "edits",
    [
        {"evaluation.passes": 0, TAU: 0, "trials": ["a"], "suites.all": ["snow@6"]},
        {"networks.v2.dataset": "mnist", f"{EXPERIMENT}.site": "L6", "attacks.pgd.steps": 0},
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
        {"noise.rank": GONE},
        {"noise.rank": 1},
        {"noise.rank": "full"},
        {"noise.ridge": GONE},
        {"noise.ridge": {"absolute": 0}},
        {"trials": [3, "5-6", "0-2"]},
        {SPLITS: {"train": 4999, "test": 1}},
        {"attacks": GONE},
        {"checks": GONE, "evaluation": GONE, "seed": GONE},
        {"checks": GONE, SOURCES: GONE, TAU: GONE},
        {f"{EXPERIMENT}.regime": "inference"},
        {f"{EXPERIMENT}.regime": [*REGIMES], "figures": {"transfer": "regimes"}},
        {"noise.arms": sorted({*ARMS} - {FINE_TUNED}), "noise.pooled": ["snow@5", "pgd@0.1"]},
        {f"{EXPERIMENT}.controls": [*CONTROLS], "noise.pooled": ["snow@5"]},
        {f"{EXPERIMENT}.controls": "signal"},
        {NETWORK: ["v2", "v2+input_noise@1+pgd@1x1"], "figures": {"transfer": "input_noise"}},
        {"figures": {"transfer": [kind for kind in CURVES if kind != "matched_accuracy"]}},
        {
            "checks": GONE,
            TAU: [0.5, 2.0],
            TARGETS: ["own", "validation@0"],
            "figures": {"transfer": "matched_accuracy"},
        },
        {"figures": {"transfer": []}},
        {**GATED, TARGETS: ["own", "fgm@0.1", "pgd@0.1"]},
        AUDITED,
        weakened(passes=2),
        {
            **AUDITED,
            TARGETS: ["auto_pgd_l2_eot.m1@2.0", "auto_pgd_l2_eot@2.0"],
            "attacks": {"auto_pgd_l2_eot.m1": {"passes": 1}},
        },
        {**AUDITED, "checks": {"transfer": {"gates": True}}},
        {"checks.transfer.clean_accuracy": {"value": 1, "within": 0.02}},
        {"checks.transfer.clean_accuracy": 0},
        {
            **AUDITED,
            EXPERIMENT: [
                *AUDITED_GRIDS,
                {
                    "network": ["v2+pgd@0.1x0.5", "v2+input_noise@0.1"],
                    "site": "L2",
                    "regime": "inference",
                    "targets": ["pgd@0.1", "auto_pgd_eot@0.1"],
                },
            ],
        },
        {EXPERIMENT: grids({}, {"sources": [], "targets": ["fog@5"]})},
        {**ALONE, TARGETS: SNOW, "figures": {"transfer": "fixed_strength"}},
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
    edits = {"suites.one": [written], SOURCES: [written], TARGETS: [written], TAU: {written: 1}}
    study = load(edited({**edits, "checks": {}}))
    (grid,) = study.experiments["transfer"]
    assert study.suites["one"] == grid.sources == grid.targets == [read]
    assert grid.tau == {read: ["1.0"]}


def test_parts_of_a_target_are_read_in_their_one_spelling():
    written = ["own+clean@0.0+rotate@2", "fgm@own", "noise_and_weather"]
    assert transfer({SOURCES: ["pgd@.2"], TARGETS: written}).targets == [
        "own+clean@0+rotate@2.0",
        "fgm@own",
        "noise_and_weather",
    ]


def test_network_is_read_in_its_one_spelling():
    assert transfer({NETWORK: "v2+pgd@1e-1x1+input_noise@.20"}).network == [
        "v2+input_noise@0.2+pgd@0.1x1.0"
    ]


@pytest.mark.parametrize("key", ["network", "site"])
def test_one_may_be_written_without_a_list(key):
    value = edited({})["experiments"]["transfer"][key]
    one, several = (transfer({f"{EXPERIMENT}.{key}": v}) for v in (value, [value]))
    assert one == several
    assert getattr(one, key) == [value]


def test_an_experiment_is_one_grid_or_a_list_of_them():
    (grid,) = grids({})
    one, several = (load(edited({EXPERIMENT: v})) for v in (grid, [grid]))
    assert one == several
    two = load(edited({EXPERIMENT: grids({}, {"targets": ["fog@5"]})}))
    assert [grid.targets for grid in two.experiments["transfer"]] == [["all"], ["fog@5"]]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (2, ["2.0"]),
        (0.5, ["0.5"]),
        ("5e-1", ["0.5"]),  # YAML reads it as text
        ("unscaled", ["unscaled"]),
        ([0.25, 1, "unscaled"], ["0.25", "1.0", "unscaled"]),
        ({"others": 2, "noise_and_weather": 2}, ["2.0"]),
    ],
)
def test_trace_scales_are_read_in_their_one_spelling(written, read):
    grid = transfer({TAU: written, "figures": {"transfer": "strength"}})
    assert [grid.taus_of(unit) for unit in grid.sources] == [read, read]
    assert grid.taus == read


@pytest.mark.parametrize("text", ["0", "-1", "1e999", "nan", "0,5", " 1", "one"])
def test_other_text_is_no_trace_scale(text):
    assert "is no trace scale; write a number above 0" in fault({TAU: text})


@pytest.mark.parametrize("path", [*SHIPPED, *TESTED], ids=lambda path: path.name)
def test_a_study_is_read_again_from_its_provenance(path):
    study = load(yaml.safe_load(path.read_text()))
    assert load(json.loads(study.model_dump_json())) == study


def test_trace_scales_may_differ_by_source():
    written = {"others": [2, "unscaled"], "noise_and_weather": 0.5}
    grid = transfer({TAU: written, "figures": {"transfer": "strength"}})
    assert grid.taus_of("others") == ["2.0", "unscaled"]
    assert grid.taus_of("noise_and_weather") == ["0.5"]
    assert sorted(grid.taus) == ["0.5", "2.0", "unscaled"]


ART = {
    "fgm": {},
    "pgd": {"steps": 100, "step_size": 0.1},
    "auto_pgd": {"steps": 100, "step_size": 0.1, "restarts": 5},
    "square": {"steps": 100, "share": 0.8},
}


@pytest.mark.parametrize(("attack", "budget"), ART.items())
def test_attack_that_is_not_listed_has_its_usual_budget(attack, budget):
    assert load(edited({"attacks": GONE})).budget(attack) == budget


def test_budget_that_is_listed_in_part_is_completed():
    budget = load(edited({"attacks.auto_pgd": {"restarts": 1}})).budget("auto_pgd")
    assert budget == ART["auto_pgd"] | {"restarts": 1}


def test_a_budget_of_its_own_has_the_other_keys_of_the_attack():
    attacks = {"auto_pgd": {"restarts": 1}, "auto_pgd.short": {"steps": 7}}
    study = load(edited({"attacks": attacks, TARGETS: ["all", "auto_pgd.short@0.1"]}))
    assert study.budget("auto_pgd.short") == ART["auto_pgd"] | {"restarts": 1, "steps": 7}
    assert study.budget("auto_pgd") == ART["auto_pgd"] | {"restarts": 1}


def test_a_variant_of_a_network_has_the_section_of_its_base():
    study = load(edited({}))
    assert study.network("v2+input_noise@0.1") == study.network("v2") == study.networks["v2"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, [HEATMAP]),
        ({"transfer": "strength"}, ["strength"]),
        ({"transfer": ["strength", HEATMAP]}, ["strength", HEATMAP]),
    ],
)
def test_figures_of_an_experiment(written, read):
    assert load(edited({"figures": written})).figures_of("transfer") == read


def test_the_example_of_the_page_on_figures_is_a_part_of_a_study():
    page = (ROOT / "docs/figures.md").read_text()
    (part,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    study = load(edited({"checks": {}, **yaml.safe_load(part)}))
    assert study.figures_of("fixed") == ["fixed_strength"]


def test_every_figure_of_curves_that_a_study_may_name_can_be_drawn():
    assert list(CURVES) == list(curves.CURVES)[: len(CURVES)]
    others = set(curves.CURVES) - set(CURVES)
    assert others == {"published_cells", "published_heatmap"}


def test_schema_imports_nothing_heavy():
    heavy = "{'torch', 'torchvision', 'pandas', 'matplotlib', 'imagecorruptions'}"
    program = f"import sys, noisetransfer.config; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("key", "edit"),
    [
        ("networks.mine.pretrained: gone.pt", {"networks.mine.pretrained": "file:gone.pt"}),
        ("datasets.photos.corrupted: gone", {"datasets.photos.corrupted": "gone"}),
        ("datasets.photos.paired.rain: gone", {"datasets.photos.paired": {"rain": "gone"}}),
    ],
)
def test_files_that_are_not_there_are_named_with_their_key(tmp_path, monkeypatch, key, edit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    photos = {"id": "folder:photos", "splits": {"train": 2, "test": 1}}
    mine = {"pretrained": "file:weights.pt", "architecture": "resnet20", "dataset": "photos"}
    raw = {
        **{"study": "files", "datasets": {"photos": photos}, "networks": {"mine": mine}},
        **{"trials": [0], "noise": {"arms": ["none"]}},
        "experiments": {"one": {"network": "mine", "site": "layer3", "targets": ["clean@0"]}},
    }
    raw["experiments"]["one"]["regime"] = "inference"
    require_files(load(raw))
    for path, value in edit.items():
        section, name, field = path.split(".")
        raw[section][name][field] = value
    with pytest.raises(StudyError, match=f"^{re.escape(key)}: no such f"):
        require_files(load(raw))
