"""Pretrained networks by their id: with or without their weights, and what is told of them.

Every network takes images (B, C, H, W) in [0, 1] and puts out logits (B, classes). One that does not
normalise them itself is wrapped (`Normalised`): its site `layer2` is then `network.layer2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from noisetransfer import file_zoo, package_zoo, robustbench_zoo, timm_zoo, torchvision_zoo
from noisetransfer.checkpoints import state
from noisetransfer.normalised import Normalised, inner
from noisetransfer.references import described

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from noisetransfer.references import Preprocessing, Published, Reference

__all__ = [
    "Normalised",
    "classes",
    "inner",
    "load",
    "preprocessing",
    "published",
    "resolve",
    "skeleton",
    "state",
]


class _Zoo(Protocol):
    """What every module of a zoo offers."""

    def resolve(self, reference: Reference) -> Reference: ...
    def build(self, reference: Reference) -> nn.Module: ...
    def load(self, reference: Reference, folder: Path) -> nn.Module: ...
    def published(self, reference: Reference) -> Published | None: ...
    def preprocessing(self, reference: Reference) -> Preprocessing | None: ...
    def classes(self, reference: Reference) -> int: ...


_ZOOS: dict[str, _Zoo] = {
    "robustbench": robustbench_zoo,
    "torchvision": torchvision_zoo,
    "timm": timm_zoo,
    "package": package_zoo,
    "file": file_zoo,
}


def resolve(network: Mapping[str, Any]) -> str:
    """Check that a network exists, and return its id with the weights written out that a default means.

    Nothing is downloaded.

    Raises:
        StudyError: if there is none of that id; it lists the nearest.
    """
    zoo, reference = _find(network)
    return str(zoo.resolve(reference))


def load(network: Mapping[str, Any], folder: Path) -> nn.Module:
    """Return the pretrained network, in evaluation mode, on the CPU.

    Args:
        network: what the study says of it; see `references.described`.
        folder: where its zoo's files are, or are downloaded to; a file: is read where it lies.

    Raises:
        StudyError: if there is no such network, or its weights cannot be had, are damaged, hold pickled
            objects or do not fit; the message says what to put where.
    """
    zoo, reference = _find(network)
    with torch.random.fork_rng(devices=[]):  # building draws weights, from the global generator
        return zoo.load(reference, folder).eval()


def skeleton(network: Mapping[str, Any]) -> nn.Module:
    """Return the same network without its weights, in evaluation mode: the `state` of the other fits it.

    Nothing is downloaded. The weights are arbitrary.

    Raises:
        StudyError: if there is no such network.
    """
    zoo, reference = _find(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.build(reference).eval()


def published(network: Mapping[str, Any]) -> Published | None:
    """Return the published clean accuracy of these weights, None if none is known."""
    zoo, reference = _find(network)
    return zoo.published(reference)


def preprocessing(network: Mapping[str, Any]) -> Preprocessing | None:
    """Return what these weights want done to photographs, None if nothing is known or needed."""
    zoo, reference = _find(network)
    return zoo.preprocessing(reference)


def classes(network: Mapping[str, Any]) -> int:
    """Return the number of logits."""
    zoo, reference = _find(network)
    return zoo.classes(reference)


def _find(network: Mapping[str, Any]) -> tuple[_Zoo, Reference]:
    reference = described(network)
    return _ZOOS[reference.zoo], reference
