"""Keyed randomness: every draw is a function of (study seed, purpose, ids), never of global state."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

_WORD = 0xFFFFFFFF


def key(seed: int, purpose: str, *ids: int | str) -> int:
    """Return the 32-bit key of a draw: the same arguments give the same key on every machine.

    PyTorch's CPU generator uses 32 bits of its seed, so a million draws hold about a hundred pairs
    that coincide by chance: far below anything an accuracy can show.
    """
    text = repr((seed, purpose, *ids)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def generator(seed: int, purpose: str, *ids: int | str) -> torch.Generator:
    """Return a CPU generator started at `key(seed, purpose, *ids)`."""
    import torch  # here: the registries that the Snakefile reads import this module

    return torch.Generator().manual_seed(key(seed, purpose, *ids))


def standard_normal(count: int, keys: Tensor, draw: Tensor, images: Tensor) -> Tensor:
    """Draw z ~ N(0, I) for each image, on the images' device.

    The draws are a function of (key, draw, image) alone: batches and their order change nothing. A CPU draws
    from PyTorch's generator, started anew for each image; a GPU, where that would take a call per image, from
    the counters of `philox`. So a GPU's draws differ from a CPU's, in the same distribution.

    Args:
        count: length of each draw.
        keys: of the T trials, (T,), each as from `key`; on the images' device.
        draw: number of the draw (epoch, pass, query), a 0-d tensor of whole numbers.
        images: original indices, (T, B) or, the same images for all trials, (B,).

    Returns:
        float32, shape (T, B, count).
    """
    return _drawn(count, keys, draw, images, _box_muller, lambda t, g: t.normal_(generator=g))


def uniform(count: int, keys: Tensor, draw: Tensor, images: Tensor) -> Tensor:
    """Draw numbers in [0, 1) for each image; arguments and result as of `standard_normal`."""
    return _drawn(count, keys, draw, images, _fractions, lambda t, g: t.uniform_(generator=g))


@dataclass(frozen=True)
class Uniforms:
    """Uniform numbers in [0, 1) for an attack on S networks.

    Attributes:
        keys: of the networks, (S,): networks of one trial have the same.
        images: original indices, (S, B) or (B,).
        offset: 0-d, added to the number of every draw.
    """

    keys: Tensor
    images: Tensor
    offset: Tensor

    def per_image(self, number: int, shape: Sequence[int]) -> Tensor:
        """Return numbers (S, B, *shape): own draws for each image."""
        draws = uniform(math.prod(shape), self.keys, self.offset + number, self.images)
        return draws.reshape(*draws.shape[:2], *shape)

    def common(self, number: int, count: int) -> Tensor:
        """Return numbers (S, count): shared by all images of a network."""
        nobody = self.images.new_full((1,), _WORD)  # no image has this index
        return uniform(count, self.keys, self.offset + number, nobody)[:, 0]

    def of(self, first: int) -> Uniforms:
        """Return the draws of the first images of the batch alone."""
        return replace(self, images=self.images[..., :first])


def philox(counters: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10, the counter-based generator of Salmon et al. 2011, in whole-number tensor operations.

    Args:
        counters: int64, (…, 4), each from 0 to 2³² − 1.
        key: int64, (…, 2), broadcast against the counters.

    Returns:
        int64, (…, 4), each from 0 to 2³² − 1: uniform bits, independent for any two (counter, key).
    """
    import torch

    a, b, c, d = counters.unbind(-1)
    k, m = key.unbind(-1)
    for _ in range(10):
        first, second = a * 0xD2511F53, c * 0xCD9E8D57  # wraps around at 2⁶⁴; the bits stay right
        a, b = (second >> 32 & _WORD) ^ b ^ k, second & _WORD
        c, d = (first >> 32 & _WORD) ^ d ^ m, first & _WORD
        k, m = k + 0x9E3779B9 & _WORD, m + 0xBB67AE85 & _WORD
    return torch.stack([a, b, c, d], dim=-1)


def _drawn(
    count: int,
    keys: Tensor,
    draw: Tensor,
    images: Tensor,
    transform: Callable[[Tensor], Tensor],
    fill: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    images = images.expand(len(keys), -1)
    if images.is_cuda:
        return transform(_bits(count, keys, draw, images)).flatten(2)[..., :count]
    return _one_by_one(count, keys.tolist(), int(draw), images, fill)


def _one_by_one(
    count: int,
    keys: list[int],
    draw: int,
    images: Tensor,
    fill: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    import torch

    # PyTorch draws in blocks of 16: whole blocks make a draw's head independent of its length
    draws = torch.empty(*images.shape, -(-count // 16) * 16)
    source = torch.Generator()
    for own, seed, row in zip(draws, keys, images.tolist(), strict=True):
        for place, image in zip(own, row, strict=True):
            fill(place, source.manual_seed(key(seed, "", draw, image)))
    return draws[..., :count]


def _bits(count: int, keys: Tensor, draw: Tensor, images: Tensor) -> Tensor:
    """Return random words (T, B, ⌈count / 4⌉, 4): counters (block, image, draw, 0), the key of the trial."""
    import torch

    blocks = torch.arange(-(-count // 4), device=images.device)
    shape = (*images.shape, len(blocks))
    counters = [blocks, images[..., None], draw, torch.zeros_like(draw)]
    own = torch.stack([keys, torch.zeros_like(keys)], dim=-1)[:, None, None]
    return philox(torch.stack([c.expand(shape) for c in counters], dim=-1), own)


def _fractions(bits: Tensor) -> Tensor:
    return (bits >> 8).float() * 2.0**-24


def _box_muller(bits: Tensor) -> Tensor:
    """Turn pairs of words into pairs of independent standard-normal numbers."""
    import torch

    first, second = _fractions(bits).unflatten(-1, (2, 2)).unbind(-1)
    radius = (-2 * (1 - first).log()).sqrt()
    angle = 2 * math.pi * second
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(-2)
