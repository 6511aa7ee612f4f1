"""Figures show the numbers and names of their tables."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from noisetransfer.clusters import COLOURS, clustered_heatmap
from noisetransfer.figures import TITLES, contact_sheet, transfer_heatmap
from noisetransfer.outcomes import KEYS
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
    return summarised(transfer_table([table.assign(accuracy=accuracy, **keys)]))


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """Return what a figure needs of a summary: means over trials; gains above 0.1 are no chance."""
    means = table.groupby([*KEYS, "n"])[["accuracy", *GAINS]].mean().reset_index()
    p = {f"{gain}_p_adjusted": np.where(means[gain].abs() > 0.1, 0.001, 0.7) for gain in GAINS}
    return means.assign(trials=2, resampled="images", **p)


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
    for axis in panels(heatmap(value)).values():
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


def dots(axis) -> set[tuple[int, int]]:
    """Return the cells that have a dot: row, column."""
    return {
        (round(line.get_ydata()[0]), round(line.get_xdata()[0]))
        for line in axis.lines
        if line.get_marker() == "o"
    }


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("arm", STRUCTURED)
def test_gains_that_are_no_chance_have_a_dot(gain, arm):
    axis = panel(heatmap(gain), arm)
    large = np.argwhere(np.abs(expected(arm, gain)) > 0.1).tolist()
    assert large
    assert dots(axis) == set(map(tuple, large))


def test_a_dot_has_the_colour_of_the_number_beside_it():
    axis = panel(heatmap("gain_over_none"), "full")
    colours = {text.get_position()[::-1]: text.get_color() for text in axis.texts}
    for line, cell in ((line, dots_of([line])) for line in axis.lines):
        assert line.get_color() == colours[cell]


def dots_of(lines) -> tuple[int, int]:
    (line,) = lines
    return round(line.get_ydata()[0]), round(line.get_xdata()[0])


def test_accuracies_have_no_dots():
    assert not any(dots(axis) for axis in panels(heatmap("accuracy")).values())


def test_caption_tells_images_and_trials_and_whom_a_dot_speaks_of():
    text = told(heatmap("gain_over_none"))
    assert "50 test images, 2 trials" in text
    assert "for these trials on new images, adjusted p < 0.05" in text
    new = TABLE.assign(trials=10, resampled="images and trials")
    assert "10 trials; dot: not 0 for new trials" in told(heatmap("gain_over_none", new))
    assert "dot" not in told(heatmap("accuracy"))


def told(figure) -> str:
    """The caption in one line."""
    return " ".join(figure.get_supxlabel().split())


def test_caption_is_no_wider_than_the_figure():
    narrow = TABLE[TABLE["source"].isin([TABLE["source"].iloc[0], "any"])]
    figure = heatmap("gain_over_none", narrow)
    figure.draw_without_rendering()
    (text,) = [text for text in figure.texts if text.get_text() == figure.get_supxlabel()]
    assert text.get_window_extent().width <= figure.bbox.width


# blocks

NATURAL = ["gaussian_noise@5", "motion_blur@5", "snow@5"]
WARPS = ["rotate@2.0", "elastic@2.0"]
APART = ["snow@5", "rotate@2.0", "motion_blur@5", "pgd@0.1"]


def blocked(names: list[str], value: str = "gain_over_none") -> Figure:
    """Return the heatmap of arms full and identity: these sources under them and clean images."""
    targets = ["clean@0", *names]
    cells = [(s, t, "full") for s in names for t in targets]
    cells += [("any", t, "identity") for t in targets]
    table = pd.DataFrame(cells, columns=["source", "target", "arm"])
    values = {"accuracy": 0.5, "gain_over_none": 0.3, "gain_over_none_p_adjusted": 0.01}
    table = table.assign(**values, n=50, trials=2, resampled="images")
    return transfer_heatmap(table, value, title="a title", order=targets)


def edges(axis) -> tuple[set[float], set[float]]:
    """Return where lines part rows, and where they part columns."""
    segments = [segment for lines in axis.collections for segment in lines.get_segments()]
    rows = {float(a[1]) for a, b in segments if a[1] == b[1]}
    columns = {float(a[0]) for a, b in segments if a[0] == b[0]}
    return rows, columns


def kinds_beside(axis) -> tuple[list[str], list[str]]:
    """Return the kinds that are written beside the rows, and above the columns."""
    rows = [name for child in axis.child_axes for name in ticks(child.get_yticklabels())]
    columns = [name for child in axis.child_axes for name in ticks(child.get_xticklabels())]
    return rows, columns


@pytest.mark.parametrize("value", ["accuracy", "gain_over_none"])
def test_lines_part_modifications_of_different_kinds(value):
    figure = blocked([*NATURAL, *WARPS, "pgd@0.1"], value)
    assert edges(panel(figure, "full")) == ({0.5, 3.5, 5.5}, {2.5, 4.5})
    assert edges(panel(figure, "no source")) == ({0.5, 3.5, 5.5}, set())


def test_each_kind_is_written_once_beside_its_rows_and_above_its_columns():
    figure = blocked([*NATURAL, *WARPS, "pgd@0.1"])
    kinds = ["corruption", "transform", "attack"]
    assert kinds_beside(panel(figure, "full")) == (kinds, kinds)
    assert kinds_beside(panel(figure, "no source")) == ([], [])
    rows, columns = panel(figure, "full").child_axes[::-1]
    assert rows.get_yticks().tolist() == [2, 4.5, 6]
    assert columns.get_xticks().tolist() == [1, 3.5, 5]


def test_a_kind_in_several_places_is_parted_but_not_named():
    axis = panel(blocked(APART), "full")
    assert edges(axis) == ({0.5, 1.5, 2.5, 3.5}, {0.5, 1.5, 2.5})
    assert kinds_beside(axis) == ([], [])


def test_one_kind_has_neither_lines_nor_a_name():
    axis = panel(blocked(NATURAL), "full")
    assert edges(axis) == (set(), set())
    assert kinds_beside(axis) == ([], [])


@pytest.mark.parametrize(
    "names",
    [
        ["snow@5", "rotate@2.0", "pgd@0.1"],
        [*NATURAL, *WARPS, "pgd@0.1"],
        ["snow@5", "rotate@2.0", *(f"pgd@{epsilon / 100}" for epsilon in range(1, 15))],
    ],
    ids=len,
)
def test_names_of_kinds_overlap_nothing(names):
    figure = blocked(names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axis = panel(figure, "full")
    cells = axis.get_window_extent()
    labels = [*axis.get_yticklabels(), *axis.get_xticklabels(), axis.title]
    beside = axis.child_axes
    kinds = [label for one in beside for label in [*one.get_xticklabels(), *one.get_yticklabels()]]
    boxes = [text.get_window_extent() for text in [*kinds, *labels]]
    assert len(kinds) == 6
    for box, other in combinations([*boxes[: len(kinds)], cells], 2):
        assert not box.overlaps(other)
    for box, other in product(boxes[: len(kinds)], boxes[len(kinds) :]):
        assert not box.overlaps(other)


@pytest.mark.parametrize("names", [NATURAL, [*NATURAL, "pgd@0.1"]], ids=len)
def test_titles_of_panels_are_in_one_line(names):
    figure = blocked(names)
    FigureCanvasAgg(figure).draw()
    bottoms = [axis.title.get_window_extent().y0 for axis in panels(figure).values()]
    assert len(bottoms) == 2
    assert bottoms[0] == pytest.approx(bottoms[1], abs=5)


# clusters

LIKE = {"snow@5": 0, "rotate@2.0": 1, "fog@5": 0, "elastic@2.0": 1, "pgd@0.1": 0}


def of_two_kinds(names=tuple(LIKE)) -> pd.DataFrame:
    """Return a summary whose gains tell two kinds of modifications apart."""
    cells = [(s, t, 0.4 * (LIKE[s] == LIKE[t]) + 0.01 * len(s)) for s in names for t in names]
    table = pd.DataFrame(cells, columns=["source", "target", "gain_over_identity"])
    shown = {"arm": "full", "accuracy": 0.5, "gain_over_none": np.nan, "n": 50, "trials": 2}
    return table.assign(gain_over_identity_p_adjusted=0.01, resampled="images", **shown)


def clustered(table: pd.DataFrame):
    figure = clustered_heatmap(table, title="embedded, transfer")
    (axis,) = (axis for axis in figure.axes if axis.texts and axis.images)
    return figure, axis


def test_like_modifications_are_side_by_side():
    figure, axis = clustered(of_two_kinds())
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        kinds = [LIKE[name] for name in ticks(labels)]
        assert kinds in (sorted(kinds), sorted(kinds, reverse=True))
    values = of_two_kinds().set_index(["target", "source"])["gain_over_identity"]
    names = [(t, s) for t in ticks(axis.get_yticklabels()) for s in ticks(axis.get_xticklabels())]
    assert shown(axis).ravel() == pytest.approx([values[name] for name in names], abs=0.00501)
    assert "arm full" in figure.get_suptitle()
    assert len(dots(axis)) == 25


def test_bars_have_the_colours_of_the_families_in_the_order_of_the_cells():
    figure, axis = clustered(of_two_kinds())
    known = {"snow@5": "weather", "fog@5": "weather", "pgd@0.1": "adversarial"}
    colours = [COLOURS[known.get(n, "geometry")] for n in ticks(axis.get_xticklabels())]
    bars = [[p for p in axis.patches if p.get_width() == 1] for axis in figure.axes]
    drawn = [[to_hex(p.get_facecolor()).upper() for p in bar] for bar in bars if len(bar) == 5]
    assert colours in drawn


@pytest.mark.parametrize("names", [["snow@5"], ["snow@5", "fog@5"]])
def test_few_modifications_can_be_clustered(names, tmp_path):
    clustered(of_two_kinds(names))[0].savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0


@pytest.mark.parametrize(
    "arms", [("none", "full"), ("diagonal",), ("none", "identity"), ("none",)], ids=" ".join
)
def test_study_without_some_arms_can_be_clustered(arms):
    figure, axis = clustered(study(*arms))
    assert len(ticks(axis.get_yticklabels())) == 3
    assert ("arm " in figure.get_suptitle()) == (arms[-1] in STRUCTURED)


def test_cells_that_were_not_run_are_shown_as_such():
    table = of_two_kinds()
    _, axis = clustered(table[(table["source"] != "snow@5") | (table["target"] != "pgd@0.1")])
    assert [text.get_text() for text in axis.texts].count("–") == 1


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
