"""Keyed randomness: every draw is a function of (study seed, purpose, ids), never of global state."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


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


def standard_normal(
    dimension: int, seed: int, purpose: str, *ids: int | str, images: Iterable[int]
) -> torch.Tensor:
    """Draw z ~ N(0, I) for each image, keyed by (seed, purpose, ids, image).

    Args:
        dimension: length of each draw.
        seed: of the study.
        purpose: what the draw is for.
        *ids: what else keys it: trial, epoch, pass.
        images: original indices of the images; n of them.

    Returns:
        float32, shape (n, dimension), on the CPU: the same on every device and in every batch.
    """
    import torch

    keys = [key(seed, purpose, *ids, image) for image in images]
    # PyTorch draws in blocks of 16: whole blocks make a draw's head independent of its length
    draws = torch.empty(len(keys), -(-dimension // 16) * 16)
    source = torch.Generator()
    for draw, start in zip(draws, keys, strict=True):
        draw.normal_(generator=source.manual_seed(start))
    return draws[:, :dimension]
