"""Every cell of an experiment in one row: means over trials, intervals, and which gains are no chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from noisetransfer.outcomes import KEYS, Outcome, difference
from noisetransfer.randomness import key
from noisetransfer.statistics import references
from noisetransfer.uncertainty import interval, p_value, sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COLUMNS = [*KEYS, "n", "trials"] + [
    name
    for value, ends in {
        "accuracy": ("", "_low", "_high"),
        "gain_over_none": ("", "_low", "_high", "_p", "_p_adjusted"),
        "gain_over_identity": ("", "_low", "_high", "_p", "_p_adjusted"),
    }.items()
    for name in (f"{value}{end}" for end in ends)
]
"""Columns of the summary, but for `resampled`."""

_EMPTY = dict.fromkeys(("", "_low", "_high", "_p"), np.nan)


def summary(cells: pd.DataFrame, found: Sequence[Outcome], seed: int) -> pd.DataFrame:
    """Summarise the trials of every cell.

    Args:
        cells: and
        found: as from `outcomes.outcomes`.
        seed: of the study; keys the bootstrap.

    Returns:
        columns `COLUMNS` and resampled, as `uncertainty.sampled` says it. Gains refer to the cells of
        `statistics.references`; those to an arm that was not run are NaN, and of an arm over itself only the
        gain, 0, is given. The adjusted p-values control the false discovery rate (Benjamini & Hochberg 1995)
        over a family: all cells of one arm in the experiment, for one gain.
    """
    table = cells.assign(
        n=[len(one.images) for one in found],
        trials=[len(one.trials) for one in found],
        resampled=[sampled(len(one.trials)) for one in found],
    )
    names = list(cells.itertuples(index=False, name=None))
    accuracies = [_accuracy(one, seed, cell) for one, cell in zip(found, names, strict=True)]
    table = pd.concat([table, _columns("accuracy", accuracies)], axis=1)
    for arm, rows in references(cells).items():
        gains = [_gain(found, i, row, seed, names[i]) for i, row in enumerate(rows)]
        own = _columns(f"gain_over_{arm}", gains)
        own[f"gain_over_{arm}_p_adjusted"] = _adjusted(own[f"gain_over_{arm}_p"], table["arm"])
        table = pd.concat([table, own], axis=1)
    return table[[*COLUMNS, "resampled"]]


def _columns(value: str, found: Sequence[dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(found).add_prefix(value)


def _accuracy(own: Outcome, seed: int, cell: tuple[str, ...]) -> dict[str, float]:
    values = own.right.astype(np.float32)
    low, high = interval(values, "accuracy", _random(seed, *cell))
    return {"": float(own.right.mean()), "_low": low, "_high": high}


def _gain(
    found: Sequence[Outcome], own: int, base: int, seed: int, cell: tuple[str, ...]
) -> dict[str, float]:
    if base < 0:
        return _EMPTY
    if base == own:
        return {**_EMPTY, "": 0.0}
    values = difference(found[own], found[base])
    low, high = interval(values, "difference", _random(seed, *cell))
    mean = float(values.mean(dtype=float))
    return {"": mean, "_low": low, "_high": high, "_p": p_value(values)}


def _adjusted(p: pd.Series, family: pd.Series) -> NDArray[np.floating]:
    """Adjust p-values within families; those that are NaN do not count."""
    adjusted = np.full(len(p), np.nan)
    for _, rows in p.dropna().groupby(family).groups.items():
        adjusted[rows] = false_discovery_control(p[rows])
    return adjusted


def _random(seed: int, *cell: str) -> np.random.Generator:
    """Return the generator of a cell: other cells do not change its interval."""
    return np.random.default_rng(key(seed, "bootstrap", *cell))
