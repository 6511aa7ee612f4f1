"""Cutting a network that cannot be taken apart: the suffix replays all of it with h in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from noisetransfer.sites import activations, hooked
from noisetransfer.tracing import joined, piece

if TYPE_CHECKING:
    from collections.abc import Callable


class Before(nn.Module):
    """Images (B, C, H, W) → h(x) and the images, flat, (B, d + C·H·W)."""

    def __init__(self, network: nn.Module, site: str) -> None:
        super().__init__()
        self.network, self.site = network, site

    def forward(self, images: Tensor) -> Tensor:
        """Run the network up to the site."""
        return joined(activations(self.network, self.site, images), images)


class Behind(nn.Module):
    """State of `Before` → logits, (B, classes), of the whole network.

    Its modules, under their own names, are those that take in what depends on h; the others belong to the
    prefix: they run, but are not trained with the suffix.
    """

    def __init__(self, network: nn.Module, site: str, shape: torch.Size, images: Tensor) -> None:
        super().__init__()
        self._whole = (network,)  # in a tuple, where PyTorch does not look for modules
        self.site, self.shape, self.image_shape = site, shape, images.shape[1:]
        for name in _downstream(network, site, images):
            _attach(self, name, network.get_submodule(name))

    def forward(self, state: Tensor) -> Tensor:
        """Run the network on the images of a state, the output of the site replaced by h."""
        h = piece(state, 0, self.shape)
        images = piece(state, self.shape.numel(), self.image_shape)
        with hooked(self._whole[0], self.site, lambda _: h):
            logits: Tensor = self._whole[0](images)
        return logits

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Behind:
        self._whole[0]._apply(fn, recurse)  # modules of the prefix move along
        return self


def _downstream(network: nn.Module, site: str, images: Tensor) -> list[str]:
    """Return the names of the modules that take in what depends on h."""
    found: list[str] = []

    def see(name: str) -> Callable[..., None]:
        def look(_: nn.Module, inputs: Any, options: Any) -> None:
            leaves = tree_leaves((inputs, options))
            if any(isinstance(x, Tensor) and x.requires_grad for x in leaves):
                found.append(name)

        return look

    network.requires_grad_(False)
    handles = [
        module.register_forward_pre_hook(see(name), with_kwargs=True)
        for name, module in network.named_modules()
    ]
    with torch.enable_grad(), hooked(network, site, lambda h: h.detach().requires_grad_() + 0):
        network(images)
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(found))


def _attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Give a module a name within a root, with empty modules on the way."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)
