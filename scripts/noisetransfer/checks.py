"""What a finished study must hold: each check gives a verdict and the cells behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import pandas as pd

from noisetransfer.arms import NO_NOISE, NO_SOURCE
from noisetransfer.errors import StudyError
from noisetransfer.intervals import FEWEST, intervals
from noisetransfer.modifications import canonical
from noisetransfer.statistics import CELL, agreement, matrix
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from noisetransfer.statistics import Agreement

ROUNDING = 1e-9
"""What two accuracies may differ by and still be the same decimal number."""

WORST = 10
"""Cells that a report tells of a check, at most."""

_NAMES = [*CELL[1:], "modification", "strength"]  # of one study


@dataclass(frozen=True)
class Check:
    """One verdict: `value` is what was measured, `bound` what was asked for.

    Attributes:
        cells: rows that the value was computed from, the worst first.
        required: whether a study fails that does not pass.
        note: what else a reader must know of the value.
        by: column of the cells that tells how bad each is.
    """

    name: str
    passed: bool
    value: float
    bound: str
    cells: pd.DataFrame
    required: bool = True
    note: str = ""
    by: str = "accuracy"

    @property
    def verdict(self) -> Literal["pass", "differs", "FAIL"]:
        """What the log and the report call the outcome; only "FAIL" fails a study."""
        if self.passed:
            return "pass"
        return "FAIL" if self.required else "differs"

    def __str__(self) -> str:
        text = f"{self.verdict}  {self.name} = {self.value:.6g} (must be {self.bound})"
        return f"{text}; {self.note}" if self.note else text

    def report(self) -> dict[str, Any]:
        """Return all of it for JSON, of the cells the worst; a value that is not known is None."""
        names = ("passed", "required", "verdict", "bound", "note", "by")
        told = {"check": self.name, "value": _known(self.value), "cells": self._worst()}
        return told | {name: getattr(self, name) for name in names}

    def _worst(self) -> list[dict[Any, Any]]:
        """Return names and value of each of the worst cells."""
        cells = self.cells.head(WORST)
        named = cells.filter(_NAMES).to_dict("records")
        pairs = zip(named, cells[self.by], strict=True)
        return [names | {"value": _known(value)} for names, value in pairs]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Comparison:
    """A study beside published numbers: every cell that both have, and the checks on them."""

    cells: pd.DataFrame
    checks: list[Check]


class Band(TypedDict):
    """A range of accuracies: value ± within."""

    value: float
    within: float


class HeatmapBounds(TypedDict, total=False):
    """What a heatmap may be asked for; None asks for nothing."""

    spearman: float | None  # least rank correlation with the published heatmap
    mean_absolute_difference: float | None  # greatest, in accuracy
    largest_difference: float | None  # greatest of any cell, in accuracy
    own_best: int | None  # least number of targets whose best source is themselves
    diagonal_mean: Band | None  # accuracy where source = target
    off_diagonal_mean: Band | None  # accuracy where source ≠ target


def at_least(name: str, value: float, bound: float, cells: pd.DataFrame) -> Check:
    """Check value ≥ bound, up to rounding."""
    return Check(name, value >= bound - ROUNDING, value, f"≥ {bound:g}", cells)


def at_most(name: str, value: float, bound: float, cells: pd.DataFrame) -> Check:
    """Check value ≤ bound, up to rounding."""
    return Check(name, value <= bound + ROUNDING, value, f"≤ {bound:g}", cells)


def within(name: str, value: float, bound: Band, cells: pd.DataFrame) -> Check:
    """Check that a value lies in a band, up to rounding."""
    near = abs(value - bound["value"]) <= bound["within"] + ROUNDING
    return Check(name, near, value, f"{bound['value']:g} ± {bound['within']:g}", cells)


def clean_accuracy(table: pd.DataFrame, bound: float | Band) -> Check:
    """Check the accuracy of arm none on clean images: of the worst trial, or that farthest from a value.

    Networks trained on noisy or adversarial images (`variants`) are left out: they are expected to pay.
    """
    plain = table["network"].map(lambda name: variant(name).base == name)
    cells = table[plain & (table["arm"] == "none") & (table["target"] == "clean@0")]
    expected = bound["value"] if isinstance(bound, dict) else 1.0
    cells = cells.sort_values("accuracy", key=lambda a: -(a - expected).abs(), kind="stable")
    worst = float(next(iter(cells["accuracy"]), math.nan))
    if isinstance(bound, dict):
        return within("clean accuracy, trial farthest from the expected", worst, bound, cells)
    return at_least("clean accuracy, worst trial", worst, bound, cells)


def own_gain(table: pd.DataFrame, bound: float) -> Check:
    """Check that noise shaped by a modification helps against it more than identity noise does."""
    cells = table[(table["arm"] == "full") & (table["source"] == table["target"])]
    by = "gain_over_identity"
    mean, cells = float(cells[by].mean()), cells.sort_values(by, kind="stable")
    check = at_least("gain over identity where source = target, mean", mean, bound, cells)
    return replace(check, by=by)


_HEATMAP_CHECKS: dict[str, tuple[Callable[..., Check], str]] = {
    "spearman": (at_least, "Spearman correlation with the published heatmap"),
    "mean_absolute_difference": (at_most, "mean absolute difference to the published heatmap"),
    "largest_difference": (at_most, "largest difference to the published heatmap"),
    "own_best": (at_least, "targets whose best source is themselves"),
    "diagonal_mean": (within, "mean accuracy where source = target"),
    "off_diagonal_mean": (within, "mean accuracy where source ≠ target"),
}


def published_heatmap(
    table: pd.DataFrame,
    published: pd.DataFrame,
    *,
    arm: str,
    required: bool = True,
    **bounds: Unpack[HeatmapBounds],
) -> Comparison:
    """Check the agreement of an arm's heatmap with a published one (see `statistics.agreement`).

    Args:
        table: as from `statistics.transfer_table`.
        published: accuracies, as from `artifacts.read_published`.
        arm: the arm whose heatmap was published.
        required: whether a study that disagrees fails.
        bounds: what is asked for.

    Returns:
        cells with columns target, source, published, measured, difference; a check per bound, its cells with
        the largest difference first.

    Raises:
        StudyError: if a published cell was not measured, or the arm was run at several networks, sites, τ,
            regimes, or strengths of one modification.
    """
    shaped = table[(table["arm"] == arm) & (table["source"] != NO_SOURCE)]
    measured = matrix(_of_one(shaped, "network", "site", "regime", "tau"), arm, "accuracy")
    measured.index, measured.columns = map(_names, (measured.index, measured.columns))
    found = agreement(measured, published)
    asked = {name: bound for name, bound in bounds.items() if bound is not None}
    checks = [_heatmap_check(found, name, bound) for name, bound in asked.items()]
    checks = [replace(check, required=required, by="difference") for check in checks]
    return Comparison(found.cells, checks)


def _heatmap_check(found: Agreement, name: str, bound: object) -> Check:
    """Return one check of a heatmap, with its cells, the largest difference first."""
    own = found.cells["target"] == found.cells["source"]
    chosen = {"diagonal_mean": own, "off_diagonal_mean": ~own}.get(name, slice(None))
    cells = found.cells[chosen].sort_values("difference", key=abs, ascending=False, kind="stable")
    judge, text = _HEATMAP_CHECKS[name]
    return judge(text, getattr(found, name), bound, cells)


_MEASURED = {"mean": "measured", "low": "measured_low", "high": "measured_high"}
_PUBLISHED = {"accuracy": "published", "ci_low": "published_low", "ci_high": "published_high"}


def published_cells(
    table: pd.DataFrame,
    published: pd.DataFrame,
    *,
    agreeing: float,
    tolerance: float,
    required: bool = True,
) -> Comparison:
    """Check how many published cells agree with the measured ones: their 95% intervals overlap.

    Measured are the trials of the published arm and τ (none has no τ) under the published modification, with
    noise shaped by it too, or by no source for arms none and identity.

    Args:
        table: as from `statistics.transfer_table`.
        published: as from `artifacts.read_published_cells`.
        agreeing: least share of agreeing cells among those measured.
        tolerance: accuracy by which both intervals together are widened.
        required: whether a study that disagrees fails.

    Returns:
        cells that were measured, in the published order, with columns modification, strength, tau, arm,
        published, published_low, published_high, measured, measured_low, measured_high, trials, agrees; and
        one check, its cells with those that disagree first, its note telling what was not measured.

    Raises:
        StudyError: if no published cell was measured, the table holds several networks, sites or regimes, or
            a published modification is unknown.
    """
    every = _beside(_of_one(table, "network", "site", "regime"), published)
    measured = every["measured"].notna()
    if not measured.any():
        raise StudyError(f"none of the {len(every)} published cells was measured by this study")
    cells = every[measured].drop(columns="target").astype({"trials": int})
    cells["agrees"] = _overlap(cells, tolerance)
    name, share = "share of published cells that agree", float(cells["agrees"].mean())
    check = at_least(name, share, agreeing, _worst_first(cells))
    note = "; ".join(_notes(cells, every.loc[~measured, "modification"]))
    return Comparison(cells, [replace(check, required=required, note=note, by="difference")])


def _worst_first(cells: pd.DataFrame) -> pd.DataFrame:
    """Put published cells that disagree first, and of them those that differ most."""
    found = cells.assign(difference=(cells["measured"] - cells["published"]).round(9))
    found = found.sort_values("difference", key=abs, ascending=False, kind="stable")
    return found.sort_values("agrees", kind="stable")


def _beside(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Join the measured means and intervals to published cells; below FEWEST trials, the mean alone."""
    keys = ["target", "arm", "tau"]
    own = table[(table["source"] == table["target"]) | (table["source"] == NO_SOURCE)]
    found = intervals(own, keys, "accuracy").set_index(keys)
    found = found.assign(**{end: found[end].fillna(found["mean"]) for end in ("low", "high")})
    found = found.rename(columns=_MEASURED)
    cells = published.assign(target=_targets(published)).rename(columns=_PUBLISHED)
    filed = cells[keys].assign(tau=cells["tau"].mask(cells["arm"] == "none", NO_NOISE))
    return cells.join(found.reindex(pd.MultiIndex.from_frame(filed)).set_axis(cells.index))


def _overlap(cells: pd.DataFrame, tolerance: float) -> pd.Series[bool]:
    """Tell whether the measured and the published interval are less than the tolerance apart."""
    room = tolerance + ROUNDING
    below = cells["measured_low"] - room <= cells["published_high"]
    above = cells["published_low"] <= cells["measured_high"] + room
    return below & above


def _targets(published: pd.DataFrame) -> pd.Series[str]:
    """Return the ids of the modifications of a published table, as they are filed."""
    ids = published["modification"] + "@" + published["strength"].astype(str)
    return ids.map(canonical)


def _notes(cells: pd.DataFrame, missing: pd.Series[str]) -> Iterator[str]:
    if len(missing):
        counts = missing.value_counts(sort=False).items()
        names = ", ".join(f"{name} {count}" for name, count in counts)
        yield f"{len(missing)} of {len(missing) + len(cells)} were not measured ({names})"
    if cells["trials"].min() < FEWEST:
        yield f"below {FEWEST} trials the measured interval is the mean alone"


def _of_one(table: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return a table in its order, after a check that it holds one value of each key."""
    for key in keys:
        found = sorted(table[key].unique())
        if len(found) > 1:
            raise StudyError(f"published numbers are of one {key}, found {', '.join(found)}")
    return table.sort_values(CELL)


def _names(modifications: pd.Index[str]) -> pd.Index[str]:
    """Drop the strengths, as the published tables do."""
    names = modifications.str.partition("@", expand=False).map(lambda parts: parts[0])
    if names.has_duplicates:
        twice = ", ".join(modifications[names.duplicated(keep=False)])
        raise StudyError(f"a published heatmap has one strength a modification, found {twice}")
    return names


_COMPARISONS: dict[str, Callable[..., Comparison]] = {
    "published": published_heatmap,
    "published_cells": published_cells,
}


def evaluate(
    table: pd.DataFrame, bounds: Mapping[str, Any], published: Mapping[str, pd.DataFrame]
) -> Comparison:
    """Make every check that a study asks for.

    Args:
        table: as from `statistics.transfer_table`.
        bounds: the section of the study file: clean_accuracy, own_gain, published (see `published_heatmap`),
            published_cells; what is missing or None is not asked.
        published: the tables of published and published_cells, by these names.

    Returns:
        all checks; and all cells that were compared, their column `check` published or published_cells.

    Raises:
        StudyError: if a table comes without its bounds or bounds without their table; and as the checks.
    """
    asked = {name: bound for name, bound in bounds.items() if bound is not None}
    if asked.keys() & _COMPARISONS.keys() != published.keys():
        raise StudyError("each published table needs its bounds, and bounds their table")
    own = {"clean_accuracy": clean_accuracy, "own_gain": own_gain}
    checks = [check(table, asked[name]) for name, check in own.items() if name in asked]
    found = {name: _compare(name, table, published[name], asked[name]) for name in published}
    checks += [check for one in found.values() for check in one.checks]
    frames = [one.cells.assign(check=name) for name, one in found.items()]
    cells = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["check"])
    return Comparison(cells, checks)


def _compare(
    name: str, table: pd.DataFrame, published: pd.DataFrame, asked: Mapping[str, Any]
) -> Comparison:
    bounds = {key: bound for key, bound in asked.items() if key != "table"}
    return _COMPARISONS[name](table, published, **bounds)
