"""Blocks of a heatmap: lines between modifications of different kinds, and the names of the kinds beside."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.textpath import TextPath

from noisetransfer.modifications import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from noisetransfer.looks import Style

CLEAN = "clean"
"""The kind of clean images, whose block has no name beside it: its one row says what it is."""

_SIDE = 36.0
"""Points that the side of a cell surely has."""

_TEXT, _LINE = 9.0, 15.0
"""Greatest size of the names, and length of the lines between them, in points."""


class Block(NamedTuple):
    """Neighbours of one kind.

    Attributes:
        kind: as `modifications` has it.
        first: position of the first of them.
        size: how many they are.
    """

    kind: str
    first: int
    size: int


def blocks(names: Iterable[str]) -> list[Block]:
    """Cut rows or columns into neighbours of one kind.

    Args:
        names: ids of modifications, or arms, which have no kind.

    Returns:
        nothing where there is but one kind beside clean images.
    """
    kinds = [parse(name)[0].kind if "@" in name else "" for name in names]
    if len({*kinds} - {CLEAN}) < 2:
        return []
    runs = [list(run) for _, run in groupby(enumerate(kinds), key=lambda place: place[1])]
    return [Block(run[0][1], run[0][0], len(run)) for run in runs]


def separate(axis: Axes, rows: Sequence[Block], columns: Sequence[Block]) -> None:
    """Draw lines between the blocks of axes with cells, below the frames of cells."""
    across, down = axis.get_xlim(), axis.get_ylim()
    for colour, width in (("white", 2.4), ("black", 0.9)):  # seen on dark cells and on light ones
        look: Style = {"colors": colour, "linewidths": width, "zorder": 0.5}
        axis.hlines(_edges(rows), *across, **look)
        axis.vlines(_edges(columns), *down, **look)


def name_rows(axis: Axes, rows: Sequence[Block], labels: Iterable[str]) -> None:
    """Write the kinds at the left of the labels of the rows, unless a kind is in several blocks."""
    if _is_named(rows):
        room = max(_width(label) for label in labels) + 6
        _name(axis.secondary_yaxis("left").yaxis, rows, room, 90)


def name_columns(axis: Axes, columns: Sequence[Block]) -> None:
    """Write the kinds above the columns, unless a kind is in several blocks."""
    if _is_named(columns):
        _name(axis.secondary_xaxis("top").xaxis, columns, 0, 0)


def height(columns: Sequence[Block]) -> float:
    """Return how much `name_columns` takes above the cells, in points."""
    return _LINE if _is_named(columns) else 0.0


def _is_named(found: Sequence[Block]) -> bool:
    kinds = [block.kind for block in found if block.kind != CLEAN]
    return len(kinds) > 0 and len(set(kinds)) == len(kinds)


def _name(beside: Axis, found: Sequence[Block], room: float, turn: float) -> None:
    """Write kinds on an axis, `room` points away from the cells, with lines between them."""
    named = [block for block in found if block.kind != CLEAN]
    centres = [block.first + (block.size - 1) / 2 for block in named]
    beside.set_ticks(centres, [block.kind for block in named])
    beside.set_tick_params(length=0, pad=room + 3, labelsize=_size(named), rotation=turn)
    beside.set_ticks(_edges(found), minor=True)
    beside.set_tick_params(which="minor", length=room + _LINE, width=0.9)
    beside.axes.spines[:].set_visible(False)


def _edges(found: Sequence[Block]) -> list[float]:
    return [block.first - 0.5 for block in found[1:]]


def _size(named: Sequence[Block]) -> float:
    """Return the size, in points, at which no name is longer than its block."""
    return min(_TEXT, *(_SIDE * block.size / _width(block.kind, 1.0) for block in named))


def _width(text: str, size: float | None = None) -> float:
    """Return the length of a text in points; its size in points, None: that of labels."""
    return float(TextPath((0, 0), text, size).get_extents().width)
