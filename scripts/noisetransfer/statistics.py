"""From records per image to the transfer table, and its agreement with published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from noisetransfer.arms import NO_NOISE
from noisetransfer.errors import StudyError
from noisetransfer.regimes import without_noise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

CELL = ["study", "network", "site", "source", "target", "arm", "tau", "regime", "trial"]
"""Columns that name a row of a transfer table."""

_PAIR = ["study", "network", "site", "target", "regime", "trial"]


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
        accuracy of the row of `references`; NaN where that arm was not run.
    """
    table = pd.concat(parts, ignore_index=True)
    for arm, rows in references(table).items():
        table[f"gain_over_{arm}"] = table["accuracy"] - np.append(table["accuracy"], np.nan)[rows]
    return table.sort_values(CELL, ignore_index=True)


def references(table: pd.DataFrame) -> dict[str, NDArray[np.intp]]:
    """Find the rows that gains refer to.

    Args:
        table: columns `CELL`, trial or not; an index from 0.

    Returns:
        none and identity → for every row, the row of that arm at the same network, site, target, regime and
        trial, and for identity of the same τ; −1 where that arm was not run. Arm none is that of retrain in
        the regimes that use retrained suffixes. Arms without noise have no τ: identity is found for them
        where it was run at one τ only.
    """
    place = [name for name in _PAIR if name in table]
    none, identity = (table[table["arm"] == arm] for arm in ("none", "identity"))
    same_tau = _rows(identity, table, [*place, "tau"])
    only_tau = _rows(identity.drop_duplicates(place, keep=False), table, place)
    own = np.where(table["tau"] == NO_NOISE, only_tau, same_tau)
    noiseless = table.assign(regime=table["regime"].map(without_noise))
    return {"none": _rows(none, noiseless, place), "identity": own}


def _rows(base: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> NDArray[np.intp]:
    """Return, for every row of a table, the row of `base` with the same keys, or −1."""
    known = pd.MultiIndex.from_frame(base[keys])
    found = known.get_indexer(pd.MultiIndex.from_frame(table[keys]))
    return np.append(base.index.to_numpy(dtype=np.intp), -1)[found]


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
        largest_difference: of the accuracies, absolute.
        own_best: number of targets whose best source is the target itself.
        diagonal_mean: measured accuracy where source = target; NaN if there is no such cell.
        off_diagonal_mean: measured accuracy where source ≠ target; NaN if there is no such cell.
    """

    cells: pd.DataFrame
    spearman: float
    mean_absolute_difference: float
    largest_difference: float
    own_best: int
    diagonal_mean: float
    off_diagonal_mean: float


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
    cells = cells.rename_axis(["target", "source"]).reset_index()
    distances, own = cells["difference"].abs(), cells["target"] == cells["source"]
    return Agreement(
        cells=cells,
        spearman=float(cells["published"].corr(cells["measured"], method="spearman")),
        mean_absolute_difference=float(distances.mean()),
        largest_difference=float(distances.max()),
        own_best=sum(source == target for target, source in found.idxmax(axis=1).items()),
        diagonal_mean=float(cells.loc[own, "measured"].mean()),
        off_diagonal_mean=float(cells.loc[~own, "measured"].mean()),
    )
