import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from check_results import gates_of
from noisetransfer.artifacts import write_table
from noisetransfer.attack_order import ORDER, Pair, ordered
from noisetransfer.attacks import ATTACKS
from noisetransfer.errors import StudyError
from noisetransfer.gates import as_asked, counts, gates, stronger
from noisetransfer.modifications import MODIFICATIONS
from noisetransfer.statistics import accuracies, transfer_table

ROOT = Path(__file__).parents[2]


def records(accuracy, target="pgd@0.1", arm="full", trials=(0, 1), n=400, seed=0):
    """Records of a cell of which a share of the images is right, the same ones for a seed."""
    ease = np.random.default_rng(seed).permutation(n) / n
    keys = {"study": "s", "network": "v2", "site": "L2", "tau": "0.5", "regime": "retrain"}
    frames = [
        pd.DataFrame({"image": range(n), "label": 1, "prediction": (ease < accuracy).astype(int)})
        for _ in trials
    ]
    own = {"source": "fog@5", "target": target, "arm": arm}
    return pd.concat(
        [
            frame.assign(trial=trial, **keys, **own)
            for frame, trial in zip(frames, trials, strict=True)
        ]
    )


def compared(weaker, strong):
    """The gate of two records, both under PGD."""
    return stronger(*(counts([one], {"pgd"})["pgd"] for one in (weaker, strong)), name="gate")


def gated(found, budgets):
    return gates(counts([found], budgets), budgets)


@pytest.mark.parametrize(
    ("weaker", "strong", "passes"),
    [(0.6, 0.4, True), (0.5, 0.5, True), (0.5, 0.503, True), (0.4, 0.6, False), (0.5, 0.53, False)],
)
def test_a_stronger_attack_leaves_fewer_images_right_or_not_more_than_by_chance(
    weaker, strong, passes
):
    check = compared(records(weaker), records(strong))
    assert check.passed == passes
    assert check.verdict == ("pass" if passes else "FAIL")
    (cell,) = check.cells.to_dict("records")
    assert cell["difference"] == pytest.approx(strong - weaker, abs=0.003)
    assert cell["n"] == 400
    assert check.value == cell["low"] < cell["difference"] + 1e-12


def test_images_of_several_trials_count_once():
    few, many = (
        compared(records(0.5, trials=t), records(0.53, trials=t)) for t in ((0,), range(9))
    )
    assert few.value == pytest.approx(many.value)


def test_the_interval_is_that_of_paired_differences():
    check = compared(records(0.5), records(0.53))
    d = np.zeros(400)
    d[:12] = 1
    assert check.value == pytest.approx(d.mean() - 1.6449 * d.std(ddof=1) / 20, abs=1e-4)


def test_one_failing_cell_fails_a_gate_and_comes_first():
    arms = ("none", "identity", "full")
    weaker = pd.concat([records(0.5, arm=arm) for arm in arms])
    strong = pd.concat([records(0.8 if arm == "identity" else 0.4, arm=arm) for arm in arms])
    check = compared(weaker, strong)
    assert not check.passed
    assert check.cells["arm"].iloc[0] == "identity"
    assert len(check.cells) == 3


def test_many_cells_widen_the_intervals():
    arms = [f"arm{i}" for i in range(20)]
    one = compared(records(0.5), records(0.51))
    many = compared(
        pd.concat([records(0.5, arm=a) for a in arms]),
        pd.concat([records(0.51, arm=a) for a in arms]),
    )
    assert many.value < one.value


def budget(attack, **own):
    return {"attack": attack, **ATTACKS[attack].budget.model_validate(own).model_dump()}


def test_gates_of_a_study_are_those_of_its_attacks_at_one_epsilon():
    accuracies = {
        "fgm@0.1": 0.5,
        "pgd@0.1": 0.4,
        "pgd_eot@0.1": 0.6,
        "auto_pgd_eot@0.2": 0.9,
        "clean@0": 0.99,
        "square@0.1": 0.99,
    }
    attacks = ("fgm", "pgd", "pgd_eot", "auto_pgd_eot", "square")
    found = gated(
        pd.concat([records(accuracy, target) for target, accuracy in accuracies.items()]),
        {name: budget(name) for name in attacks},
    )
    verdicts = {check.name: check.verdict for check in found}
    assert verdicts == {
        "accuracy under pgd minus under fgm": "pass",
        "accuracy under pgd_eot minus under fgm": "differs",
        "accuracy under pgd_eot minus under pgd": "FAIL",
    }


def test_more_draws_must_not_leave_more_images_right():
    budgets = {
        "auto_pgd_eot": budget("auto_pgd_eot"),
        "auto_pgd_eot.m1": budget("auto_pgd_eot", passes=1),
    }
    few, many = records(0.5, "auto_pgd_eot.m1@0.1"), records(0.6, "auto_pgd_eot@0.1")
    (check,) = gated(pd.concat([few, many]), budgets)
    assert check.name == "accuracy under auto_pgd_eot minus under auto_pgd_eot.m1"
    assert check.verdict == "FAIL"


EOT = {
    "m1": {"passes": 1},
    "m20": {},
    "m5_s20": {"passes": 5, "steps": 20},
    "m5": {"passes": 5},
    "m5_r5": {"passes": 5, "restarts": 5},
    "margin": {"loss": "margin"},
    "base": {"against": "base", "passes": 50},
    "known": {"against": "known_seed", "passes": 50},
}


def test_what_is_an_order_and_what_is_not():
    attacks = {name: budget("auto_pgd_eot", **own) for name, own in EOT.items()}
    pairs = {pair[:2] for pair in ordered({"pgd": budget("pgd"), **attacks})}
    behind = {("pgd", "m20"), ("pgd", "m5_r5"), ("pgd", "margin")}
    assert pairs - behind == {
        ("m1", "m5"),
        ("m1", "m20"),
        ("m5", "m20"),
        ("m5_s20", "m5"),
        ("m5", "m5_r5"),
    }
    # of the attacks behind another only those that none outdoes in every effort, as far as budgets are alike
    found = {pair[:2] for pair in ordered({"auto_pgd": budget("auto_pgd"), **attacks})}
    assert behind <= pairs
    # ART's AutoPGD has five restarts
    assert found - pairs == {("auto_pgd", "m5_r5")}


def test_attacks_on_another_loss_are_reported_only():
    attacks = {name: budget("auto_pgd_eot", **own) for name, own in EOT.items()}
    required = {pair.strong: pair.required for pair in ordered({"pgd": budget("pgd"), **attacks})}
    assert required == {"m5": True, "m20": True, "m5_r5": True, "margin": False}


@pytest.mark.parametrize(
    ("weak", "strong", "required"),
    [
        (budget("pgd"), budget("auto_pgd_eot", steps=20), False),  # of 100 steps
        (budget("pgd_eot"), budget("auto_pgd_eot", passes=1), False),  # of 20 draws
        (budget("square_eot", steps=5000), budget("auto_pgd_eot"), True),  # its steps are tiles
        (budget("pgd_eot"), budget("auto_pgd_eot"), True),
        # between them is pgd: FGM steps as far as epsilon, others need several steps
        (budget("fgm"), budget("auto_pgd"), False),
        (budget("fgm"), budget("pgd_eot", steps=1), False),
        (budget("fgm"), budget("auto_pgd_eot"), False),
        (budget("random_noise"), budget("auto_pgd_eot"), True),
    ],
)
def test_a_study_fails_by_an_attack_with_no_less_effort_alone(weak, strong, required):
    (pair,) = ordered({"weak": weak, "strong": strong})
    assert pair == ("weak", "strong", required)


@pytest.mark.parametrize(
    "more", [{"passes": 50, "steps": 20}, {"passes": 1, "steps": 200}, {"passes": 5, "restarts": 3}]
)
def test_an_attack_of_other_effort_takes_no_gate_away(more):
    budgets = {"pgd": budget("pgd"), "auto_pgd_eot": budget("auto_pgd_eot")}
    assert Pair("pgd", "auto_pgd_eot", True) in ordered(budgets)
    added = budgets | {"auto_pgd_eot.other": budget("auto_pgd_eot", **more)}
    pairs = {pair.strong: pair.required for pair in ordered(added) if pair.weak == "pgd"}
    assert pairs == {"auto_pgd_eot": True, "auto_pgd_eot.other": more.get("steps", 100) >= 100}


def test_every_epsilon_is_gated_by_the_greatest_effort_that_it_has():
    """More draws at one ε leave the others to the attack that was run there."""
    budgets = {
        "pgd": budget("pgd"),
        "auto_pgd_eot": budget("auto_pgd_eot"),
        "auto_pgd_eot.m50": budget("auto_pgd_eot", passes=50),
    }
    frames = [records(0.4, f"{name}@0.1") for name in budgets]
    frames += [records(0.4, "pgd@0.2"), records(0.6, "auto_pgd_eot@0.2")]
    verdicts = {check.name: check.verdict for check in gated(pd.concat(frames), budgets)}
    assert verdicts == {
        "accuracy under auto_pgd_eot minus under pgd": "FAIL",  # at 0.2
        "accuracy under auto_pgd_eot.m50 minus under pgd": "pass",  # at 0.1
        "accuracy under auto_pgd_eot.m50 minus under auto_pgd_eot": "pass",
    }


def test_all_gates_of_a_study_hold_together():
    """Each alone would fail by a difference that one of twenty equal pairs shows by chance."""
    budgets = {f"auto_pgd_eot.m{m}": budget("auto_pgd_eot", passes=m) for m in range(1, 8)}
    accuracies = [0.5] * 6 + [0.51]
    frames = [
        records(accuracy, f"{name}@0.1") for name, accuracy in zip(budgets, accuracies, strict=True)
    ]
    found = gated(pd.concat(frames), budgets)
    alone = [check.cells["low"].iloc[0] for check in gated(pd.concat(frames[-2:]), budgets)]
    together = [check.value for check in found if "m7 minus under auto_pgd_eot.m6" in check.name]
    assert len(found) == 21
    assert together[0] < alone[0]


def test_only_adaptive_attacks_fail_a_study():
    both = pd.concat([records(0.4, "fgm@0.1"), records(0.5, "pgd@0.1")])
    (check,) = gated(both, {name: budget(name) for name in ("fgm", "pgd")})
    assert check.verdict == "differs"


@pytest.mark.parametrize(("weak", "strong"), ORDER)
def test_the_order_is_one_of_attacks_whose_epsilon_means_the_same(weak, strong):
    assert {weak, strong} <= set(ATTACKS)
    assert MODIFICATIONS[weak].strengths is MODIFICATIONS[strong].strengths


def test_attacks_are_compared_without_those_between_them():
    assert {(a, d) for (a, b), (c, d) in product(ORDER, repeat=2) if b == c} <= set(ORDER)


@pytest.mark.parametrize(("z", "verdict"), [(3.0, "pass"), (9.0, "FAIL")])
@pytest.mark.parametrize("column", ["trace_z", "direction_z"])
def test_noise_must_be_what_was_asked_for(column, z, verdict):
    probes = pd.DataFrame(
        {
            "arm": ["none", "full"],
            "regime": "retrain",
            "trace_z": [np.nan, -1.0],
            "direction_z": [np.nan, 1],
        }
    )
    probes.loc[1, column] = -z if column == "trace_z" else z
    (check,) = as_asked(probes)
    assert (check.verdict, check.value, len(check.cells)) == (verdict, z, 1)
    assert check.report()["cells"] == [{"arm": "full", "regime": "retrain", "value": z}]


def test_noise_that_is_no_number_is_not_what_was_asked_for():
    noise = {"arm": ["full"], "trace_z": [np.nan], "direction_z": [1.0]}
    (check,) = as_asked(pd.DataFrame(noise | {"regime": "retrain"}))
    assert check.verdict == "FAIL"
    assert check.report()["cells"] == [{"arm": "full", "regime": "retrain", "value": None}]


@pytest.mark.parametrize(("arm", "regime"), [("none", "retrain"), ("full", "trained_only")])
def test_noise_that_is_off_is_not_checked(arm, regime):
    probes = {"arm": [arm], "regime": regime, "trace_z": [np.nan], "direction_z": [np.nan]}
    assert as_asked(pd.DataFrame(probes)) == []


def test_nothing_in_common_is_an_error():
    with pytest.raises(StudyError, match="no image was tested under both"):
        compared(records(0.5, arm="none"), records(0.5))


def test_an_image_that_stands_twice_is_an_error():
    twice = pd.concat([records(0.5), records(0.5)])
    with pytest.raises(StudyError, match="not tested equally often under both"):
        compared(records(0.5), twice)


def test_attacks_that_share_an_epsilon_but_no_noise_have_no_gate():
    apart = [records(0.4, "fgm@0.1", arm="none"), records(0.5, "pgd@0.1")]
    assert gated(pd.concat(apart), {name: budget(name) for name in ("fgm", "pgd")}) == []


SEVERAL = pd.concat(
    [
        records(accuracy, f"{attack}@{epsilon}", arm, seed=seed)
        for seed, arm in enumerate(("none", "full"))
        for attack, accuracy in (("fgm", 0.5), ("pgd", 0.51), ("clean", 0.9))
        for epsilon in (0.1, 0.2)
    ],
    ignore_index=True,
)


@pytest.mark.parametrize("rows", [7, 1000, 10**6])
def test_records_in_parts_give_the_same_gates(rows):
    budgets = {name: budget(name) for name in ("fgm", "pgd")}
    parts = [
        SEVERAL[i : i + rows].astype({"target": "category"}) for i in range(0, len(SEVERAL), rows)
    ]
    (whole,), (cut,) = gated(SEVERAL, budgets), gates(counts(parts, budgets), budgets)
    pd.testing.assert_frame_equal(whole.cells, cut.cells, check_exact=True)


def test_stage_gates_the_records_of_all_its_files(tmp_path):
    budgets = {name: budget(name) for name in ("fgm", "pgd")}
    paths = []
    for target, rows in SEVERAL.groupby("target"):
        paths.append(tmp_path / f"{target}.parquet")
        write_table(paths[-1], rows.assign(draws_correct=1, K=2))
    (check,) = gates_of(argparse.Namespace(records=paths, budgets=budgets, probes=None))
    assert str(check) == str(gated(SEVERAL, budgets)[0])


def test_gates_over_nothing_are_an_error(tmp_path):
    write_table(tmp_path / "records.parquet", records(0.5).assign(draws_correct=1, K=2))
    probes = {"arm": ["none"], "regime": "retrain", "trace_z": [np.nan], "direction_z": [np.nan]}
    write_table(tmp_path / "probes.parquet", pd.DataFrame(probes))
    args = {"records": [tmp_path / "records.parquet"], "budgets": {"pgd": budget("pgd")}}
    with pytest.raises(StudyError, match="no two attacks met in a cell, and no network was noisy"):
        gates_of(argparse.Namespace(**args, probes=tmp_path / "probes.parquet"))


def command(stage, *options):
    """Run a stage as the workflow does."""
    line = [sys.executable, f"scripts/{stage}.py", *map(str, options)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    """Records of 12 cells in which averaging leaves more images right, and of one in which it does not."""
    arms = [f"arm{i}" for i in range(12)]
    frames = [records(0.4, "pgd@0.1", arm) for arm in [*arms, "full"]]
    frames += [records(0.5 + i / 40, "pgd_eot@0.1", arm) for i, arm in enumerate(arms)]
    every = pd.concat([*frames, records(0.3, "pgd_eot@0.1")]).assign(draws_correct=1, K=2)
    write_table(tmp_path / "records.parquet", every)
    write_table(tmp_path / "table.parquet", transfer_table([accuracies(every)]))
    return tmp_path


def test_a_failing_gate_ends_the_study_and_names_its_worst_cells(files):
    budgets = json.dumps({name: budget(name) for name in ("pgd", "pgd_eot")})
    own = ("--table", files / "table.parquet", "--records", files / "records.parquet")
    out = ("--report", files / "report.json")
    checked = command("check_results", *own, "--checks", "{}", "--budgets", budgets, *out)
    assert checked.returncode == 0, checked.stderr
    (verdict,) = json.loads((files / "report.json").read_text())
    assert [cell["arm"] for cell in verdict["cells"]] == [f"arm{i}" for i in range(11, 1, -1)]
    assert verdict["cells"][0]["value"] == verdict["value"] == pytest.approx(0.309, abs=0.005)
    required = command("require_checks", *out, "--output", files / "passed")
    assert required.returncode == 1
    assert not (files / "passed").exists()
    first, fail, *cells = required.stderr.splitlines()
    assert first.startswith("error: checks failed")
    assert fail.startswith("FAIL  accuracy under pgd_eot minus under pgd = 0.3")
    assert len(cells) == 10
    assert cells[0].strip() == (
        f"low {verdict['value']:.6g}: arm arm11, network v2, regime retrain, site L2, source fog@5, "
        "target 0.1, tau 0.5"
    )


def test_images_are_counted_under_attacks_alone_by_epsilon():
    found = counts([SEVERAL], {"fgm", "pgd"})
    assert set(found) == {"fgm", "pgd"}
    assert {(cell[4], cell[5]) for cell in found["pgd"]} == {
        (epsilon, arm) for epsilon in ("0.1", "0.2") for arm in ("none", "full")
    }
    for images in found["pgd"].values():
        assert images.index.tolist() == list(range(400))
        assert set(images["trials"]) == {2}
        assert set(images["right"]) == {0, 2}
