"""Covariance of activation differences: mean, a factor of exact or low rank, the ridge, what a fit tells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisetransfer.errors import StudyError
from noisetransfer.ranks import HeldOut
from noisetransfer.samples import collect
from noisetransfer.selection import added_variance, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noisetransfer.ranks import Rank
    from noisetransfer.samples import Sample

DEGENERATE_SHARE_OF_RIDGE = 0.1
DEGENERATE_SHARE_OF_SIGNAL = 1e-4


@dataclass(frozen=True)
class Covariance:
    """Σ = F Fᵀ + ρ I, ridge included.

    Attributes:
        mean: (d,), mean of Δ.
        factor: F, (d, r). Of rank r < d: the leading eigenvectors, in descending order, each times the root
            of its eigenvalue's excess over ρ. Exact: the Cholesky factor if n > d; else the n differences,
            turned into n − 1 columns without order (not contiguous: a view of rows).
        remainder: ρ, variance of every direction outside F, so that the trace is exact.
        diagonal: (d,), exact diagonal of the sample covariance.
    """

    mean: Tensor
    factor: Tensor
    remainder: float
    diagonal: Tensor

    @property
    def trace(self) -> float:
        """Tr Σ."""
        return float(self.diagonal.double().sum())


def to_tensors(covariances: Sequence[Covariance]) -> dict[str, Tensor]:
    """Stack covariances of several trials as named tensors (T, …), for a file; factors get columns of 0."""
    rank = max(c.factor.shape[1] for c in covariances)
    first = covariances[0].factor
    factors = first.new_zeros(len(covariances), len(first), rank)
    for stacked, covariance in zip(factors, covariances, strict=True):
        stacked[:, : covariance.factor.shape[1]] = covariance.factor
    return {
        "mean": torch.stack([c.mean for c in covariances]),
        "factor": factors,
        "remainder": torch.tensor([c.remainder for c in covariances], dtype=torch.float64),
        "diagonal": torch.stack([c.diagonal for c in covariances]),
    }


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Covariance]:
    """Undo `to_tensors`: the covariances of the trials of a file, in order."""
    rows = zip(
        tensors["mean"],
        tensors["factor"],
        tensors["remainder"].tolist(),
        tensors["diagonal"],
        strict=True,
    )
    return [Covariance(*row) for row in rows]


@dataclass(frozen=True)
class Diagnostics:
    """What a fit tells of itself. `trace`, `explained` and `effective_rank` are without the ridge.

    `rank` and `ridge`, the variance added everywhere, are those that were given or chosen.
    `degenerate`: an absolute ridge supplies more than 10% of the trace, or (under a relative ridge) tr Σ is
    below 1e-4 of the clean activations' trace: the source is too weak to have a structure.
    `held_out_log_likelihood`: mean of the held-out differences', in nats, if rank or ridge was chosen by it.
    """

    n: int
    d: int
    rank: int
    trace: float
    explained: float
    effective_rank: float
    ridge: float
    ridge_share: float
    signal_trace: float
    degenerate: bool = False
    held_out_log_likelihood: float | None = None


def fit(
    differences: Iterable[Tensor],
    *,
    n: int,
    d: int,
    rank: Rank,
    ridge: Mapping[str, float],
    signal_trace: float,
    name: str,
) -> tuple[Covariance, Diagnostics]:
    """Fit the covariance of Δ (mean removed, divisor n − 1) in one pass over its chunks.

    With n > d the d × d second moment is summed up; otherwise the n × n Gram matrix of the differences is
    decomposed and no d × d matrix exists. It takes the memory of `samples.collect`, and 4 d·r bytes for the
    factor; with n ≤ d an exact factor takes none, as it is made in the place of the differences.

    Args:
        differences: chunks of Δ, each (m, d), float32; n rows in all.
        n: number of calibration images.
        d: length of the flattened activation.
        rank: number of leading eigenpairs kept; "full" keeps Σ as it is; `Explained`: the fewest with that
            share of the trace; `HeldOut`: the number under which held-out differences are likeliest. Every
            fifth difference is held out for that, and Σ then fitted to all.
        ridge: {"absolute": a} adds a·I, {"relative": b} adds b · tr Σ / d · I, {"held_out": True} chooses b
            like a rank, among `selection.RELATIVE_RIDGES`.
        signal_trace: tr Cov h(x) of the clean activations, against which Δ is judged.
        name: of the source, for messages.

    Raises:
        StudyError: if Δ holds NaN or infinities, is not n rows, too few to hold any out, or is 0 everywhere
            under a relative ridge, or if an exact factor is asked for and Σ is singular.
    """
    held_out = isinstance(rank, HeldOut) or bool(ridge.get("held_out"))
    sample = collect(differences, n=n, d=d, name=name, split=held_out)
    trace = sample.trace
    if trace == 0 and not ridge.get("absolute"):
        raise StudyError(
            f"source {name}: the activations of modified and clean images are equal, so there is no "
            "covariance; choose a greater strength or an absolute ridge"
        )
    choice = choose(sample, rank, ridge)
    added = added_variance(choice.ridge, trace, d)
    if choice.rank == "full":
        covariance = _exact(sample, added, name)
    else:
        covariance = _low_rank(sample, choice.rank, added)
    diagnostics = _diagnose(sample, covariance, added, signal_trace)
    degenerate = (
        diagnostics.ridge_share > DEGENERATE_SHARE_OF_RIDGE
        if "absolute" in ridge
        else trace < DEGENERATE_SHARE_OF_SIGNAL * signal_trace
    )
    likelihood = choice.log_likelihood
    return covariance, replace(
        diagnostics, degenerate=degenerate, held_out_log_likelihood=likelihood
    )


def total_variance(activations: Iterable[Tensor], n: int) -> float:
    """Return tr Cov h over n rows that come in chunks (m, d): the trace of the signal."""
    total, squares = torch.zeros(1, dtype=torch.float64), 0.0
    for chunk in activations:
        exact = chunk.double()
        total = total.to(exact.device) + exact.sum(0)
        squares += float(exact.square().sum())
    return (squares - float(total.square().sum()) / n) / (n - 1)


def _low_rank(sample: Sample, rank: int, ridge: float) -> Covariance:
    """Keep the leading eigenpairs and spread the rest of the trace evenly."""
    d = len(sample.diagonal)
    values, vectors = sample.leading(min(rank, sample.n - 1, d))
    left_over = max(sample.trace - float(values.sum()), 0.0)
    remainder = left_over / (d - len(values)) if len(values) < d else 0.0
    lengths = (values - remainder).clamp(min=0).sqrt()
    factor = sample.directions(values, vectors, lengths)
    return _covariance(sample, factor, remainder + ridge, ridge)


def _exact(sample: Sample, ridge: float, name: str) -> Covariance:
    """Keep everything."""
    found = sample.exact(ridge)
    if found is None:
        raise StudyError(
            f"source {name}: its covariance is singular, so it has no exact factor; add a ridge "
            "(noise.ridge) or keep a number of eigenpairs (noise.rank: 256)"
        )
    return _covariance(sample, *found, ridge)


def _covariance(sample: Sample, factor: Tensor, remainder: float, ridge: float) -> Covariance:
    return Covariance(
        mean=sample.mean.float(),
        factor=factor,
        remainder=remainder,
        diagonal=(sample.diagonal + ridge).float(),
    )


def _diagnose(
    sample: Sample, covariance: Covariance, ridge: float, signal_trace: float
) -> Diagnostics:
    trace, (d, rank) = sample.trace, covariance.factor.shape
    # ρ holds the ridge and, below full rank, the part of the trace that no eigenpair explains
    unexplained = max(covariance.remainder - ridge, 0.0) * (d - rank)
    return Diagnostics(
        n=sample.n,
        d=d,
        rank=rank,
        trace=trace,
        explained=1 - unexplained / trace if trace else 0.0,
        effective_rank=sample.effective_rank,
        ridge=ridge,
        ridge_share=ridge * d / (trace + ridge * d) if ridge else 0.0,
        signal_trace=signal_trace,
    )
