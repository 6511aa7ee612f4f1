"""How sure a mean over trials and images is: its interval, and its p-value where it is a difference.

Two means of the same trials and images are compared by their differences, image by image and trial by trial.

With `FEWEST` trials or more, trials and images are samples, and the result speaks of new networks and new
images: Student's t with the variance of the crossed layout (`crossed.py`); for accuracies on the scale of
their logits, so that the interval ends before 0 and 1. In simulations of 5 and 10 trials it covered at least
as well as three ways of resampling both, and its tests are its intervals.

With fewer trials only images are samples: the result speaks of these very networks on new images. The
interval is a BCa bootstrap of the images (Efron 1987), the test flips the signs of the images' differences
(for one trial, McNemar's exact test): it is exact however few images differ, where Student's t is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, t

from noisetransfer.crossed import crossed
from noisetransfer.intervals import CONFIDENCE, FEWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating]

Kind = Literal["accuracy", "difference"]

RESAMPLES = 4000
"""Of the images, for each bootstrap: the ends vary by some 4% of a standard error from seed to seed."""

SMALLEST = 1e-12
"""The least p-value given: below it, rounding counts."""

_LEAST: dict[Kind, float] = {"accuracy": 0.0, "difference": -1.0}
_TAIL = (1 - CONFIDENCE) / 2


def sampled(trials: int) -> str:
    """Say what counts as a sample, by the number of trials."""
    return "images and trials" if trials >= FEWEST else "images"


def interval(values: Array, kind: Kind, random: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the 95% confidence interval of the mean.

    Args:
        values: (T, n) of T trials on the same n images: 0 or 1 of an accuracy; of a difference of two
            (means of) accuracies, −1 to 1.
        kind: of the values.
        random: for the bootstrap.

    Returns:
        low and high; NaN for a single image. Where no sample differs from another, a share
        q = 1 − 0.025^(1/n) of other images may have been missed: the mean moves by q towards the bounds.
    """
    if values.shape[1] < 2:
        return np.nan, np.nan
    if (values == values[0, 0]).all():
        return _unseen(float(values[0, 0]), _LEAST[kind], values.shape[1])
    if len(values) >= FEWEST:
        return _student(values, kind)
    means = values.mean(axis=0, dtype=float)
    if np.ptp(means) < SMALLEST:  # trials that differ, but by as much on every image
        return _unseen(float(means[0]), _LEAST[kind], len(means))
    return bca(means, random)


def bca(values: Array, random: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the BCa bootstrap interval of the mean of values (n,), not all the same.

    The values of images are few and come often: each resample draws how often each of them comes.
    """
    distinct, counts = np.unique(values, return_counts=True)
    share, mean = counts / len(values), values.mean()
    means = random.multinomial(len(values), share, RESAMPLES) @ distinct / len(values)
    below = np.mean(means < mean - 1e-12), np.mean(means < mean + 1e-12)
    bias = norm.ppf(np.mean(below))
    away = distinct - mean
    skew = (share @ away**3) / (6 * (share @ away**2) ** 1.5 * len(values) ** 0.5)
    ends = bias + norm.ppf([_TAIL, 1 - _TAIL])
    low, high = np.quantile(means, norm.cdf(bias + ends / (1 - skew * ends)))
    return float(low), float(high)


def p_value(differences: Array) -> float:
    """Return the two-sided p-value of a mean difference of 0.

    Args:
        differences: (T, n), each −1, 0 or 1.

    Returns:
        at least `SMALLEST`; NaN for a single image.
    """
    trials, images = differences.shape
    if images < 2:
        return np.nan
    if trials < FEWEST:
        return sign_flip(np.rint(differences.sum(axis=0)).astype(np.int64))
    found = crossed(differences)
    if found.variance == 0:  # all the same
        return sign_flip(np.rint(differences[0]).astype(np.int64))
    p = 2 * t.sf(abs(found.mean) / found.variance**0.5, found.freedom)
    return max(float(p), SMALLEST)


def sign_flip(differences: NDArray[np.int64]) -> float:
    """Return the exact two-sided p-value of a sum of whole numbers (n,) if the sign of each were chance.

    Chance sums have the characteristic function ∏ cos(kθ)^(number of ±k): one Fourier transform gives
    their probabilities.
    """
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    most = int(sizes @ counts)
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    wave = np.ones(len(angles))
    for size, count in zip(sizes, counts, strict=True):
        wave *= np.cos(size * angles) ** count
    chances = np.fft.fft(wave).real / len(wave)  # of the sums 0, 1, …, most, −most, …, −1
    sums = np.fft.ifftshift(np.arange(-most, most + 1))
    p = float(chances[np.abs(sums) >= abs(differences.sum())].sum())
    return min(max(p, SMALLEST), 1.0)


def _student(values: Array, kind: Kind) -> tuple[float, float]:
    found = crossed(values)
    half = t.ppf(1 - _TAIL, found.freedom) * found.variance**0.5
    if kind == "accuracy":
        slope = found.mean * (1 - found.mean)
        low, high = expit(logit(found.mean) + np.array([-half, half]) / slope)
    else:
        low, high = np.clip([found.mean - half, found.mean + half], -1, 1)
    return float(low), float(high)


def _unseen(value: float, least: float, images: int) -> tuple[float, float]:
    share = 1 - _TAIL ** (1 / images)
    return value + share * (least - value), value + share * (1 - value)
