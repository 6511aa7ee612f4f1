"""Whether the geometry of covariances tells how their noise transfers: cells of both, and Mantel's test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from noisetransfer.mantel import Mantel, mantel
from noisetransfer.randomness import key

if TYPE_CHECKING:
    from collections.abc import Hashable

MEASURES = "bures", "cka", "angle_mean"
"""Columns of a table of geometry that are compared with gains."""

GAIN = "gain_over_identity"

SETTING = ["network", "site", "regime", "tau"]
"""Columns that name one heatmap of an experiment."""


def aligned_cells(geometry: pd.DataFrame, transfer: pd.DataFrame) -> pd.DataFrame:
    """Join the gain of arm full with the geometry of source and target, both as means over trials.

    Args:
        geometry: rows of network, site, trial, source, other and `MEASURES`, each two sources once.
        transfer: as from `statistics.transfer_table`.

    Returns:
        columns `SETTING`, source, target, `GAIN`, `MEASURES`: source ≠ target, and the target is a source.
    """
    turned = geometry.rename(columns={"source": "other", "other": "source"})
    both = pd.concat([geometry, turned]).rename(columns={"other": "target"})
    place = ["network", "site", "source", "target"]
    distances = both.groupby(place, sort=False)[list(MEASURES)].mean().reset_index()
    full = transfer[transfer["arm"] == "full"].dropna(subset=GAIN)
    gains = full.groupby([*SETTING, "source", "target"], sort=False)[GAIN].mean().reset_index()
    return gains.merge(distances, on=place)[[*SETTING, "source", "target", GAIN, *MEASURES]]


def alignment(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Test each measure against the gain, for each setting.

    Args:
        cells: as from `aligned_cells`.
        seed: of the study; keys the permutations.

    Returns:
        columns `SETTING`, measure, sources (how many), cells, spearman, p (Mantel's, two-sided). Without all
        pairs of the sources, p is NaN.
    """
    rows = [
        {
            **dict(zip(SETTING, setting, strict=True)),
            "measure": measure,
            **_tested(own, measure, rng),
        }
        for setting, own in _by_setting(cells)
        for measure in MEASURES
        for rng in [np.random.default_rng(key(seed, "mantel", *map(str, setting), measure))]
    ]
    columns = [*SETTING, "measure", "sources", "cells", "spearman", "p"]
    return pd.DataFrame(rows, columns=columns)


def _by_setting(cells: pd.DataFrame) -> list[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    return [(tuple(setting), own) for setting, own in cells.groupby(SETTING, sort=False)]


def _tested(cells: pd.DataFrame, measure: str, rng: np.random.Generator) -> dict[str, Any]:
    names = list(dict.fromkeys([*cells["source"], *cells["target"]]))
    distances, gains = (
        cells.pivot(index="source", columns="target", values=value)
        .reindex(index=names, columns=names)
        .to_numpy(float)
        for value in (measure, GAIN)
    )
    n, known = len(names), cells.dropna(subset=[measure, GAIN])
    if len(known) == n * (n - 1):
        found = mantel(distances, gains, rng)
    else:
        found = Mantel(_spearman(known, measure), np.nan, n)
    return {"sources": n, "cells": len(known), "spearman": found.spearman, "p": found.p}


def _spearman(cells: pd.DataFrame, measure: str) -> float:
    if min(cells[measure].nunique(), cells[GAIN].nunique()) < 2:
        return np.nan
    return float(spearmanr(cells[measure], cells[GAIN]).statistic)
