"""Training stacks of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisetransfer.devices import Replayed
from noisetransfer.errors import StudyError
from noisetransfer.networks import Stack, run_stack
from noisetransfer.progress import progress
from noisetransfer.randomness import generator, key

if TYPE_CHECKING:
    from collections.abc import Sequence

Batch = tuple[Tensor, Tensor]
"""Inputs (S, B, …) and labels (S, B) of one step of S networks."""

Step = tuple[Tensor, Tensor]
"""Epoch (0-d), and positions (T, B) of the images of one step of T trials; both on the device."""

MakeBatch = Callable[[Stack, Tensor, Tensor], Batch]
"""From the networks as they are, epoch and positions to the batch; only tensor operations, on the device."""


@dataclass(frozen=True)
class Schedule:
    """Hyperparameters of Adam on cross-entropy, and the keys of its order: study seed and trials."""

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    trials: tuple[int, ...]

    def steps(self, n: int, purpose: str, device: torch.device) -> list[Step]:
        """Shuffle n images anew for each trial and epoch; the last batch of an epoch may be smaller."""
        return [
            (torch.tensor(epoch, device=device), positions)
            for epoch in range(self.epochs)
            for positions in self._order(n, purpose, epoch).to(device).split(self.batch_size, dim=1)
        ]

    def keys(self, purpose: str, device: torch.device) -> Tensor:
        """Return the keys of the trials, (T,), for draws of a purpose."""
        keys = [key(self.seed, purpose, trial) for trial in self.trials]
        return torch.tensor(keys, device=device)

    def _order(self, n: int, purpose: str, epoch: int) -> Tensor:
        keyed = (generator(self.seed, purpose, trial, epoch) for trial in self.trials)
        return torch.stack([torch.randperm(n, generator=draws) for draws in keyed])


def train(
    module: nn.Module,
    parameters: Stack,
    steps: Sequence[Step],
    batch: MakeBatch,
    *,
    learning_rate: float,
) -> tuple[Stack, Tensor]:
    """Train S networks at once with Adam on cross-entropy, each as if it were alone.

    Args:
        module: gives the shape of the networks.
        parameters: initial parameters and buffers, name → (S, …); not changed.
        steps: of `Schedule.steps`.
        batch: makes the batch of a step.
        learning_rate: of Adam, otherwise with PyTorch's defaults.

    Returns:
        trained parameters, the buffers as training left them, and the mean loss of each step, (steps, S).

    Raises:
        StudyError: if a loss is not finite.
    """
    own = {name: values.clone() for name, values in parameters.items()}
    trained = [own[name].requires_grad_() for name, _ in module.named_parameters()]
    optimizer = torch.optim.Adam(
        trained, lr=learning_rate, fused=True, capturable=trained[0].is_cuda
    )

    def step(epoch: Tensor, positions: Tensor) -> Tensor:
        inputs, labels = batch(own, epoch, positions)
        logits = run_stack(module, own, inputs)
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        mean: Tensor = losses.unflatten(0, labels.shape).mean(1)
        # networks share no parameter: the sum trains each alone
        gradients = torch.autograd.grad(mean.sum(), trained, materialize_grads=True)
        for values, gradient in zip(trained, gradients, strict=True):
            values.grad = gradient.contiguous()  # fused Adam pairs numbers by their place in memory
        optimizer.step()
        return mean.detach()

    run = Replayed(step)
    history = torch.stack([run(*given) for given in progress(steps, "training")])
    if not bool(torch.isfinite(history).all()):
        raise StudyError(
            "training diverged: the loss is NaN or infinite; lower learning_rate of this training"
        )
    return {name: values.detach() for name, values in own.items()}, history


def to(device: torch.device, parameters: Stack) -> Stack:
    """Move a stack to a device."""
    return {name: values.to(device) for name, values in parameters.items()}
