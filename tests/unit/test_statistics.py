"""Accuracies, gains and agreement, on tables small enough to work out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from noisetransfer.artifacts import read_published, read_published_cells
from noisetransfer.errors import StudyError
from noisetransfer.modifications import MODIFICATIONS, canonical
from noisetransfer.statistics import (
    CELL,
    accuracies,
    agreement,
    matrix,
    transfer_table,
)

REFERENCE = Path(__file__).parents[2] / "studies" / "reference"
KEYS = {"study": "s", "network": "v2", "site": "L2", "tau": "0.5", "regime": "retrain"}


def records(arm: str, source: str, target: str, right: str, trial: int = 0) -> pd.DataFrame:
    """Return one record per letter of `right`: y if the image is classified rightly."""
    labels = np.arange(len(right)) % 10
    predictions = labels + [letter == "n" for letter in right]
    cell = {**KEYS, "arm": arm, "source": source, "target": target, "trial": trial}
    return pd.DataFrame({"label": labels, "prediction": predictions}).assign(**cell)


def cells(*rows: tuple[str, str, str, int, float]) -> pd.DataFrame:
    """Return accuracies: (arm, source, target, trial, accuracy) a row."""
    columns = ["arm", "source", "target", "trial", "accuracy"]
    return pd.DataFrame(rows, columns=columns).assign(**KEYS, n=100)


# accuracies


def test_accuracy_is_the_share_of_right_predictions_of_each_cell():
    frames = [
        records("none", "any", "snow@5", "yynn"),
        records("none", "any", "clean@0", "yyyn"),
        records("none", "any", "snow@5", "nnnn", trial=1),
        records("identity", "any", "snow@5", "yyyyy"),
    ]
    found = accuracies(pd.concat(frames))
    assert found.columns.tolist() == [*CELL, "n", "accuracy"]
    assert found[["arm", "target", "trial", "n", "accuracy"]].values.tolist() == [
        ["none", "clean@0", 0, 4, 0.75],
        ["identity", "snow@5", 0, 5, 1.0],
        ["none", "snow@5", 0, 4, 0.5],
        ["none", "snow@5", 1, 4, 0.0],
    ]


def test_order_of_the_records_does_not_matter():
    table = pd.concat(
        [records("full", "fog@5", "snow@5", "ynnn"), records("full", "snow@5", "snow@5", "yyyn")]
    )
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(accuracies(table), accuracies(shuffled))


# gains


def gains(table: pd.DataFrame, *keys: str) -> dict:
    chosen = table.set_index(list(keys))[["gain_over_none", "gain_over_identity"]]
    return {key: tuple(row) for key, row in chosen.round(12).iterrows()}


def test_gains_are_differences_within_target_and_trial():
    table = transfer_table(
        [
            cells(
                ("none", "any", "snow@5", 0, 0.5),
                ("none", "any", "snow@5", 1, 0.4),
                ("none", "any", "fog@5", 0, 0.1),
                ("identity", "any", "snow@5", 0, 0.6),
                ("identity", "any", "snow@5", 1, 0.3),
                ("identity", "any", "fog@5", 0, 0.2),
            ),
            cells(
                ("full", "snow@5", "snow@5", 0, 0.9),
                ("full", "snow@5", "snow@5", 1, 0.8),
                ("full", "snow@5", "fog@5", 0, 0.05),
            ),
        ]
    )
    assert gains(table, "arm", "target", "trial") == {
        ("none", "snow@5", 0): (0, -0.1),
        ("none", "snow@5", 1): (0, 0.1),
        ("none", "fog@5", 0): (0, -0.1),
        ("identity", "snow@5", 0): (0.1, 0),
        ("identity", "snow@5", 1): (-0.1, 0),
        ("identity", "fog@5", 0): (0.1, 0),
        ("full", "snow@5", 0): (0.4, 0.3),
        ("full", "snow@5", 1): (0.4, 0.5),
        ("full", "fog@5", 0): (-0.05, -0.15),
    }


@pytest.mark.parametrize("key", ["study", "network", "site", "regime"])
def test_gains_compare_nothing_that_differs_in_another_key(key):
    def rows(none: float, identity: float, full: float) -> pd.DataFrame:
        return cells(
            ("none", "any", "snow@5", 0, none),
            ("identity", "any", "snow@5", 0, identity),
            ("full", "fog@5", "snow@5", 0, full),
        )

    other = "inference" if key == "regime" else "other"
    table = transfer_table([rows(0.5, 0.6, 0.7), rows(0.1, 0.4, 0.2).assign(**{key: other})])
    assert gains(table, "arm", key) == {
        ("none", KEYS[key]): (0, -0.1),
        ("identity", KEYS[key]): (0.1, 0),
        ("full", KEYS[key]): (0.2, 0.1),
        ("none", other): (0, -0.3),
        ("identity", other): (0.3, 0),
        ("full", other): (0.1, -0.2),
    }


TAUS = [
    cells(("none", "any", "snow@5", 0, 0.5)).assign(tau="0"),
    cells(("identity", "any", "snow@5", 0, 0.6), ("full", "fog@5", "snow@5", 0, 0.7)),
    cells(("full", "fog@5", "snow@5", 0, 0.9)).assign(tau="unscaled"),
]


def test_gain_over_none_ignores_tau_and_gain_over_identity_is_at_the_same_tau():
    found = gains(transfer_table(TAUS), "arm", "tau")
    assert found[("full", "0.5")] == (0.2, 0.1)
    assert found[("identity", "0.5")] == (0.1, 0)
    assert found[("full", "unscaled")] == (0.4, pytest.approx(np.nan, nan_ok=True))


def test_where_retrained_suffixes_are_used_the_gain_is_over_none_of_retrain():
    others = [
        cells(("identity", "any", "snow@5", 0, 0.3), ("full", "fog@5", "snow@5", 0, own)).assign(
            regime=regime
        )
        for regime, own in [("trained_only", 0.8), ("tested_only", 0.2)]
    ]
    as_it_is = cells(("full", "fog@5", "snow@5", 0, 0.9)).assign(regime="inference")
    found = gains(transfer_table([*TAUS[:2], *others, as_it_is]), "arm", "regime")
    assert found["full", "retrain"] == (0.2, 0.1)
    assert found["full", "trained_only"] == (0.3, 0.5)
    assert found["full", "tested_only"] == (-0.3, -0.1)
    assert found["full", "inference"] == (pytest.approx(np.nan, nan_ok=True),) * 2


def test_gain_of_none_over_identity_is_known_if_identity_has_one_tau():
    other = cells(("identity", "any", "snow@5", 0, 0.8)).assign(tau="2.0")
    elsewhere = other.assign(target="fog@5")
    for parts in (TAUS, [*TAUS, elsewhere]):
        assert gains(transfer_table(parts), "arm", "tau", "target")["none", "0", "snow@5"] == (
            0,
            -0.1,
        )
    table = transfer_table([*TAUS, other])
    assert table.loc[table["arm"] == "none", "gain_over_identity"].isna().all()
    assert gains(table, "arm", "tau")[("identity", "2.0")] == (0.3, 0)


def test_gains_of_fine_tuning_are_those_of_its_target_whatever_the_tau():
    own = cells(("fine_tuned", "fog@5", "snow@5", 0, 0.9)).assign(tau="0")
    found = gains(transfer_table([*TAUS, own]), "arm", "tau")
    assert found["fine_tuned", "0"] == (0.4, 0.3)
    other = cells(("identity", "any", "snow@5", 0, 0.8)).assign(tau="2.0")
    found = gains(transfer_table([*TAUS, own, other]), "arm", "tau")
    assert found["fine_tuned", "0"] == (0.4, pytest.approx(np.nan, nan_ok=True))


@pytest.mark.parametrize(("kept", "lost"), [("none", "identity"), ("identity", "none")])
def test_gain_over_an_arm_that_was_not_run_is_unknown(kept, lost):
    table = transfer_table(
        [cells((kept, "any", "snow@5", 0, 0.5), ("full", "snow@5", "snow@5", 0, 0.75))]
    )
    assert table[f"gain_over_{lost}"].isna().all()
    assert table[f"gain_over_{kept}"].tolist() == [0, 0.25] or table["arm"].tolist() == ["full"]


def test_gain_over_an_arm_that_was_not_run_in_one_trial_is_unknown_there():
    table = transfer_table(
        [
            cells(("none", "any", "snow@5", 0, 0.5)),
            cells(("full", "fog@5", "snow@5", 0, 0.7), ("full", "fog@5", "snow@5", 1, 0.7)),
        ]
    )
    found = table[table["arm"] == "full"].set_index("trial")["gain_over_none"]
    assert found[0] == pytest.approx(0.2)
    assert np.isnan(found[1])


def test_table_does_not_depend_on_the_order_of_its_parts():
    parts = [
        cells(("none", "any", "snow@5", 0, 0.5)),
        cells(("full", "snow@5", "snow@5", 0, 0.7)),
        cells(("full", "fog@5", "snow@5", 0, 0.6)),
    ]
    pd.testing.assert_frame_equal(transfer_table(parts), transfer_table(reversed(parts)))


@pytest.mark.parametrize("seed", range(3))
def test_table_does_not_depend_on_the_order_of_the_rows(seed):
    table = pd.concat(TAUS, ignore_index=True)
    shuffled = transfer_table([table.sample(frac=1, random_state=seed)])
    pd.testing.assert_frame_equal(shuffled, transfer_table(TAUS), check_exact=True)


# heatmaps


def test_matrix_is_the_mean_over_trials_of_one_arm_in_order_of_appearance():
    table = cells(
        ("full", "snow@5", "rotate@2.0", 0, 0.2),
        ("full", "snow@5", "rotate@2.0", 1, 0.4),
        ("full", "fog@5", "rotate@2.0", 0, 0.5),
        ("diagonal", "fog@5", "rotate@2.0", 0, 0.9),
        ("full", "snow@5", "clean@0", 0, 0.6),
        ("full", "fog@5", "clean@0", 0, 0.7),
    )
    found = matrix(table, "full", "accuracy")
    assert found.index.tolist() == ["rotate@2.0", "clean@0"]
    assert found.columns.tolist() == ["snow@5", "fog@5"]
    assert found.to_numpy().tolist() == [[pytest.approx(0.3), 0.5], [0.6, 0.7]]


def test_cell_that_was_not_measured_is_unknown_in_the_matrix():
    table = cells(("full", "snow@5", "snow@5", 0, 0.2), ("full", "fog@5", "clean@0", 0, 0.5))
    assert matrix(table, "full", "accuracy").isna().to_numpy().tolist() == [
        [False, True],
        [True, False],
    ]


# agreement with a published heatmap

NAMES = ["rotate", "snow", "fog"]
HEATMAP = pd.DataFrame(
    [[0.9, 0.2, 0.3], [0.4, 0.8, 0.6], [0.5, 0.1, 0.7]], index=NAMES, columns=NAMES
)


def test_agreement_of_equal_heatmaps_is_perfect():
    found = agreement(HEATMAP, HEATMAP)
    assert found.spearman == pytest.approx(1)
    assert found.mean_absolute_difference == 0
    assert found.largest_difference == 0
    assert found.own_best == 3


def test_means_of_the_measured_heatmap_on_and_off_its_diagonal():
    found = agreement(HEATMAP, HEATMAP - 0.1)
    assert found.diagonal_mean == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert found.off_diagonal_mean == pytest.approx((0.2 + 0.3 + 0.4 + 0.6 + 0.5 + 0.1) / 6)


@pytest.mark.parametrize("change", [0.3, -0.3])
def test_one_cell_that_is_far_off_is_the_largest_difference(change):
    measured = HEATMAP - 0.01
    measured.loc["snow", "fog"] += change
    assert agreement(measured, HEATMAP).largest_difference == pytest.approx(abs(change - 0.01))


def test_shifted_heatmap_keeps_its_ranks():
    found = agreement(HEATMAP - 0.05, HEATMAP)
    assert found.spearman == pytest.approx(1)
    assert found.mean_absolute_difference == pytest.approx(0.05)
    assert found.cells["difference"].tolist() == pytest.approx([-0.05] * 9)


def test_inverted_heatmap_has_the_opposite_ranks():
    found = agreement(1 - HEATMAP, HEATMAP)
    assert found.spearman == pytest.approx(-1)
    assert found.own_best == 0


def test_spearman_correlation_worked_out_by_hand():
    published = pd.DataFrame(
        [[0.1, 0.2], [0.3, 0.4]], index=["snow", "fog"], columns=["snow", "fog"]
    )
    measured = published.copy()
    measured.iloc[0] = [0.25, 0.15]  # ranks 2, 1, 3, 4: 1 − 6·2 / (4·15)
    assert agreement(measured, published).spearman == pytest.approx(0.8)


def test_targets_whose_best_source_is_themselves_are_counted_in_the_measured_heatmap():
    measured = HEATMAP.copy()
    measured.loc["snow", "rotate"] = 0.85
    assert agreement(measured, HEATMAP).own_best == 2
    assert agreement(HEATMAP, measured).own_best == 3


def test_heatmaps_are_compared_by_name_whatever_their_order():
    found = agreement(HEATMAP.loc[["fog", "rotate", "snow"], ["snow", "fog", "rotate"]], HEATMAP)
    assert found.mean_absolute_difference == 0
    assert found.own_best == 3


def test_cells_name_target_and_source_with_both_numbers():
    measured = HEATMAP.copy()
    measured.loc["snow", "fog"] = 0.7
    found = agreement(measured, HEATMAP).cells
    assert found.columns.tolist() == ["target", "source", "published", "measured", "difference"]
    assert len(found) == 9
    row = found[(found["target"] == "snow") & (found["source"] == "fog")].iloc[0]
    assert row.tolist() == ["snow", "fog", 0.6, 0.7, pytest.approx(0.1)]


def test_what_is_not_published_is_not_compared():
    measured = HEATMAP.copy()
    measured.loc["clean"] = 0.99
    measured["pgd"] = 1.0
    assert len(agreement(measured, HEATMAP).cells) == 9
    assert agreement(measured, HEATMAP).own_best == 3


@pytest.mark.parametrize("axis", ["index", "columns"])
def test_published_row_or_column_that_was_not_measured_is_named(axis):
    with pytest.raises(StudyError, match=r"lacks.*snow"):
        agreement(HEATMAP.drop(**{axis: "snow"}), HEATMAP)


def test_published_cell_that_was_not_measured_is_named():
    measured = HEATMAP.copy()
    measured.loc["snow", "fog"] = np.nan
    with pytest.raises(StudyError, match=r"lacks.*snow.*fog"):
        agreement(measured, HEATMAP)


# published tables


def test_published_heatmap_is_read_by_name_past_its_comments(tmp_path):
    path = tmp_path / "heatmap.csv"
    path.write_text("# from a figure\ntarget,snow,fog\nsnow,0.8,0.5\nfog,1,0.25\n")
    found = read_published(path)
    assert found.loc["snow", "fog"] == 0.5
    assert found.loc["fog", "snow"] == 1
    assert set(found.dtypes) == {np.dtype(float)}


@pytest.mark.parametrize("text", [None, "", "target,snow\nsnow,high\n", 'a\nb,c,d\n"e'])
def test_table_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "heatmap.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError, match=r"heatmap\.csv: not a table of published accuracies"):
        read_published(path)


def test_shipped_heatmap_is_a_square_of_accuracies_of_known_modifications():
    found = read_published(REFERENCE / "transfer_heatmap.csv")
    assert found.index.tolist() == found.columns.tolist()
    assert set(found.index) <= set(MODIFICATIONS)
    assert found.shape == (10, 10)
    assert found.min(axis=None) > 0
    assert found.max(axis=None) < 1


CELLS = """# from a table
modification,strength,tau,arm,accuracy,ci_low,ci_high
snow,5,2,full,0.5,0.4,0.6
pgd,0.1,2.0,none,0.0,0.0,0.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cells.csv"
    path.write_text(text)
    return path


def test_published_cells_are_read_past_their_comments_tau_as_text(tmp_path):
    found = read_published_cells(written(tmp_path, CELLS))
    assert found.to_numpy().tolist() == [
        ["snow", 5.0, "2.0", "full", 0.5, 0.4, 0.6],
        ["pgd", 0.1, "2.0", "none", 0.0, 0.0, 0.0],
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ci_low", "low", "not a table of published cells.*ci_low"),
        ("0.5,", "high,", "not a table of published cells.*high"),
        ("0.6", "1.1", "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1.*snow"),
        ("0.4", "-0.1", "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1.*snow"),
        ("0.4", "0.55", "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1.*snow"),
        ("0.6", "0.45", "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1.*snow"),
        ("0.6", "", "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1.*snow"),
        ("snow", "", "a cell has no name"),
        ("2,full", ",full", "a cell has no name.*snow"),
        (
            "pgd,0.1,2.0,none,0.0,0.0,0.0",
            "snow,5.0,2.0,full,0.5,0.5,0.5",
            "the same cell twice.*snow.*snow",
        ),
    ],
)
def test_fault_of_a_table_of_published_cells_is_named_with_the_file(tmp_path, old, new, fault):
    with pytest.raises(StudyError, match=rf"(?s)cells\.csv: {fault}"):
        read_published_cells(written(tmp_path, CELLS.replace(old, new)))


def test_missing_table_of_published_cells_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"absent\.csv: not a table of published cells"):
        read_published_cells(tmp_path / "absent.csv")


def test_shipped_cells_are_four_arms_of_known_modifications():
    found = read_published_cells(REFERENCE / "matched_table.csv")
    ids = (found["modification"] + "@" + found["strength"].astype(str)).map(canonical)
    assert ids.nunique() * 4 == len(found) == 192
    assert set(found["arm"]) == {"none", "identity", "diagonal", "full"}
    assert set(found["tau"]) == {"2.0"}
