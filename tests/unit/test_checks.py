"""Each check passes and fails where it should, and says what was measured and what was asked."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import require_checks
from check_results import main
from noisetransfer.artifacts import write_table
from noisetransfer.checks import (
    Check,
    at_least,
    at_most,
    clean_accuracy,
    evaluate,
    own_gain,
    published_cells,
    published_heatmap,
    within,
)
from noisetransfer.errors import StudyError

NONE = pd.DataFrame({"accuracy": []})


KEYS = {"study": "s", "network": "v2", "site": "L2", "tau": "0.5", "regime": "retrain"}


def table(*rows: tuple[str, str, str, float, float]) -> pd.DataFrame:
    """Return (arm, source, target, accuracy, gain over identity) as a transfer table."""
    columns = ["arm", "source", "target", "accuracy", "gain_over_identity"]
    frame = pd.DataFrame(rows, columns=columns).assign(**KEYS)
    frame.loc[frame["arm"] == "none", "tau"] = "0"
    return frame.assign(trial=frame.groupby(["arm", "source", "target"]).cumcount())


MEASURED = table(
    ("none", "any", "clean@0", 0.97, 0.01),
    ("none", "any", "clean@0", 0.93, 0.02),
    ("none", "any", "snow@5", 0.40, -0.05),
    ("identity", "any", "clean@0", 0.50, 0.0),
    ("full", "snow@5", "snow@5", 0.80, 0.3),
    ("full", "snow@5", "rotate@2.0", 0.20, 0.9),
    ("full", "rotate@2.0", "rotate@2.0", 0.60, 0.1),
    ("full", "rotate@2.0", "snow@5", 0.30, 0.9),
    ("diagonal", "snow@5", "snow@5", 0.70, 0.9),
)
PUBLISHED = pd.DataFrame(
    [[0.75, 0.35], [0.15, 0.55]], index=["snow", "rotate"], columns=["snow", "rotate"]
)
BOUNDS: dict[str, Any] = {
    "spearman": 0.99,
    "mean_absolute_difference": 0.051,
    "largest_difference": 0.05,
    "own_best": 2,
    "diagonal_mean": {"value": 0.66, "within": 0.04},
    "off_diagonal_mean": {"value": 0.35, "within": 0.1},
}


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (at_least("x", 0.5, 0.5, NONE), True),
        (at_least("x", 0.499, 0.5, NONE), False),
        (at_most("x", 0.5, 0.5, NONE), True),
        (at_most("x", 0.501, 0.5, NONE), False),
        (within("x", 0.675, {"value": 0.66, "within": 0.015}, NONE), True),
        (within("x", 0.645, {"value": 0.66, "within": 0.015}, NONE), True),
        (within("x", 0.676, {"value": 0.66, "within": 0.015}, NONE), False),
        (within("x", 0.644, {"value": 0.66, "within": 0.015}, NONE), False),
        (within("x", np.nan, {"value": 0.66, "within": 0.015}, NONE), False),
        (at_least("x", np.nan, 0.5, NONE), False),
        (at_most("x", np.nan, 0.5, NONE), False),
    ],
)
def test_bound_itself_passes_and_an_unknown_value_does_not(check, passed):
    assert check.passed is passed


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (at_least("accuracy", 0.9123, 0.9, NONE), "pass  accuracy = 0.9123 (must be ≥ 0.9)"),
        (at_least("accuracy", 0.25, 0.9, NONE), "FAIL  accuracy = 0.25 (must be ≥ 0.9)"),
        (at_most("distance", 0.07, 0.045, NONE), "FAIL  distance = 0.07 (must be ≤ 0.045)"),
        (at_least("own best", 8, 8, NONE), "pass  own best = 8 (must be ≥ 8)"),
    ],
)
def test_text_names_the_verdict_the_value_and_the_bound(check, text):
    assert str(check) == text


@pytest.mark.parametrize(("bound", "passed"), [(0.93, True), (0.94, False)])
def test_clean_accuracy_is_that_of_the_worst_trial_without_noise(bound, passed):
    check = clean_accuracy(MEASURED, bound)
    assert check.passed is passed
    assert check.value == 0.93
    assert check.cells["accuracy"].tolist() == [0.93, 0.97]
    assert "0.93" in str(check)
    assert str(bound) in str(check)


@pytest.mark.parametrize(
    ("expected", "room", "farthest", "passed"),
    [
        (0.95, 0.02, 0.97, True),
        (0.94, 0.03, 0.97, True),
        (0.94, 0.02, 0.97, False),
        (0.96, 0.02, 0.93, False),
    ],
)
def test_clean_accuracy_may_be_too_high_as_well(expected, room, farthest, passed):
    check = clean_accuracy(MEASURED, {"value": expected, "within": room})
    assert check.passed is passed
    assert check.value == farthest
    assert check.cells["accuracy"].tolist() == [farthest, {0.97: 0.93, 0.93: 0.97}[farthest]]
    assert str(check).startswith(
        f"{'pass' if passed else 'FAIL'}  clean accuracy, trial farthest from the expected = {farthest} "
        f"(must be {expected} ± {room})"
    )


def test_clean_accuracy_is_not_that_of_networks_trained_on_attacks():
    trained = MEASURED.assign(network="v2+pgd@0.1x0.5", accuracy=0.5)
    both = pd.concat([MEASURED, trained], ignore_index=True)
    assert clean_accuracy(both, 0.9).value == clean_accuracy(MEASURED, 0.9).value


@pytest.mark.parametrize(("bound", "passed"), [(0.199, True), (0.201, False)])
def test_own_gain_is_the_mean_over_sources_that_are_their_own_target(bound, passed):
    check = own_gain(MEASURED, bound)
    assert check.passed is passed
    assert check.value == pytest.approx(0.2)
    assert check.cells["target"].tolist() == ["rotate@2.0", "snow@5"]
    assert [cell["value"] for cell in check.report()["cells"]] == [0.1, 0.3]
    assert str(bound) in str(check)


@pytest.mark.parametrize("check", [clean_accuracy, own_gain])
def test_check_without_its_cells_fails(check):
    assert check(MEASURED[MEASURED["arm"] == "diagonal"], -1).passed is False


def test_expected_accuracy_without_its_cells_fails():
    found = clean_accuracy(MEASURED.query("arm == 'full'"), {"value": 0.5, "within": 0.5})
    assert found.passed is False


# published heatmap


def verdicts(measured: pd.DataFrame, **bounds: Any) -> list[str]:
    found = published_heatmap(measured, PUBLISHED, **{"arm": "full", **BOUNDS, **bounds})
    return [check.verdict for check in found.checks]


def test_heatmap_like_the_published_one_passes_every_check():
    assert verdicts(MEASURED) == ["pass"] * 6


@pytest.mark.parametrize(
    ("position", "bound"),
    [
        (0, {"spearman": 1.0001}),
        (1, {"mean_absolute_difference": 0.049}),
        (2, {"largest_difference": 0.0499}),
        (3, {"own_best": 3}),
        (4, {"diagonal_mean": {"value": 0.66, "within": 0.039}}),
        (5, {"off_diagonal_mean": {"value": 0.35, "within": 0.099}}),
    ],
)
def test_each_check_against_the_published_heatmap_can_fail_alone(position, bound):
    expected = ["pass"] * 6
    expected[position] = "FAIL"
    assert verdicts(MEASURED, **bound) == expected


@pytest.mark.parametrize("name", BOUNDS)
def test_bound_that_is_not_asked_is_not_checked(name):
    found = published_heatmap(MEASURED, PUBLISHED, arm="full", **{name: BOUNDS[name]})
    assert len(found.checks) == 1
    assert verdicts(MEASURED, **{name: None}) == ["pass"] * 5
    assert len(found.cells) == 4


def test_checks_against_the_published_heatmap_name_their_values_and_bounds():
    found = published_heatmap(MEASURED, PUBLISHED, arm="full", **BOUNDS)
    assert [str(check).rpartition(" = ")[2] for check in found.checks] == [
        "1 (must be ≥ 0.99)",
        "0.05 (must be ≤ 0.051)",
        "0.05 (must be ≤ 0.05)",
        "2 (must be ≥ 2)",
        "0.7 (must be 0.66 ± 0.04)",
        "0.25 (must be 0.35 ± 0.1)",
    ]


def test_cells_of_the_comparison_hold_both_heatmaps():
    cells = published_heatmap(MEASURED, PUBLISHED, arm="full").cells
    assert cells["measured"].tolist() == [0.8, 0.3, 0.2, 0.6]
    assert cells["published"].tolist() == [0.75, 0.35, 0.15, 0.55]


@pytest.mark.parametrize(
    ("was", "becomes", "difference", "cell"),
    [(0.2, 0.5, 0.35, ["rotate", "snow"]), (0.6, 0.25, -0.3, ["rotate", "rotate"])],
)
def test_cell_that_deviates_fails_and_comes_first(was, becomes, difference, cell):
    measured = MEASURED.replace({"accuracy": {was: becomes}})
    largest = published_heatmap(measured, PUBLISHED, arm="full", **BOUNDS).checks[2]
    assert largest.verdict == "FAIL"
    assert largest.value == pytest.approx(abs(difference))
    worst = largest.cells.iloc[0]
    assert worst[["target", "source"]].tolist() == cell
    assert worst["difference"] == pytest.approx(difference)


def test_means_on_and_off_the_diagonal_list_their_own_cells():
    *_, own, others = published_heatmap(MEASURED, PUBLISHED, arm="full", **BOUNDS).checks
    assert (own.cells["target"] == own.cells["source"]).tolist() == [True, True]
    assert (others.cells["target"] == others.cells["source"]).tolist() == [False, False]


def test_heatmap_that_is_not_required_differs_and_does_not_fail():
    assert verdicts(MEASURED, own_best=3, required=False)[3] == "differs"
    assert verdicts(MEASURED, required=False) == ["pass"] * 6


def test_heatmap_of_an_arm_that_was_not_run_is_an_error():
    with pytest.raises(StudyError, match=r"lacks.*rotate.*snow"):
        verdicts(MEASURED, arm="rotated")


def test_two_strengths_of_one_modification_are_an_error_that_names_it():
    weaker = MEASURED.replace({"snow@5": "snow@1"})
    with pytest.raises(StudyError, match="snow"):
        verdicts(pd.concat([MEASURED, weaker]))


@pytest.mark.parametrize("key", ["network", "site", "regime", "tau"])
def test_heatmap_mixes_no_two_networks_sites_regimes_or_taus(key):
    with pytest.raises(StudyError, match=rf"of one {key}, found .*other"):
        verdicts(pd.concat([MEASURED, MEASURED.assign(**{key: "other"})]))


# published cells

CELLS = pd.DataFrame(
    [
        ("snow", 5.0, "2.0", "full", 0.70, 0.68, 0.72),
        ("snow", 5.0, "2.0", "identity", 0.40, 0.35, 0.45),
        ("snow", 5.0, "2.0", "none", 0.30, 0.30, 0.30),
        ("pgd", 0.1, "2.0", "full", 0.50, 0.50, 0.50),
    ],
    columns=["modification", "strength", "tau", "arm", "accuracy", "ci_low", "ci_high"],
)
WORST_FIRST = ["snow@5 identity", "pgd@0.1 full", "snow@5 full", "snow@5 none"]
"""Of the cells of EQUAL, which differ by .01, .01, 0 and 0."""


def trials(arm: str, source: str, target: str, tau: str, *accuracy: float) -> pd.DataFrame:
    """Return the rows of one cell of a transfer table, one a trial."""
    cell = {**KEYS, "arm": arm, "source": source, "target": target, "tau": tau}
    return pd.DataFrame({"accuracy": accuracy, "trial": range(len(accuracy))}).assign(**cell)


EQUAL = pd.concat(
    [
        trials("full", "snow@5", "snow@5", "2.0", 0.69, 0.71),
        trials("identity", "any", "snow@5", "2.0", 0.41),
        trials("none", "any", "snow@5", "0", 0.30),
        trials("full", "pgd@0.1", "pgd@0.1", "2.0", 0.51),
        # nothing of the following was published
        trials("full", "pgd@0.1", "snow@5", "2.0", 0.01),
        trials("full", "snow@5", "snow@5", "0.5", 0.02),
        trials("full", "snow@1", "snow@1", "2.0", 0.03),
        trials("identity", "any", "snow@5", "0.5", 0.04),
        trials("permuted", "snow@5", "snow@5", "2.0", 0.05),
    ],
    ignore_index=True,
)


def share(
    measured: pd.DataFrame, *, agreeing: float = 0.9, tolerance: float = 0.02, **options: Any
) -> Check:
    found = published_cells(measured, CELLS, agreeing=agreeing, tolerance=tolerance, **options)
    (check,) = found.checks
    return check


def named(cells: pd.DataFrame) -> list[str]:
    strengths = cells["strength"].map("{:g}".format)
    return (cells["modification"] + "@" + strengths + " " + cells["arm"]).tolist()


def test_cells_like_the_published_ones_agree():
    check = share(EQUAL)
    assert check.verdict == "pass"
    assert check.value == 1
    assert named(check.cells) == WORST_FIRST
    assert check.cells["measured"].tolist() == pytest.approx([0.41, 0.51, 0.7, 0.3])
    assert check.cells["trials"].tolist() == [1, 1, 2, 1]


def test_cells_have_the_columns_that_a_figure_needs():
    found = published_cells(EQUAL, CELLS, agreeing=0.9, tolerance=0.02)
    assert found.cells.columns.tolist() == [
        *("modification", "strength", "tau", "arm"),
        *("published", "published_low", "published_high"),
        *("measured", "measured_low", "measured_high", "trials", "agrees"),
    ]


def changed(arm: str, target: str, accuracy: float) -> pd.DataFrame:
    rows = (EQUAL["arm"] == arm) & (EQUAL["target"] == target) & EQUAL["tau"].isin(["0", "2.0"])
    rows &= EQUAL["source"].isin(["any", target])
    return EQUAL.assign(accuracy=EQUAL["accuracy"].mask(rows, accuracy))


def test_cell_that_deviates_fails_and_comes_first_with_both_values():
    check = share(changed("none", "snow@5", 0.5))
    assert check.verdict == "FAIL"
    assert check.value == 0.75
    assert named(check.cells) == ["snow@5 none", *WORST_FIRST[:3]]
    assert check.cells["agrees"].tolist() == [False, True, True, True]
    worst = check.cells.iloc[0]
    assert (worst["published"], worst["measured"]) == (0.3, 0.5)


def test_of_cells_that_deviate_that_which_differs_most_comes_first():
    none, full = changed("none", "snow@5", 0.5), changed("full", "pgd@0.1", 0.1)
    cells = share(pd.concat([none[3:4], full[4:5]])).report()["cells"]
    assert [cell["value"] for cell in cells] == [-0.4, 0.2]
    names = {"arm": "full", "modification": "pgd", "strength": 0.1, "tau": "2.0"}
    assert cells[0] == names | {"value": -0.4}


def test_a_cell_that_disagrees_comes_before_one_that_differs_more_and_agrees():
    wide, narrow = changed("identity", "snow@5", 0.46), changed("none", "snow@5", 0.33)
    cells = share(pd.concat([wide[2:3], narrow[3:4]])).report()["cells"]
    assert [(cell["arm"], cell["value"]) for cell in cells] == [("none", 0.03), ("identity", 0.06)]


@pytest.mark.parametrize(
    ("accuracy", "agrees"), [(0.32, True), (0.321, False), (0.28, True), (0.279, False)]
)
def test_without_an_interval_a_mean_may_be_as_far_off_as_the_tolerance(accuracy, agrees):
    assert (share(changed("none", "snow@5", accuracy)).value == 1) is agrees


@pytest.mark.parametrize(("accuracy", "agrees"), [(0.47, True), (0.471, False), (0.33, True)])
def test_published_interval_counts(accuracy, agrees):
    assert (share(changed("identity", "snow@5", accuracy)).value == 1) is agrees


@pytest.mark.parametrize(("agreeing", "verdict"), [(0.75, "pass"), (0.76, "FAIL")])
def test_share_of_agreeing_cells_is_what_is_asked(agreeing, verdict):
    assert share(changed("none", "snow@5", 0.5), agreeing=agreeing).verdict == verdict


@pytest.mark.parametrize(("count", "agrees", "half"), [(4, False, 0), (5, True, 0.0196324)])
def test_measured_interval_counts_from_five_trials_on(count, agrees, half):
    steps = 0.01 * (np.arange(count) - (count - 1) / 2)  # five: s = .0158, t(.975, 4) = 2.776
    none = trials("none", "any", "snow@5", "0", *(0.335 + steps))
    check = share(pd.concat([EQUAL[EQUAL["arm"] != "none"], none]))
    row = check.cells[check.cells["arm"] == "none"].iloc[0]
    assert row["agrees"] == agrees
    assert row["measured"] == pytest.approx(0.335)
    assert row["measured_low"] == pytest.approx(0.335 - half, abs=1e-6)
    assert row["measured_high"] == pytest.approx(0.335 + half, abs=1e-6)


def test_text_says_where_a_mean_has_no_interval():
    text = "below 5 trials the measured interval is the mean alone"
    single = EQUAL[EQUAL["trial"] == 0]
    assert text in str(share(EQUAL))
    assert text not in str(share(pd.concat([single.assign(trial=i) for i in range(5)])))


def test_cells_that_were_not_measured_are_counted_and_do_not_count():
    measured = EQUAL[EQUAL["target"] != "pgd@0.1"]
    check = share(measured)
    assert check.verdict == "pass"
    assert named(check.cells) == [WORST_FIRST[0], *WORST_FIRST[2:]]
    assert "1 of 4 were not measured (pgd 1)" in str(check)
    assert "not measured" not in str(share(EQUAL))


def test_table_without_any_published_cell_is_an_error():
    with pytest.raises(StudyError, match="none of the 4 published cells was measured"):
        share(EQUAL[EQUAL["tau"] == "0.5"])


def test_only_arm_none_matches_at_any_tau():
    check = share(EQUAL.replace({"tau": {"2.0": "unscaled"}}))
    assert named(check.cells) == ["snow@5 none"]
    assert check.cells["tau"].tolist() == ["2.0"]


@pytest.mark.parametrize("key", ["network", "site", "regime"])
def test_cells_mix_no_two_networks_sites_or_regimes(key):
    with pytest.raises(StudyError, match=rf"of one {key}, found .*other"):
        share(pd.concat([EQUAL, EQUAL.assign(**{key: "other"})]))


def test_published_modification_that_nobody_knows_is_an_error():
    with pytest.raises(StudyError, match="unknown modification 'sleet'"):
        published_cells(EQUAL, CELLS.replace("snow", "sleet"), agreeing=1, tolerance=0)


def test_cells_that_are_not_required_differ_and_do_not_fail():
    assert share(changed("none", "snow@5", 0.5), required=False).verdict == "differs"
    assert share(EQUAL, required=False).verdict == "pass"


# all checks of a study

ASKED = {
    "clean_accuracy": 0.9,
    "own_gain": None,
    "published": {"table": "x.csv", "arm": "full", **BOUNDS, "required": True},
    "published_cells": {"table": "y.csv", "agreeing": 0.9, "tolerance": 0.02, "required": False},
}
BOTH = pd.concat(
    [MEASURED.query("arm != 'none' or target == 'clean@0'"), EQUAL.query("arm != 'full'")],
    ignore_index=True,
)
TABLES = {"published": PUBLISHED, "published_cells": CELLS}


def test_all_checks_that_are_asked_are_made_and_all_compared_cells_are_kept():
    found = evaluate(BOTH, ASKED, TABLES)
    assert [check.verdict for check in found.checks] == ["pass"] * 8
    assert found.cells["check"].tolist() == ["published"] * 4 + ["published_cells"] * 2


def test_study_that_asks_for_no_check_has_none():
    found = evaluate(MEASURED, dict.fromkeys(ASKED), {})
    assert found.checks == []
    assert len(found.cells) == 0


@pytest.mark.parametrize("name", TABLES)
def test_published_table_and_its_bounds_come_together(name):
    with pytest.raises(StudyError, match="needs its bounds"):
        evaluate(BOTH, {**ASKED, name: None}, TABLES)
    with pytest.raises(StudyError, match="needs its bounds"):
        evaluate(BOTH, ASKED, {key: value for key, value in TABLES.items() if key != name})


@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_rows_changes_nothing(seed):
    five = [BOTH[BOTH["trial"] == 0].assign(trial=i) for i in range(5)]
    measured = pd.concat(five, ignore_index=True)
    measured["accuracy"] += np.linspace(0, 0.01, len(measured))
    found = evaluate(measured, ASKED, TABLES)
    again = evaluate(measured.sample(frac=1, random_state=seed), ASKED, TABLES)
    pd.testing.assert_frame_equal(found.cells, again.cells, check_exact=True)
    assert [str(check) for check in found.checks] == [str(check) for check in again.checks]


# the stage


def stage(folder: Path, **bounds: Any) -> Path:
    """Run check_results on the tables above and return the folder that it writes to."""
    CELLS.to_csv(folder / "cells.csv", index=False)
    PUBLISHED.to_csv(folder / "heatmap.csv")
    write_table(folder / "table.parquet", BOTH)
    options = {
        "table": folder / "table.parquet",
        "checks": {**ASKED, **bounds},
        "published": folder / "heatmap.csv",
        "published_cells": folder / "cells.csv",
        "report": folder / "out" / "report.json",
        "cells": folder / "out" / "cells.parquet",
        "records": [],
        "probes": None,
    }
    main(argparse.Namespace(**options))
    return folder / "out"


CLEAN = {**KEYS, "source": "any", "target": "clean@0", "arm": "none", "tau": "0"}
del CLEAN["study"]


def test_stage_writes_verdicts_and_cells(tmp_path, capsys):
    differing = {**ASKED["published"], "own_best": 3, "required": False}
    folder = stage(tmp_path, published=differing)
    verdicts = json.loads((folder / "report.json").read_text())
    assert [verdict["verdict"] for verdict in verdicts].count("differs") == 1
    assert verdicts[0] == {
        "check": "clean accuracy, worst trial",
        **{"value": 0.93, "bound": "≥ 0.9", "passed": True, "required": True},
        **{"verdict": "pass", "note": "", "by": "accuracy"},
        "cells": [CLEAN | {"trial": 1, "value": 0.93}, CLEAN | {"trial": 0, "value": 0.97}],
    }
    assert len(pd.read_parquet(folder / "cells.parquet")) == 6
    assert "differs  targets whose best source is themselves = 2" in capsys.readouterr().err


def test_a_failed_check_is_printed_reported_and_then_required(tmp_path, capsys):
    failing = {**ASKED["published"], "largest_difference": 0.04}
    folder = stage(tmp_path, published=failing)
    printed = capsys.readouterr().err
    assert "pass  share of published cells that agree" in printed
    assert "FAIL  largest difference" in printed
    assert len(pd.read_parquet(folder / "cells.parquet")) == 6
    with pytest.raises(
        StudyError,
        match=r"FAIL  largest difference.* = 0\.05.* \(must be ≤ 0\.04\)\n +difference 0\.05: .*source ",
    ):
        require(folder)
    assert not (folder / "passed").exists()


def test_checks_that_hold_or_need_not_leave_their_mark(tmp_path):
    folder = stage(tmp_path, published={**ASKED["published"], "own_best": 3, "required": False})
    require(folder)
    assert (folder / "passed").read_text() == "every check holds\n"


def require(folder: Path) -> None:
    options = argparse.Namespace(report=folder / "report.json", output=folder / "passed")
    require_checks.main(options)


def test_value_that_is_not_known_is_null_in_the_report():
    assert at_least("x", np.nan, 0.5, NONE).report()["value"] is None
