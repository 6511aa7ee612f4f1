"""Cutting any network behind any of its modules: what comes before runs once, what comes after many times."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from noisetransfer.errors import StudyError
from noisetransfer.randomness import generator
from noisetransfer.replay import Before, Behind
from noisetransfer.sites import activation_shape, hooked, qualified
from noisetransfer.tracing import split_graph

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Cut:
    """A network cut behind a site: logits = suffix(prefix(x)), under noise suffix(noisy(prefix(x), ξ)).

    The suffix is what depends on h, the output of the site; all else is the prefix, shortcuts around the site
    and their convolutions too.

    Attributes:
        prefix: images (B, C, H, W) → state, one float tensor (B, …).
        suffix: state → logits (B, classes); its parameters have the names that they have in the network.
        shape: of one activation h at the site, d numbers.
        beside: how many numbers of a state pass the site by. If 0, the state is h, (B, *shape). Otherwise it
            is flat, (B, d + beside), h first.
        how: "graph", or "replay": the suffix runs the whole network, with h as the site's output.
    """

    prefix: nn.Module
    suffix: nn.Module
    shape: torch.Size
    beside: int = 0
    how: Literal["graph", "replay"] = "graph"

    @property
    def clean(self) -> bool:
        """Whether the state is h."""
        return self.beside == 0

    def embed(self, noise: Tensor) -> Tensor:
        """Return noise ξ (…, d) at the site as states (…, *state): 0 beside h."""
        return noise.unflatten(-1, self.shape) if self.clean else pad(noise, (0, self.beside))

    def noisy(self, state: Tensor, noise: Tensor) -> Tensor:
        """Add noise ξ (…, B, d) to states (…, B, *state); leading dimensions are broadcast."""
        return state + self.embed(noise)


def cut(network: nn.Module, site: str, image_shape: Sequence[int]) -> Cut:
    """Cut a network behind a site.

    Both parts are copies, in evaluation mode; the prefix is frozen. The `forward` of the network, and of the
    modules that contain the site, are traced in evaluation mode: what they decide by Python (dropout by
    `training=self.training`, sizes of images) is decided for good; other modules stay as they are. If that
    fails, or gives other logits than noise added by a hook, the suffix replays the network.

    Args:
        network: any module, images → logits; it is not changed.
        site: name of a module in it, or in what it wraps as `network`.
        image_shape: (C, H, W).

    Raises:
        StudyError: if the site is unknown (the message lists those there are), does not run exactly once, or
            puts out anything but one float tensor, batch first; or if the network does not put out logits.
    """
    name, whole = qualified(network, site), copy.deepcopy(network).eval()
    images = _examples(whole, image_shape)
    with torch.no_grad():
        shape = activation_shape(whole, name, images[:1])
        _check_logits(whole(images))
        found = _by_graph(whole, name, shape, images) or _by_replay(whole, name, shape, images)
    found.prefix.eval().requires_grad_(False)
    found.suffix.eval().requires_grad_(True)
    return found


def _examples(network: nn.Module, image_shape: Sequence[int]) -> Tensor:
    """Draw three images, of the kind of numbers and on the device of the network."""
    images = torch.rand(3, *image_shape, generator=generator(0, "examples for a cut"))
    return images.to(next(network.parameters(), images))


def _check_logits(output: object) -> None:
    if not isinstance(output, Tensor) or output.dim() != 2:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise StudyError(f"the network puts out {found}, not logits (images, classes)")


def _by_graph(whole: nn.Module, site: str, shape: torch.Size, images: Tensor) -> Cut | None:
    """Cut the graph of a network; None where that cannot be done."""
    try:
        prefix, suffix, beside = split_graph(whole, site, images)
        found = Cut(prefix, suffix, shape, beside)
        return found if _agrees(found, whole, site, images) else None
    except Exception:  # what has no numbers yet may fail in any way; a replay is always right
        return None


def _by_replay(whole: nn.Module, site: str, shape: torch.Size, images: Tensor) -> Cut:
    before, behind = Before(copy.deepcopy(whole), site), Behind(whole, site, shape, images)
    return Cut(before, behind, shape, images[0].numel(), "replay")


def _agrees(found: Cut, whole: nn.Module, site: str, images: Tensor) -> bool:
    """Tell whether a cut gives the logits of the network under noise, and leaves the state as it was."""
    size = len(images), found.shape.numel()
    noise = torch.randn(size, generator=generator(0, "noise for a cut")).to(images)
    state = found.prefix(images)
    kept = state.clone()
    pairs = [(whole(images), found.suffix(state))]
    with hooked(whole, site, lambda h: h + noise.reshape(h.shape)):
        pairs += [(whole(images), found.suffix(found.noisy(state, noise)))]
    return torch.equal(state, kept) and all(_close(*pair) for pair in pairs)


def _close(expected: Tensor, found: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=1e-4 * (1 + float(expected.abs().max())))
