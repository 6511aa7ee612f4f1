"""Training stacks of networks: base networks on images, suffixes on noisy activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisetransfer.errors import StudyError
from noisetransfer.networks import Stack, pixels, run_stack, stack
from noisetransfer.noise import NoiseSampler, Normals, normals
from noisetransfer.progress import progress
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Batch = tuple[Tensor, Tensor]
"""Inputs (S, B, …) and labels (S, B) of one step of S networks."""

Step = tuple[int, Tensor]
"""Epoch, and positions (T, B) of the images of one step of T trials."""


@dataclass(frozen=True)
class Schedule:
    """Hyperparameters of Adam on cross-entropy, and the keys of its order: study seed and trials."""

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    trials: tuple[int, ...]

    def steps(self, n: int, purpose: str) -> list[Step]:
        """Shuffle n images anew for each trial and epoch; the last batch of an epoch may be smaller."""
        return [
            (epoch, positions)
            for epoch in range(self.epochs)
            for positions in self._order(n, purpose, epoch).split(self.batch_size, dim=1)
        ]

    def _order(self, n: int, purpose: str, epoch: int) -> Tensor:
        keyed = (generator(self.seed, purpose, trial, epoch) for trial in self.trials)
        return torch.stack([torch.randperm(n, generator=draws) for draws in keyed])


def train_networks(
    networks: Sequence[nn.Sequential],
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    device: torch.device,
) -> tuple[Stack, Tensor]:
    """Train one base network per trial on clean images.

    Args:
        networks: freshly initialised, one per trial.
        images: uint8, (n, C, H, W).
        labels: (n,).
        schedule: hyperparameters and keys.
        device: where to train.

    Returns:
        parameters (T, …) and losses (steps, T).

    Raises:
        StudyError: if a loss is not finite.
    """
    parameters = _on(device, stack(networks))
    steps = progress(schedule.steps(len(labels), "shuffle for base"), "training")
    batches = (
        (pixels(images[positions].to(device)), labels[positions].to(device))
        for _, positions in steps
    )
    return train(networks[0], parameters, batches, learning_rate=schedule.learning_rate)


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
    parameters = _on(device, {n: p.repeat(arms, *[1] * (p.dim() - 1)) for n, p in once.items()})
    steps = progress(schedule.steps(len(labels), "shuffle for suffix"), "training")
    batches = _noisy_batches(activations, labels, indices, sampler, schedule, steps)
    trained, losses = train(suffixes[0], parameters, batches, learning_rate=schedule.learning_rate)
    shape = (arms, len(suffixes))
    return {n: p.unflatten(0, shape) for n, p in trained.items()}, losses.unflatten(1, shape)


def train(
    module: nn.Module, parameters: Stack, batches: Iterable[Batch], *, learning_rate: float
) -> tuple[Stack, Tensor]:
    """Train S networks at once with Adam on cross-entropy, each as if it were alone.

    Args:
        module: gives the shape of the networks.
        parameters: initial parameters, name → (S, …); not changed.
        batches: one item per step.
        learning_rate: of Adam, otherwise with PyTorch's defaults.

    Returns:
        trained parameters and the mean loss of each step, (steps, S).

    Raises:
        StudyError: if a loss is not finite.
    """
    own = {name: values.clone().requires_grad_() for name, values in parameters.items()}
    optimizer = torch.optim.Adam(own.values(), lr=learning_rate, fused=True)
    history = []
    for inputs, labels in batches:
        logits = run_stack(module, own, inputs)
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        mean = losses.unflatten(0, labels.shape).mean(1)
        optimizer.zero_grad()
        mean.sum().backward()  # networks share no parameter: the sum trains each alone
        optimizer.step()
        history.append(mean.detach())
    _check_finite(history)
    return {name: values.detach() for name, values in own.items()}, torch.stack(history)


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


def _on(device: torch.device, parameters: Stack) -> Stack:
    return {name: values.to(device) for name, values in parameters.items()}


def _check_finite(history: Sequence[Tensor]) -> None:
    if not bool(torch.isfinite(torch.stack(list(history))).all()):
        raise StudyError(
            "training diverged: the loss is NaN or infinite; lower learning_rate of this training"
        )
