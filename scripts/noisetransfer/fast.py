"""Faster ways to run a large network, each held against float32 before it is used."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisetransfer.errors import StudyError

AGREEMENT = 0.99
"""Least share of images whose prediction the faster network must share with float32."""


@dataclass(frozen=True)
class Ways:
    """How a network is run; by default plainly, in float32.

    Attributes:
        bfloat16: convolutions and products in bfloat16 (autocast); what goes in and out stays float32.
        channels_last: images and activations with the channels last in memory.
        compile: by `torch.compile`.
    """

    bfloat16: bool = False
    channels_last: bool = False
    compile: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing is to be faster."""
        return not (self.bfloat16 or self.channels_last or self.compile)


class Faster(nn.Module):
    """A network run in faster ways: float32 in, float32 out."""

    def __init__(self, network: nn.Module, ways: Ways) -> None:
        super().__init__()
        own = copy.deepcopy(network)
        if ways.channels_last:
            own = own.to(memory_format=torch.channels_last)
        self.network = torch.compile(own) if ways.compile else own
        self.ways = ways

    def forward(self, values: Tensor) -> Tensor:
        """Return what the network puts out."""
        if self.ways.channels_last and values.dim() == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        with torch.autocast(values.device.type, torch.bfloat16, enabled=self.ways.bfloat16):
            outputs: Tensor = self.network(values)
        return outputs.float()


@torch.no_grad()
def check(faster: nn.Module, plain: nn.Module, images: Tensor) -> float:
    """Return the share of images (B, C, H, W) that two networks predict alike.

    Raises:
        StudyError: if it is below 0.99.
    """
    alike = float((faster(images).argmax(1) == plain(images).argmax(1)).double().mean())
    if alike < AGREEMENT:
        raise StudyError(
            f"evaluation: the faster network agrees with float32 on {alike:.3f} of {len(images)} clean "
            f"images, {AGREEMENT} is asked for: take out one of bfloat16, channels_last, compile"
        )
    return alike
