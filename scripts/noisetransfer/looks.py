"""How lines look: colours that the colour-blind tell apart; dashes and markers that do so in grey."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from noisetransfer.arms import ARMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Style = dict[str, Any]
"""Keyword arguments of matplotlib's lines."""

# Okabe and Ito's colours, black on; in black and white the line style and the marker tell lines apart
LOOKS: tuple[tuple[str, Any, str], ...] = (
    ("#000000", ":", "s"),
    ("#E69F00", "--", "^"),
    ("#009E73", "-.", "D"),
    ("#0072B2", "-", "o"),
    ("#D55E00", (0, (8, 2)), "v"),
    ("#CC79A7", (0, (3, 1, 1, 1, 1, 1)), "P"),
    ("#56B4E9", (0, (5, 1)), "X"),
    ("#999999", (0, (1, 1)), "<"),
    ("#6B4C1E", (0, (8, 2, 1, 2)), ">"),
    ("#44AA99", (0, (2, 1)), "p"),
    ("#882255", (0, (6, 1, 1, 1)), "h"),
)


def styles(lines: Iterable[str]) -> dict[str, Style]:
    """Return the look of every line: an arm always has its own, other lines those left, in order."""
    named = list(dict.fromkeys(lines))
    arms = {arm: look for arm, look in zip(ARMS, LOOKS, strict=False) if arm in named}
    free = cycle([look for look in LOOKS[2:] if look not in arms.values()] or LOOKS)
    looks = arms | {line: next(free) for line in named if line not in arms}
    return {line: style(*look) for line, look in looks.items()}


def kin(look: Style, lines: Sequence[str]) -> dict[str, Style]:
    """Return looks for lines that are in order: shades up to the colour, and a marker each."""
    own = np.array(to_rgb(look["color"]))
    colours = (1 - share * (1 - own) for share in np.linspace(1.0, 0.4, len(lines))[::-1])
    markers = cycle(marker for *_, marker in LOOKS)
    looks = zip(lines, colours, markers, strict=False)
    return {line: {**look, "color": shade, "marker": marker} for line, shade, marker in looks}


def style(colour: Any, dashes: Any, marker: str) -> Style:
    return {
        "color": colour,
        "linestyle": dashes,
        "marker": marker,
        "markersize": 3.5,
        "linewidth": 1.3,
    }


def shades(lines: Sequence[str]) -> dict[str, Style]:
    """Return looks for lines that are in order, from light to dark."""
    shades = colormaps["YlOrBr"](np.linspace(0.35, 1.0, len(lines)))
    looks = zip(lines, shades, cycle("^vDPX<>p*"), strict=False)
    return {line: style(shade, "--", marker) for line, shade, marker in looks}
