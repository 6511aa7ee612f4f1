"""From a study to its jobs: what each grid tests, what jobs share, and what the paper's study measures."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from noisetransfer.arms import ARMS, CONTROLS, FINE_TUNED
from noisetransfer.artifacts import read_published, read_published_cells
from noisetransfer.config import Study, load
from noisetransfer.errors import StudyError
from noisetransfer.modifications import canonical, parse
from noisetransfer.plan import (
    PRETRAINED,
    Evaluation,
    apart,
    arms,
    evaluations,
    fitted,
    has_covariance,
    is_matched,
    members,
    pairs,
    source_of,
    trials_of,
)
from noisetransfer.regimes import REGIMES

ROOT = Path(__file__).parents[2]
SUITES = {
    "both": ["snow@5", "fog@3", "motion_blur@5"],
    "weather": ["snow@5", "fog@3"],
    "blur": ["motion_blur@5"],
    "steps": ["pgd@0.05", "pgd@0.1"],
    "signs": ["fgm@0.05", "fgm@0.1"],
    "tests": ["clean@0", "brightness@5", "contrast@5"],
}
GRID = {"network": "v2", "site": "L2", "tau": 0.5, "sources": ["weather"], "targets": ["own"]}


def study(*grids: dict, **changes) -> Study:
    """Return a study whose experiment x has these grids, each a change of `GRID`."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    raw |= {"checks": {}, "suites": SUITES, "experiments": {"x": [GRID | grid for grid in grids]}}
    return load(raw | {"figures": {"x": []}} | changes)


def jobs(*grids: dict, **changes) -> list[Evaluation]:
    return evaluations(study(*grids, **changes), "x")


def sourced(found: list[Evaluation]) -> list[tuple[str, str]]:
    return [(job.source, job.suite) for job in found if job.source != "any"]


def plain(found: list[Evaluation], tau: str = "0") -> list[str]:
    return [job.suite for job in found if job.source == "any" and job.tau == tau]


def measured(of: Study, experiment: str) -> set[tuple[str, ...]]:
    """Return (regime, network, site, τ, source, target, arm) of all that an experiment measures."""
    return {
        (job.regime, job.network, job.site, job.tau, source, target, arm)
        for job in evaluations(of, experiment)
        for source, targets in pairs(of.suites, job.source, job.suite).items()
        for target in targets
        for arm in arms(of.noise.arms, job.source, job.tau)
    }


# what a grid tests


def test_jobs_of_the_smallest_grid():
    where = {"regime": "retrain", "network": "v2", "site": "L2"}
    assert jobs({}) == [
        Evaluation(**where, tau="0.5", source="weather", suite="own"),
        Evaluation(**where, tau="0", source="any", suite="weather"),
        Evaluation(**where, tau="0.5", source="any", suite="weather"),
    ]


PAIRS = {
    ("weather", "own"): {"snow@5": ["snow@5"], "fog@3": ["fog@3"]},
    ("snow@5.0", "own"): {"snow@5": ["snow@5"]},
    ("blur", "weather"): {"motion_blur@5": ["snow@5", "fog@3"]},
    ("blur", "rotate@2"): {"motion_blur@5": ["rotate@2.0"]},
    ("signs", "pgd@own"): {"fgm@0.05": ["pgd@0.05"], "fgm@0.1": ["pgd@0.1"]},
    ("blur", "own+clean@0"): {"motion_blur@5": ["motion_blur@5", "clean@0"]},
    ("pgd@0.1", "fgm@own+own+tests"): {
        "pgd@0.1": ["fgm@0.1", "pgd@0.1", "clean@0", "brightness@5", "contrast@5"]
    },
    ("any", "tests"): {"any": ["clean@0", "brightness@5", "contrast@5"]},
    ("any", "pgd@0.1"): {"any": ["pgd@0.1"]},
}


@pytest.mark.parametrize(("units", "found"), PAIRS.items(), ids=map(" under ".join, PAIRS))
def test_pairs_of_source_and_target(units, found):
    assert pairs(SUITES, *units) == found


def test_an_attack_at_a_strength_that_it_does_not_allow_is_refused():
    with pytest.raises(StudyError, match=r"'pgd@5\.0': 5\.0 is not allowed"):
        pairs(SUITES, "weather", "pgd@own")


def test_members_of_a_unit():
    assert members(SUITES, "weather") == SUITES["weather"]
    assert members(SUITES, "rotate@2") == ["rotate@2.0"]


def test_every_source_is_tested_under_every_target_at_every_network_site_and_tau():
    networks, sites = ["v2", "v2+input_noise@0.1"], ["L1", "L3"]
    where = {"network": networks, "site": sites, "tau": [0.5, 2]}
    found = jobs(where | {"sources": ["weather", "blur"], "targets": ["own", "tests"]})
    shaped = {(j.network, j.site, j.tau, j.source, j.suite) for j in found if j.source != "any"}
    everything = product(networks, sites, ["0.5", "2.0"], ["weather", "blur"], ["own", "tests"])
    assert shaped == set(everything)
    assert len(found) == len(set(found)) == 4 * (8 + 3 * 2)  # both and tests at three τ


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("steps", "pgd@own", "own"),
        ("pgd@0.1", "pgd@own", "own"),
        ("signs", "pgd@own", "pgd@own"),
        ("steps", "own", "own"),
        ("steps", "own+clean@0", "own+clean@0"),
        ("steps", "tests", "tests"),
    ],
)
def test_an_evaluation_has_one_name_however_its_target_is_written(source, target, name):
    assert sourced(jobs({"sources": [source], "targets": [target]})) == [(source, name)]


def test_an_evaluation_that_two_experiments_share_is_one():
    own = GRID | {"sources": ["steps"], "targets": ["own"]}
    transferred = GRID | {"sources": ["steps", "signs"], "targets": ["pgd@own", "fgm@own"]}
    of = study(experiments={"x": own, "y": transferred})
    mine, others = (set(evaluations(of, name)) for name in "xy")
    assert [job.suite for job in mine & others if job.source == "steps"] == ["own"]
    assert [job.suite for job in mine & others if job.source == "any"] == ["steps", "steps"]


def test_an_evaluation_that_two_grids_share_is_one():
    two = jobs({"tau": [0.5, 2]}, {"tau": 0.5, "sources": ["weather", "steps"]})
    assert two == list(dict.fromkeys(two))
    assert set(two) == {*jobs({"tau": [0.5, 2]}), *jobs({"sources": ["weather", "steps"]})}


def test_grids_of_one_noise_share_what_the_arms_without_a_source_are_tested_under():
    two = jobs(
        {"sources": ["weather"], "targets": ["tests"]},
        {"sources": ["pgd@0.1"], "tau": 2, "targets": ["pgd@0.1+clean@0"]},
    )
    assert plain(two) == ["tests", "pgd@0.1"]
    assert plain(two, "0.5") == ["tests"]
    assert sorted(plain(two, "2.0")) == ["clean@0", "pgd@0.1"]


def test_identity_is_tested_at_a_scale_only_where_a_source_is():
    found = jobs({"sources": ["weather", "steps"], "tau": {"weather": 0.5, "steps": 2}})
    assert plain(found, "0.5") == ["weather"]
    assert plain(found, "2.0") == ["steps"]
    assert sorted(plain(found)) == ["steps", "weather"]


def test_the_regime_is_part_of_an_evaluation():
    found = jobs({}, {"regime": "inference"})
    assert sorted(job.regime for job in found) == ["inference"] * 3 + ["retrain"] * 3


def test_regimes_of_one_grid_share_the_network_without_noise():
    """It is the same whether the noise that it lacks would be on in training or at test."""
    found = jobs({"regime": list(REGIMES)})
    of = {tau: {job.regime for job in found if job.tau == tau} for tau in ("0", "0.5")}
    assert of == {"0": {"retrain", "inference"}, "0.5": set(REGIMES)}
    assert len(found) == len(set(found)) == 2 + 2 * 4


@pytest.mark.parametrize("regime", ["trained_only", "tested_only"])
def test_a_regime_alone_has_the_network_without_noise(regime):
    assert {(job.regime, job.tau) for job in jobs({"regime": regime})} == {
        ("retrain", "0"),
        (regime, "0.5"),
    }


def test_without_sources_there_is_the_arm_without_noise_alone():
    found = jobs({"sources": [], "tau": [], "targets": ["tests"], "regime": "inference"})
    assert found == [Evaluation("inference", "v2", "L2", "0", "any", "tests")]


# arms

ALL = list(ARMS)


def test_none_is_at_no_tau_and_identity_at_every_other():
    assert arms(ALL, "any", "0") == ["none"]
    assert arms(ALL, "any", "0.5") == ["identity"]


def test_arms_of_a_source_are_all_others_in_the_order_of_the_study():
    shaped = ["rotated", "full", "diagonal", "permuted"]
    assert arms(["identity", *shaped, "none"], "snow@5", "0.5") == shaped


# which a whole study may have
APART = [name for name in CONTROLS if ARMS[name].apart and name != FINE_TUNED]


def noise(*names: str) -> dict:
    return {"arms": list(names), "rank": 4, "ridge": {"relative": 0}, "pooled": ["weather"]}


@pytest.mark.parametrize("arm", APART)
def test_an_arm_that_stands_apart_is_alone_in_its_unit(arm):
    before, after = (set(jobs({}, noise=noise("none", "full", *more))) for more in ((), (arm,)))
    assert before < after  # every other job is as it was
    added = {(job.source, job.tau) for job in after - before}
    assert added == {(f"{'weather' if ARMS[arm].from_source else 'any'}+{arm}", "0.5")}
    assert all(arms(ALL, job.source, job.tau) == [arm] for job in after - before)


@pytest.mark.parametrize("arm", APART)
def test_a_grid_has_controls_of_its_own(arm):
    """No other grid gets them, and they are the same jobs as where the whole study has the arm."""
    one, all_ = noise("none", "full"), noise("none", "full", arm)
    grids = {"sources": ["blur"]}, {"sources": ["weather"]}
    own = set(jobs(grids[0] | {"controls": arm}, grids[1], noise=one))
    assert own - set(jobs(*grids, noise=one)) == {
        job for job in jobs(grids[0], noise=all_) if apart(job.source)
    }


def test_an_arm_of_the_study_may_be_a_control_of_one_grid_instead():
    """In jobs of its own; where the whole study has it nothing is done twice."""
    rotated, both = {"controls": "rotated"}, noise("none", "full", "rotated")
    before, after = (set(jobs(grid, noise=noise("none", "full"))) for grid in ({}, rotated))
    assert {(job.source, job.tau) for job in after - before} == {("weather+rotated", "0.5")}
    assert before < after
    assert all(arms(ALL, job.source, job.tau) == ["rotated"] for job in after - before)
    assert jobs(rotated, noise=both) == jobs({}, noise=both)


@pytest.mark.parametrize("arm", APART)
def test_an_arm_that_stands_apart_is_tested_under_the_targets_of_its_source(arm):
    of = study({"targets": ["own", "tests"]}, noise=noise("none", "identity", "full", arm))
    cells = {name: {c[:-1] for c in measured(of, "x") if c[-1] == name} for name in of.noise.arms}
    assert cells[arm] == cells["full" if ARMS[arm].from_source else "identity"]


@pytest.mark.parametrize("tau", [0.5, [0.5, 2], ["unscaled", 1]], ids=str)
def test_fine_tuning_is_one_job_a_source_whatever_the_tau(tau):
    """Each target once, and every other job as it was."""
    grid = {"sources": ["weather", "blur"], "targets": ["own", "tests"], "tau": tau}
    before, after = (set(jobs(grid | {"controls": more})) for more in ([], [FINE_TUNED]))
    assert before < after
    units = ["weather+fine_tuned", "blur+fine_tuned"]
    found = {(job.source, job.tau, job.regime, job.suite) for job in after - before}
    assert found == set(product(units, ["0"], ["retrain"], ["own", "tests"]))
    assert all(arms(ALL, job.source, job.tau) == [FINE_TUNED] for job in after - before)


def test_grids_of_several_tau_share_what_is_fine_tuned():
    own = {"controls": FINE_TUNED}
    found = jobs(own, own | {"tau": 2})
    assert [job.tau for job in found if apart(job.source)] == ["0"]


def test_a_unit_has_a_source_and_an_arm():
    assert members(SUITES, "weather+half_a") == SUITES["weather"]
    assert pairs(SUITES, "any+signal", "blur") == {"any": SUITES["blur"]}
    assert (source_of("blur+half_a"), apart("blur+half_a")) == ("blur", "half_a")
    assert (source_of("any"), apart("any")) == ("any", "")


@pytest.mark.parametrize(
    ("unit", "has"),
    [("any", False), ("blur", True), ("any+signal", True), ("blur+fine_tuned", False)],
)
def test_units_whose_noise_is_made_from_a_covariance(unit, has):
    assert has_covariance(unit) == has


@pytest.mark.parametrize(
    ("unit", "fit"),
    [
        ("blur", "blur"),
        ("blur+rotated", "blur"),
        *((own, own) for own in ("blur+half_a", "any+signal")),
    ],
)
def test_controls_share_the_covariance_of_their_source_unless_theirs_is_another(unit, fit):
    assert fitted(unit) == fit


@pytest.mark.parametrize(
    ("listed", "taus", "shaped"),
    [
        (["none", "identity", "full"], ["0", "0.5", "2.0"], True),
        (["identity", "full"], ["0.5", "2.0"], True),
        (["none", "full"], ["0"], True),
        (["full"], [], True),
        (["none"], ["0"], False),
    ],
)
def test_jobs_are_those_of_the_arms_of_the_study(listed, taus, shaped):
    noise = {"arms": listed, "rank": 4, "ridge": {"relative": 0}}
    found = jobs({"tau": [0.5, 2]}, noise=noise)
    assert [job.tau for job in found if job.source == "any"] == taus
    assert bool(sourced(found)) == shaped


def test_unscaled_noise_has_no_arms_without_a_source():
    found = jobs({"tau": ["unscaled", 0.5]})
    assert [job.tau for job in found if job.source == "any"] == ["0", "0.5"]
    assert [job.tau for job in found if job.source != "any"] == ["unscaled", "0.5"]


def test_each_source_has_its_own_tau():
    tau = {"weather": [0.5, 1], "blur": 2}
    found = jobs({"sources": ["weather", "blur"], "tau": tau})
    shaped = {(job.source, job.tau) for job in found if job.source != "any"}
    assert shaped == {("weather", "0.5"), ("weather", "1.0"), ("blur", "2.0")}
    assert {job.tau for job in found if job.source == "any"} == {"0", "0.5", "1.0", "2.0"}


# targets of the arms without a source

COVERED = {
    "a suite by its name": (["weather"], ["own"], ["weather"]),
    "the first suite that fits, then what remains": (["both", "steps"], ["own"], ["both", "steps"]),
    "one suite for the sources of two": (["weather", "blur"], ["own"], ["both"]),
    "no suite that holds more than is wanted": (["snow@5"], ["own"], ["snow@5"]),
    "a single modification beside a suite": (
        ["weather", "rotate@2"],
        ["own"],
        ["weather", "rotate@2.0"],
    ),
    "what is listed as it is listed": (["blur"], ["weather", "clean@0"], ["weather", "clean@0"]),
    "parts of a target apart": (["blur"], ["own+clean@0"], ["clean@0", "blur"]),
    "an attack at the strengths of the sources": (["signs"], ["pgd@own"], ["steps"]),
    "attacks of each other": (["steps", "signs"], ["pgd@own", "fgm@own"], ["steps", "signs"]),
}


@pytest.mark.parametrize(("sources", "targets", "covering"), COVERED.values(), ids=COVERED)
def test_arms_without_a_source_are_tested_under_whole_suites(sources, targets, covering):
    found = jobs({"sources": sources, "targets": targets})
    assert plain(found) == plain(found, "0.5") == covering


@pytest.mark.parametrize(("sources", "targets", "covering"), COVERED.values(), ids=COVERED)
def test_every_target_of_a_source_has_its_arms_without_a_source(sources, targets, covering):
    of = study({"sources": sources, "targets": targets})
    found = measured(of, "x")
    shaped = {(*cell[:3], cell[5]) for cell in found if cell[4] != "any"}
    for arm in ("none", "identity"):
        assert {(*cell[:3], cell[5]) for cell in found if cell[6] == arm} == shaped


# what an addition changes


def added(grid: dict, change: dict, **changes) -> tuple[set[Evaluation], set[Evaluation]]:
    """Return the evaluations that a change of a grid brings, and those that it takes away."""
    before, after = set(jobs(grid)), set(jobs(grid | change, **changes))
    return after - before, before - after


LISTED = {"sources": ["weather", "steps"], "targets": ["tests"]}


@pytest.mark.parametrize("source", ["signs", "rotate@2"])
def test_a_new_source_adds_its_own_evaluation_and_no_more(source):
    new, gone = added(LISTED, {"sources": [*LISTED["sources"], source]})
    assert gone == set()
    assert new == {Evaluation("retrain", "v2", "L2", "0.5", canonical_unit(source), "tests")}


def canonical_unit(unit: str) -> str:
    return canonical(unit) if "@" in unit else unit


def test_a_new_source_under_itself_adds_the_arms_without_a_source_under_it():
    new, gone = added(LISTED | {"targets": ["own"]}, {"sources": ["weather", "steps", "signs"]})
    assert gone == set()
    assert {(job.tau, job.source, job.suite) for job in new} == {
        ("0", "any", "signs"),
        ("0.5", "any", "signs"),
        ("0.5", "signs", "own"),
    }


@pytest.mark.parametrize("target", ["signs", "rotate@2"])
def test_a_new_target_is_evaluated_of_every_noise_and_retrains_none(target):
    new, gone = added(LISTED, {"targets": ["tests", target]})
    assert gone == set()
    assert {(job.tau, job.source) for job in new} == {
        ("0", "any"),
        ("0.5", "any"),
        ("0.5", "weather"),
        ("0.5", "steps"),
    }
    assert {job.suite for job in new} == {canonical_unit(target)}


def test_a_new_tau_leaves_the_others():
    new, gone = added(LISTED, {"tau": [0.5, 2]})
    assert gone == set()
    assert {job.tau for job in new} == {"2.0"}
    assert len(new) == 3


def test_a_new_block_of_trials_is_no_matter_of_the_plan():
    assert jobs(LISTED) == jobs(LISTED, trials=["0-1", "2-4"])


def test_a_new_experiment_leaves_the_others():
    one = study(LISTED)
    two = study(experiments={"y": GRID | {"sources": ["signs"]}, "x": GRID | LISTED})
    assert evaluations(two, "x") == evaluations(one, "x")


@pytest.mark.parametrize(
    ("block", "trials"),
    [
        ("0-2", [0, 1, 2]),
        ("3", [3]),
        ("7-7", [7]),
        ("9-11", [9, 10, 11]),
        (PRETRAINED, [0]),  # what is the same in every trial has one key
    ],
)
def test_trials_of_a_block(block, trials):
    assert trials_of(block) == trials


# the paper's study

PAPER = load(yaml.safe_load((ROOT / "studies/paper.yaml").read_text()))
CORRUPTIONS = ["brightness", "contrast", "gaussian_noise", "impulse_noise", "motion_blur", "snow"]
TRANSFORMS = ["elastic", "obstruction", "perspective", "rotate"]
ATTACKS = ["auto_pgd", "fgm", "pgd", "square"]
SCALES = ["0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "1.4", "1.5", "1.6", "1.8", "2.0"]
EPSILONS = ["0.001", "0.02", "0.04", "0.06", "0.08", "0.1", "0.12", "0.14", "0.16", "0.18", "0.2"]
TAUS = {"unscaled", "0.25", "0.5", "1.0", "2.0"}


def ids(names: list[str], strengths: str | list[str]) -> set[str]:
    strengths = strengths.split() if isinstance(strengths, str) else strengths
    return {f"{name}@{strength}" for name, strength in product(names, strengths)}


NATURAL = ids(CORRUPTIONS, "1 2 3 4 5") | ids(TRANSFORMS, SCALES)
ADVERSARIAL = ids(ATTACKS, EPSILONS)
STRONGEST = ids(CORRUPTIONS, "5") | ids(TRANSFORMS, "2.0")
SWEPT_NATURAL = (
    ids(CORRUPTIONS, "1 3 5")
    | ids(TRANSFORMS, "0.5 1.0 1.5")
    | {"obstruction@0.4", "obstruction@1.8"}
)
SWEPT_ADVERSARIAL = ids(ATTACKS, "0.05 0.1 0.15") | {"auto_pgd@0.04", "auto_pgd@0.18"}


def with_a_source(experiment: str) -> set[tuple[str, ...]]:
    """Return what an experiment measures of the arms with a source."""
    return {cell for cell in measured(PAPER, experiment) if cell[4] != "any"}


def under_itself(experiment: str, family: set[str]) -> dict[str, set[str]]:
    """Return, of each source of a family that is tested under itself, its τ."""
    found: dict[str, set[str]] = {}
    for _, _, _, tau, source, target, _ in with_a_source(experiment):
        if source == target and source in family:
            found.setdefault(source, set()).add(tau)
    return found


def each(family: set[str], *taus: str) -> dict[str, set[str]]:
    return {source: set(taus) for source in family}


def test_the_paper_has_its_eight_experiments():
    assert list(PAPER.experiments) == [
        "matched",
        "transfer",
        "attack_transfer",
        "layer_sweep",
        "trace_sweep",
        "adversarial_training",
        "input_noise",
        "learning_curve",
    ]
    assert [trial for block in PAPER.trials for trial in trials_of(block)] == list(range(10))
    assert PAPER.noise.arms == ["none", "identity", "diagonal", "full"]


def test_matched_has_every_strength_under_itself_and_nothing_else():
    assert under_itself("matched", NATURAL) == each(NATURAL, "0.5", "2.0")
    assert under_itself("matched", ADVERSARIAL) == each(ADVERSARIAL, "2.0")
    assert {cell[4] for cell in with_a_source("matched")} == NATURAL | ADVERSARIAL
    assert {cell[5] for cell in measured(PAPER, "matched")} == NATURAL | ADVERSARIAL
    assert all(cell[4] == cell[5] for cell in with_a_source("matched"))


def test_the_heatmap_has_ten_sources_and_eleven_targets():
    cells = product(STRONGEST, {*STRONGEST, "clean@0"}, ["diagonal", "full"])
    place = ("retrain", "v2", "L2", "0.5")
    assert with_a_source("transfer") == {(*place, *cell) for cell in cells}


def test_attacks_are_sources_under_attacks_of_their_epsilon():
    cells = with_a_source("attack_transfer")
    assert {cell[:4] for cell in cells} == {("retrain", "v2", "L2", "2.0")}
    found = {(source, target) for *_, source, target, _ in cells}
    own = {(f"{a}@{e}", f"{b}@{e}") for a, b in product(ATTACKS, ATTACKS) for e in EPSILONS}
    assert found == own | set(product(ids(["gaussian_noise"], "1 3 5"), ADVERSARIAL))


def test_the_layer_sweep_has_five_layers_and_its_strengths():
    cells = with_a_source("layer_sweep")
    layers = {f"L{i}" for i in range(1, 6)}
    assert {(site, source) for _, _, site, _, source, _, _ in cells} == set(
        product(layers, SWEPT_NATURAL | SWEPT_ADVERSARIAL)
    )
    assert under_itself("layer_sweep", SWEPT_NATURAL) == each(SWEPT_NATURAL, "0.5")
    assert under_itself("layer_sweep", SWEPT_ADVERSARIAL) == each(SWEPT_ADVERSARIAL, "2.0")


def test_the_trace_sweep_has_five_tau_with_clean_images():
    swept = SWEPT_NATURAL | SWEPT_ADVERSARIAL
    assert under_itself("trace_sweep", swept) == each(swept, *TAUS)
    cells = with_a_source("trace_sweep")
    assert all(target in (source, "clean@0") for *_, source, target, _ in cells)
    assert {(s, tau) for _, _, _, tau, s, target, _ in cells if target == "clean@0"} == set(
        product(swept, TAUS)
    )


def test_adversarial_training_has_five_epsilon_and_nine_ratios():
    cells = measured(PAPER, "adversarial_training")
    trained = {cell[1] for cell in cells} - {"v2"}
    epsilons, ratios = ["0.001", "0.05", "0.1", "0.15", "0.2"], [f"0.{i}" for i in range(1, 10)]
    assert trained == {f"v2+pgd@{e}x{r}" for e, r in product(epsilons, ratios)}
    targets = ids(["pgd"], EPSILONS) | {"clean@0"}
    for network in trained:
        own = {cell for cell in cells if cell[1] == network}
        place = ("inference", network, "L2", "0", "any")
        assert own == {(*place, target, "none") for target in targets}
    assert {(cell[4], cell[5]) for cell in with_a_source("adversarial_training")} == {
        (source, target) for source in targets - {"clean@0"} for target in (source, "clean@0")
    }


def test_input_noise_has_nine_sigma_with_and_without_structured_noise():
    sigmas = ["0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.45"]
    networks = {"v2", *(f"v2+input_noise@{sigma}" for sigma in sigmas)}
    cells = measured(PAPER, "input_noise")
    assert {cell[1] for cell in cells} == networks
    by_network = [{(*c[:1], *c[2:]) for c in cells if c[1] == network} for network in networks]
    assert all(found == by_network[0] for found in by_network)
    assert {c[6] for c in cells} == {"none", "identity", "diagonal", "full"}


def test_learning_curves_are_of_every_modification():
    sources = {cell[4] for cell in with_a_source("learning_curve")}
    middle = ids(CORRUPTIONS, "3") | ids(TRANSFORMS, "1.0") | ids(ATTACKS, "0.1")
    assert middle <= sources
    assert {parse(source)[0].name for source in sources} == {*CORRUPTIONS, *TRANSFORMS, *ATTACKS}
    assert PAPER.figures_of("learning_curve") == ["learning_curve"]


def test_every_published_cell_is_measured():
    published = read_published_cells(ROOT / PAPER.checks["matched"].published_cells.table)
    cells = measured(PAPER, "matched")
    assert len(published) > 100
    for one in published.itertuples():
        target = canonical(f"{one.modification}@{one.strength}")
        own = ARMS[one.arm].from_source
        tau = "0" if one.arm == "none" else one.tau
        place = ("retrain", "v2", "L2", tau, target if own else "any", target, one.arm)
        assert place in cells, place


def test_every_cell_of_the_published_heatmap_is_measured():
    check = PAPER.checks["transfer"].published
    published = read_published(ROOT / check.table)
    cells = with_a_source("transfer")
    measured = {
        (parse(target)[0].name, parse(source)[0].name)
        for *_, source, target, arm in cells
        if arm == check.arm and target != "clean@0"
    }
    assert set(product(published.index, published.columns)) == measured
    assert len(measured) == 100


def test_no_experiment_of_the_paper_retrains_none_or_identity_for_a_source():
    found = {job for name in PAPER.experiments for job in evaluations(PAPER, name)}
    retrained = {(j.network, j.site, j.tau, j.source) for j in found if j.regime == "retrain"}
    assert all(
        (source == "any") == (set(arms(PAPER.noise.arms, source, tau)) <= {"none", "identity"})
        for _, _, tau, source in retrained
    )
    plain = {(network, site, tau) for network, site, tau, source in retrained if source == "any"}
    assert {tau for network, site, tau in plain if (network, site) == ("v2", "L2")} == {
        "0",
        *TAUS - {"unscaled"},
    }


def test_every_arm_with_a_source_has_its_baselines_in_the_same_experiment():
    for name in PAPER.experiments:
        cells = measured(PAPER, name)
        for regime, network, site, tau, source, target, _ in cells:
            if source != "any":
                assert (regime, network, site, "0", "any", target, "none") in cells
                plain = (regime, network, site, tau, "any", target, "identity")
                assert tau == "unscaled" or plain in cells


# clean validation accuracy


VALIDATED = {"tau": [0.5, 2.0], "targets": ["own", "validation@0"]}


def test_validation_images_are_jobs_of_their_own_and_of_their_split():
    found = jobs(VALIDATED)
    assert {job.suite: job.split for job in found if job.source != "any"} == {
        "own": "test",
        "validation@0": "validation",
    }
    for tau in ("0", "0.5", "2.0"):
        assert plain(found, tau) == ["validation@0", "weather"]
    assert {job for job in found if job.split == "test"} == {
        *jobs(VALIDATED | {"targets": ["own"]})
    }


@pytest.mark.parametrize(
    ("grids", "matched"),
    [
        ([VALIDATED], True),
        ([VALIDATED | {"targets": ["own"]}], False),
        ([VALIDATED | {"tau": 0.5}], False),
        ([VALIDATED | {"tau": ["unscaled", 0.5]}], False),
        (
            [VALIDATED | {"tau": {"weather": 0.5, "blur": 2.0}, "sources": ["weather", "blur"]}],
            False,
        ),
        ([VALIDATED | {"tau": 0.5}, VALIDATED | {"tau": 2.0}], True),
        ([VALIDATED | {"tau": 0.5}, VALIDATED | {"tau": 2.0, "site": "L3"}], False),
        ([VALIDATED | {"sources": []}], False),
    ],
)
def test_arms_are_matched_where_full_is_validated_at_two_tau_of_one_noise(grids, matched):
    grids = [
        g | ({} if g.get("sources", True) else {"targets": ["clean@0", "validation@0"]})
        for g in grids
    ]
    assert is_matched(study(*grids), "x") == matched
    without = yaml.safe_load((ROOT / "config.yaml").read_text())["noise"] | {
        "arms": ["none", "identity"]
    }
    assert not is_matched(study(*grids, noise=without), "x")


@pytest.mark.parametrize("name", ["cross_family", "cross_family_quick"])
@pytest.mark.parametrize("experiment", ["tau_05", "tau_2"])
def test_every_family_meets_every_other(name, experiment):
    """Six corruptions, four transforms, four attacks: each a source and a target, and clean images."""
    of = load(yaml.safe_load((ROOT / f"studies/{name}.yaml").read_text()))
    found = [
        (source, target)
        for job in evaluations(of, experiment)
        if source_of(job.source) != "any" and not apart(job.source)
        for source, targets in pairs(of.suites, job.source, job.suite).items()
        for target in targets
    ]
    sources = list(dict.fromkeys(source for source, _ in found))
    kinds = [parse(source)[0].kind for source in sources]
    assert kinds == ["corruption"] * 6 + ["transform"] * 4 + ["attack"] * 4
    assert sorted(found) == sorted(product(sources, ["clean@0", *sources]))
