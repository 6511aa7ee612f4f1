"""Arms at equal clean accuracy: for each arm the τ at which it costs as much of it as arm full does.

At equal τ arms inject equally much noise, but not equally harmful noise. Here τ is chosen on validation
images, arm by arm, and what each arm protects from is then compared on test images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from noisetransfer.arms import NO_NOISE, NO_SOURCE, UNSCALED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

REFERENCE = "full"
"""The arm whose clean accuracy, at each of its own τ, the other arms are brought to."""

PLACE = ["study", "network", "site", "regime"]

COLUMNS = [
    *PLACE,
    "source",
    "target",
    "arm",
    "reference_tau",
    "clean_accuracy",
    "tau",
    "trial",
    "accuracy",
    "gain_over_identity_matched",
]
"""Columns of the table of matched accuracies."""


def matched(table: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Compare the arms of every source at equal clean validation accuracy.

    Args:
        table: as from `statistics.transfer_table`; one τ is no sweep: then only arm full has values.
        validation: as from `statistics.accuracies`, of clean validation images under the same noise.

    Returns:
        columns `COLUMNS`, sorted by them; one row for every target of a source, arm, τ of arm full
        (`reference_tau`, as in `table`) and trial. Arms without a source stand at each source. `tau` is the
        arm's own, NaN where its sweep does not reach the clean accuracy; so is then `accuracy`, and it
        is where the arm was not tested under the target on both sides of `tau`.
    """
    tested, clean = _swept(table), _swept(validation)
    known = dict(list(clean.groupby(PLACE, observed=True)))
    frames = [
        _of_source(own, known[place], source)
        for place, own in tested.groupby(PLACE, observed=True)
        if place in known
        for source in own.loc[own["arm"] == REFERENCE, "source"].unique()
    ]
    filled = [frame for frame in frames if len(frame)]
    found = pd.concat(filled) if filled else pd.DataFrame(columns=COLUMNS)
    return _with_gains(found)[COLUMNS].sort_values(COLUMNS[:-1], ignore_index=True)


def clean_curve(cells: pd.DataFrame) -> pd.Series[float]:
    """Return clean accuracy by τ, rising: the mean over trials, never rising (isotonic regression).

    Args:
        cells: of one noise: columns scale (τ, a number), accuracy; a row for each trial.
    """
    # rounded: equal counts are to be equal whatever the order of their sum
    means = cells.groupby("scale")["accuracy"].mean().round(12)
    return pd.Series(isotonic_regression(means, increasing=False).x, index=means.index)


def matched_scale(curve: pd.Series[float], levels: ArrayLike) -> Array:
    """Return log τ where a curve has these clean accuracies, linear in log τ in between.

    Args:
        curve: as from `clean_curve`.
        levels: clean accuracies.

    Returns:
        NaN for those that the curve does not have; of several τ of one accuracy the greatest: the most
        noise for its price.
    """
    # where numbers are equal, np.interp takes the last: the greatest τ
    taus = np.log(curve.index.to_numpy(dtype=float))
    found: Array = np.interp(-np.asarray(levels), -curve, taus, left=np.nan, right=np.nan)
    return found


def accuracy_at(cells: pd.DataFrame, scales: Array) -> pd.DataFrame:
    """Interpolate the accuracies of every trial linearly in log τ.

    Args:
        cells: of one noise and target: columns scale (τ, a number), trial, accuracy.
        scales: log τ, (n,); NaN gives NaN.

    Returns:
        n rows, a column for each trial; NaN outside the τ of the trial.
    """
    return pd.DataFrame(
        {
            trial: np.interp(scales, np.log(own["scale"]), own["accuracy"], np.nan, np.nan)
            for trial, own in cells.sort_values("scale").groupby("trial")
        }
    )


def _swept(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose τ is a number above 0, with it as `scale`."""
    rows = table[~table["tau"].isin([NO_NOISE, UNSCALED])]
    return rows.assign(scale=rows["tau"].astype(float))


def _of_source(tested: pd.DataFrame, clean: pd.DataFrame, source: str) -> pd.DataFrame:
    """Match the arms of a source, and those without one, to arm full of it; all at one place."""
    reference = _noise(clean, source, REFERENCE)
    if reference.empty:
        return pd.DataFrame(columns=COLUMNS)
    levels = clean_curve(reference)
    names = reference.drop_duplicates("scale").set_index("scale")["tau"][levels.index]
    base = {name: tested[name].iloc[0] for name in PLACE} | {"source": source}
    frames = []
    for target, arm, own, cells in _arms(tested, clean, source):
        scales = matched_scale(clean_curve(own), levels)
        found = accuracy_at(cells, scales).assign(
            **base,
            target=target,
            arm=arm,
            reference_tau=names.to_numpy(),
            clean_accuracy=levels.to_numpy(),
            tau=np.exp(scales),
        )
        keys = [name for name in COLUMNS if name in found]
        frames.append(found.melt(keys, var_name="trial", value_name="accuracy"))
    return pd.concat(frames)


def _arms(
    tested: pd.DataFrame, clean: pd.DataFrame, source: str
) -> Iterable[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Yield, for the targets of a source, target, arm, its clean cells and its cells under the target."""
    targets = tested.loc[tested["source"] == source, "target"].unique()
    rows = tested[tested["source"].isin([source, NO_SOURCE]) & tested["target"].isin(targets)]
    for noise, cells in rows.groupby(["target", "arm", "source"], observed=True):
        target, arm, owner = map(str, noise)
        own = _noise(clean, owner, arm)
        if len(own):
            yield target, arm, own, cells


def _noise(rows: pd.DataFrame, source: str, arm: str) -> pd.DataFrame:
    return rows[(rows["source"] == source) & (rows["arm"] == arm)]


def _with_gains(found: pd.DataFrame) -> pd.DataFrame:
    """Add the gain over identity at the same clean accuracy, NaN where there is none."""
    keys = [*PLACE, "source", "target", "reference_tau", "trial"]
    identity = found[found["arm"] == "identity"].set_index(keys)["accuracy"]
    own = identity.reindex(pd.MultiIndex.from_frame(found[keys])).to_numpy(dtype=float)
    return found.assign(gain_over_identity_matched=found["accuracy"] - own)
