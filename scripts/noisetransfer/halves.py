"""Random halves of the calibration images: how far fits differ by chance. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

HALVES = "half_a", "half_b"
"""The two halves: disjoint, together all images."""


def in_half(half: str, n: int, *, seed: int, source: str, trial: int) -> Tensor:
    """Return which of n images are in a half, (n,) of bool; of an odd number half_b has one more.

    Args:
        half: one of `HALVES`.
        n: number of images.
        seed: of the study.
        source: whose images they are: each source and trial has halves of its own.
        trial: its number.

    Raises:
        StudyError: if a half would have fewer than two images, which have no covariance.
    """
    import torch

    if n < 4:
        raise StudyError(f"{half} of {source}: {n} calibration images; halves need 4 or more")
    order = torch.randperm(n, generator=generator(seed, "half", source, trial))
    in_a = order < n // 2
    return in_a if half == HALVES[0] else ~in_a
