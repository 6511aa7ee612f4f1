"""Retraining suffixes under noise: sources, arms and trials as stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisetransfer.devices import halving, stack_size
from noisetransfer.networks import Stack, batched, pixels, run_stack, stack
from noisetransfer.noise import embedded, noisy_pixels
from noisetransfer.training import Batch, MakeBatch, Schedule, to, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from noisetransfer.noise import NoiseSampler

Hidden = Callable[[Tensor, Tensor], Tensor]
"""Epoch and positions (T, B) → states (h(x), where the cut is clean) of the images, (T, B, …)."""

LARGEST_RECORDING = 4 * 2**30
"""Bytes up to which the activations of all training images are kept in memory."""

CHUNK = 50
"""Images that a pretrained network runs on at once."""

ROOM = 20
"""Activations at the site that a network of a stack takes in training, for each image of a batch."""


def train_suffixes(
    suffixes: Sequence[nn.Module],
    hidden: Callable[[slice], Hidden],
    labels: Tensor,
    indices: Tensor,
    sampler: NoiseSampler,
    schedule: Schedule,
) -> tuple[Stack, Tensor]:
    """Train the suffixes of R rows (arms of sources) × T trials on noisy activations of the training images.

    Args:
        suffixes: freshly initialised, one per trial; all rows start from the same.
        hidden: gives, for a slice of the trials, the activations of a step (`recorded`, `under_input_noise`).
        labels: (n,).
        indices: original indices of the images, (n,): they key the noise.
        sampler: the noise of the stack; its device is where to train.
        schedule: hyperparameters and keys.

    Returns:
        parameters and buffers (R, T, …) and losses (steps, R, T).

    Raises:
        StudyError: if a loss is not finite, or the GPU's memory does not hold one network.
    """
    d = sampler.scale.shape[-1]
    bytes_each = 4 * (ROOM * schedule.batch_size * d + len(labels) * d + sampler.rank * d)

    def in_stacks_of(limit: int) -> tuple[Stack, Tensor]:
        # all rows of few trials share more (activations, draws) than few rows of all trials
        row_parts = _parts(len(sampler.scale), limit)
        trial_parts = _parts(
            len(suffixes), max(1, limit // (row_parts[-1].stop - row_parts[-1].start))
        )
        trained = {}
        for trials in trial_parts:
            own = hidden(trials)
            for rows in row_parts:
                trained[rows.start, trials.start] = _train_part(
                    suffixes[trials],
                    own,
                    labels,
                    indices,
                    sampler.part(rows, trials),
                    replace(schedule, trials=schedule.trials[trials]),
                )
        return _joined(trained, row_parts, trial_parts)

    return halving(in_stacks_of, stack_size(sampler.device, bytes_each), "networks a stack")


def recorded(activations: Sequence[Tensor], device: torch.device) -> Callable[[slice], Hidden]:
    """Take h(x) from recordings, one (n, …) per trial; a stack's own trials are moved to the device."""

    def of(trials: slice) -> Hidden:
        own = [values.to(device) for values in activations[trials]]
        return lambda _, positions: torch.stack(
            [values[row] for values, row in zip(own, positions, strict=True)]
        )

    return of


def computed(prefix: nn.Module, images: Tensor, device: torch.device) -> Callable[[slice], Hidden]:
    """Compute the states of one network that all trials share: once if they are small, else in each step.

    Args:
        prefix: of the network.
        images: uint8, (n, C, H, W).
        device: where to compute.
    """
    prefix = prefix.to(device)
    shape = next(batched(prefix, images[:1], device)).shape[1:]
    if 4 * len(images) * shape.numel() <= LARGEST_RECORDING:
        states = torch.cat(list(batched(prefix, images, device, CHUNK)))
        return lambda _: lambda _, positions: states[positions]
    pictures = images.to(device)

    @torch.no_grad()
    def hidden(_: Tensor, positions: Tensor) -> Tensor:
        found = prefix(pixels(pictures[positions.flatten()]))
        return found.unflatten(0, positions.shape)  # type: ignore[no-any-return]

    return lambda _: hidden


def under_input_noise(
    prefixes: Sequence[nn.Sequential],
    images: Tensor,
    indices: Tensor,
    sigma: float,
    schedule: Schedule,
    device: torch.device,
) -> Callable[[slice], Hidden]:
    """Compute h(x + σz) anew in every step, as the base networks saw the images in their training.

    Args:
        prefixes: of the base networks, one per trial.
        images: uint8 or float in [0, 1], (n, C, H, W), or of each trial its own, (T, n, C, H, W).
        indices: original indices, (n,).
        sigma: σ of the noise on the pixels.
        schedule: gives seed and trials.
        device: where to compute.
    """
    pictures, numbers = images.to(device), indices.to(device)

    def of(trials: slice) -> Hidden:
        parameters = to(device, stack(prefixes[trials]))
        keys = schedule.keys("input noise in retraining", device)[trials]

        @torch.no_grad()
        def hidden(epoch: Tensor, positions: Tensor) -> Tensor:
            clean = pixels(_shown(pictures, trials, positions))
            noisy = noisy_pixels(clean, sigma, keys, epoch, numbers[positions])
            return run_stack(prefixes[0], parameters, noisy)

        return hidden

    return of


def _shown(pictures: Tensor, trials: slice, positions: Tensor) -> Tensor:
    """Return images at positions (T, B): of the ones that all trials share, or of each trial's own."""
    if pictures.dim() == 4:
        return pictures[positions]
    own = zip(pictures[trials], positions, strict=True)
    return torch.stack([images[row] for images, row in own])


def _train_part(
    suffixes: Sequence[nn.Module],
    hidden: Hidden,
    labels: Tensor,
    indices: Tensor,
    sampler: NoiseSampler,
    schedule: Schedule,
) -> tuple[Stack, Tensor]:
    """Train the networks of one stack; parameters (R, T, …), losses (steps, R, T)."""
    rows, once = len(sampler.scale), stack(suffixes)
    parameters = {name: p.repeat(rows, *[1] * (p.dim() - 1)) for name, p in once.items()}
    trained, losses = train(
        suffixes[0],
        to(sampler.device, parameters),
        schedule.steps(len(labels), "shuffle for suffix", sampler.device),
        _noisy(hidden, labels, indices, sampler),
        learning_rate=schedule.learning_rate,
    )
    shape = (rows, len(suffixes))
    return {n: p.unflatten(0, shape) for n, p in trained.items()}, losses.unflatten(1, shape)


def _noisy(hidden: Hidden, labels: Tensor, indices: Tensor, sampler: NoiseSampler) -> MakeBatch:
    """Make batches of noisy activations: row by row, the trials side by side."""
    truth, numbers = labels.to(sampler.device), indices.to(sampler.device)
    keys, silent, rows = sampler.keys("training noise"), sampler.silent, len(sampler.scale)

    def batch(_: Stack, epoch: Tensor, positions: Tensor) -> Batch:
        clean = hidden(epoch, positions)
        noisy = clean.expand(rows, *clean.shape)
        if not silent:
            noise = sampler.draw(keys, epoch, numbers[positions])
            noisy = embedded(noise, clean.shape[2:]).add_(clean)
        targets = truth[positions].expand(rows, *positions.shape)
        return noisy.flatten(0, 1), targets.flatten(0, 1)

    return batch


def _parts(count: int, limit: int) -> list[slice]:
    """Cut `count` things into as few slices of at most `limit` as there can be, of nearly equal length."""
    number = -(-count // limit)
    edges = [count * i // number for i in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _joined(
    trained: dict[tuple[int, int], tuple[Stack, Tensor]],
    rows: Sequence[slice],
    trials: Sequence[slice],
) -> tuple[Stack, Tensor]:
    """Put the stacks of every part of rows × trials together."""

    def join(pick: Callable[[tuple[Stack, Tensor]], Tensor], first: int) -> Tensor:
        across = (
            torch.cat([pick(trained[r.start, t.start]) for t in trials], dim=first + 1)
            for r in rows
        )
        return torch.cat(list(across), dim=first)

    names = next(iter(trained.values()))[0]
    parameters = {name: join(lambda part, n=name: part[0][n], 0) for name in names}  # type: ignore[misc]
    return parameters, join(lambda part: part[1], 1)
