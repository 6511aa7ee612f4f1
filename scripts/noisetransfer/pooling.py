"""One covariance of several sources: the mean of their Σ, each normalised to the same trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisetransfer.covariance import Covariance

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 4096
"""Rows of a factor that are in float64 at a time."""

NEGLIGIBLE = 1e-10
"""Share of the largest eigenvalue below which another is rounding."""


def pool(covariances: Sequence[Covariance], rank: int | None = None) -> Covariance:
    """Return the mean of d · Σ / tr Σ over sources, ridges included: its trace is d.

    The factors are scaled, put side by side and decomposed anew, through their Gram matrix or, where they
    have more columns than rows, the d × d matrix that is then the smaller one.

    Args:
        covariances: of the sources, at one site; none of trace 0.
        rank: number of eigenpairs kept, the rest of the trace spread evenly; None: all.
    """
    shares = [len(c.diagonal) / (c.trace * len(covariances)) for c in covariances]
    factors = [c.factor * share**0.5 for c, share in zip(covariances, shares, strict=True)]
    joint = torch.cat(factors, dim=1)
    values, turn = _decomposed(joint)
    factor, spread = _truncated(joint, values, turn, rank)
    pairs = list(zip(covariances, shares, strict=True))
    return Covariance(
        mean=torch.stack([c.mean for c in covariances]).mean(0),
        factor=factor,
        remainder=sum(share * c.remainder for c, share in pairs) + spread,
        diagonal=torch.stack([share * c.diagonal.double() for c, share in pairs]).sum(0).float(),
    )


def _decomposed(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues of F Fᵀ, descending, and vectors of FᵀF (m, q) or, if larger, F Fᵀ (d, q)."""
    d, m = joint.shape
    if m <= d:
        product = sum((part.double().mT @ part.double() for part in joint.split(CHUNK)), 0)
    else:
        product = sum((p.double() @ p.double().mT for p in joint.split(CHUNK, dim=1)), 0)
    values, vectors = torch.linalg.eigh(product)
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values > NEGLIGIBLE * values[0]
    return values[kept], vectors[:, kept]


def _truncated(
    joint: Tensor, values: Tensor, vectors: Tensor, rank: int | None
) -> tuple[Tensor, float]:
    """Return the factor of the leading eigenpairs, (d, r), and the variance everywhere of the others."""
    d, kept = len(joint), len(values) if rank is None else min(rank, len(values))
    spread = float(values[kept:].sum()) / (d - kept) if kept < d else 0.0
    values, vectors = values[:kept], vectors[:, :kept]
    lengths = (values - spread).clamp(min=0).sqrt()
    if joint.shape[1] > d:
        return (vectors * lengths).float(), spread
    turn = vectors * (lengths / values.sqrt())
    return torch.cat([(part.double() @ turn).float() for part in joint.split(CHUNK)]), spread
