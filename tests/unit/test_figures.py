"""Figures show the numbers and names of their tables."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from noisetransfer.figures import TITLES, contact_sheet, transfer_heatmap
from noisetransfer.statistics import transfer_table

SOURCES = ["snow@5", "rotate@2.0"]
TARGETS = ["rotate@2.0", "clean@0", "snow@5"]
ORDER = ["clean@0", "snow@5", "rotate@2.0"]
STRUCTURED = ["diagonal", "full"]
GAINS = ["gain_over_none", "gain_over_identity"]


def study(*arms: str) -> pd.DataFrame:
    """Return a transfer table of two trials: 3 targets × 2 sources, every accuracy another."""
    cells = [
        (arm, source, target, trial)
        for arm in arms
        for source in (SOURCES if arm in STRUCTURED else ["any"])
        for target in TARGETS
        for trial in (0, 1)
    ]
    table = pd.DataFrame(cells, columns=["arm", "source", "target", "trial"])
    accuracy = np.random.default_rng(0).permutation(np.linspace(0.02, 0.98, len(cells)))
    keys = {"study": "s", "network": "v2", "site": "L2", "tau": 0.5, "regime": "retrain", "n": 50}
    return transfer_table([table.assign(accuracy=accuracy, **keys)])


TABLE = study("none", "identity", "diagonal", "full")


def heatmap(value: str, table: pd.DataFrame = TABLE) -> Figure:
    return transfer_heatmap(table, value, title="embedded, transfer", order=ORDER)


def panels(figure: Figure) -> dict:
    """Return the annotated axes of a heatmap by their titles."""
    return {axis.get_title(): axis for axis in figure.axes if axis.texts}


def panel(figure: Figure, arm: str):
    (found,) = (axis for title, axis in panels(figure).items() if arm in title)
    return found


def ticks(labels) -> list[str]:
    return [label.get_text() for label in labels]


def expected(arm: str, value: str) -> np.ndarray:
    """Return the means over trials of an arm, in the order asked for."""
    own = TABLE[TABLE["arm"] == arm]
    return np.array(
        [
            [own[(own["target"] == t) & (own["source"] == s)][value].mean() for s in SOURCES]
            for t in ORDER
        ]
    )


def shown(axis) -> np.ndarray:
    """Return the numbers written into the cells of a panel."""
    image = axis.images[0].get_array()
    numbers = np.full(image.shape, np.nan)
    for text in axis.texts:
        column, row = text.get_position()
        numbers[round(row), round(column)] = float(text.get_text())
    return numbers


# heatmaps


@pytest.mark.parametrize("value", TITLES)
@pytest.mark.parametrize("arm", STRUCTURED)
def test_cells_show_the_table_targets_in_rows_and_sources_in_columns(value, arm):
    axis = panel(heatmap(value), arm)
    assert np.asarray(axis.images[0].get_array()) == pytest.approx(expected(arm, value))
    assert shown(axis) == pytest.approx(expected(arm, value), abs=0.00501)


@pytest.mark.parametrize("arm", STRUCTURED)
def test_columns_are_named_by_their_sources(arm):
    assert ticks(panel(heatmap("accuracy"), arm).get_xticklabels()) == SOURCES


def test_rows_are_named_by_their_targets():
    named = [ticks(axis.get_yticklabels()) for axis in panels(heatmap("accuracy")).values()]
    assert ORDER in named
    assert all(names in (ORDER, []) for names in named)


def test_every_arm_with_a_source_has_a_panel_of_its_own_and_the_others_share_one():
    titles = list(panels(heatmap("accuracy")))
    assert len(titles) == 3
    assert [sum(arm in title for title in titles) for arm in STRUCTURED] == [1, 1]


def test_arms_without_a_source_are_columns_of_one_panel():
    named = [ticks(a.get_xticklabels()) for a in panels(heatmap("accuracy")).values()]
    assert sorted(names for names in map(sorted, named) if names != sorted(SOURCES)) == [
        ["identity", "none"]
    ]


@pytest.mark.parametrize(("value", "left"), [(GAINS[0], ["identity"]), (GAINS[1], ["none"])])
def test_gain_of_an_arm_over_itself_is_not_shown(value, left):
    named = [ticks(axis.get_xticklabels()) for axis in panels(heatmap(value)).values()]
    assert [names for names in named if names != SOURCES] == [left]


def test_title_names_the_study_and_the_value():
    text = heatmap("gain_over_none").get_suptitle()
    assert "embedded, transfer" in text
    assert TITLES["gain_over_none"] in text


@pytest.mark.parametrize("value", GAINS)
def test_gains_have_limits_symmetric_about_0_that_hold_every_cell(value):
    for axis in panels(heatmap(value)).values():
        low, high = axis.images[0].get_clim()
        assert low == -high
        assert np.abs(axis.images[0].get_array()).max() <= high


def test_accuracies_have_limits_of_0_and_1():
    limits = {axis.images[0].get_clim() for axis in panels(heatmap("accuracy")).values()}
    assert limits == {(0, 1)}


@pytest.mark.parametrize("value", TITLES)
def test_panels_share_their_limits_and_colours(value):
    images = [axis.images[0] for axis in panels(heatmap(value)).values()]
    assert len({image.get_clim() for image in images}) == 1
    assert len({image.get_cmap().name for image in images}) == 1


@pytest.mark.parametrize("value", TITLES)
def test_text_is_dark_on_light_cells_and_light_on_dark_ones(value):
    colours = set()
    for axis in panels(heatmap(value, TABLE[TABLE["trial"] == 0])).values():
        image = axis.images[0]
        for text in axis.texts:
            column, row = text.get_position()
            number = image.get_array()[round(row), round(column)]
            lightness = np.dot(image.cmap(image.norm(number))[:3], [0.299, 0.587, 0.114])
            colours.add(text.get_color())
            if not 0.4 < lightness < 0.6:
                assert text.get_color() == ("black" if lightness > 0.5 else "white")
    assert colours == {"black", "white"}


@pytest.mark.parametrize("value", GAINS)
@pytest.mark.parametrize(
    "arms",
    [("none", "full"), ("identity", "full"), ("full",), ("none", "identity"), ("none",)],
    ids=" ".join,
)
def test_study_without_some_arms_has_figures_all_the_same(value, arms, tmp_path):
    heatmap(value, study(*arms)).savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0


def test_gains_that_are_all_0_can_be_drawn(tmp_path):
    table = TABLE.assign(gain_over_none=0.0)
    for axis in panels(heatmap("gain_over_none", table)).values():
        assert np.array_equal(shown(axis), np.zeros(axis.images[0].get_array().shape))
        low, high = axis.images[0].get_clim()
        assert low < 0 < high


@pytest.mark.parametrize("number", [-0.001, 0.001])
def test_gain_that_rounds_to_0_has_no_sign(number):
    table = TABLE.assign(gain_over_none=number)
    texts = {text.get_text() for text in panel(heatmap("gain_over_none", table), "full").texts}
    assert len(texts) == 1
    assert "-" not in texts.pop()


# contact sheets


def pictures(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).random((3, channels, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_contact_sheet_has_a_row_for_each_modification(channels):
    images = {name: pictures(channels) for name in ("clean@0", "snow@5")}
    figure = contact_sheet(images, ["coat", "bag", "shirt"])
    grid = np.array([axis for axis in figure.axes if axis.images]).reshape(2, 3)
    assert [row[0].get_ylabel() for row in grid] == ["clean@0", "snow@5"]
    assert [axis.get_title() for axis in grid[0]] == ["coat", "bag", "shirt"]
    for row, originals in zip(grid, images.values(), strict=True):
        for axis, original in zip(row, originals, strict=True):
            drawn = np.asarray(axis.images[0].get_array())
            assert np.array_equal(drawn.reshape(8, 8, channels), np.moveaxis(original, 0, -1))


def test_contact_sheet_does_not_stretch_the_contrast():
    figure = contact_sheet({"contrast@5": np.full((1, 1, 8, 8), 0.5)}, ["coat"])
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_contact_sheet_of_other_images_than_labels_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        contact_sheet({"clean@0": pictures(1)}, ["coat"])
