"""The transfer heatmap of one arm with like modifications side by side. No files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

from noisetransfer.arms import NO_SOURCE
from noisetransfer.families import family
from noisetransfer.figures import CELL_INCHES, GAINS, LEVEL, TITLES, annotated, caption, mark
from noisetransfer.statistics import matrix

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

COLOURS = {
    "noise": "#E69F00",
    "blur": "#56B4E9",
    "weather": "#F0E442",
    "digital": "#0072B2",
    "geometry": "#009E73",
    "occlusion": "#CC79A7",
    "adversarial": "#D55E00",
    "clean": "#FFFFFF",
}
"""Of families: Okabe & Ito (2008), which the colour-blind tell apart; what is not listed is grey."""


def clustered_heatmap(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw one arm, targets × sources, both in the order of a hierarchical clustering.

    Rows and columns are clustered by the distances of their values (average linkage, Euclidean; UPGMA), with
    dendrograms and a bar in the colours of the families. Cells that were not run count as the mean of all.

    Args:
        table: as from `summary.summary`.
        title: what study this is.

    Returns:
        the arm `full`, or the first arm with a source, or, where there is none, the arms without one; its
        gain over identity, or where that was not run over none, or its accuracy.
    """
    arm, shown = _arm(table)
    value = next((v for v in reversed(GAINS) if shown[v].notna().any()), "accuracy")
    cells = _cells(shown, arm, value)
    rows, columns = _linkage(cells.to_numpy()), _linkage(cells.to_numpy().T)
    cells = cells.iloc[_leaves(rows, len(cells)), _leaves(columns, len(cells.columns))]
    figure, axes = _layout(cells.shape)
    bound = float(np.nanmax(np.abs(cells))) or 1.0
    gain = value in GAINS
    limits, colours = ((-bound, bound), "PuOr") if gain else ((0.0, 1.0), "cividis")
    image = annotated(axes["cells"], cells, limits, colours)
    if gain:
        mark(axes["cells"], _cells(shown, arm, f"{value}_p_adjusted").reindex_like(cells) < LEVEL)
    axes["cells"].set_aspect("auto")  # as wide as the bar above it
    axes["cells"].yaxis.tick_right()
    axes["cells"].tick_params(length=0)
    _trees(axes, rows, columns)
    _bars(axes, cells)
    figure.colorbar(image, cax=axes["colours"], label=TITLES[value])
    what = f"arm {arm}" if arm else "no source"
    figure.suptitle(f"{title}: {what}, clustered", fontsize=13)
    caption(figure, shown, value)
    return figure


def _arm(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Choose the arm that is shown; "" stands for all arms without a source."""
    shaped = table[table["source"] != NO_SOURCE]
    arms = sorted(shaped["arm"].unique(), key=lambda arm: (arm != "full", arm))
    return (arms[0], shaped[shaped["arm"] == arms[0]]) if arms else ("", table)


def _cells(shown: pd.DataFrame, arm: str, value: str) -> pd.DataFrame:
    if arm:
        return matrix(shown, arm, value)
    return shown.groupby(["target", "arm"], sort=False, observed=True)[value].mean().unstack("arm")


def _linkage(values: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """Cluster the rows of a matrix; None of a single row."""
    filled = np.where(np.isnan(values), np.nanmean(values), values)
    return linkage(filled, "average", optimal_ordering=True) if len(filled) > 1 else None


def _leaves(tree: NDArray[np.floating] | None, count: int) -> list[int]:
    return list(range(count)) if tree is None else leaves_list(tree).tolist()


def _layout(shape: tuple[int, int]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure of cells with bars and trees at the left and on top, and a colour bar."""
    rows, columns = shape
    size = CELL_INCHES * columns + 4.6, CELL_INCHES * rows + 3.6
    figure = Figure(figsize=size, layout="constrained")
    axes: dict[str, Axes] = figure.subplot_mosaic(
        [
            [".", ".", "top tree", ".", "legend"],
            [".", ".", "top bar", ".", "legend"],
            ["left tree", "left bar", "cells", ".", "colours"],
        ],
        width_ratios=[1.3, 0.4, columns, 0.1, 0.4],
        height_ratios=[1.3, 0.4, rows],
    )
    return figure, axes


def _trees(axes: dict[str, Axes], *trees: NDArray[np.floating] | None) -> None:
    sides: tuple[Literal["left", "top"], ...] = ("left", "top")
    for side, tree in zip(sides, trees, strict=True):
        name = f"{side} tree"
        axes[name].set_axis_off()
        if tree is not None and tree[-1, 2] > 0:  # not where all are alike
            dendrogram(
                tree,
                ax=axes[name],
                orientation=side,
                no_labels=True,
                color_threshold=0,
                above_threshold_color="black",
            )
    axes["left tree"].invert_yaxis()  # first row on top


def _bars(axes: dict[str, Axes], cells: pd.DataFrame) -> None:
    targets, sources = (list(map(_family, names)) for names in (cells.index, cells.columns))
    for i, name in enumerate(targets):
        axes["left bar"].add_patch(_square((0, i), name))
    for i, name in enumerate(sources):
        axes["top bar"].add_patch(_square((i, 0), name))
    axes["left bar"].set(xlim=(0, 1), ylim=(len(targets), 0))
    axes["top bar"].set(xlim=(0, len(sources)), ylim=(0, 1))
    for name in ("left bar", "top bar", "legend"):
        axes[name].set_axis_off()
    known = [name for name in [*COLOURS, *sources, *targets] if name in {*sources, *targets}]
    axes["legend"].legend(handles=_handles(dict.fromkeys(known)), loc="lower left", fontsize=8)


def _handles(families: Iterable[str]) -> list[Patch]:
    return [Patch(facecolor=_colour(n), edgecolor="black", label=n) for n in families]


def _square(corner: tuple[float, float], name: str) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor=_colour(name), edgecolor="black", linewidth=0.6)


def _colour(name: str) -> str:
    return COLOURS.get(name, "#999999")


def _family(name: str) -> str:
    """Return the family of a modification; arms have none."""
    return family(name) if "@" in name else "no source"
