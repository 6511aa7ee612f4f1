"""What a noisy network gives an attacker to see, and whether its noise is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from noisetransfer.devices import COPIES, images_at_once
from noisetransfer.evaluation import STATES, View, expectation, score
from noisetransfer.linear import CHUNK
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from noisetransfer.evaluation import NoisyNetworks
    from noisetransfer.linear import LinearMap
    from noisetransfer.noise import NoiseSampler

DIRECTIONS = 8
"""Directions, half of them the leading ones of a factor, along which the variance of noise is measured."""


@dataclass(frozen=True)
class Gradients:
    """Gradients of the cross-entropy in the pixels, of R noisy networks.

    Attributes:
        zero: share of the images and draws whose gradient is 0 in every pixel, (R,): if it is masked.
        ratio: of each image, norm of the mean gradient over the root of its total variance between
            draws, (R, B): below 1 / √M an average over M draws is mostly noise. The square of the norm is
            estimated without bias, by 0 where that is below it. NaN without noise.
    """

    zero: Tensor
    ratio: Tensor


def gradients(
    networks: NoisyNetworks, images: Tensor, labels: Tensor, indices: Tensor, *, draws: int
) -> Gradients:
    """Draw the gradient of every image many times.

    Args:
        networks: R rows.
        images: in [0, 1], (B, C, H, W).
        labels: (B,).
        indices: original indices, (B,): they key the noise.
        draws: how often.
    """
    batches = _batches(networks, images, labels, indices)
    parts = [_agreement(_drawn(networks, draws, *batch)) for batch in batches]
    zero, ratio = (torch.cat(own, 1) for own in zip(*parts, strict=True))
    return Gradients(zero.mean(1), ratio)


def _batches(networks: NoisyNetworks, *every: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut images, and what belongs to them, into batches that the device has room for."""
    values = COPIES * (networks.units + every[0][0].numel())
    states = STATES * networks.sampler.scale.shape[-1]
    each = 4 * len(networks.sampler.scale) * (values + states)
    size = images_at_once(networks.device, each)
    return zip(*(own.split(size) for own in every), strict=True)


def _drawn(
    networks: NoisyNetworks, draws: int, images: Tensor, labels: Tensor, indices: Tensor
) -> Iterator[Tensor]:
    """Yield the gradients of all rows under one draw after another, (R, B, pixels)."""
    rows = range(len(networks.sampler.scale))
    seen = expectation(networks, images, indices, rows, "noisy", draws)
    points = images.expand(len(rows), *images.shape).clone().requires_grad_()
    for number in seen.numbers(0, draws):
        logits = seen.passed(seen.shared(points), number)
        loss = cross_entropy(
            logits.movedim(-1, 1), labels.expand(logits.shape[:2]), reduction="sum"
        )
        yield torch.autograd.grad(loss, points)[0].flatten(2)


def _agreement(each: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return of every image how many gradients are 0, as a share, and ‖μ‖ / σ, both (R, B).

    A mean of M gradients has ‖μ‖² + σ² / M. Sums run along (Welford), so that no two are kept.

    Args:
        each: gradients (R, B, pixels) under one draw after another.
    """
    zero = mean = squares = torch.zeros(())
    for count, gradient in enumerate(each, 1):
        zero = zero + (gradient == 0).all(-1)
        step = gradient - mean
        mean = mean + step / count
        squares = squares + (step * (gradient - mean)).sum(-1)
    spread = squares / (count - 1)  # 0 / 0 of one draw
    signal = mean.square().sum(-1) - spread / count
    return zero / count, (signal.clamp(min=0) / spread).sqrt()


@dataclass(frozen=True)
class Asked:
    """The covariance that noise must have where it enters a network.

    Attributes:
        noise: of R rows at the site, in float32 on the CPU: its factors say what Σ must be.
        trace: what tr Σ must be, τ·d, of every row that has noise; None: that of the factors.
        linear: A of an affine suffix, on the CPU, if the noise enters at the logits: A Σ Aᵀ is asked for.
    """

    noise: NoiseSampler
    trace: float | None = None
    linear: LinearMap | None = None

    def directions(self, row: int) -> Tensor:
        """Return unit vectors (d, DIRECTIONS): leading columns of the factor, random ones; or A of them."""
        d, factor = self.noise.scale.shape[-1], self.noise.factors[row]
        leading = torch.empty(d, 0) if factor is None else factor[0, :, : DIRECTIONS // 2].float()
        leading = leading[:, leading.any(0)]  # a factor of lower rank than its stack ends in zeros
        draws = generator(self.noise.seed, "directions", row)
        random = torch.randn(d, DIRECTIONS - leading.shape[1], generator=draws)
        found = normalize(torch.cat([leading, random], 1), dim=0)
        if self.linear is None:
            return found
        return normalize(self.linear.forward(found.mT).mT, dim=0).float()

    def variance(self, row: int, along: Tensor) -> Tensor:
        """Return what the variance along directions must be, the columns of `along`."""
        w = along.double() if self.linear is None else self.linear.backward(along.mT).mT
        factor = self.noise.factors[row]
        own = (self.noise.scale[row, 0].double().square()[:, None] * w.square()).sum(0)
        return own if factor is None else own + (factor[0].double().mT @ w).square().sum(0)

    def energy(self) -> Tensor:
        """Return what the mean of ‖ξ‖² must be, (R,)."""
        own = torch.stack([self._trace(row) for row in range(len(self.noise.scale))])
        share = 1.0 if self.trace is None else torch.where(own > 0, self.trace / own, 0)
        if self.linear is None:
            return share * own
        return share * torch.stack([self._logit_trace(row) for row in range(len(own))])

    def _trace(self, row: int) -> Tensor:
        own, factor = self.noise.scale[row].double().square().sum(), self.noise.factors[row]
        return own if factor is None else own + factor[0].double().square().sum()

    def _logit_trace(self, row: int) -> Tensor:
        classes = len(self.directions(row))
        size = max(1, CHUNK // self.noise.scale.shape[-1])
        unit = torch.eye(classes, dtype=torch.float64).split(size, dim=1)
        return torch.stack([self.variance(row, part).sum() for part in unit]).sum()


@dataclass(frozen=True)
class Moments:
    """Noise as networks saw it beside the covariance that was asked for, of R rows.

    Attributes:
        trace: mean of ‖ξ‖² over what it must be, (R,); NaN where there is no noise.
        trace_z: its difference to 1 in standard errors, (R,).
        direction_z: of the variance along `DIRECTIONS` directions, the greatest difference to what it must
            be, in standard errors, (R,).
    """

    trace: Tensor
    trace_z: Tensor
    direction_z: Tensor


@torch.no_grad()
def moments(
    networks: NoisyNetworks, asked: Asked, images: Tensor, indices: Tensor, *, draws: int
) -> Moments:
    """Measure the second moments of the noise that enters networks as they are scored.

    ξ is the state that enters the suffix in a pass of `evaluation.score`, less the state without noise, h(x):
    all that is behind the site, an affine head too, counts as suffix. Noise on the images, another, is off.

    Args:
        networks: R rows.
        asked: what the covariance must be.
        images: in [0, 1], (B, C, H, W).
        indices: their original indices, (B,): they key the draws; B · draws are measured.
        draws: passes over each image.
    """
    along = [asked.directions(row) for row in range(len(networks.sampler.scale))]
    there = [w.to(networks.device) for w in along]
    norms, spread = [], []

    def measure(noise: Tensor) -> None:
        norms.append(noise.square().sum(-1, dtype=torch.float64).cpu())
        found = [own[:, : len(w)] @ w for own, w in zip(noise, there, strict=True)]
        spread.append(torch.stack(found).double().cpu())

    for batch in _batches(networks, images, indices):
        _watch(networks, draws, measure, *batch)
    energy, projected = torch.cat(norms, 1), torch.cat(spread, 1)
    n, wanted = energy.shape[1], asked.energy()
    error = energy.std(1, correction=1) / n**0.5
    variance = torch.stack([asked.variance(row, w) for row, w in enumerate(along)])
    z = (projected.square().mean(1) / variance - 1) * (n / 2) ** 0.5
    return Moments(energy.mean(1) / wanted, (energy.mean(1) - wanted) / error, z.abs().amax(1))


def _watch(
    networks: NoisyNetworks,
    draws: int,
    measure: Callable[[Tensor], None],
    images: Tensor,
    indices: Tensor,
) -> None:
    """Score images, and hand on the noise of every pass, (R, B, numbers of a state)."""
    clean = networks.hidden(images)

    def enter(states: Tensor) -> None:
        measure((states.unflatten(0, (-1, len(images))) - clean).flatten(2))

    watched = replace(networks, suffix=_Entrance(enter), parameters=None, input_noise=0.0)
    view = View(range(len(networks.sampler.scale)), images)
    score(watched, {"clean@0": view}, indices, indices, passes=draws)  # labels do not matter


class _Entrance(nn.Module):
    """Stands in the place of a suffix, and shows what enters it."""

    def __init__(self, show: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.show = show

    def forward(self, states: Tensor) -> Tensor:
        """Return logits of one class."""
        self.show(states)
        return states.new_zeros(len(states), 1)


def probe_rows(
    names: Sequence[tuple[str, str]], seen: Gradients, drawn: Moments
) -> list[dict[str, Any]]:
    """Return a row of a table per noisy network: source, arm, and what was measured of it.

    `gradient_ratio` is the median over images, between the quartiles `…_low` and `…_high`.
    """
    ratio = seen.ratio.double().cpu()
    low, middle, high = (ratio.quantile(share, dim=1).tolist() for share in (0.25, 0.5, 0.75))
    columns = {
        "zero_gradients": seen.zero.tolist(),
        "gradient_ratio": middle,
        "gradient_ratio_low": low,
        "gradient_ratio_high": high,
        "trace": drawn.trace.tolist(),
        "trace_z": drawn.trace_z.tolist(),
        "direction_z": drawn.direction_z.tolist(),
    }
    return [
        {"source": source, "arm": arm, **{name: values[i] for name, values in columns.items()}}
        for i, (source, arm) in enumerate(names)
    ]
