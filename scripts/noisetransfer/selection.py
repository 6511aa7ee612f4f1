"""Choosing rank and ridge: by the share of the trace explained, or by held-out likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from noisetransfer.ranks import Explained, HeldOut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noisetransfer.ranks import Rank
    from noisetransfer.samples import Sample, Split

RELATIVE_RIDGES = tuple(10 ** (exponent / 2) for exponent in range(-12, 1))
"""Among these, 1e-6 to 1 in steps of √10, a held-out ridge is chosen: b in b · tr Σ / d · I."""


@dataclass(frozen=True)
class Choice:
    """Rank and ridge as numbers, and the mean log-likelihood of a held-out difference if it chose them."""

    rank: int | Literal["full"]
    ridge: Mapping[str, float]
    log_likelihood: float | None = None


def added_variance(ridge: Mapping[str, float], trace: float, d: int) -> float:
    """Return a of a ridge a·I: {"absolute": a}, or b · tr Σ / d of {"relative": b}."""
    return ridge["absolute"] if "absolute" in ridge else ridge["relative"] * trace / d


def explaining(values: Tensor, share: float) -> int:
    """Return the least number of leading eigenvalues, of all given in descending order, with that share."""
    cumulative = values.cumsum(0)
    return int(torch.searchsorted(cumulative, share * float(cumulative[-1]))) + 1


def choose(sample: Sample, rank: Rank, ridge: Mapping[str, float]) -> Choice:
    """Choose what is not given as a number: rank, ridge, or both where held-out differences are likeliest.

    Where the rank explains a share, a held-out ridge is judged at the rank that does so in the fitted part.
    Of equals, the least ridge and rank win.

    Args:
        sample: with a split if anything is chosen by held-out differences.
        rank: any; `HeldOut` tries all numbers from 1 to the rank of the fitted part, below d.
        ridge: {"absolute": a}, {"relative": b}, or {"held_out": True} for the `RELATIVE_RIDGES`.
    """
    best, likelihood = 1, None
    if sample.split is not None:
        best, ridge, likelihood = _likeliest(sample.split, rank, ridge)
    if isinstance(rank, HeldOut):
        rank = max(best, 1)
    elif isinstance(rank, Explained):
        rank = explaining(sample.eigenvalues(), rank.share)
    return Choice(rank, ridge, likelihood)


def log_likelihoods(split: Split, ridge: float) -> Tensor:
    """Return the mean log-likelihood of a held-out difference at ranks 0 … q, (q + 1,), in nats.

    Under N(mean, Σ) with the r leading eigenpairs of the fitted part, what they leave of its trace spread
    evenly over the other d − r directions, and the ridge on all: the likelihood of probabilistic principal
    component analysis (Tipping and Bishop 1999), in its eigenbasis. No variance is below `Split.floor`.
    """
    floor = split.floor
    left = split.d - torch.arange(len(split.values) + 1, device=split.values.device)
    rest = (split.trace - _sums(split.values)).clamp(min=0) / left.clamp(min=1)
    inside = (split.values + ridge).clamp(min=floor)
    outside = (rest + ridge).clamp(min=floor)
    energy_outside = (split.energy - _sums(split.energies)).clamp(min=0) * (left > 0)
    log_determinant = _sums(inside.log()) + left * outside.log()
    distance = _sums(split.energies / inside) + energy_outside / outside
    return -(split.d * log(2 * pi) + log_determinant + distance) / 2


def _likeliest(
    split: Split, rank: Rank, ridge: Mapping[str, float]
) -> tuple[int, Mapping[str, float], float]:
    """Return the rank in the fitted part and the ridge of the greatest likelihood, and that."""
    ridges = [{"relative": b} for b in RELATIVE_RIDGES] if ridge.get("held_out") else [ridge]
    added = [added_variance(candidate, split.trace, split.d) for candidate in ridges]
    ranks = _candidates(split, rank)
    scores = torch.stack([log_likelihoods(split, a) for a in added])[:, ranks.start : ranks.stop]
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    return ranks[column], ridges[row], float(scores[row, column])


def _candidates(split: Split, rank: Rank) -> range:
    """Return the ranks to try. Differences that are all 0 have but rank 0."""
    most = len(split.values)
    if isinstance(rank, HeldOut):  # d eigenpairs are as good as d − 1, which leave one eigenvalue
        return range(min(1, most), min(most, max(split.d - 1, 1)) + 1)
    if isinstance(rank, Explained):
        rank = explaining(split.values, rank.share) if most else 0
    only = most if rank == "full" else min(rank, most)
    return range(only, only + 1)


def _sums(values: Tensor) -> Tensor:
    """Return the sums of the first 0, 1, … values."""
    return pad(values.cumsum(0), (1, 0))
