"""What noise does to an image, told by the clean image that is then nearest at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 500
"""Images that are searched at most."""

_NUMBERS = 2**27
"""Numbers of their activations, at most: 512 MiB."""


def searched(available: int, d: int) -> Tensor:
    """Return the places of the images that are searched, evenly among those available: they may be in order.

    Args:
        available: number of images.
        d: length of an activation.

    Returns:
        (n,), n ≤ `MOST`, of whole numbers, ascending.
    """
    return spread(available, min(available, MOST, max(2, _NUMBERS // d)))


def spread(available: int, count: int) -> Tensor:
    """Return the middles of as many equal stretches, (count,), of whole numbers."""
    return (torch.arange(count) * 2 + 1) * available // (2 * count)


def nearest_others(points: Tensor, activations: Tensor) -> Tensor:
    """Return the place of the nearest activation to each point, that of the same image left out.

    Args:
        points: (n, d), row i made from image i.
        activations: h(x) of the same images, (n, d).

    Returns:
        (n,), of whole numbers; Euclidean distances.
    """
    # not by differences, which would be (n, n, d): |p − h|² but for |p|², which is the same for all h
    distances = activations.square().sum(1) - 2 * points @ activations.mT
    return distances.fill_diagonal_(torch.inf).argmin(1)


def change_map(differences: Tensor, shape: Sequence[int]) -> Tensor:
    """Return |Δ| of one activation (d,), as an image (H, W): mean over channels; flat sites are one row."""
    grid = differences.abs().reshape(tuple(shape))
    if grid.dim() == 3:
        return grid.mean(0)
    return grid.reshape(1, -1)
