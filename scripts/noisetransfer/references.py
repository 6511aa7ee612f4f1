"""Ids of pretrained networks, such as `torchvision:resnet50/IMAGENET1K_V2`: parsed without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from noisetransfer import leaderboard
from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

RESNETS = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56, "resnet110": 110}
"""Residual networks for CIFAR (He et al. 2016, section 4.2): name → number of layers."""

PACKAGED = ("efficientnet_lite0",)
"""Networks whose weights a Python package carries."""

FORMS = {
    "robustbench": "robustbench:DATASET/THREAT/MODEL, such as robustbench:cifar10/Linf/Standard",
    "torchvision": "torchvision:MODEL/WEIGHTS, such as torchvision:resnet50/IMAGENET1K_V2",
    "timm": "timm:MODEL or timm:MODEL.TAG, such as timm:resnet50.a1_in1k",
    "package": f"package:NAME, one of {', '.join(f'package:{name}' for name in PACKAGED)}",
    "file": "file:PATH, with an architecture beside it",
}
"""Zoo → how its ids look."""

ARCHITECTURES = (
    f"{', '.join(RESNETS)}, torchvision:MODEL, timm:MODEL or robustbench:DATASET/THREAT/MODEL"
)
"""What a file can be the weights of."""

_OF_A_FILE = ("architecture", "mean", "std", "classes")


@dataclass(frozen=True)
class Reference:
    """A pretrained network: where its weights come from and, for a file, what they are the weights of.

    Attributes:
        zoo: key of `FORMS`.
        name: what stands behind the colon: an id in the zoo, or the path of a file.
        architecture: of a file: see `ARCHITECTURES`.
        mean, std: normalisation of the channels of a file's network; None for that of its architecture.
        classes: number of logits of a file's network; None for that of its architecture.
    """

    zoo: str
    name: str
    architecture: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: int | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The name at its slashes: (dataset, threat model, model) or (model, weights)."""
        return tuple(self.name.split("/"))

    def __str__(self) -> str:
        return f"{self.zoo}:{self.name}"


@dataclass(frozen=True)
class Published:
    """Clean top-1 accuracy, 0 to 1, on the test images of a dataset, as its source tells it."""

    accuracy: float
    source: str
    dataset: str = "imagenet"


@dataclass(frozen=True)
class Preprocessing:
    """What comes before a network: the shorter side is resized (if not None), the centre cropped; pixels."""

    resize: int | None
    crop: int
    interpolation: str = "bilinear"


def parse(text: str) -> Reference:
    """Parse the id of a network.

    A model of RobustBench must exist; those of torchvision and timm `zoo.resolve` checks, with torch.

    Raises:
        StudyError: for a wrong id.
    """
    zoo, _, name = text.partition(":")
    if zoo not in FORMS:
        forms = "\n  ".join(FORMS.values())
        raise StudyError(f"network {text!r}: unknown zoo; allowed are\n  {forms}")
    reference = Reference(zoo, name)
    _check_name(reference)
    return reference


def described(network: Mapping[str, Any]) -> Reference:
    """Parse what a study says of a network: `pretrained`, its id; for a file: what `Reference` tells besides.

    Raises:
        StudyError: for a wrong id, or one that lacks what it needs or has what it does not.
    """
    given = {key: network[key] for key in _OF_A_FILE if network.get(key) is not None}
    reference = replace(parse(network["pretrained"]), **{k: _fixed(v) for k, v in given.items()})
    if reference.zoo == "file":
        _check_file(reference)
    elif given:
        raise StudyError(f"network {reference}: {', '.join(given)}: only for a network of a file")
    return reference


def unknown(what: str, name: str, known: Collection[str]) -> StudyError:
    """Return the error for a name that is not among the known ones; it tells the nearest of them."""
    near = get_close_matches(name, known, n=5, cutoff=0.4) or sorted(known)[:5]
    of = f" (of {len(known)})" if len(known) > len(near) else ""
    return StudyError(f"{what}{name}: there is none of that name, but {', '.join(near)}{of}")


def _check_name(reference: Reference) -> None:
    parts = (reference.name,) if reference.zoo == "file" else reference.parts
    if not all(parts) or len(parts) != {"robustbench": 3, "torchvision": 2}.get(reference.zoo, 1):
        raise StudyError(f"network {reference}: an id there is {FORMS[reference.zoo]}")
    if reference.zoo == "robustbench":
        _check_model(*parts)
    if reference.zoo == "package" and reference.name not in PACKAGED:
        raise unknown("network package:", reference.name, PACKAGED)


def _check_model(dataset: str, threat: str, model: str) -> None:
    tables = leaderboard.accuracies()
    if (dataset, threat) not in tables:
        places = ", ".join("/".join(place) for place in tables)
        raise StudyError(f"network robustbench:{dataset}/{threat}/{model}: there are {places}")
    if model not in tables[dataset, threat]:
        raise unknown(f"network robustbench:{dataset}/{threat}/", model, tables[dataset, threat])


def _check_file(reference: Reference) -> None:
    zoo, _, name = (reference.architecture or "").partition(":")
    plain = zoo in ("torchvision", "timm") and "/" not in name
    if zoo in RESNETS if not name else plain or zoo == "robustbench":
        if zoo == "robustbench":
            _check_name(Reference(zoo, name))
        _check_normalisation(reference)
    else:
        given = reference.architecture or "none is given"
        raise StudyError(f"network {reference}: architecture: {given}; allowed: {ARCHITECTURES}")


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_normalisation(reference: Reference) -> None:
    mean, std = reference.mean, reference.std
    if (mean is None) != (std is None):
        raise StudyError(f"network {reference}: mean and std: give both or neither")
    if not mean or not std:
        return
    if not len(mean) == len(std) == 3 or min(std) <= 0 or min(mean) < 0 or max(*mean, *std) > 1:
        raise StudyError(
            f"network {reference}: mean {list(mean)}, std {list(std)}: of each 3 numbers, of pixels from 0 "
            "to 1 (divide those of 0 to 255 by 255), of std above 0"
        )
