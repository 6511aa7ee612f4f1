"""Networks of a file of weights, `file:PATH`, of an architecture that is named beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from noisetransfer import resnets, robustbench_zoo, timm_zoo, torchvision_zoo
from noisetransfer.checkpoints import fill, read_state
from noisetransfer.normalised import Normalised, inner
from noisetransfer.references import RESNETS, Preprocessing, Published, Reference

if TYPE_CHECKING:
    from torch import nn

# First digits of the SHA-256 of weights → accuracy on the 10,000 test images of CIFAR-10
_PUBLISHED = {
    "12fca82f": 0.9173,  # resnet20
    "d509ac18": 0.9263,  # resnet32
    "014dd654": 0.9310,  # resnet44
    "4bfd9763": 0.9339,  # resnet56
    "1d1ed7c2": 0.9368,  # resnet110
}
_SOURCE = "akamaster/pytorch_resnet_cifar10, CIFAR-10"


def resolve(reference: Reference) -> Reference:
    """Return the reference as it is; StudyError unless its architecture exists."""
    classes(reference)
    return reference


def build(reference: Reference) -> nn.Module:
    """Build the network without its weights; the study's mean and std replace the architecture's."""
    network = _architecture(reference)
    if reference.mean is None or reference.std is None:
        return network
    return Normalised(inner(network), reference.mean, reference.std)


def load(reference: Reference, folder: Path) -> nn.Module:  # noqa: ARG001
    """Build the network with the weights of the file; they are named as in the network that is normalised."""
    network, path = build(reference), Path(reference.name)
    fill(inner(network), read_state(path), path)
    return network


def published(reference: Reference) -> Published | None:
    """Return what is told of the weights, which are known by their hash; None for others."""
    path = Path(reference.name)
    accuracy = _PUBLISHED.get(pooch.file_hash(path)[:8]) if path.is_file() else None
    return Published(accuracy, _SOURCE, "cifar10") if accuracy else None


def preprocessing(reference: Reference) -> Preprocessing | None:  # noqa: ARG001
    """Return None: a file of weights does not tell."""
    return None


def classes(reference: Reference) -> int:
    """Return the number of logits: the study's, or that of the architecture."""
    zoo, name = _named(reference)
    if zoo == "torchvision":
        declared = torchvision_zoo.classes(Reference(zoo, f"{name}/DEFAULT"))
    elif zoo == "timm":
        declared = timm_zoo.declared(name).num_classes
    elif zoo == "robustbench":
        return robustbench_zoo.classes(Reference(zoo, name))
    else:
        declared = 10
    return reference.classes or declared


def _architecture(reference: Reference) -> nn.Module:
    zoo, name = _named(reference)
    if zoo == "torchvision":
        return torchvision_zoo.architecture(name, classes(reference))
    if zoo == "timm":
        return timm_zoo.architecture(name, classes(reference))
    if zoo == "robustbench":
        return robustbench_zoo.build(Reference(zoo, name))
    network = resnets.resnet(RESNETS[zoo], classes(reference))
    return Normalised(network, resnets.MEAN, resnets.STD)


def _named(reference: Reference) -> tuple[str, str]:
    """Return the zoo of the architecture and its name there; a ResNet for CIFAR is its own zoo."""
    zoo, _, name = (reference.architecture or "").partition(":")
    return zoo, name
