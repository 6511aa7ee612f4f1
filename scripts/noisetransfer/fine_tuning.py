"""Fine-tuning: suffixes trained on modified images, the budget-matched control of training under noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from noisetransfer.artifacts import of_trial
from noisetransfer.errors import StudyError
from noisetransfer.networks import batched, pixels
from noisetransfer.retraining import train_suffixes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from noisetransfer.networks import Stack
    from noisetransfer.noise import NoiseSampler
    from noisetransfer.retraining import Hidden
    from noisetransfer.training import Schedule


def mixed(images: Tensor, indices: Tensor, modified: Tensor, own: Tensor) -> Tensor:
    """Show those training images in modified form that were modified; the others stay clean.

    Args:
        images: of the training split, uint8, (n, C, H, W).
        indices: their original indices, (n,).
        modified: uint8 or float in [0, 1], (m, C, H, W), or of each trial its own, (T, m, C, H, W).
        own: original indices of the modified images, (m,).

    Returns:
        of the type of `modified`, (n, C, H, W) or (T, n, C, H, W), in the order of `images`.

    Raises:
        StudyError: if one of them is no training image.
    """
    place = {index: i for i, index in enumerate(indices.tolist())}
    strangers = [index for index in own.tolist() if index not in place]
    if strangers:
        raise StudyError(f"modified images: {strangers[0]} is the index of no training image")
    clean = pixels(images) if modified.is_floating_point() else images
    result = clean.expand(*modified.shape[:-4], *clean.shape).clone()
    result[..., [place[index] for index in own.tolist()], :, :, :] = modified
    return result


def recording(prefixes: Sequence[nn.Module], images: Tensor, device: torch.device) -> list[Tensor]:
    """Return the activations of each trial, (n, …) on the CPU.

    Args:
        prefixes: of the base networks, one per trial.
        images: (n, C, H, W), or of each trial its own, (T, n, C, H, W).
        device: where to compute.
    """
    return [
        torch.cat([h.cpu() for h in batched(prefix.to(device), of_trial(images, place), device)])
        for place, prefix in enumerate(prefixes)
    ]


def train_each(
    suffixes: Sequence[nn.Module],
    hidden: Iterable[Callable[[slice], Hidden]],
    labels: Tensor,
    indices: Tensor,
    sampler: NoiseSampler,
    schedule: Schedule,
) -> tuple[Stack, Tensor]:
    """Train the suffixes of each row on activations of its own; all else as `retraining.train_suffixes`.

    Args:
        suffixes: freshly initialised, one per trial.
        hidden: of each row in turn, what gives its activations.
        labels: (n,).
        indices: original indices of the images, (n,).
        sampler: the noise of the R rows.
        schedule: hyperparameters and keys.

    Returns:
        parameters and buffers (R, T, …) and losses (steps, R, T).
    """
    found = [
        train_suffixes(suffixes, own, labels, indices, sampler.rows([row]), schedule)
        for row, own in enumerate(hidden)
    ]
    names = found[0][0]
    parameters = {name: torch.cat([stack[name] for stack, _ in found]) for name in names}
    return parameters, torch.cat([losses for _, losses in found], dim=1)
