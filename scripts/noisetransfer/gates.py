"""Is an attack as strong as it must be? What is weaker by construction must not do better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm

from noisetransfer.attacks import ATTACKS
from noisetransfer.checks import ROUNDING, Check
from noisetransfer.errors import StudyError
from noisetransfer.intervals import CONFIDENCE
from noisetransfer.statistics import CELL

if TYPE_CHECKING:
    from collections.abc import Iterable

ORDER = (
    ("random_noise", "fgm"),
    ("fgm", "pgd"),
    ("pgd", "auto_pgd"),
    ("pgd", "pgd_eot"),
    ("pgd_eot", "auto_pgd_eot"),
    ("auto_pgd", "auto_pgd_eot"),
    ("square", "auto_pgd_eot"),
    ("square_eot", "auto_pgd_eot"),
    ("pgd_l2_eot", "auto_pgd_l2_eot"),
)
"""(weaker, stronger) attacks: at one ε, accuracy under the stronger one is lower, or as low."""

_IMAGE = [name for name in CELL if name not in ("target", "trial")]


def gates(records: pd.DataFrame) -> list[Check]:
    """Check the order of all attacks at one ε that were targets of the same networks on the same images.

    A study fails by a gate only if the stronger attack is an adaptive one.

    Args:
        records: of evaluations: columns `statistics.CELL`, image, label, prediction.

    Returns:
        one check per pair of `ORDER` that the records hold; see `stronger`.

    Raises:
        StudyError: as `stronger`.
    """
    parts = records["target"].str.partition("@")
    found = records.assign(attack=parts[0], target=parts[2])  # targets of one ε are one cell
    present = set(found["attack"])
    checks = []
    for weak, strong in ORDER:
        pair = [found[found["attack"] == name] for name in (weak, strong)]
        if {weak, strong} <= present and set(pair[0]["target"]) & set(pair[1]["target"]):
            name = f"accuracy under {strong} minus under {weak}"
            checks.append(stronger(*pair, name=name, required=ATTACKS[strong].adaptive))
    return checks


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
