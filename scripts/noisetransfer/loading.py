"""The base networks of a file, cut at a site: those that the study trained, or a pretrained one."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from noisetransfer import cuts, networks, zoo
from noisetransfer.artifacts import read_spec, read_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from noisetransfer.cuts import Cut


@dataclass(frozen=True)
class Bases:
    """The base networks of a block of trials, frozen and in evaluation mode.

    Attributes:
        networks: one per trial; a pretrained network is the same in all.
        image_shape: (C, H, W) of their images.
        spec: what made them, as their file tells.
    """

    networks: Sequence[nn.Module]
    image_shape: tuple[int, int, int]
    spec: dict[str, Any]

    @property
    def pretrained(self) -> bool:
        """Whether the network does not vary over the trials."""
        return "pretrained" in self.spec

    def cut(self, site: str, device: torch.device) -> list[Cut]:
        """Cut every network behind a site, and move the parts to a device.

        Raises:
            StudyError: if the site cannot be cut at; an unknown one lists those there are.
        """
        if self.pretrained:
            found = [cuts.cut(self.networks[0], site, self.image_shape)] * len(self.networks)
        else:
            found = [_cut_sequence(network, site, self.image_shape) for network in self.networks]
        if found[0].how == "replay":
            told = f"{site}: the network cannot be cut, so all of it runs for every draw"
            print(told, file=sys.stderr)
        for own in found:
            own.prefix.to(device)
            own.suffix.to(device).requires_grad_(False)
        return found


def read_bases(path: Path, trials: int = 1) -> Bases:
    """Read the base networks of a number of trials, as `train_network` or `prepare_network` wrote them.

    Raises:
        StudyError: if the file is missing, damaged or of another stage.
    """
    spec: dict[str, Any] = read_spec(path)["network"]
    pretrained = "pretrained" in spec
    producer = "prepare_network" if pretrained else "train_network"
    parameters: dict[str, Tensor] = read_tensors(path, producer=producer, framework="pt")
    if not pretrained:
        return Bases(networks.members(spec, parameters), tuple(spec["image_shape"]), spec)
    network = zoo.skeleton(spec)
    network.load_state_dict({name: values[0] for name, values in parameters.items()})
    frozen = network.eval().requires_grad_(False)
    return Bases([frozen] * trials, tuple(spec["image_shape"]), spec)


def read_modified(path: Path) -> tuple[str, Tensor, Tensor]:
    """Read the images of a split as a modification makes them, of `modify_images` or `attack_images`.

    Returns:
        id of the modification; images (n, C, H, W), or (T, n, C, H, W) where each trial has its own: of an
        attack, and where they are redrawn; original indices, (n,).

    Raises:
        StudyError: if the file is missing, damaged or of another stage.
    """
    origin = read_spec(path)
    producer = "attack_images" if "attack" in origin else "modify_images"
    tensors = read_tensors(path, producer=producer, framework="pt")
    return origin["modification"], tensors["images"], tensors["indices"]


def _cut_sequence(network: nn.Module, site: str, image_shape: tuple[int, int, int]) -> Cut:
    assert isinstance(network, nn.Sequential)
    # copies, as those of `cuts.cut`: the network stays where it is when they move
    prefix, suffix = networks.split(copy.deepcopy(network), site)
    with torch.no_grad():
        shape = networks.activation_shape(prefix, image_shape)
    return cuts.Cut(prefix, suffix, shape)
