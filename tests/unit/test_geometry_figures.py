"""Figures of geometry show every source and every cell of their tables."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from noisetransfer.alignment import GAIN, MEASURES, SETTING, alignment
from noisetransfer.geometry_figures import gain_against_geometry, spectra

NAMES = ["snow@5", "fog@5", "rotate@2.0", "pgd@0.1"]


def spectrum(source, trial, site="L2"):
    index = np.arange(1, 9)
    share = index**-1.5 * (1 + trial)
    told = {"participation_ratio": 12.34, "slope": -1.5, "class_share": np.nan}
    place = {"network": "v2", "site": site, "trial": trial, "source": source}
    return pd.DataFrame({"index": index, "share": share}).assign(**place, **told)


SPECTRA = pd.concat([spectrum(name, trial) for name in NAMES for trial in (0, 1)])


def cells(tau="0.5"):
    rng = np.random.default_rng(0)
    near = {frozenset(pair): rng.uniform(size=3) for pair in combinations(NAMES, 2)}
    rows = [[s, t, rng.normal(), *near[frozenset((s, t))]] for s, t in permutations(NAMES, 2)]
    setting = {"network": "v2", "site": "L2", "regime": "retrain", "tau": tau}
    return pd.DataFrame(rows, columns=["source", "target", GAIN, *MEASURES]).assign(**setting)


def drawn(table, **changes):
    tests = alignment(table, seed=1).assign(**changes)
    return gain_against_geometry(table, tests, title="tiny, transfer")


def points(axis):
    lines = [line for line in axis.lines if line.get_marker() not in ("", "None", None)]
    return np.concatenate([line.get_xydata() for line in lines])


def by_rows(values):
    return values[np.lexsort(values.T)]


# spectra


def test_a_panel_of_each_family_names_its_own_sources():
    figure = spectra(SPECTRA, title="tiny, transfer")
    named = {
        axis.get_title(): [text.get_text().split("\n")[0] for text in axis.get_legend().texts]
        for axis in figure.axes
    }
    assert named == {
        "weather": ["snow@5", "fog@5"],
        "geometry": ["rotate@2.0"],
        "adversarial": ["pgd@0.1"],
    }
    assert all(len(axis.lines) == len(NAMES) for axis in figure.axes)


def test_lines_are_the_means_over_trials_on_logarithmic_axes():
    axis = spectra(SPECTRA, title="").axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    expected = SPECTRA[SPECTRA["source"] == "snow@5"].groupby("index")["share"].mean()
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), expected)


def test_what_is_not_known_is_a_dash():
    (told, *_) = (text.get_text() for text in spectra(SPECTRA, title="").axes[0].get_legend().texts)
    assert told == "snow@5\nR 12.3, s −1.50, C –"


def test_lines_of_a_panel_differ_in_dashes_and_markers():
    own = [line for line in spectra(SPECTRA, title="").axes[0].lines if line.get_markersize() < 4]
    looks = [(line.get_linestyle(), line.get_marker()) for line in own]
    assert len(set(looks)) == len(looks) == 2


def test_every_site_has_a_row_of_spectra():
    table = pd.concat([SPECTRA, *(spectrum(name, 0, site="L3") for name in NAMES[:1])])
    figure = spectra(table, title="")
    assert len(figure.axes) == 6
    assert figure.axes[3].get_ylabel().startswith("v2, L3")


# gain against geometry


def test_every_cell_is_a_point_of_every_panel():
    table = cells()
    figure = drawn(table)
    assert len(figure.axes) == len(MEASURES)
    for axis, measure in zip(figure.axes, MEASURES, strict=True):
        expected = table[[measure, GAIN]].to_numpy(float)
        np.testing.assert_allclose(by_rows(points(axis)), by_rows(expected))


def test_points_are_filled_where_source_and_target_are_of_one_family():
    table = cells()
    filled = [
        line
        for line in drawn(table).axes[0].lines
        if line.get_marker() != "None" and to_rgb(line.get_markerfacecolor()) != (1, 1, 1)
    ]
    found = np.concatenate([line.get_xydata() for line in filled])
    weather = table["source"].isin(NAMES[:2]) & table["target"].isin(NAMES[:2])
    expected = table.loc[weather, [MEASURES[0], GAIN]].to_numpy(float)
    np.testing.assert_allclose(by_rows(found), by_rows(expected))


@pytest.mark.parametrize(
    ("p", "told"), [(0.0321, "p = .032"), (0.0002, "p < .001"), (np.nan, "p = –"), (1.0, "p = 1")]
)
def test_panels_say_how_well_the_measure_tells_the_gain(p, told):
    axis = drawn(cells(), p=p, spearman=-0.5).axes[0]
    assert axis.get_title().startswith(f"ρ = −.50, {told}")
    assert "4 sources" in axis.get_title()


def test_every_setting_has_a_row():
    table = pd.concat([cells(), cells("2.0")])
    figure = drawn(table)
    assert len(figure.axes) == 2 * len(MEASURES)
    assert "τ = 2.0" in figure.axes[len(MEASURES)].get_ylabel()
    assert set(table[SETTING[-1]]) == {"0.5", "2.0"}


def test_families_are_told_apart_by_marker():
    (legend,) = drawn(cells()).legends
    markers = [handle.get_marker() for handle in legend.legend_handles]
    assert [text.get_text() for text in legend.texts] == ["weather", "geometry", "adversarial"]
    assert len(set(markers)) == 3
