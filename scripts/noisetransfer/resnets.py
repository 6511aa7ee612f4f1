"""Residual networks for CIFAR (He et al. 2016, section 4.2), named as published weights name them.

Modules: conv1, bn1, relu; layer1 … layer3 of blocks (conv1, bn1, relu1, conv2, bn2, shortcut, relu2); pool,
flatten, linear. Weights: akamaster/pytorch_resnet_cifar10.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pad

WIDTHS = (16, 16, 32, 64)
"""Channels of the stem and of the three stages."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation that the published weights were trained with: ImageNet's."""


def resnet(layers: int, classes: int = 10) -> nn.Sequential:
    """Build a network of 6 n + 2 layers; images (B, 3, H, W), normalised, to logits (B, classes)."""
    blocks = (layers - 2) // 6
    stages = {
        f"layer{i}": _stage(inputs, channels, blocks)
        for i, (inputs, channels) in enumerate(pairwise(WIDTHS), start=1)
    }
    return nn.Sequential(
        OrderedDict(
            conv1=_convolution(3, WIDTHS[0]),
            bn1=nn.BatchNorm2d(WIDTHS[0]),
            relu=nn.ReLU(),
            **stages,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTHS[-1], classes),
        )
    )


class Block(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut: (B, inputs, H, W) → (B, channels, H', W')."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        stride = 1 if inputs == channels else 2
        self.conv1 = _convolution(inputs, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 else Shortcut(channels - inputs)
        self.relu2 = nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:
        """Run the block; its output is what its last nonlinearity puts out."""
        hidden = self.relu1(self.bn1(self.conv1(input)))
        output: Tensor = self.relu2(self.bn2(self.conv2(hidden)) + self.shortcut(input))
        return output


class Shortcut(nn.Module):
    """Option A: every other pixel, and as many channels of zeros on either side as are missing."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C + added, ⌈H / 2⌉, ⌈W / 2⌉)."""
        half = self.added // 2
        return pad(input[:, :, ::2, ::2], (0, 0, 0, 0, half, self.added - half))


def _stage(inputs: int, channels: int, blocks: int) -> nn.Sequential:
    widths = (inputs, *[channels] * blocks)
    return nn.Sequential(*(Block(before, after) for before, after in pairwise(widths)))


def _convolution(inputs: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
