"""Covariance of activation differences: streaming moments, the Gram route, and the low-rank form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from scipy.linalg import eigh
from torch import Tensor
from torch.nn.functional import pad

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEGENERATE_SHARE_OF_RIDGE = 0.1
DEGENERATE_SHARE_OF_SIGNAL = 1e-4


@dataclass(frozen=True)
class Covariance:
    """Σ = U (diag(λ) − ρ I) Uᵀ + ρ I: r leading eigenpairs, and the rest of the trace spread evenly.

    Attributes:
        mean: (d,), mean of Δ.
        eigenvectors: U, (d, r), orthonormal columns.
        eigenvalues: λ, (r,), descending, ridge included.
        remainder: ρ, variance of every direction outside U, so that the trace is exact.
        diagonal: (d,), exact diagonal of the sample covariance, ridge included.
    """

    mean: Tensor
    eigenvectors: Tensor
    eigenvalues: Tensor
    remainder: float
    diagonal: Tensor

    @property
    def trace(self) -> float:
        """Tr Σ."""
        return float(self.diagonal.double().sum())

    def padded(self, rank: int) -> Covariance:
        """Return the same Σ with `rank` eigenpairs: the added ones carry no excess over ρ."""
        more = rank - len(self.eigenvalues)
        return replace(
            self,
            eigenvectors=pad(self.eigenvectors, (0, more)),
            eigenvalues=pad(self.eigenvalues, (0, more), value=self.remainder),
        )


def to_tensors(covariances: Sequence[Covariance]) -> dict[str, Tensor]:
    """Stack covariances of several trials as named tensors (T, …), for a file."""
    rank = max(len(c.eigenvalues) for c in covariances)
    rows = [vars(c.padded(rank)) for c in covariances]
    return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def from_tensors(*files: Mapping[str, Tensor]) -> list[Covariance]:
    """Undo `to_tensors`: the covariances of the trials of each file, in order; none of no file."""
    rows = [
        {name: values[trial] for name, values in tensors.items()}
        for tensors in files
        for trial in range(len(tensors["remainder"]))
    ]
    return [Covariance(**row | {"remainder": float(row["remainder"])}) for row in rows]  # type: ignore[arg-type]


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
    rank: int | None,
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
        rank: number of leading eigenpairs kept; None keeps all.
        ridge: {"absolute": a} adds a·I, {"relative": b} adds b · tr Σ / d · I.
        signal_trace: tr Cov h(x) of the clean activations, against which Δ is judged.
        name: of the source, for messages.

    Raises:
        StudyError: if Δ holds NaN or infinities, or is 0 everywhere under a relative ridge.
    """
    route = _from_moments if n > d else _from_gram
    spectrum = route(differences, n, d, min(rank or d, n - 1, d), name)
    trace = float(spectrum.diagonal.sum())
    if trace == 0 and not ridge.get("absolute"):
        raise StudyError(
            f"source {name}: the activations of modified and clean images are equal, so there is no "
            "covariance; choose a greater strength or an absolute ridge"
        )
    added = ridge["absolute"] if "absolute" in ridge else ridge["relative"] * trace / d
    diagnostics = _diagnose(spectrum, n, added, signal_trace)
    degenerate = (
        diagnostics.ridge_share > DEGENERATE_SHARE_OF_RIDGE
        if "absolute" in ridge
        else trace < DEGENERATE_SHARE_OF_SIGNAL * signal_trace
    )
    return _with_ridge(spectrum, added), replace(diagnostics, degenerate=degenerate)


def total_variance(activations: Iterable[Tensor], n: int) -> float:
    """Return tr Cov h over n rows that come in chunks (m, d): the trace of the signal."""
    total, squares = torch.zeros(1, dtype=torch.float64), 0.0
    for chunk in activations:
        exact = chunk.double()
        total = total.to(exact.device) + exact.sum(0)
        squares += float(exact.square().sum())
    return (squares - float(total.square().sum()) / n) / (n - 1)


@dataclass(frozen=True)
class _Spectrum:
    """Leading part of the sample covariance of Δ, in float64, without ridge.

    `values` descend, `vectors` are columns; `squares` is the sum of all squared eigenvalues.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    diagonal: Tensor
    squares: float


def _from_moments(differences: Iterable[Tensor], n: int, d: int, rank: int, name: str) -> _Spectrum:
    total, second = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for chunk in differences:
        _check_finite(chunk, name)
        # products in float32, sums in float64: twice as fast, and exact to 1e-6 of the trace
        total = total.to(chunk.device) + chunk.double().sum(0)
        second = second.to(chunk.device).add_((chunk.mT @ chunk).double())
    mean = total / n
    covariance = (second - n * torch.outer(mean, mean)) / (n - 1)
    values, vectors = _leading_eigenpairs(covariance, rank)
    diagonal = covariance.diagonal().clamp(min=0)
    return _Spectrum(mean, values, vectors, diagonal, float(covariance.square().sum()))


def _from_gram(differences: Iterable[Tensor], n: int, d: int, rank: int, name: str) -> _Spectrum:  # noqa: ARG001
    rows = torch.cat(list(differences))
    _check_finite(rows, name)
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    gram = centred @ centred.mT / (n - 1)
    values, left = _leading_eigenpairs(gram, rank)
    significant = values > values[0] * n * torch.finfo(torch.float64).eps
    values, left = values[significant], left[:, significant]
    vectors = centred.mT @ left / (values * (n - 1)).sqrt()
    diagonal = centred.square().sum(0) / (n - 1)
    return _Spectrum(mean, values, vectors, diagonal, float(gram.square().sum()))


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


def _with_ridge(spectrum: _Spectrum, ridge: float) -> Covariance:
    d, r = len(spectrum.diagonal), len(spectrum.values)
    left_over = float(spectrum.diagonal.sum() - spectrum.values.sum())
    remainder = max(left_over, 0.0) / (d - r) if r < d else 0.0
    return Covariance(
        mean=spectrum.mean.float(),
        eigenvectors=spectrum.vectors.float().contiguous(),
        eigenvalues=(spectrum.values + ridge).float(),
        remainder=remainder + ridge,
        diagonal=(spectrum.diagonal + ridge).float(),
    )


def _diagnose(spectrum: _Spectrum, n: int, ridge: float, signal_trace: float) -> Diagnostics:
    trace, d = float(spectrum.diagonal.sum()), len(spectrum.diagonal)
    return Diagnostics(
        n=n,
        d=d,
        rank=len(spectrum.values),
        trace=trace,
        explained=float(spectrum.values.sum()) / trace if trace else 0.0,
        effective_rank=trace**2 / spectrum.squares if trace else 0.0,
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
