"""Drawing structured noise for stacks of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from noisetransfer.randomness import key, standard_normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noisetransfer.arms import Factors

EXACT_IN_HALF = 1024
"""Rank above which a GPU multiplies factors in bfloat16: errors of 4e-5 in the trace and 2e-4 of the mean
variance in the elements of the covariance (rms; measured on a CPU at d = 1200)."""


@dataclass(frozen=True)
class Normals:
    """Standard-normal draws that all arms and sources share: their comparisons are paired.

    Attributes:
        factor: z₁, (T, B, r).
        unit: z₂, (T, B, d).
    """

    factor: Tensor
    unit: Tensor


@dataclass(frozen=True)
class NoiseSampler:
    """Noise of R rows (arms of sources) × T trials at one site: ξ = F z₁ + √v ∘ z₂.

    Attributes:
        factors: F of each row, (T, d, r), or None where the row has no low-rank part.
        scale: √v, (R, T, d).
        seed: of the study.
        trials: numbers of the T trials; with the seed they key every draw.
    """

    factors: tuple[Tensor | None, ...]
    scale: Tensor
    seed: int
    trials: tuple[int, ...]

    @classmethod
    def of(
        cls,
        stack: Sequence[Sequence[Factors]],
        device: torch.device,
        *,
        seed: int,
        trials: Sequence[int],
    ) -> NoiseSampler:
        """Stack the factors [row][trial] on a device."""
        scale = torch.stack([torch.stack([f.variance.sqrt() for f in row]) for row in stack])
        factors = tuple(_stack_row(row, device) for row in stack)
        return cls(factors, scale.to(device), seed, tuple(trials))

    @classmethod
    def silence(
        cls, rows: int, d: int, device: torch.device, *, seed: int, trial: int
    ) -> NoiseSampler:
        """Return no noise, for R rows of one trial."""
        return cls((None,) * rows, torch.zeros(rows, 1, d, device=device), seed, (trial,))

    @property
    def device(self) -> torch.device:
        """Where the noise is drawn."""
        return self.scale.device

    @property
    def rank(self) -> int:
        """Number of factor draws that `sample` needs; 0 where no row has a low-rank part."""
        return max((f.shape[-1] for f in self.factors if f is not None), default=0)

    @property
    def silent(self) -> bool:
        """Whether every row is 0."""
        return self.rank == 0 and not bool(self.scale.any())

    def keys(self, purpose: str) -> Tensor:
        """Return the keys of the trials, (T,), for draws of a purpose."""
        keys = [key(self.seed, purpose, trial) for trial in self.trials]
        return torch.tensor(keys, device=self.device)

    def draw(self, keys: Tensor, number: Tensor, images: Tensor) -> Tensor:
        """Draw noise, the same for the same (key, number, image) whatever the batch.

        Args:
            keys: of `keys`.
            number: of the draw (epoch, pass, query), 0-d.
            images: original indices, (T, B) or (B,).

        Returns:
            ξ, (R, T, B, d).
        """
        # z₂ comes first, so that it does not depend on the rank
        d = self.scale.shape[-1]
        both = standard_normal(d + self.rank, keys, number, images)
        return self.sample(Normals(both[..., d:], both[..., :d]))

    def sample(self, draws: Normals) -> Tensor:
        """Turn draws (T, B, ·) into noise (R, T, B, d)."""
        noise = self.scale.unsqueeze(2) * draws.unit
        for row, factor in enumerate(self.factors):
            if factor is not None:
                own = draws.factor[..., : factor.shape[-1]]
                if factor.dtype == noise.dtype:
                    noise[row].baddbmm_(own, factor.mT)
                else:
                    noise[row] += own.to(factor.dtype) @ factor.mT
        return noise

    def rows(self, chosen: Sequence[int]) -> NoiseSampler:
        """Take some of the rows, in this order; their noise stays the same."""
        own = tuple(self.factors[row] for row in chosen)
        return NoiseSampler(own, self.scale[list(chosen)], self.seed, self.trials)

    def part(self, rows: slice, trials: slice) -> NoiseSampler:
        """Take some of the rows and trials."""
        own = tuple(None if f is None else f[trials] for f in self.factors[rows])
        return NoiseSampler(own, self.scale[rows, trials], self.seed, self.trials[trials])


def embedded(noise: Tensor, shape: torch.Size) -> Tensor:
    """Bring noise (…, d) into the shape of what it is added to: (…, *shape), of d numbers or more.

    What a prefix hands on holds the activation first, then what else its suffix needs: that gets no noise.
    """
    values: Tensor = pad(noise, (0, shape.numel() - noise.shape[-1])).unflatten(-1, shape)
    return values


def noisy_pixels(
    images: Tensor, sigma: float, keys: Tensor, draw: Tensor, indices: Tensor
) -> Tensor:
    """Add Gaussian noise of standard deviation σ to images (T, B, C, H, W), not clamped to [0, 1].

    Args:
        images: in [0, 1].
        sigma: σ in pixel units.
        keys: of the trials, (T,).
        draw: number of the draw, 0-d.
        indices: original indices of the images, (T, B) or (B,): they key the draw.
    """
    shape = images.shape[-3:]
    draws = standard_normal(shape.numel(), keys, draw, indices)
    noise: Tensor = sigma * draws.unflatten(-1, shape)
    return images + noise


def _stack_row(row: Sequence[Factors], device: torch.device) -> Tensor | None:
    factors = [f.factor for f in row if f.factor is not None]
    if not factors:
        return None
    rank = max(f.shape[1] for f in factors)
    padded = [pad(f, (0, rank - f.shape[1])) for f in factors]
    half = device.type == "cuda" and rank > EXACT_IN_HALF
    # column after column, as `sample` multiplies them: a sixth less time on a CPU at d = 200,000
    columns = torch.stack([f.mT for f in padded])
    return columns.to(device, torch.bfloat16 if half else None).mT
