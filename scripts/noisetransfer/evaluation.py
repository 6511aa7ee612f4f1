"""Noisy prediction of stacks of networks under every target, one record per image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from noisetransfer.attacks import ATTACKS
from noisetransfer.networks import (
    Stack,
    affine_head,
    pixels,
    run_shared,
    run_stack,
    split,
    without_bias,
)
from noisetransfer.noise import NoiseSampler, Normals, normals
from noisetransfer.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class NoisyNetworks:
    """The A arms of one trial: one prefix, A suffixes, A noises.

    Attributes:
        prefix: of the base network.
        suffix: gives the shape of the suffixes.
        parameters: of the suffixes, name → (A, …).
        sampler: noise of A arms × 1 trial.
        seed: of the study.
        trial: number of the trial.
    """

    prefix: nn.Module
    suffix: nn.Sequential
    parameters: Stack
    sampler: NoiseSampler
    seed: int
    trial: int

    @classmethod
    def at(
        cls,
        network: nn.Sequential,
        site: str,
        parameters: Stack,
        sampler: NoiseSampler,
        *,
        seed: int,
        trial: int,
    ) -> NoisyNetworks:
        """Cut the base network at a site and put the suffixes behind it."""
        return cls(*split(network, site), parameters, sampler, seed, trial)

    def noise(self, purpose: str, draw: int, images: Iterable[int]) -> Tensor:
        """Draw ξ (A, B, d) for images given by their original indices."""
        scale = self.sampler.scale
        draws = normals(
            self.sampler.rank, scale.shape[-1], self.seed, purpose, self.trial, draw, images=images
        )
        own = Normals(draws.factor[None].to(scale.device), draws.unit[None].to(scale.device))
        return self.sampler.sample(own)[:, 0]

    def logits(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return logits (A, B, classes) of images (A, B, C, H, W) under one draw of the noise."""
        hidden = self.prefix(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        noisy = hidden + noise.unflatten(-1, hidden.shape[2:])
        return run_stack(self.suffix, self.parameters, noisy)

    def attacked(
        self, images: Tensor, labels: Tensor, indices: Sequence[int], *, attack: str, **budget: Any
    ) -> Tensor:
        """Craft white-box adversarial images (A, B, C, H, W), one noise draw per gradient."""

        def noisy_logits(candidates: Tensor, step: int) -> Tensor:
            return self.logits(candidates, self.noise("attack noise", step, indices))

        clean = images.expand(len(self.sampler.scale), *images.shape)
        return ATTACKS[attack](noisy_logits, clean, labels, **budget)

    @cached_property
    def _parts(self) -> tuple[nn.Sequential, nn.Sequential]:
        return affine_head(self.suffix)

    def head(self, images: Tensor) -> Tensor:
        """Return A(h(x)), (A, B, …): of shared images (B, C, H, W), or of (A, B, C, H, W)."""
        head, _ = self._parts
        if images.dim() == 4:
            return run_shared(head, self.parameters, self.prefix(images))
        hidden = self.prefix(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return run_stack(head, self.parameters, hidden)

    def head_of_noise(self, noise: Tensor, shape: torch.Size) -> Tensor:
        """Return A(ξ) − A(0), (A, B, …), of noise (A, B, d) on activations of a shape."""
        head, _ = self._parts
        return run_stack(head, without_bias(self.parameters), noise.unflatten(-1, shape))

    def tail(self, values: Tensor) -> Tensor:
        """Return logits (A, B, classes) of head values (A, B, …)."""
        return run_stack(self._parts[1], self.parameters, values)


@dataclass(frozen=True)
class Scores:
    """Predictions of A networks on B images: prediction of the mean logits, and draws that were right."""

    prediction: Tensor
    draws_correct: Tensor


@torch.no_grad()
def score(
    networks: NoisyNetworks,
    targets: Mapping[str, Tensor],
    labels: Tensor,
    indices: Sequence[int],
    *,
    passes: int,
) -> dict[str, Scores]:
    """Score a batch under several targets with K passes that all targets share.

    The affine head is applied once to the activations and once to each noise draw (A(h + ξ) = A(h) + A(ξ)).

    Args:
        networks: the stack.
        targets: name → images, (B, C, H, W) shared or (A, B, C, H, W) per network.
        labels: (B,).
        indices: original indices of the images: they key the noise.
        passes: K.

    Returns:
        name → scores, each (A, B).
    """
    heads = {name: networks.head(images) for name, images in targets.items()}
    shape = networks.prefix(next(iter(targets.values())).flatten(0, -4)[:1]).shape[1:]
    total = dict.fromkeys(targets, torch.zeros((), device=labels.device))
    correct = dict.fromkeys(targets, torch.zeros((), device=labels.device, dtype=torch.int64))
    for draw in range(passes):
        noise = networks.head_of_noise(networks.noise("evaluation noise", draw, indices), shape)
        for name, head in heads.items():
            logits = networks.tail(head + noise)
            total[name] = total[name] + logits
            correct[name] = correct[name] + (logits.argmax(-1) == labels)
    return {name: Scores(total[name].argmax(-1), correct[name]) for name in targets}


def evaluate(
    networks: NoisyNetworks,
    clean: Tensor,
    modified: Mapping[str, Tensor],
    attacks: Mapping[str, Mapping[str, Any]],
    labels: Tensor,
    indices: Sequence[int],
    *,
    arms: Sequence[str],
    passes: int,
    batch_size: int,
) -> pd.DataFrame:
    """Test the arms of one trial under every target.

    Args:
        networks: the stack.
        clean: clean images, (n, C, H, W), uint8 or float in [0, 1].
        modified: target → images as `clean`.
        attacks: target → name ("attack") and arguments of its attack, white-box on each network.
        labels: (n,).
        indices: original indices of the images.
        arms: names of the networks.
        passes: K.
        batch_size: images a batch; draws do not depend on it.

    Returns:
        as `records`.
    """
    device = networks.sampler.scale.device
    frames = []
    for start in progress(range(0, len(labels), batch_size), f"trial {networks.trial}"):
        batch = slice(start, start + batch_size)
        own, truth = indices[batch], labels[batch].to(device)
        images = {name: pixels(all_[batch].to(device)) for name, all_ in modified.items()}
        for name, attack in attacks.items():
            original = pixels(clean[batch].to(device))
            images[name] = networks.attacked(original, truth, own, **attack)
        scores = score(networks, images, truth, own, passes=passes)
        frames.append(records(scores, truth, own, arms=arms, passes=passes))
    return pd.concat(frames, ignore_index=True)


def records(
    scores: Mapping[str, Scores],
    labels: Tensor,
    indices: Sequence[int],
    *,
    arms: Sequence[str],
    passes: int,
) -> pd.DataFrame:
    """Return one row per target × arm × image: target, arm, image, label, prediction, draws_correct, K."""
    frames = [
        pd.DataFrame(
            {
                "target": target,
                "arm": arm,
                "image": indices,
                "label": labels.cpu().numpy(),
                "prediction": found.prediction[i].cpu().numpy(),
                "draws_correct": found.draws_correct[i].cpu().numpy(),
                "K": passes,
            }
        )
        for target, found in scores.items()
        for i, arm in enumerate(arms)
    ]
    return pd.concat(frames, ignore_index=True)
