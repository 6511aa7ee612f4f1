"""A network that takes pixels in [0, 1]: the normalisation is part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Normalised(nn.Module):
    """A network behind the normalisation of its channels.

    A site of the network has the prefix `network.` here. `mean` and `std` are part of the state: weights are
    saved with the normalisation that belongs to them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def inner(network: nn.Module) -> nn.Module:
    """Return the network behind the normalisation, or the network itself if it has none of this kind."""
    return network.network if isinstance(network, Normalised) else network
