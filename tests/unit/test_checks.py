"""Each check passes and fails where it should, and says what was measured and what was asked."""

import numpy as np
import pandas as pd
import pytest

from noisetransfer.checks import at_least, at_most, clean_accuracy, own_gain, published_heatmap
from noisetransfer.errors import StudyError

NONE = pd.DataFrame()


def table(*rows: tuple[str, str, str, float, float]) -> pd.DataFrame:
    """Return (arm, source, target, accuracy, gain over identity) as a transfer table."""
    columns = ["arm", "source", "target", "accuracy", "gain_over_identity"]
    return pd.DataFrame(rows, columns=columns)


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
BOUNDS = {"spearman": 0.99, "mean_absolute_difference": 0.051, "own_best": 2}


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (at_least("x", 0.5, 0.5, NONE), True),
        (at_least("x", 0.499, 0.5, NONE), False),
        (at_most("x", 0.5, 0.5, NONE), True),
        (at_most("x", 0.501, 0.5, NONE), False),
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
    assert check.cells["accuracy"].tolist() == [0.97, 0.93]
    assert "0.93" in str(check)
    assert str(bound) in str(check)


@pytest.mark.parametrize(("bound", "passed"), [(0.199, True), (0.201, False)])
def test_own_gain_is_the_mean_over_sources_that_are_their_own_target(bound, passed):
    check = own_gain(MEASURED, bound)
    assert check.passed is passed
    assert check.value == pytest.approx(0.2)
    assert check.cells["target"].tolist() == ["snow@5", "rotate@2.0"]
    assert str(bound) in str(check)


@pytest.mark.parametrize("check", [clean_accuracy, own_gain])
def test_check_without_its_cells_fails(check):
    assert check(MEASURED[MEASURED["arm"] == "diagonal"], -1).passed is False


def verdicts(measured: pd.DataFrame, **bounds: float) -> list[bool]:
    checks = published_heatmap(measured, PUBLISHED, **{"arm": "full", **BOUNDS, **bounds})
    return [check.passed for check in checks]


def test_heatmap_like_the_published_one_passes_all_three_checks():
    assert verdicts(MEASURED) == [True, True, True]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"spearman": 1.0001}, [False, True, True]),
        ({"mean_absolute_difference": 0.049}, [True, False, True]),
        ({"own_best": 3}, [True, True, False]),
    ],
)
def test_each_check_against_the_published_heatmap_can_fail_alone(bounds, expected):
    assert verdicts(MEASURED, **bounds) == expected


def test_checks_against_the_published_heatmap_name_their_values_and_bounds():
    texts = [str(c) for c in published_heatmap(MEASURED, PUBLISHED, arm="full", **BOUNDS)]
    assert [text.partition(" = ")[2] for text in texts] == [
        "1 (must be ≥ 0.99)",
        "0.05 (must be ≤ 0.051)",
        "2 (must be ≥ 2)",
    ]


def test_cells_behind_the_verdicts_hold_both_heatmaps():
    check = published_heatmap(MEASURED, PUBLISHED, arm="full", **BOUNDS)[0]
    assert check.cells["measured"].tolist() == [0.8, 0.3, 0.2, 0.6]
    assert check.cells["published"].tolist() == [0.75, 0.35, 0.15, 0.55]


def test_heatmap_of_an_arm_that_was_not_run_is_an_error():
    with pytest.raises(StudyError, match=r"lacks.*rotate.*snow"):
        verdicts(MEASURED, arm="rotated")


def test_two_strengths_of_one_modification_are_an_error_that_names_it():
    weaker = MEASURED.replace({"snow@5": "snow@1"})
    with pytest.raises(StudyError, match="snow"):
        verdicts(pd.concat([MEASURED, weaker]))
