"""Classification networks of torchvision: `torchvision:MODEL/WEIGHTS`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from noisetransfer.checkpoints import read_here
from noisetransfer.errors import StudyError
from noisetransfer.normalised import Normalised
from noisetransfer.references import Preprocessing, Published, Reference, unknown

if TYPE_CHECKING:
    from pathlib import Path


def resolve(reference: Reference) -> Reference:
    """Put the name of the weights in the place of DEFAULT; StudyError if there are no such weights."""
    model, _ = reference.parts
    return replace(reference, name=f"{model}/{_weights(reference).name}")


def build(reference: Reference) -> nn.Module:
    """Build the network without its weights."""
    from torchvision.models import get_model

    model, _ = reference.parts
    weights = _weights(reference)
    network = get_model(model, num_classes=classes(reference), **_options(model, weights))
    return _normalised(network, weights)


def load(reference: Reference, folder: Path) -> nn.Module:
    """Build the network by torchvision's own builder; its weights are `folder`'s, or downloaded into it."""
    from torchvision.models import _api, get_model

    weights = _weights(reference)
    with read_here(folder, _api):
        return _normalised(get_model(reference.parts[0], weights=weights), weights)


def published(reference: Reference) -> Published | None:
    """Return what the weights' own description tells."""
    weights = _weights(reference)
    metrics = weights.meta["_metrics"].get("ImageNet-1K", {})
    if "acc@1" not in metrics:
        return None
    return Published(round(metrics["acc@1"] / 100, 6), f"torchvision: {weights}, ImageNet-1K")


def preprocessing(reference: Reference) -> Preprocessing:
    """Return what the weights' own transforms do."""
    transforms = _weights(reference).transforms()
    return Preprocessing(
        transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value
    )


def classes(reference: Reference) -> int:
    """Return the number of logits."""
    return len(_weights(reference).meta["categories"])


def architecture(model: str, classes: int) -> nn.Module:
    """Build a model by its name, normalised as its default weights want it."""
    from torchvision.models import get_model

    weights = _weights(Reference("torchvision", f"{model}/DEFAULT"))
    return _normalised(get_model(model, num_classes=classes), weights)


def _normalised(network: nn.Module, weights: Any) -> Normalised:
    transforms = weights.transforms()
    return Normalised(network, transforms.mean, transforms.std)


def _options(model: str, weights: Any) -> dict[str, Any]:
    """Return what torchvision's builder takes from weights besides the number of classes."""
    if model.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
    if model in ("googlenet", "inception_v3"):
        aux = model == "inception_v3"  # has a second head, which only trains
        return {"transform_input": True, "aux_logits": aux, "init_weights": False}
    return {}


def _weights(reference: Reference) -> Any:
    """Find the weights (a member of one of torchvision's enumerations)."""
    from torchvision import models

    model, name = reference.parts
    known = models.list_models(module=models)
    if model not in known:
        raise unknown("network torchvision:", model, known)
    weights = models.get_model_weights(model)
    if name not in weights.__members__:
        raise unknown(f"network torchvision:{model}/", name, weights.__members__)
    if not weights[name].meta["categories"]:
        raise StudyError(f"network {reference}: these weights have no classifier")
    return weights[name]
