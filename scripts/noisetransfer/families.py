"""Families of modifications: what noise of one family gains under another, and under its own modification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from noisetransfer.arms import NO_SOURCE
from noisetransfer.modifications import parse
from noisetransfer.outcomes import KEYS, Outcome, difference
from noisetransfer.randomness import key
from noisetransfer.statistics import references
from noisetransfer.uncertainty import interval, sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating]
    Row = dict[str, Any]

NOISE = [name for name in KEYS if name not in ("source", "target")]
"""Columns that name the noises of one arm, of all sources."""

BLOCK, DOMINANCE = "block mean", "diagonal dominance"

COLUMNS = [*NOISE, "statistic", "value", "source_family", "target_family", "cells", "n", "trials"]
COLUMNS += ["mean", "low", "high", "resampled"]


def family(id: str) -> str:
    """Return the family of a modification, as its registry has it; of no source, that."""
    return NO_SOURCE if id == NO_SOURCE else parse(id)[0].family


def families(cells: pd.DataFrame, found: Sequence[Outcome], seed: int) -> pd.DataFrame:
    """Return the means over blocks of the matrix of an arm, and how far its diagonal stands out.

    Args:
        cells: and
        found: as from `outcomes.outcomes`.
        seed: of the study; keys the bootstrap.

    Returns:
        columns `COLUMNS`. Block means: of a gain, named by value, over all cells of a family of sources × a
        family of targets. Diagonal dominance: accuracy under the own source minus the mean under the others,
        a mean over the targets that have both; the baseline of a gain cancels in it.
    """
    bases = references(cells)
    rows = []
    for names, group in cells.groupby(NOISE, sort=True, observed=True):
        for own, values in [*_blocks(group, found, bases), *_dominance(group, found)]:
            tags = (own["statistic"], own["value"], own["source_family"], own["target_family"])
            random = np.random.default_rng(key(seed, "bootstrap families", *map(str, names), *tags))
            low, high = interval(values, "difference", random)
            size = {"n": values.shape[1], "trials": len(values), "resampled": sampled(len(values))}
            ends = {"mean": float(values.mean(dtype=float)), "low": low, "high": high}
            rows.append(dict(zip(NOISE, names, strict=True)) | own | size | ends)
    return pd.DataFrame(rows, columns=COLUMNS)


def _blocks(
    group: pd.DataFrame, found: Sequence[Outcome], bases: dict[str, NDArray[np.intp]]
) -> Iterable[tuple[Row, Array]]:
    by = [group["source"].map(family), group["target"].map(family)]
    for arm, base in bases.items():
        for (source, target), block in group.groupby(by, sort=True):
            rows = [i for i in block.index if base[i] >= 0 and base[i] != i]
            if rows:
                named = {"source_family": source, "target_family": target, "cells": len(rows)}
                values = _mean([difference(found[i], found[base[i]]) for i in rows])
                yield {"statistic": BLOCK, "value": f"gain_over_{arm}", **named}, values


def _dominance(group: pd.DataFrame, found: Sequence[Outcome]) -> Iterable[tuple[Row, Array]]:
    advantages = []
    for _, row in group.groupby("target", sort=True, observed=True):
        own = row.index[row["source"] == row["target"]]
        others = row.index.difference(own)
        if len(own) and len(others):
            better = [difference(found[own[0]], found[other]) for other in others]
            advantages.append(_mean(better))
    if advantages:
        named = {"source_family": "own", "target_family": "own", "cells": len(advantages)}
        yield {"statistic": DOMINANCE, "value": "accuracy", **named}, _mean(advantages)


def _mean(parts: Sequence[Array]) -> Array:
    total = parts[0].copy()
    for part in parts[1:]:  # one by one: all at once are gigabytes
        total += part
    return total / len(parts)
