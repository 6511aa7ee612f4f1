"""Arms: the structures of noise that a study compares, each by default scaled to the same trace.

This registry is read by the Snakefile, so torch is imported inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.halves import HALVES
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

NO_NOISE = "0"
"""The τ of the arms without noise."""

NO_SOURCE = "any"
"""Pseudo-source of the arms that belong to no source."""

FINE_TUNED = "fine_tuned"
"""The control that is trained on a source's modified images, not under noise."""

Keys = tuple[int, str, int]
"""Study seed, source, trial: what a random arm is keyed by."""


@dataclass(frozen=True)
class Arm:
    """One structure of noise. Arms without a source are filed under the pseudo-source `any`.

    Attributes:
        meaning: in words.
        from_source: whether it belongs to a source.
        factors: from a covariance, that of the source or one of the arm's own; None: it needs none.
        apart: whether it is always made and tested in jobs of its own, so that to add it reruns no other arm.
        noisy: whether it has any noise; if not, τ is 0.
    """

    meaning: str
    from_source: bool
    factors: Callable[[Covariance, Keys], Factors] | None = None
    apart: bool = False
    noisy: bool = True


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
    "none": Arm("no noise, suffix retrained the same way", from_source=False, noisy=False),
    "identity": Arm("energy without structure", from_source=False),
    "diagonal": Arm("variance of each unit, no correlation", from_source=True, factors=_diagonal),
    "full": Arm("the source's covariance", from_source=True, factors=_full),
    "rotated": Arm("its spectrum in a random basis", from_source=True, factors=_rotated),
    "permuted": Arm("its correlations, units permuted", from_source=True, factors=_permuted),
    "signal": Arm(
        "covariance of the clean activations", from_source=False, factors=_full, apart=True
    ),
    "pooled": Arm("mean covariance of named sources", from_source=False, factors=_full, apart=True),
    **{
        half: Arm(
            "full of a random half of the images", from_source=True, factors=_full, apart=True
        )
        for half in HALVES
    },
    FINE_TUNED: Arm(
        "no noise: suffix trained on the source's modified images",
        from_source=True,
        apart=True,
        noisy=False,
    ),
}

CONTROLS = tuple(name for name, arm in ARMS.items() if arm.apart or arm.from_source)
"""The arms that an experiment may have beside those of its study, in jobs of their own."""


def factors(
    arm: str, tau: str, d: int, covariance: Covariance | None = None, keys: Keys = (0, "", 0)
) -> Factors:
    """Return the noise of an arm.

    Args:
        arm: name in `ARMS`.
        tau: trace scale τ: the noise is scaled to tr Σ = τ·d; "unscaled" leaves Σ as it is.
        d: length of the flattened activation.
        covariance: of the source, or of the arm's own, ridge included; unused by the arms that need none.
        keys: study seed, source and trial, for the arms that draw a random basis or permutation.

    Raises:
        StudyError: if an arm that is made from a covariance gets none.
    """
    import torch

    if not ARMS[arm].noisy:
        return Factors(None, torch.zeros(d))
    structure = ARMS[arm].factors
    if structure is None:
        return Factors(None, torch.full((d,), float(tau)))
    if covariance is None:
        raise StudyError(f"arm {arm} needs a covariance")
    own = structure(covariance, keys)
    return own if tau == UNSCALED else own.scaled(float(tau) * d)


def rows(
    arms: Sequence[str],
    tau: str,
    d: int,
    covariances: Mapping[str, Sequence[Covariance | None]],
    *,
    seed: int,
    trials: Sequence[int],
) -> list[list[Factors]]:
    """Return the factors [row][trial]; a row is an arm of a source, the arms of a source side by side.

    Args:
        arms: names of the arms.
        tau: as in `factors`.
        d: length of the flattened activation.
        covariances: source → one per trial, None for the arms that need none; empty for the arms without a
            source.
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
