"""What attacks are made of: budgets, random draws, balls around images, checkpoints, tiles.

Read by the Snakefile: torch comes lazily.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor


class Draws(Protocol):
    """Uniform numbers in [0, 1), keyed by a running number: the same in every batch."""

    def per_image(self, number: int, shape: Sequence[int]) -> Tensor:
        """Return (S, B, *shape): each image has its own."""
        ...

    def common(self, number: int, count: int) -> Tensor:
        """Return (S, count): shared by all images of a network."""
        ...


class Budget(BaseModel):
    """The effort of an attack; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def gradients(self) -> int:
        """Return the number of gradient steps, or tiles, that it spends on an image."""
        return int(getattr(self, "steps", 1) * getattr(self, "restarts", 1))


class Ball(Protocol):
    """The points within epsilon of the images, in some norm, and in [0, 1]."""

    @classmethod
    def around(cls, images: Tensor, epsilon: Tensor) -> Ball:
        """Return the balls of radii (S,) around images (S, B, C, H, W)."""
        ...

    def project(self, point: Tensor) -> Tensor:
        """Return a point of the ball: a point of it stays, all others come nearer to all of it."""
        ...

    @staticmethod
    def steepest(gradient: Tensor) -> Tensor:
        """Return the direction of norm 1 in which a loss of this gradient grows fastest (0 where none is)."""
        ...

    @staticmethod
    def shift(uniform: Tensor) -> Tensor:
        """Turn uniform numbers in [0, 1) into shifts of norm up to 1."""
        ...


@dataclass(frozen=True)
class Box:
    """A `Ball` of the L∞ norm: the points between `lower` and `upper`."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def around(cls, images: Tensor, epsilon: Tensor) -> Box:
        """Return the balls of radii (S,) around images (S, B, C, H, W)."""
        radius = radii(epsilon).to(images)
        return cls((images - radius).clamp(min=0), (images + radius).clamp(max=1))

    def project(self, point: Tensor) -> Tensor:
        """Return the nearest point of the ball."""
        return point.clamp(self.lower, self.upper)

    def face(self, up: Tensor) -> Tensor:
        """Return the point with each pixel at its upper (up) or lower end; `up` broadcasts."""
        return self.upper.where(up, self.lower)

    @staticmethod
    def steepest(gradient: Tensor) -> Tensor:
        """Return the sign of each number."""
        return gradient.sign()

    @staticmethod
    def shift(uniform: Tensor) -> Tensor:
        """Return a uniform point of [−1, 1)."""
        return 2 * uniform - 1


@dataclass(frozen=True)
class Sphere:
    """A `Ball` of the L2 norm, over all pixels and channels of an image."""

    images: Tensor
    radius: Tensor

    @classmethod
    def around(cls, images: Tensor, epsilon: Tensor) -> Sphere:
        """Return the balls of radii (S,) around images (S, B, C, H, W)."""
        return cls(images, radii(epsilon).to(images))

    def project(self, point: Tensor) -> Tensor:
        """Return the nearest point within epsilon, clipped to [0, 1], which brings it no farther away."""
        shift = point - self.images
        shrink = (self.radius / _lengths(shift)).clamp(max=1)
        return (self.images + shrink * shift).clamp(0, 1)

    @staticmethod
    def steepest(gradient: Tensor) -> Tensor:
        """Return the gradient at length 1."""
        largest = gradient.abs().amax((-3, -2, -1), keepdim=True)
        scaled = (gradient / largest).where(largest > 0, 0)  # the squares of small numbers vanish
        return scaled / _lengths(scaled)

    @staticmethod
    def shift(uniform: Tensor) -> Tensor:
        """Return a direction in which no side is preferred, at length 1."""
        normal = (2 * uniform.clamp(1e-6, 1 - 1e-6) - 1).erfinv()
        return normal / _lengths(normal)


def checkpoints(steps: int) -> dict[int, int]:
    """Return AutoPGD's checkpoints: number of the step → steps since the checkpoint before."""
    marks, earlier, share = [0], 0.0, 0.22
    while share <= 1:
        marks.append(ceil(share * steps))
        earlier, share = share, share + max(share - earlier - 0.03, 0.06)
    return {mark: mark - before for before, mark in pairwise(marks) if mark > before}


def tile_side(share: float, progress: float, height: int, width: int) -> int:
    """Return the side of a square tile, in pixels, at a progress of the attack in [0, 1)."""
    halvings = bisect_left((0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8), progress)
    side = round(sqrt(share * 0.5**halvings * height * width))
    return min(max(side, 1), height, width)


def tiled(found: Tensor, ball: Box, uniform: Tensor, side: int) -> Tensor:
    """Return the images with a tile pushed to a face of the ball.

    Args:
        found: (S, B, C, H, W).
        ball: around the clean images.
        uniform: (S, 2 + C): the row and the column of the tile, the sign of each channel.
        side: of the tile, in pixels.
    """
    height, width = found.shape[-2:]
    rows = _band(uniform[:, 0], height, side)[:, None, None, :, None]
    columns = _band(uniform[:, 1], width, side)[:, None, None, None, :]
    up = uniform[:, None, 2:, None, None] >= 0.5
    return ball.face(up).where(rows & columns, found)


def _band(uniform: Tensor, size: int, side: int) -> Tensor:
    """Return which of `size` places are in a random run of `side`, (S, size); as in ART, not the last run."""
    import torch

    places = torch.arange(size, device=uniform.device)
    begin = (uniform * (size - side)).long()[:, None]
    return (places >= begin) & (places < begin + side)


def radii(epsilon: Tensor) -> Tensor:
    """Return (S,) as (S, 1, 1, 1, 1)."""
    return epsilon[:, None, None, None, None]


def choose(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Return `chosen` for the images of a mask (S, B), `other` for the rest."""
    return chosen.where(mask[..., None, None, None], other)


def _lengths(values: Tensor) -> Tensor:
    """Return the L2 norms of (S, B, C, H, W), (S, B, 1, 1, 1); above 0."""
    lengths: Tensor = values.flatten(2).norm(dim=2)
    return lengths[..., None, None, None].clamp(min=1e-12)
