"""The interactive heatmap of a report as data: its cells, views, orders and one plotly figure a measure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.cluster.hierarchy import leaves_list, linkage

from noisetransfer.arms import NO_NOISE, NO_SOURCE
from noisetransfer.errors import StudyError
from noisetransfer.figures import TITLES
from noisetransfer.findings import CLEAN
from noisetransfer.modifications import MODIFICATIONS, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

SETTING = ["network", "site", "tau", "regime"]
"""Columns that name a setting; arm none, which has no τ, belongs to all of its network, site and regime."""

OWN = "every arm, noise of the target itself"
ARMS = [
    "full",
    "diagonal",
    "rotated",
    "permuted",
    "signal",
    "pooled",
    "fine_tuned",
    "identity",
    "none",
]
FONT = {"family": "system-ui, sans-serif", "color": "#1a1a1a", "size": 13}


def explorer(
    summary: pd.DataFrame,
    measures: Mapping[str, str] = TITLES,
    extra: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Arrange the cells of an experiment for the page.

    Args:
        summary: one row per network, site, tau, regime, arm, source and target; a column per measure, and
            beside it, where known, its `_low`, `_high` and `_p_adjusted`; n; trials.
        measures: column → title of what the heatmap can show; accuracy lies in 0 … 1, all else around 0.
        extra: column → title of what is told of a cell besides.

    Returns:
        JSON: `measures`, each with its title and an empty plotly figure; `facts`, titles by column; `cells`,
        by column; `settings`, each with its label, network and views (see `_view`).
    """
    rows = summary.reset_index(drop=True)
    facts = {**measures, **(extra or {})}
    return {
        "measures": [
            {"key": key, "title": title, "figure": _figure(rows[key], title)}
            for key, title in measures.items()
            if rows[key].notna().any()
        ],
        "facts": facts,
        "cells": _cells(rows, facts),
        "settings": [_setting(name, own, list(measures)) for name, own in _settings(rows)],
    }


def ordered(names: Iterable[str]) -> list[str]:
    """Sort modifications as the registry does, clean images first, those of one name by strength."""
    known = list(MODIFICATIONS)

    def rank(name: str) -> tuple[int, float, str]:
        try:
            entry, strength = parse(name)
        except StudyError:  # a list of sources has a name of its own
            return len(known), 0.0, name
        position = known.index(entry.name) if entry.name in MODIFICATIONS else len(known)
        return (-1 if name == CLEAN else position), strength, name

    return sorted(dict.fromkeys(names), key=rank)


def _cells(rows: pd.DataFrame, facts: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return the columns that the page shows; what is not known is None."""
    ends = [f"{key}{end}" for key in facts for end in ("", "_low", "_high", "_p_adjusted")]
    named = ["source", "target", "arm", "n", "trials", "resampled", *ends]
    return {name: _plain(rows[name]) for name in named if name in rows}


def _plain(column: pd.Series[Any]) -> list[Any]:
    if column.dtype.kind == "f":
        return [None if np.isnan(number) else round(number, 5) for number in column.tolist()]
    return list(column.tolist())


def _settings(rows: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Return every setting with its rows, and those of no noise for the sources and targets that it has."""
    keys = [key for key in SETTING if key != "tau"]
    noisy = rows[rows["tau"] != NO_NOISE]
    found = []
    for setting, own in (noisy if len(noisy) else rows).groupby(SETTING, sort=False, observed=True):
        named = dict(zip(SETTING, map(str, setting), strict=True))
        same = (rows[keys].astype(str) == [named[key] for key in keys]).all(axis=1)
        known = rows["target"].isin(own["target"]) & rows["source"].isin(
            [NO_SOURCE, *own["source"]]
        )
        plain = rows[same & (rows["tau"] == NO_NOISE) & known]
        found.append((named, own if len(noisy) == 0 else pd.concat([own, plain])))
    return found


def _setting(name: dict[str, str], rows: pd.DataFrame, measures: list[str]) -> dict[str, Any]:
    label = f"{name['network']}, {name['site']}, τ {name['tau']}, {name['regime']}"
    views = [_view(group, title, cells, rows, measures) for group, title, cells in _tables(rows)]
    return {"label": label, "network": name["network"], "views": views}


def _tables(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return group, name and numbers of rows (in cells) of every heatmap that one setting allows.

    One an arm, targets × sources; one of all arms, each target under noise of its own; one a target, arms ×
    sources. Where targets have no other source than themselves, only the second says anything.
    """
    arms = sorted(rows["arm"].unique(), key=lambda arm: [*ARMS, arm].index(arm))
    shaped, free = rows[rows["source"] != NO_SOURCE], rows[rows["source"] == NO_SOURCE]
    sources = shaped.groupby("target", observed=True)["source"].nunique()
    several = ordered(sources.index[sources > 1].tolist())
    found = []
    if set(several) - {CLEAN}:
        found += [
            ("arm", arm, _pivot(rows[rows["arm"] == arm], "target", "source")) for arm in arms
        ]
    own = pd.concat([shaped[shaped["source"] == shaped["target"]], free])
    found.append(("arm", OWN, _pivot(own, "target", "arm", across_order=arms)))
    # arms without a source are repeated under every source: there they are what the others compare with
    repeated = [free.assign(source=source) for source in shaped["source"].unique()]
    every = pd.concat([shaped, *repeated])
    for target in several:
        cells = every[every["target"] == target]
        found.append(("target", target, _pivot(cells, "arm", "source", down_order=arms)))
    return [(group, name, cells) for group, name, cells in found if cells.size]


def _pivot(
    rows: pd.DataFrame,
    down: str,
    across: str,
    *,
    down_order: Sequence[str] | None = None,
    across_order: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the number of the row of each cell, −1 where there is none; modifications in their order."""
    numbered = rows.assign(row=rows.index).drop_duplicates([down, across])
    table = numbered.pivot(index=down, columns=across, values="row").fillna(-1).astype(int)
    lines, columns = down_order or ordered(table.index), across_order or ordered(table.columns)
    return table.loc[_known(lines, table.index), _known(columns, table.columns)]


def _known(names: Sequence[str], index: pd.Index[Any]) -> list[str]:
    return [name for name in names if name in index]


def _view(
    group: str, name: str, table: pd.DataFrame, rows: pd.DataFrame, measures: list[str]
) -> dict[str, Any]:
    """Return one heatmap: what its rows and columns are called, its cells, and orders by measure."""
    orders = {key: _orders(_values(table, rows[key])) for key in measures}
    return {
        "group": group,
        "name": name,
        "down": table.index.name,
        "across": table.columns.name,
        "rows": table.index.tolist(),
        "columns": table.columns.tolist(),
        "cells": table.to_numpy().tolist(),
        "orders": orders,
    }


def _values(table: pd.DataFrame, values: pd.Series[float]) -> NDArray[np.floating]:
    numbers = values.reindex(table.to_numpy().ravel()).to_numpy(dtype=float)
    return numbers.reshape(table.shape)


def _orders(values: NDArray[np.floating]) -> dict[str, list[list[int]]]:
    """Return rows and columns by their mean, greatest first, and so that alike stand together."""
    known = np.where(
        np.isnan(values), np.nanmean(values) if (~np.isnan(values)).any() else 0.0, values
    )
    means = [np.argsort(-known.mean(axis=axis), kind="stable") for axis in (1, 0)]
    return {
        "mean": [order.tolist() for order in means],
        "cluster": [clustered(known).tolist(), clustered(known.T).tolist()],
    }


def clustered(values: NDArray[np.floating]) -> NDArray[np.int_]:
    """Return the order of rows (k, m) in a hierarchical clustering: average linkage, Euclidean distances."""
    if len(values) < 3:
        return np.arange(len(values))
    return np.asarray(leaves_list(linkage(values, "average", optimal_ordering=True)))


def _figure(values: pd.Series[float], title: str) -> dict[str, Any]:
    """Return a heatmap without cells: colours, their range, and axes."""
    bound = float(values.abs().max()) or 1.0
    accuracy = title == TITLES["accuracy"]
    trace = go.Heatmap(
        colorscale="Cividis" if accuracy else "PuOr",
        zmin=0.0 if accuracy else -bound,
        zmax=1.0 if accuracy else bound,
        texttemplate="%{text}",
        hoverinfo="text",
        xgap=1,
        ygap=1,
        colorbar={"thickness": 12, "len": 1.0, "outlinewidth": 0},
    )
    figure = go.Figure(trace, LAYOUT)
    figure.update_xaxes(
        type="category", tickangle=-90, fixedrange=True, side="bottom", showgrid=False
    )
    figure.update_yaxes(type="category", autorange="reversed", fixedrange=True, showgrid=False)
    return as_json(figure)


LAYOUT = go.Layout(
    template="none",
    font=FONT,
    paper_bgcolor="white",
    plot_bgcolor="white",
    margin={"l": 10, "r": 10, "t": 10, "b": 10},
    hoverlabel={"bgcolor": "white", "font": FONT, "align": "left"},
    xaxis={"automargin": True},
    yaxis={"automargin": True},
)
"""What all plots of a report share."""


def as_json(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plain JSON."""
    return dict(json.loads(figure.to_json()))
