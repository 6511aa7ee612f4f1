"""Trials crossed with images: how sure a mean over both is, where both are samples.

Every trial (a network, its noise) is tested on every image, so that a value has an effect of its trial, one
of its image, and a rest: the layout of readers × cases, of which the mean, its variance and its degrees of
freedom are textbook matter (Searle, Casella & McCulloch 1992, ch. 4; Hillis 2007, Stat. Med. 26, 596).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating]


@dataclass(frozen=True)
class Crossed:
    """Moments of values of T ≥ 2 trials × n ≥ 2 images.

    Attributes:
        mean: of all values.
        trials: T.
        images: n.
        of_trials: variance of the trials' means (divisor T − 1); expected σ²_trial + σ²_rest / n.
        of_images: variance of the images' means (divisor n − 1); expected σ²_image + σ²_rest / T.
        of_rest: variance of what neither explains (divisor (T − 1)(n − 1)); expected σ²_rest.
    """

    mean: float
    trials: int
    images: int
    of_trials: float
    of_images: float
    of_rest: float

    @property
    def variance(self) -> float:
        """Variance of the mean over new trials and new images.

        That of images counts as no less than 0, that of trials as no less than half of what the rest alone
        makes one expect: where few values differ, the trials' means can agree by chance.
        """
        from_trials = max(self.of_trials / self.trials, self._from_rest / 2)
        return from_trials + max(self.of_images / self.images - self._from_rest, 0)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance, after Satterthwaite."""
        parts = (self.of_trials, self.trials), (self.of_images, self.images)
        spread = sum((part / count) ** 2 / (count - 1) for part, count in parts)
        return self.variance**2 / spread if spread else self.trials - 1.0

    @property
    def _from_rest(self) -> float:
        return self.of_rest / (self.trials * self.images)


def crossed(values: Array) -> Crossed:
    """Return the moments of values (T, n), T ≥ 2 and n ≥ 2."""
    trials, images = values.shape
    rows, columns = values.mean(axis=1, dtype=float), values.mean(axis=0, dtype=float)
    mean = float(rows.mean())
    of_trials, of_images = float(rows.var(ddof=1)), float(columns.var(ddof=1))
    total = float(np.square(values, dtype=float).sum()) - trials * images * mean**2
    own = images * (trials - 1) * of_trials + trials * (images - 1) * of_images
    rest = max(total - own, 0.0) / ((trials - 1) * (images - 1))
    return Crossed(mean, trials, images, of_trials, of_images, rest)
