"""Networks of timm: `timm:MODEL` or `timm:MODEL.TAG`.

timm 1.0.9 itself cannot download with a huggingface_hub of today, so the file is fetched here. What is
done to the weights before they fit, timm does.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisetransfer.checkpoints import download, obtain, read
from noisetransfer.errors import StudyError
from noisetransfer.normalised import Normalised
from noisetransfer.references import Preprocessing, Published, Reference, unknown

if TYPE_CHECKING:
    from torch import nn


def resolve(reference: Reference) -> Reference:
    """Write the tag of the default weights out; StudyError if there are no such weights."""
    settings = _settings(reference)
    name = f"{settings.architecture}.{settings.tag}" if settings.tag else settings.architecture
    return replace(reference, name=name)


def build(reference: Reference) -> nn.Module:
    """Build the network without its weights."""
    settings = _settings(reference)
    return _normalised(_create(reference.name), settings)


def load(reference: Reference, folder: Path) -> nn.Module:
    """Build the network; its weights are `folder`'s, or downloaded into it."""
    settings = _settings(reference)
    tensors = read(_fetch(settings, folder))
    source = {"state_dict": tensors, "hf_hub_id": None, "url": None}
    network = _create(reference.name, pretrained=True, pretrained_cfg_overlay=source)
    return _normalised(network, settings)


def published(reference: Reference) -> Published | None:  # noqa: ARG001
    """Return None: timm's package does not tell accuracies."""
    return None


def preprocessing(reference: Reference) -> Preprocessing | None:
    """Return what the weights' settings tell; None where they want anything but a central crop."""
    settings = _settings(reference)
    size = settings.input_size[-1]
    if settings.crop_mode != "center":
        return None
    return Preprocessing(math.floor(size / settings.crop_pct), size, settings.interpolation)


def classes(reference: Reference) -> int:
    """Return the number of logits."""
    return int(_settings(reference).num_classes)


def architecture(model: str, classes: int) -> nn.Module:
    """Build a model by its name, normalised as its default weights want it."""
    return _normalised(_create(model, num_classes=classes), declared(model))


def declared(model: str) -> Any:
    """Return timm's settings of a model, pretrained or not: `mean`, `std`, `num_classes`, ….

    Raises:
        StudyError: if there is no such model.
    """
    timm = library()
    try:
        if timm.is_model(model):
            return timm.get_pretrained_cfg(model)
    except RuntimeError:  # wrong tag
        pass
    raise unknown("architecture timm:", model, timm.list_models())


@cache
def library() -> Any:
    """Return the package; its import warns of what it uses of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm


def _create(name: str, **options: Any) -> nn.Module:
    network: nn.Module = library().create_model(name, **options)
    return network


def _normalised(network: nn.Module, settings: Any) -> Normalised:
    return Normalised(network, settings.mean, settings.std)


def _settings(reference: Reference) -> Any:
    """Find timm's settings of pretrained weights that classify."""
    timm = library()
    model, dot, _ = reference.name.partition(".")
    known = timm.list_pretrained() if dot else timm.list_models(pretrained=True, include_tags=False)
    if reference.name not in known:
        tags = [name for name in known if name.startswith(f"{model}.")]
        raise unknown("network timm:", reference.name, tags or known)
    settings = timm.get_pretrained_cfg(reference.name)
    if not settings.num_classes:
        raise StudyError(f"network {reference}: these weights have no classifier")
    return settings


def _fetch(settings: Any, folder: Path) -> Path:
    """Return the file of weights: of a repository on the Hugging Face hub, or of an address."""
    if not settings.hf_hub_id:
        return download(settings.url, folder)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    place = folder / settings.hf_hub_id
    pickled = settings.hf_hub_filename or "pytorch_model.bin"
    safe = pickled.replace("pytorch_model.bin", "model.safetensors")
    fetch = partial(hf_hub_download, settings.hf_hub_id, local_dir=place)

    def either() -> Path:
        try:
            return Path(fetch(safe))
        except RemoteEntryNotFoundError:
            return Path(fetch(pickled))

    here = [place / name for name in (safe, pickled) if (place / name).is_file()]
    origin = f"the repository {settings.hf_hub_id} of the Hugging Face hub"
    return here[0] if here else obtain(place / safe, origin, either)
