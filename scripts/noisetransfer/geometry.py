"""How two covariances Σ = F Fᵀ + ρ I differ, and what their spectra are like.

Every measure is of Σ / tr Σ, so that the scale of Σ does not matter. With factors of r columns no matrix is
larger than d × r or 2r × 2r: outside the columns of both factors both covariances are isotropic, and what
that adds is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh, subspace_angles, svdvals
from scipy.stats import linregress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from noisetransfer.classes import ClassMeans
    from noisetransfer.covariance import Covariance

    Array = NDArray[np.float64]

LEADING = 10
"""Eigenvectors that principal angles and class means are compared with."""

SLOPE = 4, 64
"""First and last eigenvalue, counted from 1, that the slope of a spectrum is fitted to."""

LISTED = 256
"""Eigenvalues of a covariance that a table lists at most."""

ROUNDING = 1e-12
"""Share of the greatest eigenvalue below which one is rounding: factors are in float32."""

_ROWS = 4096
"""Rows of a factor that are in float64 at a time."""


@dataclass(frozen=True)
class Structure:
    """Σ / tr Σ, as its measures need it.

    Attributes:
        factor: F (d, r), float32, in the units of Σ.
        trace: tr Σ.
        remainder: ρ / tr Σ.
        core: Fᵀ F / tr Σ, (r, r).
        values: eigenvalues of F Fᵀ / tr Σ that are not rounding, descending.
        leading: their first eigenvectors as columns, (d, k), k ≤ `LEADING`.
    """

    factor: Tensor
    trace: float
    remainder: float
    core: Array
    values: Array
    leading: Array

    @property
    def d(self) -> int:
        """Number of units at the site."""
        return len(self.factor)


def structure(covariance: Covariance) -> Structure:
    """Prepare a covariance, ridge included, for the measures below."""
    factor = covariance.factor
    core = _products(factor, factor)
    trace = float(core.trace()) + covariance.remainder * len(factor)
    ascending, vectors = eigh(core)
    kept = ascending > ROUNDING * ascending.max(initial=0.0)
    values, vectors = ascending[kept][::-1], vectors[:, kept][:, ::-1]
    first = vectors[:, :LEADING] / np.sqrt(values[:LEADING])
    return Structure(
        factor=factor,
        trace=trace,
        remainder=covariance.remainder / trace,
        core=core / trace,
        values=values / trace,
        leading=_times(factor, first),
    )


def compare(a: Structure, b: Structure) -> dict[str, float]:
    """Return the measures of two covariances at the same site; all are symmetric.

    Returns:
        bures: Bures–Wasserstein distance √(2 − 2 tr (Σ_a^½ Σ_b Σ_a^½)^½) of the normalised ones, 0 … √2.
        cka: tr Σ_a Σ_b / (‖Σ_a‖ ‖Σ_b‖), 0 … 1: their normalised Frobenius inner product: the
            uncentred linear CKA of their factors, with units as examples (Kornblith et al. 2019).
        angle_first, angle_mean, angle_last: least, mean and greatest principal angle, 0 … 90 degrees, between
            the spaces of the `angles` leading eigenvectors; NaN if one has none.
        angles: how many: `LEADING`, or the fewer that one has.
    """
    cross = _products(a.factor, b.factor) / np.sqrt(a.trace * b.trace)
    inner = _inner(a, b, float(np.square(cross).sum()))
    found = angles(a, b)
    return {
        "bures": float(np.sqrt(max(0.0, 2 - 2 * _fidelity(a, b, cross)))),
        "cka": inner / np.sqrt(_squared_norm(a) * _squared_norm(b)),
        "angle_first": float(found.min()) if len(found) else np.nan,
        "angle_mean": float(found.mean()) if len(found) else np.nan,
        "angle_last": float(found.max()) if len(found) else np.nan,
        "angles": len(found),
    }


def angles(a: Structure, b: Structure) -> Array:
    """Return the principal angles between the leading eigenspaces, in degrees; of as many as both have."""
    k = min(a.leading.shape[1], b.leading.shape[1])
    return np.degrees(subspace_angles(a.leading[:, :k], b.leading[:, :k])) if k else np.empty(0)


def participation_ratio(a: Structure) -> float:
    """Return the effective rank (Σλ)² / Σλ², 1 … d."""
    return 1 / _squared_norm(a)


def entropy_rank(a: Structure) -> float:
    """Return the effective rank exp(−Σ p log p), p = λ / Σλ, 1 … d (Roy and Vetterli 2007)."""
    shares = np.append(_shares(a), a.remainder)
    count = np.append(np.ones(len(a.values)), a.d - len(a.values))
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return float(np.exp(-np.sum(count * shares * logs)))


def slope(a: Structure) -> tuple[float, int, int]:
    """Return the slope of log λ over log index, by least squares, and the first and last index fitted to.

    It is NaN with fewer than three eigenvalues in the range `SLOPE`.
    """
    first, last = SLOPE[0], min(SLOPE[1], len(a.values))
    index = np.arange(first, last + 1)
    if len(index) < 3:
        return np.nan, first, last
    return float(linregress(np.log(index), np.log(_shares(a)[index - 1])).slope), first, last


def class_share(a: Structure, classes: ClassMeans) -> float:
    """Return the share of the scatter between the classes, 0 … 1, that lies in the leading eigenspace.

    A random space of k dimensions holds k / d of it. NaN where there is no scatter.
    """
    scattered = classes.scattered().double()
    whole = float(scattered.square().sum())
    within = float(np.square(scattered.numpy() @ a.leading).sum())
    return within / whole if whole else np.nan


def pair_rows(structures: Mapping[str, Structure]) -> list[dict[str, Any]]:
    """Compare every two sources: rows of `source`, `other` and the measures of `compare`."""
    return [
        {"source": source, "other": other, **compare(structures[source], structures[other])}
        for source, other in combinations(structures, 2)
    ]


def spectrum_rows(source: str, a: Structure, classes: ClassMeans) -> list[dict[str, Any]]:
    """List the leading eigenvalues of a source, `LISTED` at most; what is told of all stands in each row."""
    steepness, first, last = slope(a)
    k = a.leading.shape[1]
    told = {
        "d": a.d,
        "participation_ratio": participation_ratio(a),
        "entropy_rank": entropy_rank(a),
        "slope": steepness,
        "slope_from": first,
        "slope_to": last,
        "leading": k,
        "class_share": class_share(a, classes) if k else np.nan,
        "class_share_by_chance": k / a.d,
    }
    shares = enumerate(_shares(a)[:LISTED], start=1)
    return [
        {"source": source, "index": i, "eigenvalue": share * a.trace, "share": share, **told}
        for i, share in shares
    ]


def _shares(a: Structure) -> Array:
    """Return the eigenvalues of Σ / tr Σ along the columns of F."""
    return a.values + a.remainder


def _squared_norm(a: Structure) -> float:
    return _inner(a, a, float(np.square(a.core).sum()))


def _inner(a: Structure, b: Structure, crossed: float) -> float:
    """Return tr Σ_a Σ_b of the normalised covariances; `crossed` is ‖F_aᵀ F_b‖²."""
    mixed = a.remainder * float(b.core.trace()) + b.remainder * float(a.core.trace())
    return crossed + mixed + a.remainder * b.remainder * a.d


def _fidelity(a: Structure, b: Structure, cross: Array) -> float:
    """Return tr (Σ_a^½ Σ_b Σ_a^½)^½ = ‖L_aᵀ L_b‖_* of any roots L Lᵀ = Σ, 0 … 1."""
    if a.remainder == b.remainder == 0:
        return float(svdvals(cross).sum())
    first, second = _coordinates(a, b, cross)
    inside = svdvals(_root(first, a.remainder).T @ _root(second, b.remainder)).sum()
    return float(inside + np.sqrt(a.remainder * b.remainder) * (a.d - len(first)))


def _coordinates(a: Structure, b: Structure, cross: Array) -> tuple[Array, Array]:
    """Return both factors (q, r) in one orthonormal basis of the space that their columns span."""
    columns = len(a.core) + len(b.core)
    if columns >= a.d:
        return _scaled(a), _scaled(b)
    values, vectors = eigh(np.block([[a.core, cross], [cross.T, b.core]]))
    kept = values > ROUNDING * values.max(initial=0.0)
    joint = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return joint[:, : len(a.core)], joint[:, len(a.core) :]


def _scaled(a: Structure) -> Array:
    scaled: Array = a.factor.double().numpy() / np.sqrt(a.trace)
    return scaled


def _root(factor: Array, remainder: float) -> Array:
    """Return L with L Lᵀ = F Fᵀ + ρ I."""
    if remainder == 0:
        return factor
    values, vectors = eigh(factor @ factor.T)
    return np.asarray(vectors * np.sqrt(values.clip(min=0) + remainder))


def _products(a: Tensor, b: Tensor) -> Array:
    """Return Aᵀ B in float64."""
    total = a.new_zeros(a.shape[1], b.shape[1]).double()
    for own, other in zip(a.split(_ROWS), b.split(_ROWS), strict=True):
        total += own.double().mT @ other.double()
    return np.asarray(total.numpy())


def _times(factor: Tensor, weights: Array) -> Array:
    """Return F W, (d, k), in float64."""
    return np.concatenate([part.double().numpy() @ weights for part in factor.split(_ROWS)])
