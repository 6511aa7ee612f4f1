"""Networks of RobustBench's zoo, `robustbench:DATASET/THREAT/MODEL`, through its own loader.

RobustBench 1.1.1 does not import today: it wants a function of pkg_resources (gone from setuptools 81) and a
package `autoattack` whose successor is named otherwise. Both are lent to it for the import alone. Its models
run that way, its attacks do not (the successor's arguments differ). The models normalise images themselves.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from noisetransfer import leaderboard, timm_zoo
from noisetransfer.checkpoints import brief, obtain, read, read_here
from noisetransfer.errors import StudyError
from noisetransfer.references import Preprocessing, Published, Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
_PLAIN = {"Standard_R50": ("Linf", "Salman2020Do_R50")}
"""A model whose builder downloads → one of the same architecture whose builder does not."""


def resolve(reference: Reference) -> Reference:
    """Return the reference as it is: parsing has looked the model up."""
    return reference


def build(reference: Reference) -> nn.Module:
    """Build the network without its weights."""
    dataset, threat, model = reference.parts
    create = library().timm.create_model
    try:
        if name := _name_in_timm(reference):
            network: nn.Module = create(name, num_classes=_CLASSES[dataset])
        else:
            network = _entry(dataset, *_PLAIN.get(model, (threat, model)))["model"]()
    except Exception as error:  # each builder has its own ways, and some want a GPU
        raise StudyError(f"network {reference}: cannot be built: {brief(error)}") from error
    return network


def load(reference: Reference, folder: Path) -> nn.Module:
    """Load the network from `folder`/DATASET/THREAT/MODEL.pt, downloaded there from Google Drive if need be.

    No hash is published: a download is only checked to be weights that fit.
    """
    from torchvision.models import _api

    robustbench = library()
    dataset, threat, model = reference.parts
    with read_here(folder, _api, robustbench.timm.models._builder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, for the way in which it is called
        try:
            network: nn.Module = robustbench.load_model(model, folder, dataset, threat)
        except StudyError as error:
            raise StudyError(f"network {reference}: {error}") from error
        except Exception as error:  # what the loader raises depends on the model
            place = folder / dataset / threat
            raise StudyError(
                f"network {reference}: what is in {place} for it does not fit: {brief(error)}"
            ) from error
    return network


def published(reference: Reference) -> Published:
    """Return the clean accuracy of RobustBench's table (ImageNet: measured on 5,000 images)."""
    dataset, threat, model = reference.parts
    accuracy = leaderboard.accuracies()[dataset, threat][model]
    return Published(accuracy, f"RobustBench 1.1.1, table {dataset}/{threat}", dataset)


def preprocessing(reference: Reference) -> Preprocessing | None:
    """Return what RobustBench does to the images of ImageNet; None if nothing, or no central crop."""
    from torchvision.transforms import CenterCrop, Resize

    dataset, threat, model = reference.parts
    robustbench = library()
    kinds = robustbench.BenchmarkDataset(dataset), robustbench.ThreatModel(threat)
    steps = robustbench.get_preprocessing(*kinds, model, None).transforms
    resize = next((step for step in steps if isinstance(step, Resize)), None)
    crop = next((step for step in steps if isinstance(step, CenterCrop)), None)
    if crop is None:
        return None
    if resize is None:
        return Preprocessing(None, crop.size[0])
    return Preprocessing(resize.size, crop.size[0], resize.interpolation.value)


def classes(reference: Reference) -> int:
    """Return the number of logits."""
    return _CLASSES[reference.parts[0]]


def _entry(dataset: str, threat: str, model: str) -> Any:
    robustbench = library()
    kinds = robustbench.BenchmarkDataset(dataset), robustbench.ThreatModel(threat)
    return robustbench.model_dicts[kinds[0]][kinds[1]][model]


def _name_in_timm(reference: Reference) -> str | None:
    """Return the name under which RobustBench registers some models in timm, for its own loader."""
    dataset, threat, model = reference.parts
    name = f"{model.lower().replace('-', '_')}_{dataset}_{threat.lower()}"
    return name if library().timm.is_model(name) else None


@cache
def library() -> Any:
    """Return what is used of RobustBench, as `robustbench` would have it if it could be imported.

    The first call imports it (3 s) and has it read files safely.
    """
    with _lent(_stand_ins()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old names under which it imports timm
        from robustbench import data, model_zoo, utils
    utils.torch = SimpleNamespace(**{**vars(torch), "load": read})
    utils.download_gdrive_new = partial(_download, utils.download_gdrive_new)
    return SimpleNamespace(
        timm=timm_zoo.library(),
        model_dicts=model_zoo.model_dicts,
        load_model=utils.load_model,
        get_preprocessing=data.get_preprocessing,
        BenchmarkDataset=utils.BenchmarkDataset,
        ThreatModel=utils.ThreatModel,
        clean_accuracy=utils.clean_accuracy,
    )


def _download(download: Any, drive_id: str, path: Path) -> None:
    path = Path(path)
    obtain(path, f"Google Drive (id {drive_id})", lambda: download(drive_id, path))


@contextmanager
def _lent(modules: dict[str, ModuleType]) -> Iterator[None]:
    """Let modules be imported by these names for a while; afterwards all is as before."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, original in before.items():
            del sys.modules[name]
            if original is not None:
                sys.modules[name] = original


def _stand_ins() -> dict[str, ModuleType]:
    resources = ModuleType("pkg_resources")
    vars(resources)["resource_filename"] = _beside
    modules = {"pkg_resources": resources}
    if importlib.util.find_spec("autoattack") is None:
        import pyautoattack
        import pyautoattack.state

        modules |= {"autoattack": pyautoattack, "autoattack.state": pyautoattack.state}
    return modules


def _beside(module: str, resource: str) -> str:
    """Return the path of a file given relative to that of a module."""
    return str(Path(str(sys.modules[module].__file__)).parent / resource)
