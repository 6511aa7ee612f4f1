"""Means of the clean activations of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class ClassMeans:
    """Mean activation of each class that has images.

    Attributes:
        means: (C, d), float32.
        counts: number of images of each class, (C,).
    """

    means: Tensor
    counts: Tensor

    def scattered(self) -> Tensor:
        """Return B (C, d) with Bᵀ B the scatter between the classes: Σ_c (n_c / n) (m_c − m) (m_c − m)ᵀ."""
        weights = (self.counts / self.counts.sum())[:, None].to(self.means)
        return weights.sqrt() * (self.means - (weights * self.means).sum(0))


def class_means(activations: Iterable[Tensor], labels: Tensor) -> ClassMeans:
    """Average activations by class in one pass.

    Args:
        activations: chunks of h(x), each (m, d); as many rows in all as labels.
        labels: class of each row, (n,).

    Raises:
        ValueError: if there are other than n rows.
    """
    present, counts = labels.unique(return_counts=True)
    places = torch.searchsorted(present, labels)
    sums, done = torch.zeros(0), 0
    for chunk in activations:
        own = places[done : done + len(chunk)].to(chunk.device)
        if not done:
            sums = chunk.new_zeros(len(present), chunk.shape[1], dtype=torch.float64)
        sums.index_add_(0, own, chunk.double())
        done += len(chunk)
    if done != len(labels):
        raise ValueError(f"{done} activations of {len(labels)} images")
    return ClassMeans((sums.cpu() / counts[:, None]).float(), counts)
