"""Figures of the geometry of covariances: each a function from tables to a matplotlib Figure. No files."""

from __future__ import annotations

import textwrap
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisetransfer.alignment import GAIN, MEASURES, SETTING
from noisetransfer.figures import TITLES
from noisetransfer.modifications import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from matplotlib.axes import Axes

    Style = dict[str, Any]

AXES = {
    "bures": "Bures distance",
    "cka": "CKA",
    "angle_mean": "mean principal angle (degrees)",
}
"""What a measure is called below its panel."""

# Okabe and Ito's colours; in black and white the dashes and the markers tell them apart
_COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
_DASHES: tuple[Any, ...] = "-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2))
_MARKERS = "osD^vPX"

_PANEL = 2.6, 2.5
"""Width and height of a panel, in inches."""


def spectra(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw the eigenvalues' shares of the trace over their index, a panel for each family of sources.

    Args:
        table: rows of network, site, trial, source, index, share, participation_ratio, slope, class_share.
        title: what study this is.

    Returns:
        mean over trials; the sources of other families in grey; a row of panels for each network and site.
    """
    place = ["network", "site", "source"]
    numbers = ["share", "participation_ratio", "slope", "class_share"]
    means = table.groupby([*place, "index"], sort=False)[numbers].mean().reset_index()
    means["family"] = means["source"].map(_family)
    families = list(dict.fromkeys(means["family"]))
    settings = list(means.groupby(["network", "site"], sort=False))
    figure, axes = _panels(len(settings), len(families))
    for row, ((network, site), own) in zip(axes, settings, strict=True):
        for axis, family in zip(row, families, strict=True):
            _spectra(axis, own, family)
        row[0].set_ylabel(f"{network}, {site}\nshare of the trace", fontsize=9)
    for axis, family in zip(axes[0], families, strict=True):
        axis.set_title(family, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("index of the eigenvalue", fontsize=9)
    figure.suptitle(f"{title}: spectra of the covariances", fontsize=12, x=0.01, ha="left")
    note = (
        "R: participation ratio (Σλ)² / Σλ²; s: slope of log λ over log index; C: share of the scatter "
        f"between the classes in the leading eigenvectors. {_trials(table)}"
    )
    _note(figure, note)
    return figure


def gain_against_geometry(cells: pd.DataFrame, tests: pd.DataFrame, *, title: str) -> Figure:
    """Draw the gain of each source ≠ target over every measure of their covariances.

    Args:
        cells: as from `alignment.aligned_cells`, not empty.
        tests: as from `alignment.alignment`.
        title: what study this is.

    Returns:
        a row of panels for each setting; the marker is the family of the source, filled where the target is
        of the same; Spearman's correlation and Mantel's p in each panel.
    """
    looks = _looks(map(_family, cells["source"]))
    settings = list(cells.groupby(SETTING, sort=False))
    figure, axes = _panels(len(settings), len(MEASURES))
    for row, (setting, own) in zip(axes, settings, strict=True):
        found = tests[(tests[SETTING] == list(setting)).all(axis=1)].set_index("measure")
        for axis, measure in zip(row, MEASURES, strict=True):
            _scatter(axis, own, measure, looks)
            axis.set_title(_result(*found.loc[measure, ["spearman", "p", "sources"]]), fontsize=9)
        network, site, regime, tau = setting
        told = f"{network}, {site}, {regime}, τ = {tau}"
        row[0].set_ylabel(f"{told}\n{TITLES[GAIN]}", fontsize=9)
    for axis, measure in zip(axes[-1], MEASURES, strict=True):
        axis.set_xlabel(AXES[measure], fontsize=9)
    figure.suptitle(f"{title}: gain against geometry", fontsize=12, x=0.01, ha="left")
    _families(figure, looks)
    note = (
        "Each point: a source and another target, arm full, mean over trials; marker: family of the source, "
        "filled where the target is of the same. ρ: Spearman. p: Mantel's test, two-sided. –: not defined, "
        "or not all pairs."
    )
    _note(figure, note)
    return figure


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    width, height = _PANEL
    size = max(width * columns + 1.6, 5.5), height * rows + 1.2
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row", sharex="col")
    for axis in axes.flat:
        axis.grid(color="0.92")
        axis.tick_params(labelsize=8)
    return figure, axes


def _spectra(axis: Axes, means: pd.DataFrame, family: str) -> None:
    axis.set(xscale="log", yscale="log")
    for _, own in means[means["family"] != family].groupby("source", sort=False):
        axis.plot(own["index"], own["share"], color="0.85", linewidth=0.8, zorder=1)
    own = means[means["family"] == family]
    looks = zip(cycle(_COLOURS), cycle(_DASHES), cycle(_MARKERS), strict=False)
    for (source, line), (colour, dashes, marker) in zip(
        own.groupby("source", sort=False), looks, strict=False
    ):
        style: Style = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3.5}
        places = _marked(len(line))
        axis.plot(
            line["index"], line["share"], markevery=places, label=_told(source, line), **style
        )
    if len(own):
        axis.legend(fontsize=6.5, loc="lower left", handlelength=2.8, frameon=False)


def _marked(count: int) -> list[int]:
    """Return places that are about even on a logarithmic axis."""
    return sorted({int(place) - 1 for place in np.geomspace(1, count, 6)})


def _told(source: object, line: pd.DataFrame) -> str:
    ratio, slope, share = line.iloc[0][["participation_ratio", "slope", "class_share"]]
    return f"{source}\nR {ratio:.3g}, s {_number(slope)}, C {_number(share)}"


def _scatter(axis: Axes, cells: pd.DataFrame, measure: str, looks: dict[str, Style]) -> None:
    axis.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    families = cells[["source", "target"]].map(_family)
    for family, style in looks.items():
        for same in (False, True):
            chosen = (families["source"] == family) & ((families["target"] == family) == same)
            fill = style["color"] if same else "white"
            own: Style = {**style, "linestyle": "none", "markerfacecolor": fill}
            axis.plot(cells.loc[chosen, measure], cells.loc[chosen, GAIN], **own)


def _looks(families: Iterable[str]) -> dict[str, Style]:
    looks = zip(dict.fromkeys(families), cycle(_COLOURS), cycle(_MARKERS), strict=False)
    return {f: {"color": colour, "marker": m, "markersize": 5} for f, colour, m in looks}


def _families(figure: Figure, looks: dict[str, Style]) -> None:
    handles = [
        Line2D([], [], **{**style, "linestyle": "none", "label": family})
        for family, style in looks.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, title="source")


def _result(spearman: float, p: float, sources: int) -> str:
    told = "< .001" if p < 0.001 else f"= {_number(p, 3)}"
    return f"ρ = {_number(spearman)}, p {told} ({int(sources)} sources)"


def _number(value: float, digits: int = 2) -> str:
    if np.isnan(value):
        return "–"
    told = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 else "") + (told[1:] if told.startswith("0.") else told)


def _family(id: str) -> str:
    return parse(id)[0].family


def _trials(table: pd.DataFrame) -> str:
    count = table["trial"].nunique()
    return "One trial." if count == 1 else f"Means over {count} trials."


def _note(figure: Figure, text: str) -> None:
    wrapped = textwrap.fill(text, int(15 * figure.get_figwidth()))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=8)
