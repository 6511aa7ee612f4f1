"""Arms: the structures of noise that a study compares, each scaled to the same trace.

This registry is read by the Snakefile, so torch is imported inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from noisetransfer.covariance import Covariance


@dataclass(frozen=True)
class Factors:
    """Noise ξ = F z₁ + √v ∘ z₂, z ~ N(0, I): covariance F Fᵀ + diag(v).

    Attributes:
        factor: F, (d, r), or None where the arm has no low-rank part.
        variance: v, (d,).
    """

    factor: Tensor | None
    variance: Tensor

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        low_rank = 0.0 if self.factor is None else float(self.factor.double().square().sum())
        return low_rank + float(self.variance.double().sum())

    def scaled(self, trace: float) -> Factors:
        """Return the same structure with the given trace."""
        ratio = trace / self.trace
        factor = None if self.factor is None else self.factor * ratio**0.5
        return Factors(factor, self.variance * ratio)


Keys = tuple[int, str, int]
"""Study seed, source, trial: what a random arm is keyed by."""


@dataclass(frozen=True)
class Arm:
    """One structure of noise. Arms without a source are filed under the pseudo-source `any`."""

    meaning: str
    from_source: bool
    factors: Callable[[Covariance, Keys], Factors] | None = None


def _diagonal(covariance: Covariance, keys: Keys) -> Factors:  # noqa: ARG001
    return Factors(None, covariance.diagonal)


def _full(covariance: Covariance, keys: Keys) -> Factors:  # noqa: ARG001
    return _low_rank(covariance, covariance.eigenvectors)


def _rotated(covariance: Covariance, keys: Keys) -> Factors:
    import torch

    seed, source, trial = keys
    draws = generator(seed, "rotate", source, trial)
    own = covariance.eigenvectors.any(dim=0)  # without the columns that pad a block of trials
    shape = (len(covariance.eigenvectors), int(own.sum()))
    basis, upper = torch.linalg.qr(torch.randn(shape, generator=draws, dtype=torch.float64))
    uniform = basis * upper.diagonal().sign()  # Haar measure needs QR's signs fixed
    return _low_rank(replace(covariance, eigenvalues=covariance.eigenvalues[own]), uniform.float())


def _permuted(covariance: Covariance, keys: Keys) -> Factors:
    import torch

    seed, source, trial = keys
    d = len(covariance.diagonal)
    order = torch.randperm(d, generator=generator(seed, "permute", source, trial))
    return _low_rank(covariance, covariance.eigenvectors[order])


ARMS = {
    "none": Arm("no noise, suffix retrained the same way", from_source=False),
    "identity": Arm("energy without structure", from_source=False),
    "diagonal": Arm("variance of each unit, no correlation", from_source=True, factors=_diagonal),
    "full": Arm("the source's covariance", from_source=True, factors=_full),
    "rotated": Arm("its spectrum in a random basis", from_source=True, factors=_rotated),
    "permuted": Arm("its correlations, units permuted", from_source=True, factors=_permuted),
}


def factors(
    arm: str, tau: float, d: int, covariance: Covariance | None = None, keys: Keys = (0, "", 0)
) -> Factors:
    """Return the noise of an arm, scaled so that tr Σ = τ·d.

    Args:
        arm: name in `ARMS`.
        tau: trace scale τ > 0.
        d: length of the flattened activation.
        covariance: of the source, ridge included; unused by the arms without a source.
        keys: study seed, source and trial, for the arms that draw a random basis or permutation.

    Raises:
        StudyError: if an arm with a source gets no covariance.
    """
    import torch

    if arm == "none":
        return Factors(None, torch.zeros(d))
    structure = ARMS[arm].factors
    if structure is None:
        return Factors(None, torch.full((d,), tau))
    if covariance is None:
        raise StudyError(f"arm {arm} needs the covariance of its source")
    return structure(covariance, keys).scaled(tau * d)


def stacked(
    arms: Sequence[str],
    tau: float,
    d: int,
    covariances: Sequence[Covariance],
    *,
    seed: int,
    source: str,
    trials: Sequence[int],
) -> list[list[Factors]]:
    """Return the factors [arm][trial] of one source; `covariances`: one per trial, none for source any."""
    fitted: Sequence[Covariance | None] = covariances or [None] * len(trials)
    return [
        [
            factors(arm, tau, d, covariance, (seed, source, trial))
            for trial, covariance in zip(trials, fitted, strict=True)
        ]
        for arm in arms
    ]


def _low_rank(covariance: Covariance, basis: Tensor) -> Factors:
    import torch

    # a kept eigenvalue is at least the remainder up to rounding
    excess = (covariance.eigenvalues - covariance.remainder).clamp(min=0)
    return Factors(basis * excess.sqrt(), torch.full((len(basis),), covariance.remainder))
