"""Figures: each a function from tables or images to a matplotlib Figure. No file is read or written here."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from noisetransfer.arms import NO_SOURCE
from noisetransfer.blocks import blocks, height, name_columns, name_rows, separate
from noisetransfer.statistics import matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

TITLES = {
    "accuracy": "accuracy",
    "gain_over_none": "gain in accuracy over no noise",
    "gain_over_identity": "gain in accuracy over identity noise",
}

GAINS = ("gain_over_none", "gain_over_identity")

CELL_INCHES = 0.52

_LETTERS_AN_INCH = 16  # of a caption

_MEANT = {"images": "for these trials on new images", "images and trials": "for new trials"}

LEVEL = 0.05
"""False discovery rate of the cells with a dot."""


def transfer_heatmap(
    table: pd.DataFrame, value: str, *, title: str, order: Sequence[str]
) -> Figure:
    """Draw every source × target, one panel per arm, `full` first; arms without a source come last.

    Cells whose gain is no chance (adjusted p below `LEVEL`) have a dot. Lines part modifications of different
    kinds; their names stand beside the rows and above the columns where every kind is together.

    Args:
        table: as from `summary.summary`.
        value: column of the table, a key of `TITLES`.
        title: what study this is.
        order: modifications in the order of rows and columns.

    Returns:
        targets in rows, sources in columns, mean over trials; gains on a diverging map centred on 0.
    """
    ordered = _ordered(table, order)
    panels = _panels(ordered, value)
    marked = _panels(ordered, f"{value}_p_adjusted") if value in GAINS else {}
    widths = [panel.shape[1] for panel in panels.values()]
    targets = list(next(iter(panels.values())).index)
    margins = 3.2 + 0.3 * len(widths)  # names of targets, colour bar, gaps, in inches
    figure = Figure(
        figsize=(CELL_INCHES * sum(widths) + margins, CELL_INCHES * len(targets) + 3.0),
        layout="constrained",
    )
    axes = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False, sharey=True)[0]
    limits = _limits(table[value], value)
    rows, columns = blocks(targets), {name: blocks(panel.columns) for name, panel in panels.items()}
    above = max(map(height, columns.values()))
    for axis, (name, panel) in zip(axes, panels.items(), strict=True):
        image = annotated(axis, panel, limits, "cividis" if value == "accuracy" else "PuOr")
        axis.set_title(name, fontsize=11, y=1.0, pad=6 + above)  # all in one line
        if name in marked:
            mark(axis, marked[name].reindex_like(panel) < LEVEL)
        separate(axis, rows, columns[name])
        name_columns(axis, columns[name])
    name_rows(axes[0], rows, targets)
    figure.supylabel("target (tested under)", fontsize=10)
    caption(figure, table, value)
    figure.suptitle(f"{title}: {TITLES[value]}", fontsize=13)
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, label=TITLES[value])
    return figure


def caption(figure: Figure, table: pd.DataFrame, value: str) -> None:
    """Write below a heatmap how many images and trials there are, and what a dot means.

    Args:
        figure: to write on.
        table: as from `summary.summary`.
        value: column that is shown.
    """
    sizes = [_range(table["n"], "test image"), _range(table["trials"], "trial")]
    text = f"mean of {', '.join(sizes)}"
    if value in GAINS:
        meant = " or ".join(sorted({_MEANT[name] for name in table["resampled"]}))
        text += f"; dot: not 0 {meant}, adjusted p < {LEVEL:g} (Benjamini–Hochberg, by arm)"
    width = int(_LETTERS_AN_INCH * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(text, width), fontsize=9)


def mark(axis: Axes, marked: pd.DataFrame) -> None:
    """Put a dot into the upper right corner of cells of `annotated` axes, in the colour of their number.

    Args:
        axis: with the cells.
        marked: which cells; targets in rows, sources in columns.
    """
    colours = {text.get_position(): text.get_color() for text in axis.texts}
    for row, column in np.argwhere(marked.to_numpy()).tolist():
        colour = colours[(column, row)]
        axis.plot(column + 0.34, row - 0.34, "o", markersize=3, color=colour, clip_on=False)


def contact_sheet(images: Mapping[str, NDArray[np.floating]], labels: list[str]) -> Figure:
    """Show the same images under every modification.

    Args:
        images: modification → images (n, C, H, W) in [0, 1].
        labels: names of the classes of the n images.
    """
    figure = Figure(
        figsize=(1.0 * len(labels) + 1.6, 1.0 * len(images) + 0.5), layout="constrained"
    )
    axes = figure.subplots(len(images), len(labels), squeeze=False)
    for row, (name, pictures) in zip(axes, images.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set_title(label, fontsize=9)
    return figure


def _ordered(table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    rank = {name: i for i, name in enumerate(order)}
    return table.sort_values(
        ["target", "source"], key=lambda names: names.map(rank).fillna(-1), kind="stable"
    )


def _panels(table: pd.DataFrame, value: str) -> dict[str, pd.DataFrame]:
    shaped = table[table["source"] != NO_SOURCE]
    arms = sorted(shaped["arm"].unique(), key=lambda arm: (arm != "full", arm))
    panels = {f"arm {arm}, by source": matrix(shaped, arm, value) for arm in arms}
    plain = table[table["source"] == NO_SOURCE]
    if panels:  # an arm gains nothing over itself: shown only where nothing else is
        own = value.removeprefix("gain_over_").removesuffix("_p_adjusted")
        plain = plain[plain["arm"] != own]
    if len(plain):
        cells = plain.groupby(["target", "arm"], sort=False, observed=True)[value].mean()
        panels["no source"] = cells.unstack("arm")
    return panels


def _range(numbers: pd.Series, what: str) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    many = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{many} {what}{'s' * (high != 1)}"


def _limits(values: pd.Series, value: str) -> tuple[float, float]:
    if value == "accuracy":
        return 0.0, 1.0
    bound = float(values.abs().max()) or 1.0
    return -bound, bound


def annotated(
    axis: Axes, cells: pd.DataFrame, limits: tuple[float, float], colours: str
) -> AxesImage:
    """Draw cells with their numbers on axes; those with source = target are framed.

    Args:
        axis: to draw on.
        cells: targets in rows, sources in columns.
        limits: values of the first and the last colour.
        colours: name of the colour map.
    """
    image = axis.imshow(cells, vmin=limits[0], vmax=limits[1], cmap=colours)
    axis.set_xticks(range(len(cells.columns)), cells.columns, rotation=90)
    axis.set_yticks(range(len(cells.index)), cells.index)
    axis.tick_params(length=0)
    for (row, column), number in np.ndenumerate(cells.to_numpy()):
        text = _text(number)
        colour = "black" if np.isnan(number) or _luminance(image, number) > 0.45 else "white"
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        if cells.index[row] == cells.columns[column]:
            axis.add_patch(_frame(column, row))
    return image


def _text(number: float) -> str:
    if np.isnan(number):
        return "–"  # the arm that the gain refers to was not run
    return f"{round(number, 2) + 0:.2f}".replace("0.", ".", 1)  # + 0: no "-.00"


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.6)


def _luminance(image: AxesImage, number: float) -> float:
    rgba = image.to_rgba(np.array([number]))[0]
    return float(rgba[:3] @ (0.299, 0.587, 0.114))
