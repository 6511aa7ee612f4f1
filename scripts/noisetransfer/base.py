"""Training the base networks of a study: on clean, noisy or partly adversarial images."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisetransfer.networks import Stack, pixels, run_stack, stack
from noisetransfer.noise import noisy_pixels
from noisetransfer.randomness import Uniforms
from noisetransfer.training import Batch, Schedule, to, train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Images:
    """Training images as a base network sees them: by default clean; attacked first, then noisy.

    Attributes:
        images: uint8, (n, C, H, W).
        labels: (n,).
        indices: original indices, (n,): they key the draws.
        input_noise: σ of Gaussian noise on the pixels, fresh in every epoch.
        attack: {"attack": name, "epsilon": ε, "ratio": share of a step's images, and its budget}; or None.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    input_noise: float = 0.0
    attack: Mapping[str, Any] | None = None


def train_networks(
    networks: Sequence[nn.Sequential], data: Images, schedule: Schedule, device: torch.device
) -> tuple[Stack, Tensor]:
    """Train one base network per trial.

    Args:
        networks: freshly initialised, one per trial.
        data: what they are trained on.
        schedule: hyperparameters and keys.
        device: where to train.

    Returns:
        parameters (T, …) and losses (steps, T).

    Raises:
        StudyError: if a loss is not finite.
    """
    images, labels, indices = (t.to(device) for t in (data.images, data.labels, data.indices))
    noise_keys = schedule.keys("input noise in training", device)
    attack_keys = schedule.keys("attack in training", device)

    def batch(current: Stack, epoch: Tensor, positions: Tensor) -> Batch:
        inputs, truth = pixels(images[positions]), labels[positions]
        if data.attack:
            draws = Uniforms(attack_keys, indices[positions], offset=epoch << 16)
            inputs = _partly_attacked(networks[0], current, inputs, truth, draws, **data.attack)
        if data.input_noise:
            inputs = noisy_pixels(inputs, data.input_noise, noise_keys, epoch, indices[positions])
        return inputs, truth

    steps = schedule.steps(len(labels), "shuffle for base", device)
    parameters = to(device, stack(networks))
    return train(networks[0], parameters, steps, batch, learning_rate=schedule.learning_rate)


def _partly_attacked(
    module: nn.Module,
    current: Stack,
    images: Tensor,
    labels: Tensor,
    draws: Uniforms,
    *,
    attack: str,
    epsilon: float,
    ratio: float,
    **budget: Any,
) -> Tensor:
    """Replace the first ⌈ratio · B⌉ images of a shuffled batch by adversarial ones against the networks."""
    from noisetransfer.attacks import ATTACKS  # here: other networks do not depend on it

    chosen = ceil(ratio * images.shape[1])
    frozen = {name: values.detach() for name, values in current.items()}
    crafted = ATTACKS[attack].run(
        lambda points, _: run_stack(module, frozen, points),
        images[:, :chosen],
        labels[:, :chosen],
        epsilon=torch.full(images.shape[:1], epsilon, device=images.device),
        draws=draws.of(chosen),
        **budget,
    )
    return torch.cat([crafted, images[:, chosen:]], dim=1)
