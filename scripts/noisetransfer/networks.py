"""Building networks, splitting them at a site, and running whole stacks of them at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import max_pool2d

from noisetransfer.architectures import find
from noisetransfer.errors import StudyError
from noisetransfer.suffixes import plain_attention

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from noisetransfer.architectures import Architecture


class Pool(nn.Module):
    """2 × 2 maximum pooling; where no gradient is asked for, by pairwise maxima: 12 × faster on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Pool (…, H, W) to (…, H // 2, W // 2)."""
        if torch.is_grad_enabled():
            return max_pool2d(input, 2)
        height, width = (size // 2 * 2 for size in input.shape[-2:])
        rows = torch.maximum(input[..., 0:height:2, :width], input[..., 1:height:2, :width])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])


Stack = dict[str, Tensor]
"""Parameters and buffers (statistics of BatchNorm) of S networks of one shape: name → (S, …)."""

BATCH = 500
"""Images that run through a network at once where nothing else is said."""

_NONLINEARITIES = {"tanh": nn.Tanh, "relu": nn.ReLU}


def build(
    architecture: str, activation: str, image_shape: Sequence[int], classes: int, *, seed: int = 0
) -> nn.Sequential:
    """Build a network with PyTorch's default initialisation, drawn from `seed` alone.

    Args:
        architecture: id in `architectures.ARCHITECTURES`.
        activation: "tanh" or "relu".
        image_shape: (C, H, W) of the images, pixels in [0, 1].
        classes: number of logits.
        seed: key of the initialisation, as from `randomness.key`.

    Returns:
        a flat sequence of named modules; the last module of hidden layer L carries the name of its site
        ("L1", "L2", …), so that a site is a place to cut.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assemble(find(architecture), _NONLINEARITIES[activation], image_shape, classes)


def members(shape: Mapping[str, Any], parameters: Stack) -> list[nn.Sequential]:
    """Take the networks of a stack apart: frozen, in evaluation mode; `shape` is what `build` takes."""
    networks = [build(**shape) for _ in next(iter(parameters.values()))]
    for i, network in enumerate(networks):
        network.load_state_dict({name: values[i] for name, values in parameters.items()})
    return [network.eval().requires_grad_(False) for network in networks]


@torch.no_grad()
def batched(
    module: nn.Module, images: Tensor, device: torch.device, batch_size: int = BATCH
) -> Iterator[Tensor]:
    """Run a module over images (uint8 or float in [0, 1], (n, C, H, W)), batch by batch, on a device."""
    for batch in images.split(batch_size):
        yield module(pixels(batch.to(device)))


def accuracy(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    batch_size: int = BATCH,
) -> float:
    """Return the share of images (n, C, H, W) that a network without noise classifies rightly."""
    found = batched(network, images, device, batch_size)
    predictions = [logits.argmax(1).cpu() for logits in found]
    return float((torch.cat(predictions) == labels).double().mean())


def pixels(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 is divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def split(network: nn.Sequential, site: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a network behind `site`: `suffix(prefix(x))` equals `network(x)`.

    Raises:
        StudyError: if the network has no such site; the message lists those it has.
    """
    names = [name for name, _ in network.named_children()]
    if site not in names:
        sites = ", ".join(name for name in names if name.startswith("L"))
        raise StudyError(f"unknown site {site!r}; the network has: {sites}")
    cut = names.index(site) + 1
    return network[:cut], network[cut:]


def activation_shape(prefix: nn.Module, image_shape: Sequence[int]) -> torch.Size:
    """Return the shape of one activation behind a prefix."""
    with torch.no_grad():
        return prefix(torch.zeros(1, *image_shape)).shape[1:]  # type: ignore[no-any-return]


def footprint(network: nn.Module, image_shape: Sequence[int]) -> int:
    """Return how many numbers the layers of a network put out for one image."""
    layers = [module for module in network.modules() if not any(module.children())]
    sizes: list[int] = []

    def count(_: nn.Module, __: object, output: object) -> None:
        sizes.append(output.numel() if isinstance(output, Tensor) else 0)

    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, *image_shape))
    for handle in handles:
        handle.remove()
    return sum(sizes)


def affine_head(suffix: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Cut a suffix behind its leading affine map A, so that A(h + ξ) = A(h) + A(ξ) − A(0).

    Returns:
        (head, tail); no head if the suffix is no sequence that begins with an affine map.
    """
    for i, module in enumerate(suffix if isinstance(suffix, nn.Sequential) else ()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            return suffix[: i + 1], suffix[i + 1 :]  # type: ignore[index]
        if not isinstance(module, nn.Flatten):
            break
    return None, suffix


def stack(networks: Sequence[nn.Module]) -> Stack:
    """Stack the parameters of S networks of one shape: name → (S, …), detached."""
    states = [network.state_dict() for network in networks]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def run_stack(module: nn.Module, parameters: Stack, inputs: Tensor) -> Tensor:
    """Run S networks at once: network s on inputs[s].

    Args:
        module: gives the shape; its own parameters are not used.
        parameters: name → (S, …); names that `module` lacks are ignored.
        inputs: (S, B, …).

    Returns:
        (S, B, …)
    """
    return _run(module, parameters, inputs, 0)


def run_shared(module: nn.Module, parameters: Stack, inputs: Tensor) -> Tensor:
    """Run S networks on the same inputs (B, …); returns (S, B, …)."""
    return _run(module, parameters, inputs, None)


def without_bias(parameters: Stack) -> Stack:
    """Return the stack with every bias set to 0: the linear part of an affine map."""
    zero = torch.zeros_like
    return {n: zero(p) if n.endswith("bias") else p for n, p in parameters.items()}


def _run(module: nn.Module, parameters: Stack, inputs: Tensor, inputs_dim: int | None) -> Tensor:
    own = {name: parameters[name] for name in module.state_dict(keep_vars=True)}
    run = vmap(lambda p, x: functional_call(module, p, (x,)), in_dims=(0, inputs_dim))
    with plain_attention():
        outputs: Tensor = run(own, inputs)
    return outputs


def _assemble(
    shape: Architecture,
    nonlinearity: type[nn.Module],
    image_shape: Sequence[int],
    classes: int,
) -> nn.Sequential:
    modules = OrderedDict(_convolutions(shape, nonlinearity, image_shape[0]))
    modules["flatten"] = nn.Flatten()
    with torch.no_grad():
        width = nn.Sequential(modules)(torch.zeros(1, *image_shape)).shape[1]
    modules.update(_fully_connected(shape, nonlinearity, width))
    modules["logits"] = nn.Linear((width, *shape.linear)[-1], classes)
    return nn.Sequential(modules)


def _convolutions(
    shape: Architecture, nonlinearity: type[nn.Module], channels: int
) -> Iterator[tuple[str, nn.Module]]:
    for i, layer in enumerate(shape.convolutions, start=1):
        kernel, padding = layer.kernel, layer.padding
        yield f"conv{i}", nn.Conv2d(channels, layer.channels, kernel, padding=padding)
        if layer.pool:
            yield f"nonlinearity{i}", nonlinearity()
            yield f"L{i}", Pool()
        else:
            yield f"L{i}", nonlinearity()
        channels = layer.channels


def _fully_connected(
    shape: Architecture, nonlinearity: type[nn.Module], width: int
) -> Iterator[tuple[str, nn.Module]]:
    for i, outputs in enumerate(shape.linear, start=len(shape.convolutions) + 1):
        yield f"linear{i}", nn.Linear(width, outputs)
        yield f"L{i}", nonlinearity()
        width = outputs
