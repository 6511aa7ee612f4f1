"""What a finished study must hold: each check gives a verdict and the cells behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.statistics import NO_SOURCE, agreement, matrix

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Check:
    """One verdict: `value` is what was measured, `bound` what was asked for."""

    name: str
    passed: bool
    value: float
    bound: str
    cells: pd.DataFrame

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name} = {self.value:.6g} (must be {self.bound})"


def at_least(name: str, value: float, bound: float, cells: pd.DataFrame) -> Check:
    """Check value ≥ bound."""
    return Check(name, value >= bound, value, f"≥ {bound:g}", cells)


def at_most(name: str, value: float, bound: float, cells: pd.DataFrame) -> Check:
    """Check value ≤ bound."""
    return Check(name, value <= bound, value, f"≤ {bound:g}", cells)


def clean_accuracy(table: pd.DataFrame, bound: float) -> Check:
    """Check the accuracy of arm none on clean images, the worst trial."""
    cells = table[(table["arm"] == "none") & (table["target"] == "clean@0")]
    return at_least("clean accuracy, worst trial", float(cells["accuracy"].min()), bound, cells)


def own_gain(table: pd.DataFrame, bound: float) -> Check:
    """Check that noise shaped by a modification helps against it more than identity noise does."""
    cells = table[(table["arm"] == "full") & (table["source"] == table["target"])]
    mean = float(cells["gain_over_identity"].mean())
    return at_least("gain over identity where source = target, mean", mean, bound, cells)


def published_heatmap(
    table: pd.DataFrame,
    published: pd.DataFrame,
    *,
    arm: str,
    spearman: float,
    mean_absolute_difference: float,
    own_best: int,
) -> list[Check]:
    """Check the agreement of an arm's heatmap with a published one (see `statistics.agreement`)."""
    measured = matrix(table[table["source"] != NO_SOURCE], arm, "accuracy")
    measured.index, measured.columns = map(_names, (measured.index, measured.columns))
    found = agreement(measured, published)
    return [
        at_least(
            "Spearman correlation with the published heatmap", found.spearman, spearman, found.cells
        ),
        at_most(
            "mean absolute difference to the published heatmap",
            found.mean_absolute_difference,
            mean_absolute_difference,
            found.cells,
        ),
        at_least("targets whose best source is themselves", found.own_best, own_best, found.cells),
    ]


def _names(modifications: pd.Index[str]) -> pd.Index[str]:
    """Drop the strengths, as the published tables do."""
    names = modifications.str.partition("@", expand=False).map(lambda parts: parts[0])
    if names.has_duplicates:
        twice = ", ".join(modifications[names.duplicated(keep=False)])
        raise StudyError(f"a published heatmap has one strength a modification, found {twice}")
    return names
