"""Training stacks of networks, and the base networks of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisetransfer.errors import StudyError
from noisetransfer.networks import Stack, pixels, run_stack, stack
from noisetransfer.progress import progress
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    parameters = to(device, stack(networks))
    steps = progress(schedule.steps(len(labels), "shuffle for base"), "training")
    batches = (
        (pixels(images[positions].to(device)), labels[positions].to(device))
        for _, positions in steps
    )
    return train(networks[0], parameters, batches, learning_rate=schedule.learning_rate)


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


def to(device: torch.device, parameters: Stack) -> Stack:
    """Move a stack to a device."""
    return {name: values.to(device) for name, values in parameters.items()}


def _check_finite(history: Sequence[Tensor]) -> None:
    if not bool(torch.isfinite(torch.stack(list(history))).all()):
        raise StudyError(
            "training diverged: the loss is NaN or infinite; lower learning_rate of this training"
        )
