"""What a study found, in a few sentences that are made from its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from noisetransfer.arms import NO_NOISE, NO_SOURCE
from noisetransfer.auditing import COMPETENT, ONE_DRAW
from noisetransfer.intervals import FEWEST, intervals
from noisetransfer.modifications import FLOOR, MODIFICATIONS, attack_of, is_budgeted

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

CLEAN = "clean@0"

ROUNDING = 1e-9
"""What a gain may lie below 0 and still be none."""

_BASES = {
    "gain_over_identity": "under identity noise of the same energy",
    "gain_over_none": "without noise",
}
_LEFT = {
    "none": "when a competent attacker takes the place of attacks through one draw of the noise, the gain of "
    "arm full over no noise",
    "identity": "its gain over identity noise",
}
_COLUMNS = {
    "tau": "τ",
    "epsilon": "ε",
    "none": "gain over no noise",
    "identity": "gain over identity noise",
}
_SETTING = ["network", "site", "tau", "regime", "source", "target"]
_BALL = ["norm", "epsilon"]
_DOES = {"absent": "is absent", "open": "is open"}
_NOISE = ["arm", "network", "site", "regime", "tau", "source"]


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


def sentences(
    experiment: str, table: pd.DataFrame, judged: pd.DataFrame | None = None
) -> list[str]:
    """Say of an experiment whether noise of arm full protects, whether that transfers, and what it costs.

    Args:
        experiment: its name.
        table: as from `statistics.transfer_table`.
        judged: of an audited experiment, as from `auditing.verdicts`.

    Returns:
        three sentences; each says so if what it is about was not measured. Of an audited experiment: what a
        competent attacker leaves of the gain over each arm; the first two as far as they were measured under
        targets that are no attacks; the third.
    """
    rest = table if judged is None else table[~_under(_attacks(), table)]
    claims = [
        _protection(cells, *words)
        for part, words in _CLAIMS
        if len(cells := part(rest)) or judged is None
    ]
    left = [] if judged is None else [_left(judged, over) for over in _LEFT]
    first, *others = [*left, *claims]
    return [
        f"In experiment {experiment}, {first}",
        *map(_capital, others),
        _cost(_clean(table)),
    ]


def warning(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Name the experiments whose noise no adaptive attack was set on, but others were.

    Args:
        tables: by experiment, as from `statistics.transfer_table`.

    Returns:
        one sentence, or none.
    """
    named = [name for name, table in tables.items() if _is_hasty(table)]
    if not named:
        return []
    return [
        f"The attacks of {'experiment' if len(named) == 1 else 'experiments'} {_listed(named)} look at one "
        "draw of the noise a gradient: gains against them may be the attacker's failure (docs/audit.md)."
    ]


def remainders(judged: pd.DataFrame) -> pd.DataFrame:
    """Write what a competent attacker leaves of every gain, to be read.

    Args:
        judged: as from `auditing.verdicts`.

    Returns:
        a row per noise and ball, arm full first; columns that name them, unless all are equal, and for each
        arm that gains are over a text such as ".47 → .35 [.31, .39], shrinks"; missing where there is none.
    """
    keys = [*_NOISE, *_BALL]
    told = judged.assign(told=[_remainder(row) for row in judged.to_dict("records")])
    wide = told.pivot(index=keys, columns="over", values="told").reset_index()
    wide = wide.assign(other=wide["arm"] != "full", l2=wide["norm"] != "Linf")
    wide = wide.sort_values(["other", *_NOISE[:-1], "l2", "epsilon", "source"])
    shown = [name for name in keys if name in ("arm", "epsilon") or wide[name].nunique() > 1]
    text = wide.assign(epsilon=wide["epsilon"].map("{:g}".format))
    over = [arm for arm in _LEFT if arm in wide]
    return text[[*shown, *over]].rename(columns=_COLUMNS)


def _modification(id: str) -> str:
    """Return the name of a modification: budgets of one attack are one modification."""
    name = id.partition("@")[0]
    return attack_of(name) if is_budgeted(name) else name


def _attacks() -> set[str]:
    return {name for name, entry in MODIFICATIONS.items() if entry.kind == "attack"}


def _under(attacks: Collection[str], table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell of every row whether its target is one of these attacks."""
    return np.array([_modification(target) in attacks for target in table["target"]], dtype=bool)


def _full(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of arm full, but for the floor: that is no modification to gain against."""
    noisy = table[(table["arm"] == "full") & (table["source"] != NO_SOURCE)]
    return noisy[~_under([FLOOR], noisy)]


def _own(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    return full[full["source"] == full["target"]]


def _other(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    source, target = (full[name].map(_modification) for name in ("source", "target"))
    return full[(source != target) & (full["target"] != CLEAN)]


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    full = _full(table)
    return full[full["target"] == CLEAN]


_CLAIMS = (
    (_own, ("noise with the covariance of a modification", "that modification", "source = target")),
    (_other, ("the noise of one modification", "another", "source ≠ target")),
)


def _protection(cells: pd.DataFrame, noise: str, against: str, where: str) -> str:
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


def _left(judged: pd.DataFrame, over: str) -> str:
    """Say what is left of the gains of arm full over another, and at which ε."""
    own = judged[(judged["arm"] == "full") & (judged["over"] == over)]
    if own.empty:
        return f"{_LEFT[over]} was not measured."
    noises = own.groupby(_BALL)["verdict"].transform("size")
    own = own.assign(noises=noises, l2=own["norm"] != "Linf").sort_values(["l2", "epsilon"])
    words = own.groupby("verdict", sort=False)
    told = [f"{_DOES.get(str(word), word)} at ε = {_balls(rows)}" for word, rows in words]
    return f"{_LEFT[over]} {'; '.join(told)}."


def _balls(rows: pd.DataFrame) -> str:
    """Name the balls of rows, each with its gains, or with the number of noises if several were attacked."""
    told = []
    for (norm, epsilon), own in rows.groupby(_BALL, sort=False):
        name = f"{epsilon:g}" if norm == "Linf" else f"{epsilon:g} in {norm}"
        first = own.iloc[0]
        several = f"{len(own)} of {first['noises']} noises"
        told.append(f"{name} ({_change(first) if first['noises'] == 1 else several})")
    return _listed(told)


def _change(row: Mapping[Hashable, Any] | pd.Series[Any]) -> str:
    return " → ".join(decimal(row[f"gain_{attacker}"]) for attacker in (ONE_DRAW, COMPETENT))


def _remainder(row: Mapping[Hashable, Any]) -> str:
    low, high = (decimal(row[f"gain_{COMPETENT}_{end}"]) for end in ("low", "high"))
    return f"{_change(row)} [{low}, {high}], {row['verdict']}"


def _is_hasty(table: pd.DataFrame) -> bool:
    """Tell whether noise was attacked, and no attack averages over it."""
    noisy = table.loc[table["tau"] != NO_NOISE, "target"].unique()
    attacks = set(map(_modification, noisy)) & (_attacks() - {FLOOR})
    return bool(attacks) and not any(MODIFICATIONS[name].adaptive for name in attacks)


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


def _listed(texts: Sequence[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
