"""What accuracies vary by: the network of a trial, the image, and the draw of the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from noisetransfer.crossed import crossed
from noisetransfer.families import NOISE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noisetransfer.outcomes import Outcome

COMPONENTS = ["variance_trial", "variance_image", "variance_trial_image", "variance_draw"]


def components(outcome: Outcome) -> dict[str, float]:
    """Estimate the variance components of one draw's success (1 right, 0 wrong) in a cell.

    The draws of T trials × n images × K are a crossed layout with repeats; its components are estimated by
    the method of moments (Searle, Casella & McCulloch 1992, ch. 4): unbiased, so an estimate of next to
    nothing may lie below 0.

    Returns:
        `COMPONENTS`, which together are the variance of a draw's success over trials, images and draws.
        With one trial, that of the trial is NaN and its interaction with images is part of that of
        images; with one draw, that of the draw is NaN and part of the interaction (with one trial, of that
        of images).
    """
    passes, shares = outcome.passes, outcome.draws / outcome.passes
    of_draws = float(np.mean(shares * (1 - shares)))
    draw = of_draws * passes / (passes - 1) if passes > 1 else np.nan
    own = draw / passes if passes > 1 else 0.0
    trials, images = shares.shape
    if images < 2:
        return dict.fromkeys(COMPONENTS, np.nan) | {"variance_draw": draw}
    if trials < 2:
        found = (np.nan, float(shares.var(ddof=1)) - own, np.nan)
    else:
        moments = crossed(shares)
        rest = moments.of_rest
        found = moments.of_trials - rest / images, moments.of_images - rest / trials, rest - own
    return dict(zip(COMPONENTS, (*found, draw), strict=True))


def variance_table(cells: pd.DataFrame, found: Sequence[Outcome]) -> pd.DataFrame:
    """Return the components of every arm: means over its cells.

    Args:
        cells: and
        found: as from `outcomes.outcomes`.

    Returns:
        columns `families.NOISE`, cells, n, trials, K, `COMPONENTS`.
    """
    sizes = [(len(one.images), len(one.trials), one.passes) for one in found]
    own = pd.DataFrame([components(one) for one in found], columns=COMPONENTS)
    table = pd.concat([cells, pd.DataFrame(sizes, columns=["n", "trials", "K"]), own], axis=1)
    groups = table.groupby([*NOISE, "n", "trials", "K"], sort=True, observed=True)
    means = groups[COMPONENTS].mean()
    means.insert(0, "cells", groups.size())
    return means.reset_index()[[*NOISE, "cells", "n", "trials", "K", *COMPONENTS]]
