"""Arms: the structures of noise that a study compares, each by default scaled to the same trace.

This registry is read by the Snakefile, so torch is imported inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        # in parts: a copy in float64 of the factor of a large site takes gigabytes
        parts = () if self.factor is None else self.factor.split(4096)
        low_rank = sum(float(part.double().square().sum()) for part in parts)
        return low_rank + float(self.variance.double().sum())

    def scaled(self, trace: float) -> Factors:
        """Return the same structure with the given trace."""
        ratio = trace / self.trace
        factor = None if self.factor is None else self.factor * ratio**0.5
        return Factors(factor, self.variance * ratio)


UNSCALED = "unscaled"
"""The τ of a covariance that is left as it is."""

NO_SOURCE = "any"
"""Pseudo-source of the arms that belong to no source."""

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
    return _with_remainder(covariance, covariance.factor)


def _rotated(covariance: Covariance, keys: Keys) -> Factors:
    import torch

    seed, source, trial = keys
    draws = generator(seed, "rotate", source, trial)
    roots = torch.linalg.svdvals(covariance.factor.double())  # of the excess over ρ
    roots = roots[roots > 1e-7 * roots[:1]]  # not the columns that pad a block of trials
    shape = (len(covariance.factor), len(roots))
    basis, upper = torch.linalg.qr(torch.randn(shape, generator=draws, dtype=torch.float64))
    uniform = basis * upper.diagonal().sign()  # Haar measure needs QR's signs fixed
    return _with_remainder(covariance, (uniform * roots).float())


def _permuted(covariance: Covariance, keys: Keys) -> Factors:
    import torch

    seed, source, trial = keys
    d = len(covariance.diagonal)
    order = torch.randperm(d, generator=generator(seed, "permute", source, trial))
    return _with_remainder(covariance, covariance.factor[order])


ARMS = {
    "none": Arm("no noise, suffix retrained the same way", from_source=False),
    "identity": Arm("energy without structure", from_source=False),
    "diagonal": Arm("variance of each unit, no correlation", from_source=True, factors=_diagonal),
    "full": Arm("the source's covariance", from_source=True, factors=_full),
    "rotated": Arm("its spectrum in a random basis", from_source=True, factors=_rotated),
    "permuted": Arm("its correlations, units permuted", from_source=True, factors=_permuted),
}


def factors(
    arm: str, tau: str, d: int, covariance: Covariance | None = None, keys: Keys = (0, "", 0)
) -> Factors:
    """Return the noise of an arm.

    Args:
        arm: name in `ARMS`.
        tau: trace scale τ: the noise is scaled to tr Σ = τ·d; "unscaled" leaves Σ as it is.
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
        return Factors(None, torch.full((d,), float(tau)))
    if covariance is None:
        raise StudyError(f"arm {arm} needs the covariance of its source")
    own = structure(covariance, keys)
    return own if tau == UNSCALED else own.scaled(float(tau) * d)


def rows(
    arms: Sequence[str],
    tau: str,
    d: int,
    covariances: Mapping[str, Sequence[Covariance]],
    *,
    seed: int,
    trials: Sequence[int],
) -> list[list[Factors]]:
    """Return the factors [row][trial]; a row is an arm of a source, the arms of a source side by side.

    Args:
        arms: names of the arms.
        tau: as in `factors`.
        d: length of the flattened activation.
        covariances: source → one per trial; empty for the arms without a source.
        seed: of the study.
        trials: their numbers.
    """
    plain: dict[str, Sequence[Covariance | None]] = {NO_SOURCE: [None] * len(trials)}
    return [
        [
            factors(arm, tau, d, covariance, (seed, source, trial))
            for trial, covariance in zip(trials, fitted, strict=True)
        ]
        for source, fitted in (covariances or plain).items()
        for arm in arms
    ]


def _with_remainder(covariance: Covariance, factor: Tensor) -> Factors:
    import torch

    return Factors(factor, torch.full((len(factor),), covariance.remainder))
