"""Gains and geometry are joined cell by cell, and tested for each heatmap of an experiment."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest

from noisetransfer.alignment import GAIN, MEASURES, SETTING, aligned_cells, alignment

NAMES = ["snow@5", "fog@5", "rotate@2.0", "pgd@0.1"]
PLACE = {"network": "v2", "site": "L2"}


def geometry(trials=(0, 1), names=NAMES):
    """Return measures that tell which pair and trial they are of."""
    return pd.DataFrame(
        [
            {"trial": t, "source": a, "other": b, "bures": i + t, "cka": -i, "angle_mean": 1.0}
            for t in trials
            for i, (a, b) in enumerate(combinations(names, 2))
        ]
    ).assign(**PLACE)


def transfer(gain, targets=(*NAMES, "clean@0"), **setting):
    """Return the rows of arms full and diagonal; `gain` of source and target is that of full."""
    rows = [
        {"source": s, "target": t, "arm": arm, "trial": trial, GAIN: value + trial}
        for s in NAMES
        for t in targets
        for trial in (0, 1)
        for arm, value in (("full", gain(s, t)), ("diagonal", 99.0))
    ]
    return pd.DataFrame(rows).assign(**{**PLACE, "regime": "retrain", "tau": "0.5", **setting})


def number(s, t):
    return 10.0 * [*NAMES, "clean@0"].index(s) + [*NAMES, "clean@0"].index(t)


def distance(s, t, names=NAMES):
    pairs = list(combinations(names, 2))
    return pairs.index((s, t) if (s, t) in pairs else (t, s))


def rising(s, t):
    return 0.0 if s == t or t == "clean@0" else distance(s, t)


def test_cells_are_the_means_over_trials_of_every_ordered_pair_of_sources():
    cells = aligned_cells(geometry(), transfer(number))
    assert cells.columns.tolist() == [*SETTING, "source", "target", GAIN, *MEASURES]
    found = {(row.source, row.target): row for row in cells.itertuples()}
    assert set(found) == set(permutations(NAMES, 2))
    for (s, t), row in found.items():
        assert getattr(row, GAIN) == number(s, t) + 0.5
        assert row.bures == distance(s, t) + 0.5
        assert row.cka == -distance(s, t)


def test_a_pretrained_network_has_one_geometry_for_all_trials():
    cells = aligned_cells(geometry(trials=[0]), transfer(number))
    assert len(cells) == 12
    pairs = zip(cells["source"], cells["target"], strict=True)
    assert cells["bures"].tolist() == [distance(*pair) for pair in pairs]


def test_geometry_of_another_place_is_not_joined():
    assert aligned_cells(geometry(), transfer(number, site="L3")).empty
    assert aligned_cells(geometry(), transfer(number, network="v1")).empty


def test_a_gain_that_rises_with_the_distance_is_found():
    cells = aligned_cells(geometry(), transfer(rising))
    found = alignment(cells, seed=1).set_index("measure")
    assert found.loc["bures", "spearman"] == pytest.approx(1)
    assert found.loc["cka", "spearman"] == pytest.approx(-1)
    assert found.loc["bures", "p"] == found.loc["cka", "p"]
    assert 0 < found.loc["bures", "p"] <= 0.2
    assert np.isnan(found.loc["angle_mean", ["spearman", "p"]].astype(float)).all()
    assert (found["sources"] == 4).all()
    assert (found["cells"] == 12).all()


def test_each_setting_is_tested_alone():
    parts = [transfer(number), transfer(number, tau="2.0"), transfer(number, regime="inference")]
    found = alignment(aligned_cells(geometry(), pd.concat(parts)), seed=1)
    assert len(found) == 3 * len(MEASURES)
    assert found.drop_duplicates(SETTING)["tau"].tolist() == ["0.5", "2.0", "0.5"]
    assert (found["cells"] == 12).all()


def test_without_all_pairs_there_is_a_correlation_but_no_test():
    table = transfer(number)
    lost = (table["source"] == "snow@5") & (table["target"] == "fog@5")
    found = alignment(aligned_cells(geometry(), table[~lost]), seed=1).set_index("measure")
    assert found["p"].isna().all()
    assert -1 < found.loc["bures", "spearman"] < 1
    assert (found["cells"] == 11).all()


def test_cells_without_a_gain_are_left_out():
    table = transfer(number)
    table.loc[table["source"] == "snow@5", GAIN] = np.nan
    cells = aligned_cells(geometry(), table)
    assert "snow@5" not in set(cells["source"])
    assert cells[GAIN].notna().all()
