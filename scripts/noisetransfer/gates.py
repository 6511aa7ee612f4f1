"""Is an attack as strong as it must be? What is weaker by construction must not do better."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from noisetransfer.checks import ROUNDING, Check
from noisetransfer.errors import StudyError
from noisetransfer.intervals import CONFIDENCE
from noisetransfer.statistics import CELL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Budget = Mapping[str, Any]

ORDER = (
    ("random_noise", "fgm"),
    ("fgm", "pgd"),
    ("pgd", "auto_pgd"),
    ("pgd", "pgd_eot"),
    ("pgd_eot", "auto_pgd_eot"),
    ("pgd", "auto_pgd_eot"),
    ("auto_pgd", "auto_pgd_eot"),
    ("square", "auto_pgd_eot"),
    ("square_eot", "auto_pgd_eot"),
    ("rays_eot", "auto_pgd_eot"),
    ("pgd_l2_eot", "auto_pgd_l2_eot"),
)
"""(weaker, stronger) attacks: at one ε, accuracy under the stronger one is lower, or as low."""

EFFORT = ("passes", "steps", "restarts")
"""Keys of a budget of which more makes an attack no weaker."""

SURE = 6.0
"""Standard errors that chance does not reach in thousands of comparisons."""

_IMAGE = [name for name in CELL if name not in ("target", "trial")]


def gates(records: pd.DataFrame, budgets: Mapping[str, Budget]) -> list[Check]:
    """Check the order of all attacks at one ε that were targets of the same networks on the same images.

    A stronger attack is one that stands behind another in `ORDER`, sees the noisy network and has no fewer
    restarts, with the greatest effort of those that the records hold; or the same attack with more draws,
    steps or restarts and an else equal budget. A study fails by a gate only if the stronger attack is an
    adaptive one.

    Args:
        records: of evaluations: columns `statistics.CELL`, image, label, prediction.
        budgets: of every attack among the targets, by its name: {"attack": of the registry, and its budget};
            that of an adaptive attack says what it is `against`.

    Returns:
        one check per pair that the records hold; see `stronger`.

    Raises:
        StudyError: as `stronger`.
    """
    parts = records["target"].str.partition("@")
    found = records.assign(attack=parts[0], target=parts[2])  # targets of one ε are one cell
    present = {name: own for name, own in budgets.items() if name in set(found["attack"])}
    checks = []
    for weak, strong in ordered(present):
        pair = [found[found["attack"] == name] for name in (weak, strong)]
        if set(pair[0]["target"]) & set(pair[1]["target"]):
            name = f"accuracy under {strong} minus under {weak}"
            checks.append(stronger(*pair, name=name, required="against" in present[strong]))
    return checks


def ordered(budgets: Mapping[str, Budget]) -> Iterator[tuple[str, str]]:
    """Yield the pairs (weaker, stronger) among attacks, by their names; arguments as of `gates`."""
    open_eyed = {n: b for n, b in budgets.items() if b.get("against", "noisy") == "noisy"}
    for weak, strong in product(open_eyed, repeat=2):
        pair = open_eyed[weak], open_eyed[strong]
        behind = (pair[0]["attack"], pair[1]["attack"]) in ORDER
        rivals = {n: b for n, b in open_eyed.items() if _restarts(b) >= _restarts(pair[0])}
        if _same_but_more(*pair) or (behind and strong in rivals and _greatest(strong, rivals)):
            yield weak, strong


def _effort(budget: Budget) -> tuple[int, ...]:
    return tuple(int(budget.get(key, 1)) for key in EFFORT)


def _restarts(budget: Budget) -> int:
    return int(budget.get("restarts", 1))


def _rest(budget: Budget) -> dict[str, Any]:
    return {key: value for key, value in budget.items() if key not in EFFORT}


def _same_but_more(weaker: Budget, stronger: Budget) -> bool:
    """Tell whether two budgets differ in one kind of effort alone, of which the second has more."""
    pairs = list(zip(_effort(weaker), _effort(stronger), strict=True))
    differing = [less < more for less, more in pairs if less != more]
    return differing == [True] and _rest(weaker) == _rest(stronger)


def _greatest(name: str, budgets: Mapping[str, Budget]) -> bool:
    """Tell whether no other budget of the same attack, else equal, takes more effort."""
    alike = [b for b in budgets.values() if _rest(b) == _rest(budgets[name])]
    return _effort(budgets[name]) == max(map(_effort, alike))


def as_asked(probes: pd.DataFrame) -> Check:
    """Check that the noise that networks saw had the covariance that was asked for.

    Args:
        probes: as from `probing.probe_rows`: columns source, arm, trial, trace, trace_z, direction_z.

    Returns:
        the check: its value is the greatest difference, in standard errors, of the mean of ‖ξ‖² or of the
        variance along a direction. Cells: the noisy networks, the worst first.
    """
    noisy = probes.dropna(subset=["trace_z"])
    worst = noisy[["trace_z", "direction_z"]].abs().max(axis=1)
    cells = noisy.assign(worst=worst).sort_values("worst", ascending=False, kind="stable")
    value = float(cells["worst"].iloc[0]) if len(cells) else 0.0
    note = f"in standard errors, the worst of {len(cells)} noisy networks"
    name = "covariance of the injected noise, difference to what was asked for"
    return Check(name, value <= SURE, value, f"≤ {SURE:g}", cells, note=note)


def stronger(
    weaker: pd.DataFrame, strong: pd.DataFrame, *, name: str, required: bool = True
) -> Check:
    """Check that an attack leaves no more images right than a weaker one, beyond chance, in any cell.

    Images are paired; those of several trials count once. A cell fails if the lower end of the one-sided
    confidence interval of the difference is above 0; the intervals of all cells hold together (Bonferroni).

    Args:
        weaker: records under the weaker attack (for instance one draw a gradient): columns as of `gates`.
        strong: records under the stronger one, such as 20 draws, of the same targets by name.
        name: of the check.
        required: whether a study fails by it.

    Returns:
        the check: its value is the largest of the lower ends. Cells: columns of `CELL` but trial, n images,
        weaker and strong (accuracies), difference, low; the worst first.

    Raises:
        StudyError: nothing was tested under both, or an image of a cell and trial stands twice.
    """
    paired = _paired(weaker, strong)
    keys = [*_IMAGE, "target"]
    images = paired.groupby([*keys, "image"], observed=True)[["weaker", "strong"]].mean()
    images["difference"] = images["strong"] - images["weaker"]
    groups = images.groupby(keys, observed=True)
    cells = groups.mean().assign(n=groups.size())
    error = groups["difference"].std(ddof=1).fillna(np.inf) / np.sqrt(cells["n"])
    quantile = norm.ppf(1 - (1 - CONFIDENCE) / len(cells))
    cells["low"] = cells["difference"] - quantile * error
    ordered = cells.reset_index().sort_values("low", ascending=False, kind="stable")
    worst = float(ordered["low"].iloc[0])
    note = f"lower end of the interval, the worst of {len(cells)} cells"
    return Check(name, worst <= ROUNDING, worst, "≤ 0", ordered, required, note)


def _paired(weaker: pd.DataFrame, strong: pd.DataFrame) -> pd.DataFrame:
    """Join what was tested under both: columns `CELL`, image, weaker, strong (whether it was right)."""
    keys = [*CELL, "image"]
    both = [_right(frame, keys, name) for frame, name in ((weaker, "weaker"), (strong, "strong"))]
    paired = both[0].merge(both[1], on=keys)
    if paired.empty:
        raise StudyError("no image was tested under both attacks in the same cell")
    return paired


def _right(records: pd.DataFrame, keys: Iterable[str], name: str) -> pd.DataFrame:
    own = [*keys]
    if records.duplicated(own).any():
        raise StudyError(f"records of the {name} attack hold an image twice in a cell")
    right = (records["prediction"] == records["label"]).astype(float)
    return records[own].assign(**{name: right})
