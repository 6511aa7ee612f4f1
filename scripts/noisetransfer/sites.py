"""Any named module of any network as a site: finding it, and what it puts out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_WRAPPER = "network."
"""Where a module that wraps a network, say to normalise its images, holds it."""


class _SiteReached(BaseException):
    """Ends a forward pass at the site: no part of a network catches it."""


def find_site(network: nn.Module, site: str) -> nn.Module:
    """Return the module of a network that has a name, such as `layer2` or `features.7`.

    Raises:
        StudyError: if there is none; the message lists those there are.
    """
    modules = _named(network)
    if site not in modules:
        raise StudyError(_unknown(site, modules))
    return modules[site]


def qualified(network: nn.Module, site: str) -> str:
    """Return the name of a site in a network that may be wrapped, say by one that normalises images.

    Args:
        network: any module; a wrapper holds the wrapped network as its attribute `network`.
        site: name of a module, with or without the `network.` of the wrapper.

    Raises:
        StudyError: if there is none; the message lists those there are, without the wrapper's prefix.
    """
    modules = _named(network)
    for name in (site, _WRAPPER + site):
        if name in modules:
            return name
    raise StudyError(_unknown(site, [name.removeprefix(_WRAPPER) for name in modules]))


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode without gradients; then give every module its own mode back."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def activation_shape(network: nn.Module, site: str, image: Tensor) -> torch.Size:
    """Return the shape of one activation at a site, from whole passes of one image (1, C, H, W).

    Raises:
        StudyError: if the site does not run exactly once in a pass, or puts out anything but one tensor
            whose first dimension is the batch.
    """
    outputs = {n: _whole_pass(network, site, image.repeat(n, 1, 1, 1)) for n in (1, 2)}
    shape: torch.Size = getattr(outputs[1], "shape", torch.Size())[1:]
    for count, output in outputs.items():
        check_activation(output, site, count, shape)
    return shape


def activations(network: nn.Module, site: str, images: Tensor) -> Tensor:
    """Return h(x), (B, …), of images (B, C, H, W); what comes after the site does not run."""
    reached: list[Tensor] = []

    def stop(output: Any) -> None:
        reached.append(output)
        raise _SiteReached

    with hooked(network, site, stop):
        try:
            network(images)
        except _SiteReached:
            return reached[0]
    raise StudyError(not_run(site))


@contextmanager
def hooked(network: nn.Module, site: str, see: Callable[[Any], Any]) -> Iterator[None]:
    """Show what a site puts out to a function, for a while; what it returns, if not None, takes its place."""
    handle = find_site(network, site).register_forward_hook(lambda _, __, output: see(output))
    try:
        yield
    finally:
        handle.remove()


def check_activation(output: object, site: str, count: int, shape: torch.Size) -> None:
    """Refuse what is not one tensor (count, *shape) of real numbers.

    Raises:
        StudyError: which says what the site puts out.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise StudyError(f"site {site} puts out {kind}, not one tensor of floating-point numbers")
    if output.shape != (count, *shape) or output.dim() < 2:
        raise StudyError(
            f"site {site} puts out {tuple(output.shape)} where {(count, *shape)} is expected: "
            f"the batch of {count} must come first, and images must have one size"
        )


def not_run(site: str) -> str:
    """Return the message for a site that a pass does not reach."""
    return f"site {site} does not run in a forward pass of the network: choose a module that does"


def run_twice(site: str) -> str:
    """Return the message for a site that runs again in the same pass."""
    return (
        f"site {site} runs more than once in a forward pass, so it is not one place: choose a module "
        "that runs once"
    )


def _named(network: nn.Module) -> dict[str, nn.Module]:
    return {n: module for n, module in network.named_modules(remove_duplicate=False) if n}


def _unknown(site: str, known: Iterable[str]) -> str:
    return f"unknown site {site!r}; the network has: {', '.join(known)}"


def _whole_pass(network: nn.Module, site: str, images: Tensor) -> object:
    """Return what a site puts out in a pass that goes on to the end."""
    found: list[object] = []

    def keep(output: object) -> None:
        if found:
            raise StudyError(run_twice(site))
        found.append(output)

    with hooked(network, site, keep):
        network(images)
    if not found:
        raise StudyError(not_run(site))
    return found[0]
