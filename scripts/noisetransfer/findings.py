"""What a study found, in three sentences that are made from its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from noisetransfer.arms import NO_SOURCE
from noisetransfer.intervals import FEWEST, intervals

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

CLEAN = "clean@0"

ROUNDING = 1e-9
"""What a gain may lie below 0 and still be none."""

_BASES = {
    "gain_over_identity": "under identity noise of the same energy",
    "gain_over_none": "without noise",
}
_SETTING = ["network", "site", "tau", "regime", "source", "target"]


@dataclass(frozen=True)
class Gain:
    """A gain in accuracy, mean over cells and trials, with its 95% interval over trials.

    Attributes:
        mean: −1 … 1; NaN if there is no cell.
        low, high: ends of the interval; NaN below `FEWEST` trials.
        cells: number of cells.
        trials: number of trials.
    """

    mean: float
    low: float
    high: float
    cells: int
    trials: int

    @property
    def verdict(self) -> Literal["yes", "no", "open", "not measured"]:
        """Whether there is a gain: open where the interval holds 0. Without interval, its sign."""
        if not self.cells:
            return "not measured"
        low, high = (self.mean if math.isnan(end) else end for end in (self.low, self.high))
        if low > 0:
            return "yes"
        return "no" if high < 0 or low == high else "open"

    def __str__(self) -> str:
        counted = f"mean of {_count(self.cells, 'cell')} and {_count(self.trials, 'trial')}"
        if self.trials < FEWEST:
            return f"{counted}; no interval below {FEWEST} trials"
        return f"{counted}, 95% interval over trials {decimal(self.low)} to {decimal(self.high)}"


def gain(cells: pd.DataFrame, value: str) -> Gain:
    """Average a gain over cells in each trial, then over trials.

    Args:
        cells: rows of a transfer table (see `statistics.transfer_table`).
        value: column of it; missing values do not count.
    """
    known = cells.dropna(subset=value)
    if known.empty:
        return Gain(math.nan, math.nan, math.nan, 0, 0)
    means = known.groupby("trial", observed=True)[value].mean().reset_index()
    found = intervals(means.assign(all=""), ["all"], value)
    mean, low, high = (float(found[name].iloc[0]) for name in ("mean", "low", "high"))
    return Gain(mean, low, high, len(known.drop_duplicates(_SETTING)), len(means))


def headline(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the experiment that answers most of `sentences`, of several the one with the most transfers."""

    def answers(name: str) -> tuple[int, int]:
        parts = [part(tables[name]) for part in (_own, _other, _clean)]
        return sum(len(part) > 0 for part in parts), len(parts[1])

    return max(tables, key=answers)


def sentences(experiment: str, table: pd.DataFrame) -> list[str]:
    """Say of an experiment whether noise of arm full protects, whether that transfers, and what it costs.

    Args:
        experiment: its name.
        table: as from `statistics.transfer_table`.

    Returns:
        three sentences; each says so if what it is about was not measured.
    """
    own, other, clean = _own(table), _other(table), _clean(table)
    return [
        f"In experiment {experiment}, {_protection(own, _OWN, 'source = target')}",
        _capital(_protection(other, _OTHER, "source ≠ target")),
        _cost(clean),
    ]


_OWN = "noise with the covariance of a modification", "that modification"
_OTHER = "the noise of one modification", "another"


def _full(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["arm"] == "full") & (table["source"] != NO_SOURCE)]


def _own(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    return full[full["source"] == full["target"]]


def _other(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    source, target = (full[name].str.partition("@")[0] for name in ("source", "target"))
    return full[(source != target) & (full["target"] != CLEAN)]


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    return full[full["target"] == CLEAN]


def _protection(cells: pd.DataFrame, words: tuple[str, str], where: str) -> str:
    noise, against = words
    value = next((name for name in _BASES if cells[name].notna().any()), "gain_over_none")
    found = gain(cells, value)
    if found.verdict == "not measured":
        return f"whether {noise} protects against {against} was not measured (arm full, {where})."
    said = {
        "yes": f"{noise} protects against {against}",
        "no": f"{noise} does not protect against {against}",
        "open": f"it is not shown that {noise} protects against {against}",
    }[found.verdict]
    size = f"accuracy is {_distance(found.mean)} than {_BASES[value]} ({found})"
    return f"{said}: where {where}, {size}."


def _cost(cells: pd.DataFrame) -> str:
    found = gain(cells, "gain_over_none")
    if found.verdict == "not measured":
        return "What the noise costs on clean images was not measured."
    unharmed = found.verdict == "no" and found.mean > -ROUNDING
    said = {
        "yes": "The noise costs nothing on clean images",
        "no": "The noise costs accuracy on clean images",
        "open": "It is not shown that the noise costs accuracy on clean images",
    }["yes" if unharmed else found.verdict]
    after = float(cells.dropna(subset="gain_over_none")["accuracy"].mean())
    levels = f"{decimal(after)} under it, {decimal(after - found.mean)} without"
    return f"{said}: accuracy is {levels} (difference {decimal(found.mean)}; {found})."


def decimal(number: float) -> str:
    """Write a number in [−1, 1] with two decimals, as in ".71" and "−.05"."""
    text = f"{abs(number):.2f}".removeprefix("0")
    return f"−{text}" if round(number, 2) < 0 else text


def _distance(number: float) -> str:
    if round(number, 2) == 0:
        return "less than .01 " + ("higher" if number > 0 else "lower")
    return f"{decimal(abs(number))} {'higher' if number > 0 else 'lower'}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
