"""Files of weights: fetched with their hash checked, read without running what they hold."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pooch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from noisetransfer.downloads import HTML
from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import ModuleType

PREFIX = "module."  # what DataParallel puts before every name


def read(path: Path, map_location: object = None) -> Any:  # noqa: ARG001, loaders pass it
    """Read a file of weights to the CPU: safetensors by its suffix, else of `torch.save`.

    Returns:
        what was saved: tensors in dicts and lists, with numbers and strings among them.

    Raises:
        StudyError: if it is missing, damaged, a web page, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such file of weights")
    if _is_web_page(path):
        raise StudyError(f"{path}: {HTML}; delete it and run again, or get the original")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(f"{path}: {_refusal(str(error))}") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise StudyError(f"{path}: damaged or truncated ({brief(error)})") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict: plain, or under `state_dict` or `model`; `module.` before its names is dropped.

    Raises:
        StudyError: as `read`, or if there is none.
    """
    content = read(path)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise StudyError(f"{path}: no state dict, plain or under state_dict or model")
    return {str(name).removeprefix(PREFIX): tensor for name, tensor in content.items()}


def fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a network all its weights.

    Raises:
        StudyError: if names or shapes differ; it lists the first of them.
    """
    try:
        found = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        shapes = str(error).splitlines()[1:]
        raise StudyError(f"{path}: not of this architecture: {_some(shapes)}") from None
    wrong = {"missing": found.missing_keys, "unexpected": found.unexpected_keys}
    if any(wrong.values()):
        faults = "; ".join(f"{what}: {_some(names)}" for what, names in wrong.items() if names)
        raise StudyError(f"{path}: not of this architecture; {faults}")


def state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a network, fit for safetensors: on the CPU, contiguous, no memory shared."""
    tensors = network.state_dict()
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


def download(url: str, folder: Path) -> Path:
    """Fetch a file by the code of torch.hub, unless it is there, and return its path.

    A hash in its name (`resnet50-11ad3fa6.pth`: first digits of its SHA-256) must match, old file or new.

    Raises:
        StudyError: if it cannot be had; the message tells where to put it without a network.
    """
    path = folder / Path(urlparse(url).path).name
    named = torch.hub.HASH_REGEX.search(path.name)
    digits = named[1] if named else None
    if path.exists():
        _check_hash(path, digits)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    fetch = partial(torch.hub.download_url_to_file, url, str(path), digits, progress=False)
    return obtain(path, url, fetch)


def obtain(path: Path, origin: str, fetch: Callable[[], object]) -> Path:
    """Let the code of a library fetch a file; return the path that it tells, or else `path`.

    Raises:
        StudyError: if it did not; the message tells where to put the file without a network.
    """
    try:
        told = fetch()
        found = told if isinstance(told, Path) else path
        if found.is_file():
            return found
        reason = "nothing was delivered"
    except Exception as error:  # what a library raises depends on its own ways to the network
        reason = brief(error)
    raise StudyError(
        f"{path.name} cannot be downloaded from {origin} ({reason}); without a network, put that file into "
        f"{path.parent}"
    )


def brief(error: BaseException, most: int = 200) -> str:
    """Return the message of an error in one line of so many characters at most; its type if it has none."""
    return shorten(str(error), most, placeholder=" …") or type(error).__name__


@contextmanager
def read_here(folder: Path, *modules: ModuleType) -> Iterator[None]:
    """Have `load_state_dict_from_url` of torch.hub, in these modules, use a folder and read safely."""
    originals = [vars(module)["load_state_dict_from_url"] for module in modules]
    ours = partial(_load_from_url, folder)
    try:
        for module in modules:
            vars(module)["load_state_dict_from_url"] = ours
        yield
    finally:
        for module, original in zip(modules, originals, strict=True):
            vars(module)["load_state_dict_from_url"] = original


def _load_from_url(folder: Path, url: str, **_: object) -> Any:
    return read(download(url, folder))


def _check_hash(path: Path, digits: str | None) -> None:
    found = pooch.file_hash(path)
    if digits and not found.startswith(digits):
        reason = HTML if _is_web_page(path) else f"sha256 is {found}, not {digits}…"
        raise StudyError(f"{path}: {reason}; delete it and run again, or get the original")


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _refusal(reason: str) -> str:
    """Say why torch did not unpickle a file; only the first case is one of trust."""
    if named := reason.partition("GLOBAL ")[2]:
        return (
            f"holds pickled objects ({named.split()[0]}) besides tensors, which may run any code: refused. "
            "If you trust it, save its state dict alone, with torch.save, and put that in its place"
        )
    return f"no file of torch.save, or damaged ({reason.splitlines()[-1]})"


def _some(names: Collection[str], most: int = 3) -> str:
    """List the first names and count the others."""
    first = ", ".join(name.strip() for name in list(names)[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first
