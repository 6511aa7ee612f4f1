"""At equal clean accuracy: τ and accuracies of curves that are known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.matching import COLUMNS, accuracy_at, clean_curve, matched, matched_scale

TAUS = (0.25, 0.5, 1.0, 2.0)  # 0 to 3 doublings of the first
PLACE = {"study": "s", "network": "v2", "site": "L2", "regime": "retrain"}


def cells(accuracy, taus=TAUS, trials=1, **names) -> pd.DataFrame:
    """Return rows of one noise under one target; `accuracy` of (doublings of τ = 0.25, trial)."""
    rows = [
        {"tau": str(tau), "trial": trial, "accuracy": accuracy(np.log2(tau / 0.25), trial)}
        for tau, trial in product(taus, range(trials))
    ]
    return pd.DataFrame(rows).assign(**PLACE | names)


def line(start: float, slope: float, spread: float = 0.0):
    """Return accuracies that fall by `slope` a doubling; trials 0, 1, … are above, below, … by `spread`."""
    return lambda doublings, trial: start - slope * doublings + spread * (-1) ** trial


def noises(under: dict[tuple[str, str], object], target: str, **options) -> pd.DataFrame:
    return pd.concat(
        [cells(a, source=s, arm=arm, target=target, **options) for (s, arm), a in under.items()],
        ignore_index=True,
    )


# full loses .1 a doubling, identity half as much: it has the clean accuracy of full at twice the doublings
FULL, IDENTITY = ("snow@5", "full"), ("any", "identity")
CLEAN = {FULL: line(0.9, 0.1), IDENTITY: line(0.9, 0.05)}
UNDER = {FULL: line(0.8, 0.2), IDENTITY: line(0.6, 0.1)}


def of(found: pd.DataFrame, arm: str, **where) -> pd.DataFrame:
    for column, value in where.items():
        found = found[found[column] == value]
    return found[found["arm"] == arm].sort_values("reference_tau").reset_index(drop=True)


def test_straight_lines_are_matched_where_they_are_equal():
    found = matched(noises(UNDER, "snow@5"), noises(CLEAN, "validation@0"))
    assert list(found.columns) == COLUMNS
    assert set(found["source"]) == set(found["target"]) == {"snow@5"}
    full, identity = of(found, "full"), of(found, "identity")
    assert full["reference_tau"].tolist() == [str(tau) for tau in TAUS]
    assert full["tau"].to_numpy() == pytest.approx(TAUS)
    assert full["clean_accuracy"].to_numpy() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert full["accuracy"].to_numpy() == pytest.approx([0.8, 0.6, 0.4, 0.2])
    nan = np.nan  # identity is never as bad as full at τ = 1 and 2
    assert identity["tau"].to_numpy() == pytest.approx([0.25, 1.0, nan, nan], nan_ok=True)
    assert identity["accuracy"].to_numpy() == pytest.approx([0.6, 0.4, nan, nan], nan_ok=True)
    gains = full["gain_over_identity_matched"].to_numpy()
    assert gains == pytest.approx([0.2, 0.2, nan, nan], nan_ok=True)
    assert identity["gain_over_identity_matched"].tolist()[:2] == [0, 0]


def test_tau_is_that_of_the_mean_over_trials_and_accuracies_are_those_of_each():
    clean = {FULL: line(0.9, 0.1, spread=0.04), IDENTITY: line(0.85, 0.1, spread=0.02)}
    under = {FULL: line(0.8, 0.2, spread=0.03), IDENTITY: line(0.6, 0.1, spread=0.1)}
    found = matched(
        noises(under, "snow@5", trials=2), noises(clean, "validation@0", trials=2)
    ).query("reference_tau == '1.0'")
    identity = of(found, "identity")  # half a doubling below the one of full
    assert identity["trial"].tolist() == [0, 1]
    assert identity["tau"].to_numpy() == pytest.approx([0.25 * 2**1.5] * 2)
    assert identity["accuracy"].to_numpy() == pytest.approx([0.45 + 0.1, 0.45 - 0.1])
    gains = of(found, "full")["gain_over_identity_matched"].to_numpy()
    assert gains == pytest.approx([0.4 + 0.03 - 0.55, 0.4 - 0.03 - 0.35])


def test_arms_without_a_source_are_matched_to_every_source():
    gentle, harsh = ("fog@3", "full"), ("snow@5", "full")
    clean = {gentle: line(0.9, 0.05), harsh: line(0.9, 0.1), IDENTITY: line(0.9, 0.1)}
    under = {gentle: line(0.8, 0.2), harsh: line(0.8, 0.2), IDENTITY: line(0.6, 0.1)}
    found = matched(noises(under, "clean@0"), noises(clean, "validation@0"))
    assert of(found, "identity", source="snow@5")["tau"].to_numpy() == pytest.approx(TAUS)
    tau = 0.25 * 2 ** np.array([0, 0.5, 1, 1.5])
    assert of(found, "identity", source="fog@3")["tau"].to_numpy() == pytest.approx(tau)


def test_only_the_targets_of_a_source_are_its_own():
    table = pd.concat([noises(UNDER, "snow@5"), noises({IDENTITY: line(0.6, 0.1)}, "fog@3")])
    assert set(matched(table, noises(CLEAN, "validation@0"))["target"]) == {"snow@5"}


def test_equal_clean_accuracies_are_matched_at_the_greatest_tau():
    flat = {FULL: lambda doublings, _: [0.9, 0.8, 0.8, 0.6][int(doublings)]}
    full = of(matched(noises(UNDER, "snow@5"), noises(flat, "validation@0")), "full")
    assert full["clean_accuracy"].tolist() == [0.9, 0.8, 0.8, 0.6]
    assert full["tau"].to_numpy() == pytest.approx([0.25, 1, 1, 2])
    assert full["accuracy"].to_numpy() == pytest.approx([0.8, 0.4, 0.4, 0.2])


def test_clean_accuracy_never_rises_with_tau():
    rising = cells(lambda doublings, _: [0.9, 0.7, 0.8, 0.6][int(doublings)], arm="full")
    curve = clean_curve(rising.assign(scale=rising["tau"].astype(float)).sample(frac=1))
    assert curve.index.tolist() == list(TAUS)
    assert curve.to_numpy() == pytest.approx([0.9, 0.75, 0.75, 0.6])


@pytest.mark.parametrize(
    ("level", "tau"),
    [(0.91, np.nan), (0.9, 0.1), (0.8, 1), (0.7, 10), (0.6, 100), (0.59, np.nan)],
)
def test_between_its_tau_a_curve_is_linear_in_log_tau_and_outside_unknown(level, tau):
    curve = pd.Series([0.9, 0.6], index=[0.1, 100.0])
    assert np.exp(matched_scale(curve, [level])) == pytest.approx([tau], nan_ok=True)


def test_a_curve_of_one_level_is_met_at_its_greatest_tau_and_nowhere_else():
    curve = pd.Series([0.5, 0.5, 0.5], index=[0.1, 1.0, 10.0])
    found = np.exp(matched_scale(curve, [0.4, 0.5, 0.6]))
    assert found == pytest.approx([np.nan, 10, np.nan], nan_ok=True)


def test_accuracies_outside_the_sweep_of_a_target_are_missing():
    own = cells(line(0.8, 0.1), taus=(0.5, 1.0), arm="full")
    scales = np.log([0.25, 0.5, 2**-0.5, 1.0, 2.0])
    found = accuracy_at(own.assign(scale=own["tau"].astype(float)), scales)
    assert found[0].to_numpy() == pytest.approx([np.nan, 0.7, 0.65, 0.6, np.nan], nan_ok=True)


def test_places_are_matched_each_by_itself_and_tau_without_a_number_is_left_out():
    other = {"site": "L3", "regime": "inference"}
    table, clean = noises(UNDER, "snow@5"), noises(CLEAN, "validation@0")
    alone = matched(table, clean)
    unscaled = cells(line(0.1, 0), source="snow@5", arm="full", target="snow@5").assign(
        tau="unscaled"
    )
    none = cells(line(0.1, 0), source="any", arm="none", target="snow@5").assign(tau="0")
    lower = clean.assign(accuracy=clean["accuracy"] / 2, **other)
    both = matched(
        pd.concat([table, unscaled, none, table.assign(**other)], ignore_index=True),
        pd.concat([clean, unscaled, none, lower], ignore_index=True),
    )
    assert set(both["arm"]) == {"full", "identity"}
    left, right = (both[both["site"] == site].reset_index(drop=True) for site in ("L2", "L3"))
    pd.testing.assert_frame_equal(left, alone, check_dtype=False)
    halved = alone.assign(clean_accuracy=alone["clean_accuracy"] / 2, **other)
    pd.testing.assert_frame_equal(right, halved, check_dtype=False)


def test_what_was_not_tested_on_validation_images_is_left_out():
    table = pd.concat([noises(UNDER, "snow@5"), noises({("fog@3", "full"): line(1, 0.1)}, "fog@3")])
    assert set(matched(table, noises(CLEAN, "validation@0"))["source"]) == {"snow@5"}
    found = matched(table, noises({IDENTITY: CLEAN[IDENTITY]}, "validation@0"))
    assert list(found.columns) == COLUMNS
    assert found.empty


def test_without_identity_no_gain_is_told(tmp_path):
    found = matched(noises({FULL: UNDER[FULL]}, "snow@5"), noises(CLEAN, "validation@0"))
    assert found["gain_over_identity_matched"].isna().all()
    write_table(tmp_path / "x.parquet", found)
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet"), found, check_dtype=False)
