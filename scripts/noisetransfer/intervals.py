"""Mean over trials and its confidence interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t

from noisetransfer.errors import StudyError
from noisetransfer.statistics import CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

FEWEST = 5
"""Trials below which no interval is given."""

CONFIDENCE = 0.95


def intervals(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Return the mean over trials of every group, with the confidence interval of Student's t.

    Args:
        table: one row per group and trial; columns `by`, trial, `value`.
        by: columns that name a group.
        value: column to average; missing values do not count.

    Returns:
        columns `by`, mean, low, high (all in units of `value`), trials (how many); one row per group,
        sorted. low and high are NaN where there are fewer than `FEWEST` trials.

    Raises:
        StudyError: if a group has several rows of one trial, so that they would pass for trials.
    """
    _check_once(table, [*by, "trial"])
    groups = table.groupby(list(by), observed=True)[value]
    found = groups.agg(mean="mean", deviation="std", trials="count").reset_index()
    trials = found["trials"]
    quantile = t.ppf((1 + CONFIDENCE) / 2, trials.clip(lower=FEWEST) - 1)
    half = (quantile * found["deviation"] / np.sqrt(trials)).where(trials >= FEWEST)
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
    return found[[*by, "mean", "low", "high", "trials"]]


def _check_once(table: pd.DataFrame, key: list[str]) -> None:
    twice = table[table.duplicated(key, keep=False)]
    if twice.empty:
        return
    others = [name for name in CELL if name in table and name not in key]
    mixed = twice.groupby(key, observed=True)[others].nunique().max() > 1
    names = ", ".join(mixed.index[mixed]) or "nothing"
    raise StudyError(
        f"a trial has several rows where one is expected; they differ in {names}: choose one"
    )
