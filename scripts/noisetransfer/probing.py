"""What a noisy network gives an attacker to see, and whether its noise is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, normalize

from noisetransfer.evaluation import expectation
from noisetransfer.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from noisetransfer.evaluation import NoisyNetworks
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
    rows = range(len(networks.sampler.scale))
    seen = expectation(networks, images, indices, rows, "noisy", draws)
    points = images.expand(len(rows), *images.shape).clone().requires_grad_()
    found = []
    for number in seen.numbers(0, draws):
        logits = seen.passed(seen.shared(points), number)
        loss = cross_entropy(
            logits.movedim(-1, 1), labels.expand(logits.shape[:2]), reduction="sum"
        )
        found.append(torch.autograd.grad(loss, points)[0].flatten(2))
    every = torch.stack(found)
    zero = (every == 0).all(-1).float().mean((0, 2))
    return Gradients(zero, _ratio(every))


def _ratio(every: Tensor) -> Tensor:
    """Return ‖μ‖ / σ of gradients (draws, R, B, pixels): a mean of M of them has ‖μ‖² + σ² / M."""
    draws = len(every)
    spread = every.var(0, correction=1).sum(-1) if draws > 1 else every[0, ..., 0] * torch.nan
    signal = every.mean(0).square().sum(-1) - spread / draws
    return (signal.clamp(min=0) / spread).sqrt()


@dataclass(frozen=True)
class Moments:
    """Noise as it was drawn beside the covariance that was asked for, of R rows.

    Attributes:
        trace: mean of ‖ξ‖² over what it must be, (R,); NaN where there is no noise.
        trace_z: its difference to 1 in standard errors, (R,).
        direction_z: of the variance along `DIRECTIONS` directions, the greatest difference to what it must
            be, in standard errors, (R,).
    """

    trace: Tensor
    trace_z: Tensor
    direction_z: Tensor


def moments(
    drawn: NoiseSampler,
    asked: NoiseSampler,
    indices: Tensor,
    *,
    draws: int,
    trace: float | None = None,
) -> Moments:
    """Measure the second moments of noise of one trial.

    Args:
        drawn: the noise that networks see, where they run.
        asked: the same noise in float32: its factors say what the covariance must be.
        indices: original indices of images, (B,): they key the draws; B · draws are measured.
        draws: draws of each image.
        trace: what tr Σ must be, τ·d, of every row that has noise; None: that of the factors.
    """
    keys, device = drawn.keys("noise that is measured"), drawn.device
    along = [_directions(asked, row).to(device) for row in range(len(asked.scale))]
    norms, spread = [], []
    for number in range(draws):
        noise = drawn.draw(keys, torch.full((), number, device=device), indices)[:, 0]
        norms.append(noise.double().square().sum(-1))
        spread.append(torch.stack([own @ w for own, w in zip(noise, along, strict=True)]).double())
    energy, projected = torch.cat(norms, 1).cpu(), torch.cat(spread, 1).cpu()
    n, wanted = energy.shape[1], _trace(asked)
    if trace is not None:
        wanted = torch.full_like(wanted, trace).where(wanted > 0, 0)
    error = energy.std(1, correction=1) / n**0.5
    variance = torch.stack([_variance(asked, row, w.cpu()) for row, w in enumerate(along)])
    z = (projected.square().mean(1) / variance - 1) * (n / 2) ** 0.5
    return Moments(energy.mean(1) / wanted, (energy.mean(1) - wanted) / error, z.abs().amax(1))


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


def _directions(asked: NoiseSampler, row: int) -> Tensor:
    """Return unit vectors (d, DIRECTIONS): leading columns of the factor, and random ones."""
    d, factor = asked.scale.shape[-1], asked.factors[row]
    leading = factor[0, :, : DIRECTIONS // 2].float() if factor is not None else torch.empty(d, 0)
    leading = leading[:, leading.any(0)]  # a factor of lower rank than its stack ends in zeros
    draws = generator(asked.seed, "directions", row)
    random = torch.randn(d, DIRECTIONS - leading.shape[1], generator=draws)
    return normalize(torch.cat([leading, random], 1), dim=0)


def _trace(asked: NoiseSampler) -> Tensor:
    low_rank = [0.0 if f is None else float(f[0].double().square().sum()) for f in asked.factors]
    return torch.tensor(low_rank, dtype=torch.double) + asked.scale[:, 0].double().square().sum(-1)


def _variance(asked: NoiseSampler, row: int, along: Tensor) -> Tensor:
    """Return wᵀ Σ w of directions w, the columns of `along`."""
    w, factor = along.double(), asked.factors[row]
    own = (asked.scale[row, 0].double().square()[:, None] * w.square()).sum(0)
    return own if factor is None else own + (factor[0].double().mT @ w).square().sum(0)
