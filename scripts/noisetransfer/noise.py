"""Drawing structured noise for stacks of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisetransfer.randomness import standard_normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noisetransfer.arms import Factors


@dataclass(frozen=True)
class Normals:
    """Standard-normal draws that all arms and sources share: their comparisons are paired.

    Attributes:
        factor: z₁, (…, B, r).
        unit: z₂, (…, B, d).
    """

    factor: Tensor
    unit: Tensor


def normals(
    rank: int, d: int, seed: int, purpose: str, *ids: int | str, images: Iterable[int]
) -> Normals:
    """Draw (z₁, z₂) for each image, keyed by (seed, purpose, ids, image); z₂ does not depend on `rank`.

    Returns:
        draws of shape (B, rank) and (B, d), on the CPU.
    """
    both = standard_normal(d + rank, seed, purpose, *ids, images=images)
    return Normals(both[:, d:], both[:, :d])


@dataclass(frozen=True)
class NoiseSampler:
    """Noise of A arms × T trials at one site: ξ = F z₁ + √v ∘ z₂.

    Attributes:
        factors: F of each arm, (T, d, r), or None where the arm has no low-rank part.
        scale: √v, (A, T, d).
    """

    factors: tuple[Tensor | None, ...]
    scale: Tensor

    @classmethod
    def of(cls, stack: Sequence[Sequence[Factors]], device: torch.device) -> NoiseSampler:
        """Stack the factors [arm][trial] on a device."""
        scale = torch.stack([torch.stack([f.variance.sqrt() for f in arm]) for arm in stack])
        return cls(tuple(_stack_arm(arm, device) for arm in stack), scale.to(device))

    @property
    def rank(self) -> int:
        """Number of factor draws that `sample` needs; 0 where no arm has a low-rank part."""
        return max((f.shape[-1] for f in self.factors if f is not None), default=0)

    def sample(self, draws: Normals) -> Tensor:
        """Turn draws (T, B, ·) into noise (A, T, B, d)."""
        noise = self.scale.unsqueeze(2) * draws.unit
        for arm, factor in enumerate(self.factors):
            if factor is not None:
                noise[arm].baddbmm_(draws.factor[..., : factor.shape[-1]], factor.mT)
        return noise

    def trial(self, trial: int) -> NoiseSampler:
        """Take one trial: factors (1, d, r), scale (A, 1, d)."""
        own = tuple(None if f is None else f[trial : trial + 1] for f in self.factors)
        return NoiseSampler(own, self.scale[:, trial : trial + 1])


def _stack_arm(arm: Sequence[Factors], device: torch.device) -> Tensor | None:
    factors = [f.factor for f in arm if f.factor is not None]
    if not factors:
        return None
    rank = max(f.shape[1] for f in factors)
    padded = [torch.nn.functional.pad(f, (0, rank - f.shape[1])) for f in factors]
    return torch.stack(padded).to(device)
