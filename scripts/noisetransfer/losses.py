"""Learning curves: the losses of a training, summed up for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POINTS = 10
"""Points of a curve in each epoch."""


def learning_curves(
    losses: NDArray[np.floating],
    *,
    rows: Sequence[Sequence[str]],
    trials: Sequence[int],
    steps_per_epoch: int,
) -> pd.DataFrame:
    """Average losses over every tenth of an epoch.

    Args:
        losses: cross-entropy in nats, (steps, R, T).
        rows: (source, arm) of the R rows.
        trials: numbers of the T trials.
        steps_per_epoch: steps of an epoch; the steps are a multiple of it.

    Returns:
        columns source, arm, trial, epoch (the middle of the averaged steps, in epochs), loss.
    """
    edges = np.linspace(0, steps_per_epoch, min(POINTS, steps_per_epoch) + 1).astype(int)
    starts = (np.arange(0, len(losses), steps_per_epoch)[:, None] + edges[:-1]).ravel()
    ends = [*starts[1:], len(losses)]
    means = np.add.reduceat(losses, starts) / np.subtract(ends, starts)[:, None, None]
    index = pd.MultiIndex.from_product(
        [np.add(starts, ends) / 2 / steps_per_epoch, range(len(rows)), trials],
        names=["epoch", "row", "trial"],
    )
    table = pd.DataFrame({"loss": means.ravel()}, index=index).reset_index()
    names = pd.DataFrame(list(rows), columns=["source", "arm"])
    return table.join(names, on="row")[["source", "arm", "trial", "epoch", "loss"]]
