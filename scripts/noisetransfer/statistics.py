"""From records per image to the transfer table, and its agreement with published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_SOURCE = "any"
"""Pseudo-source of the arms that belong to no source."""

CELL = ["study", "network", "site", "source", "target", "arm", "tau", "regime", "trial"]
"""Columns that name a row of a transfer table."""

_PAIR = ["study", "network", "site", "target", "tau", "regime", "trial"]


def accuracies(records: pd.DataFrame) -> pd.DataFrame:
    """Count right predictions: one row per cell, columns `CELL`, n, accuracy."""
    right = records.assign(accuracy=records["prediction"] == records["label"])
    groups = right.groupby(CELL, sort=True, observed=True)["accuracy"]
    return groups.agg(n="size", accuracy="mean").reset_index()


def transfer_table(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join accuracies of all sources and add the gains.

    Args:
        parts: tables as from `accuracies`.

    Returns:
        columns `CELL`, n, accuracy, gain_over_none, gain_over_identity; a gain is the difference to the
        accuracy of arm none (identity) of the same target and trial, NaN where that arm was not run.
    """
    table = pd.concat(parts, ignore_index=True)
    for arm in ("none", "identity"):
        base = table[table["arm"] == arm].set_index(_PAIR)["accuracy"]
        found = base.reindex(pd.MultiIndex.from_frame(table[_PAIR])).to_numpy()
        table[f"gain_over_{arm}"] = table["accuracy"] - found
    return table.sort_values(CELL, ignore_index=True)


def matrix(table: pd.DataFrame, arm: str, value: str) -> pd.DataFrame:
    """Return the mean over trials of one arm: targets (rows) × sources (columns), in order of appearance."""
    own = table[table["arm"] == arm]
    cells = own.groupby(["target", "source"], sort=False, observed=True)[value].mean()
    return cells.unstack("source")


@dataclass(frozen=True)
class Agreement:
    """Agreement of a measured heatmap with a published one.

    Attributes:
        cells: one row per cell: target, source, published, measured, difference.
        spearman: rank correlation over the cells.
        mean_absolute_difference: of the accuracies.
        own_best: number of targets whose best source is the target itself.
    """

    cells: pd.DataFrame
    spearman: float
    mean_absolute_difference: float
    own_best: int


def agreement(measured: pd.DataFrame, published: pd.DataFrame) -> Agreement:
    """Compare two heatmaps, targets (rows) × sources (columns), by name.

    Raises:
        StudyError: if a published cell was not measured; the message names the missing ones.
    """
    found = measured.reindex(index=published.index, columns=published.columns)
    rows, columns = np.nonzero(found.isna().to_numpy())
    if len(rows):
        missing = zip(found.index[rows], found.columns[columns], strict=True)
        names = ", ".join(f"{target} by {source}" for target, source in missing)
        raise StudyError(f"the published heatmap has cells that this study lacks: {names}")
    cells = pd.DataFrame({"published": published.stack(), "measured": found.stack()})
    cells["difference"] = cells["measured"] - cells["published"]
    own_best = sum(source == target for target, source in found.idxmax(axis=1).items())
    return Agreement(
        cells=cells.rename_axis(["target", "source"]).reset_index(),
        spearman=float(cells["published"].corr(cells["measured"], method="spearman")),
        mean_absolute_difference=float(cells["difference"].abs().mean()),
        own_best=own_best,
    )
