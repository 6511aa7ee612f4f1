"""Covariance of activation differences: streaming moments, the Gram route, and its factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from scipy.linalg import eigh
from torch import Tensor
from torch.nn.functional import pad

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Rank = int | Literal["full"]

DEGENERATE_SHARE_OF_RIDGE = 0.1
DEGENERATE_SHARE_OF_SIGNAL = 1e-4


@dataclass(frozen=True)
class Covariance:
    """Σ = F Fᵀ + ρ I, ridge included.

    Attributes:
        mean: (d,), mean of Δ.
        factor: F, (d, r). Of rank r < d: the leading eigenvectors, in descending order, each times the root
            of its eigenvalue's excess over ρ. Exact: the Cholesky factor, or every eigenvector.
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
    return {
        "mean": torch.stack([c.mean for c in covariances]),
        "factor": torch.stack([pad(c.factor, (0, rank - c.factor.shape[1])) for c in covariances]),
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

    `degenerate`: an absolute ridge supplies more than 10% of the trace, or (under a relative ridge) tr Σ is
    below 1e-4 of the clean activations' trace: the source is too weak to have a structure.
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
    decomposed and no d × d matrix exists.

    Args:
        differences: chunks of Δ, each (m, d), float32; n rows in all.
        n: number of calibration images.
        d: length of the flattened activation.
        rank: number of leading eigenpairs kept; "full" keeps Σ as it is.
        ridge: {"absolute": a} adds a·I, {"relative": b} adds b · tr Σ / d · I.
        signal_trace: tr Cov h(x) of the clean activations, against which Δ is judged.
        name: of the source, for messages.

    Raises:
        StudyError: if Δ holds NaN or infinities, or is 0 everywhere under a relative ridge, or if an exact
            factor is asked for and Σ is singular.
    """
    sample = (_moments if n > d else _rows)(differences, n, d, name)
    trace = sample.trace
    if trace == 0 and not ridge.get("absolute"):
        raise StudyError(
            f"source {name}: the activations of modified and clean images are equal, so there is no "
            "covariance; choose a greater strength or an absolute ridge"
        )
    added = ridge["absolute"] if "absolute" in ridge else ridge["relative"] * trace / d
    exact = rank == "full" and n > d
    covariance = _exact(sample, added, name) if exact else _low_rank(sample, rank, added, n)
    diagnostics = _diagnose(sample, covariance, n, added, signal_trace)
    degenerate = (
        diagnostics.ridge_share > DEGENERATE_SHARE_OF_RIDGE
        if "absolute" in ridge
        else trace < DEGENERATE_SHARE_OF_SIGNAL * signal_trace
    )
    return covariance, replace(diagnostics, degenerate=degenerate)


def total_variance(activations: Iterable[Tensor], n: int) -> float:
    """Return tr Cov h over n rows that come in chunks (m, d): the trace of the signal."""
    total, squares = torch.zeros(1, dtype=torch.float64), 0.0
    for chunk in activations:
        exact = chunk.double()
        total = total.to(exact.device) + exact.sum(0)
        squares += float(exact.square().sum())
    return (squares - float(total.square().sum()) / n) / (n - 1)


@dataclass(frozen=True)
class _Sample:
    """The sample covariance of Δ in float64, without ridge: as S (d, d), or as R (n, d) with S = RᵀR.

    `gram` is the smaller of S and R Rᵀ: they share their eigenvalues.
    """

    mean: Tensor
    diagonal: Tensor
    gram: Tensor
    rows: Tensor | None = None

    @property
    def trace(self) -> float:
        return float(self.diagonal.sum())

    def leading(self, rank: int) -> tuple[Tensor, Tensor]:
        """Return the leading eigenvalues, descending, and their eigenvectors as columns (d, r)."""
        values, vectors = _leading_eigenpairs(self.gram, rank)
        if self.rows is None:
            return values, vectors
        significant = values > values[0] * len(self.rows) * torch.finfo(torch.float64).eps
        values, left = values[significant], vectors[:, significant]
        return values, self.rows.mT @ left / values.sqrt()


def _moments(differences: Iterable[Tensor], n: int, d: int, name: str) -> _Sample:
    total, second = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for chunk in differences:
        _check_finite(chunk, name)
        # products in float32, sums in float64: twice as fast, and exact to 1e-6 of the trace
        total = total.to(chunk.device) + chunk.double().sum(0)
        second = second.to(chunk.device).add_((chunk.mT @ chunk).double())
    mean = total / n
    covariance = (second - n * torch.outer(mean, mean)) / (n - 1)
    return _Sample(mean, covariance.diagonal().clamp(min=0), covariance)


def _rows(differences: Iterable[Tensor], n: int, d: int, name: str) -> _Sample:  # noqa: ARG001
    rows = torch.cat(list(differences)).double()
    _check_finite(rows, name)
    mean = rows.mean(0)
    centred = (rows - mean) / (n - 1) ** 0.5
    return _Sample(mean, centred.square().sum(0), centred @ centred.mT, centred)


def _leading_eigenpairs(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the `rank` greatest eigenvalues, descending and ≥ 0, and their vectors as columns."""
    size = len(matrix)
    if matrix.is_cuda or rank > size // 2:
        values, vectors = torch.linalg.eigh(matrix)
        values, vectors = values[size - rank :], vectors[:, size - rank :]
    else:  # LAPACK finds a few leading pairs three times as fast as all
        found = eigh(matrix.numpy(), subset_by_index=[size - rank, size - 1], check_finite=False)
        values, vectors = map(torch.from_numpy, found)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def _low_rank(sample: _Sample, rank: Rank, ridge: float, n: int) -> Covariance:
    """Keep the leading eigenpairs and spread the rest of the trace evenly."""
    d = len(sample.diagonal)
    values, vectors = sample.leading(min(d if rank == "full" else rank, n - 1, d))
    left_over = max(sample.trace - float(values.sum()), 0.0)
    remainder = left_over / (d - len(values)) if len(values) < d else 0.0
    factor = vectors * (values - remainder).clamp(min=0).sqrt()
    return _covariance(sample, factor, remainder + ridge, ridge)


def _exact(sample: _Sample, ridge: float, name: str) -> Covariance:
    """Keep everything: the Cholesky factor of Σ."""
    matrix = sample.gram.clone()
    matrix.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise StudyError(
            f"source {name}: its covariance is singular, so it has no exact factor; add a ridge "
            "(noise.ridge) or keep a number of eigenpairs (noise.rank: 256)"
        )
    return _covariance(sample, factor, 0.0, ridge)


def _covariance(sample: _Sample, factor: Tensor, remainder: float, ridge: float) -> Covariance:
    return Covariance(
        mean=sample.mean.float(),
        factor=factor.float().contiguous(),
        remainder=remainder,
        diagonal=(sample.diagonal + ridge).float(),
    )


def _diagnose(
    sample: _Sample, covariance: Covariance, n: int, ridge: float, signal_trace: float
) -> Diagnostics:
    trace, (d, rank) = sample.trace, covariance.factor.shape
    # ρ holds the ridge and, below full rank, the part of the trace that no eigenpair explains
    unexplained = max(covariance.remainder - ridge, 0.0) * (d - rank)
    return Diagnostics(
        n=n,
        d=d,
        rank=rank,
        trace=trace,
        explained=1 - unexplained / trace if trace else 0.0,
        effective_rank=trace**2 / float(sample.gram.square().sum()) if trace else 0.0,
        ridge=ridge,
        ridge_share=ridge * d / (trace + ridge * d) if ridge else 0.0,
        signal_trace=signal_trace,
    )


def _check_finite(chunk: Tensor, name: str) -> None:
    if not bool(torch.isfinite(chunk).all()):
        raise StudyError(
            f"source {name}: NaN or infinity in the activations; the base network has diverged "
            "(lower its learning rate) or the modified images are damaged (delete them)"
        )
