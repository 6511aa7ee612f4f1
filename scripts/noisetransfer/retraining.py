"""Retraining suffixes under noise: all arms and trials of a source as one stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from noisetransfer.networks import Stack, stack
from noisetransfer.noise import NoiseSampler, Normals, normals
from noisetransfer.progress import progress
from noisetransfer.training import Batch, Schedule, Step, to, train

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn


def train_suffixes(
    suffixes: Sequence[nn.Sequential],
    activations: Sequence[Tensor],
    labels: Tensor,
    indices: Tensor,
    sampler: NoiseSampler,
    schedule: Schedule,
) -> tuple[Stack, Tensor]:
    """Train the suffixes of A arms × T trials on noisy activations of the clean training images.

    Args:
        suffixes: freshly initialised, one per trial; all arms start from the same.
        activations: h(x), one tensor (n, …) per trial.
        labels: (n,).
        indices: original indices of the images, (n,): they key the noise.
        sampler: the noise of the stack; its device is where to train.
        schedule: hyperparameters and keys.

    Returns:
        parameters (A, T, …) and losses (steps, A, T).

    Raises:
        StudyError: if a loss is not finite.
    """
    device, arms = sampler.scale.device, len(sampler.scale)
    once = stack(suffixes)
    parameters = to(device, {n: p.repeat(arms, *[1] * (p.dim() - 1)) for n, p in once.items()})
    steps = progress(schedule.steps(len(labels), "shuffle for suffix"), "training")
    batches = _noisy_batches(activations, labels, indices, sampler, schedule, steps)
    trained, losses = train(suffixes[0], parameters, batches, learning_rate=schedule.learning_rate)
    shape = (arms, len(suffixes))
    return {n: p.unflatten(0, shape) for n, p in trained.items()}, losses.unflatten(1, shape)


def _noisy_batches(
    activations: Sequence[Tensor],
    labels: Tensor,
    indices: Tensor,
    sampler: NoiseSampler,
    schedule: Schedule,
    steps: Iterable[Step],
) -> Iterator[Batch]:
    device = sampler.scale.device
    for epoch, positions in steps:
        rows = zip(activations, positions, strict=True)
        clean = torch.stack([own[p.to(own.device)] for own, p in rows]).to(device)
        noise = sampler.sample(_draws(sampler, schedule, epoch, indices[positions]))
        noisy = clean + noise.unflatten(-1, clean.shape[2:])
        targets = labels[positions].to(device).expand(len(noise), -1, -1)
        yield noisy.flatten(0, 1), targets.flatten(0, 1)


def _draws(sampler: NoiseSampler, schedule: Schedule, epoch: int, images: Tensor) -> Normals:
    device, d = sampler.scale.device, sampler.scale.shape[-1]
    keys = (schedule.seed, "training noise")
    draws = [
        normals(sampler.rank, d, *keys, trial, epoch, images=row.tolist())
        for trial, row in zip(schedule.trials, images, strict=True)
    ]
    return Normals(
        torch.stack([draw.factor for draw in draws]).to(device),
        torch.stack([draw.unit for draw in draws]).to(device),
    )
