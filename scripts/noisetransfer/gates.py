"""Is an attack as strong as it must be? What is weaker by construction must not do better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scipy.stats import norm

from noisetransfer.arms import ARMS
from noisetransfer.attack_order import Pair, ordered
from noisetransfer.checks import ROUNDING, Check
from noisetransfer.errors import StudyError
from noisetransfer.intervals import CONFIDENCE
from noisetransfer.regimes import REGIMES
from noisetransfer.statistics import CELL

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    Budget = Mapping[str, Any]
    Cell = tuple[str, ...]
    Counts = Mapping[Cell, pd.DataFrame]

KEYS = [name for name in CELL if name != "trial"]
"""Columns that name a cell; here the target is the ε of the attack alone: attacks at one ε share a cell."""

COLUMNS = [*KEYS, "image", "label", "prediction"]
"""What gates need of the records."""

SURE = 6.0
"""Standard errors that chance does not reach in thousands of comparisons."""


def counts(parts: Iterable[pd.DataFrame], attacks: Container[str]) -> dict[str, Counts]:
    """Count in how many trials each image was right under each attack, one part of the records after another.

    Args:
        parts: of records of evaluations: columns `COLUMNS`; a cell may be spread over several.
        attacks: names of those that count, such as pgd.weak.

    Returns:
        attack → cell, the values of `KEYS` → by image, its index in the original data set, rising: right and
        trials, how many trials it was right in, and tested in.
    """
    found: dict[str, dict[Cell, pd.DataFrame]] = {}
    for part in parts:
        for attack, cell, own in _counted(part, attacks):
            cells = found.setdefault(attack, {})
            cells[cell] = cells[cell].add(own, fill_value=0) if cell in cells else own
    return dict(found)


def _counted(
    records: pd.DataFrame, attacks: Container[str]
) -> Iterator[tuple[str, Cell, pd.DataFrame]]:
    """Yield attack, cell and counts of one part of the records."""
    wanted = [id for id in records["target"].unique() if id.partition("@")[0] in attacks]
    own = records[records["target"].isin(wanted)]
    own = own.assign(right=own["prediction"] == own["label"])
    for keys, rows in own.groupby(KEYS, observed=True):
        named = dict(zip(KEYS, cast("Cell", keys), strict=True))
        attack, _, named["target"] = named["target"].partition("@")
        right = rows.groupby("image")["right"]
        images = pd.DataFrame({"right": right.sum(), "trials": right.size()}, dtype=float)
        yield attack, tuple(named.values()), images


def gates(found: Mapping[str, Counts], budgets: Mapping[str, Budget]) -> list[Check]:
    """Check the order of all attacks at one ε that were targets of the same networks on the same images.

    Which attack is the stronger one, and whether a study fails by it, `attack_order.ordered` tells, of the
    attacks that met in a cell. The intervals of all cells by which a study may fail hold together.

    Args:
        found: as from `counts`.
        budgets: of every attack that may be in it, as of `attack_order.ordered`.

    Returns:
        one check per pair that was tested in a common cell; see `stronger`.

    Raises:
        StudyError: as `stronger`.
    """
    met: dict[Pair, list[Cell]] = {}
    for cell in dict.fromkeys(cell for cells in found.values() for cell in cells):
        present = {name: own for name, own in budgets.items() if cell in found.get(name, {})}
        for pair in ordered(present):
            met.setdefault(pair, []).append(cell)
    family = sum(len(cells) for pair, cells in met.items() if pair.required)
    return [
        stronger(
            *({cell: found[name][cell] for cell in cells} for name in pair[:2]),
            name=f"accuracy under {pair.strong} minus under {pair.weak}",
            required=pair.required,
            family=family if pair.required else None,
        )
        for pair, cells in met.items()
    ]


def as_asked(probes: pd.DataFrame) -> list[Check]:
    """Check that the noise that networks saw had the covariance that was asked for.

    Args:
        probes: as from `probing.probe_rows`: columns source, arm, regime, trial, trace, trace_z, direction_z.

    Returns:
        the check, nothing if no network is noisy: its value is the greatest difference, in standard errors,
        of the mean of ‖ξ‖² or of the variance along a direction. Cells: the noisy networks, by this z, the
        worst first; what is no number is worst.
    """
    tested = probes["regime"].map(lambda regime: REGIMES[regime].tested)
    noisy = probes[tested & probes["arm"].map(lambda arm: ARMS[arm].noisy)]
    if noisy.empty:
        return []
    z = noisy[["trace_z", "direction_z"]].abs().max(axis=1, skipna=False).fillna(np.inf)
    cells = noisy.assign(z=z).sort_values("z", ascending=False, kind="stable")
    value = float(cells["z"].iloc[0])
    note = f"in standard errors, the worst of {len(cells)} noisy networks"
    name = "covariance of the injected noise, difference to what was asked for"
    return [Check(name, value <= SURE, value, f"≤ {SURE:g}", cells, note=note, by="z")]


def stronger(
    weaker: Counts, strong: Counts, *, name: str, required: bool = True, family: int | None = None
) -> Check:
    """Check that an attack leaves no more images right than a weaker one, beyond chance, in any cell.

    Images are paired; those of several trials count once. A cell fails if the lower end of the one-sided
    confidence interval of the difference is above 0; the intervals of a family of cells hold together
    (Bonferroni).

    Args:
        weaker: counts under the weaker attack (for instance one draw a gradient), by cell, as from `counts`.
        strong: counts under the stronger one, such as 20 draws.
        name: of the check.
        required: whether a study fails by it.
        family: number of cells of all such checks; None: those of this one.

    Returns:
        the check: its value is the largest of the lower ends. Cells: columns `KEYS`, n images, weaker and
        strong (accuracies), difference, low; the worst first.

    Raises:
        StudyError: no cell was tested under both, or an image of one not equally often.
    """
    both = sorted(weaker.keys() & strong.keys())
    if not both:
        raise StudyError("no image was tested under both attacks in the same cell")
    named = pd.DataFrame(both, columns=KEYS)
    cells = named.join(pd.DataFrame([_compared(weaker[cell], strong[cell]) for cell in both]))
    quantile = norm.ppf(1 - (1 - CONFIDENCE) / (family or len(cells)))
    cells["low"] = cells["difference"] - quantile * cells.pop("error")
    cells = cells.sort_values("low", ascending=False, kind="stable", ignore_index=True)
    worst = float(cells["low"].iloc[0])
    note = f"lower end of the interval, the worst of {len(cells)} cells"
    return Check(name, worst <= ROUNDING, worst, "≤ 0", cells, required, note, "low")


def _compared(weaker: pd.DataFrame, strong: pd.DataFrame) -> dict[str, float]:
    """Return the accuracies of a cell under both attacks, their difference, and its standard error."""
    if not weaker["trials"].equals(strong["trials"]):
        raise StudyError("an image was not tested equally often under both attacks")
    accuracy = {"weaker": weaker["right"], "strong": strong["right"]}
    shares = {name: right / strong["trials"] for name, right in accuracy.items()}
    difference = shares["strong"] - shares["weaker"]
    n = len(difference)
    error = float(difference.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
    means = {name: float(share.mean()) for name, share in shares.items()}
    return {"n": n, **means, "difference": float(difference.mean()), "error": error}
