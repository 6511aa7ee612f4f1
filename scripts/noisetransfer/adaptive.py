"""Adaptive attacks on stacks of noisy networks: what counts is the loss averaged over draws of the noise.

A gradient through one draw mostly fits that draw, and a noisy network seems robust that is not (Athalye et
al. 2018, arXiv 1802.00420). Here every loss and gradient is the mean over M draws (expectation over
transformation, EOT), and no point is kept for one lucky pass. What the attacker knows of the network is in
the `Expectation` that it is given. The Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from noisetransfer.attack_parts import (
    Ball,
    Box,
    Budget,
    Draws,
    checkpoints,
    choose,
    radii,
    tile_side,
    tiled,
)
from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from torch import Tensor

Against = Literal["noisy", "known_seed", "noise_off", "base"]
Loss = Literal["ce", "dlr", "margin"]
Mean = Literal["losses", "logits"]


class AdaptiveBudget(Budget):
    """What all adaptive attacks have in common."""

    against: Against = Field(
        default="noisy",
        description="what the attacker sees: noisy: the network with draws of its own; known_seed: with "
        "the very draws of the scoring, all of them each time; noise_off: the network without its noise; "
        "base: the network that it was made from",
    )
    passes: int = Field(
        default=20, ge=1, description="noise draws that each loss and gradient is averaged over"
    )
    mean: Mean = Field(
        default="losses",
        description="what is averaged: the loss of each draw, or, as the prediction does, the logits",
    )


class PGDBudget(AdaptiveBudget):
    """Of projected gradient descent."""

    loss: Loss = Field(
        default="ce", description="cross-entropy, difference of logits ratio, margin"
    )
    steps: int = Field(default=100, ge=1, description="gradient steps of each restart")
    step_size: float = Field(default=0.25, gt=0, le=2, description="length of a step, in epsilons")
    restarts: int = Field(default=1, ge=1, description="starts; those after the first are random")
    random_start: bool = Field(
        default=True, strict=True, description="whether the first start is random too"
    )


class AutoPGDBudget(AdaptiveBudget):
    """Of projected gradient descent that halves its steps."""

    loss: Loss = Field(
        default="ce", description="cross-entropy, difference of logits ratio, margin"
    )
    steps: int = Field(default=100, ge=1, description="gradient steps of each restart")
    step_size: float = Field(
        default=2.0, gt=0, le=2, description="length of the first step, in epsilons"
    )
    restarts: int = Field(default=1, ge=1, description="random starts")


class SquareBudget(AdaptiveBudget):
    """Of the square attack."""

    loss: Loss = Field(
        default="margin", description="cross-entropy, difference of logits ratio, margin"
    )
    steps: int = Field(default=5000, ge=1, description="tiles that are tried on each image")
    share: float = Field(
        default=0.8, gt=0, lt=1, description="share of the image that the first tile covers"
    )


@dataclass(frozen=True)
class Expectation:
    """Networks whose noise can be drawn many times for the same images: logits = passed(shared(points), n).

    Attributes:
        shared: images (S, B, C, H, W) → what all draws have in common.
        passed: (what is shared, number of the draw) → logits (S, B, classes) under that draw. The number keys
            the noise; it does not depend on what becomes of any image.
        only: how many draws there are, if not endless: every query then takes these; 1: there is no noise.
    """

    shared: Callable[[Tensor], Tensor]
    passed: Callable[[Tensor, int], Tensor]
    only: int | None = None

    @classmethod
    def steady(cls, logits: Callable[[Tensor, int], Tensor]) -> Expectation:
        """Return that of networks without noise."""
        return cls(lambda points: points, logits, only=1)

    def numbers(self, query: int, passes: int) -> range:
        """Return the numbers of the draws of a query: no two queries share one, if draws are endless."""
        return range(self.only) if self.only else range(query * passes, (query + 1) * passes)


def pgd(
    expectation: Expectation,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    passes: int,
    mean: Mean,
    loss: Loss,
    steps: int,
    step_size: float,
    restarts: int,
    random_start: bool,
    ball: type[Ball] = Box,
) -> Tensor:
    """Projected gradient descent on the mean loss (Madry et al. 2018), keeping the best point.

    Of each restart the point where the mean loss, as seen with its gradient, was highest, and the last point
    are compared with the best ones of the restarts before and the clean image, all under the same draws.
    `steps` queries a restart with a gradient, each of M passes; 1 + 2·restarts comparisons.

    Args:
        expectation: the attacked networks; network s sees images[s].
        images: clean, in [0, 1], (S, B, C, H, W).
        labels: (B,), or of each network its own, (S, B).
        epsilon: radius of the ball of each network, in pixel units of [0, 1], (S,).
        draws: the random starts.
        passes: M, noise draws a query.
        mean: "losses": of each draw; "logits": the loss of their mean, one forward pass more for a gradient.
        loss: what is to grow: cross-entropy, the difference of logits ratio of Croce & Hein 2020, or the
            highest wrong logit minus that of the label.
        steps: gradient steps of each restart.
        step_size: length of a step, in epsilons.
        restarts: starts.
        random_start: whether the first start is random as the others are; else it is the image.
        ball: `Box` (L∞) or `Sphere` (L2).

    Returns:
        adversarial images, as `images`, within epsilon of them and in [0, 1].

    Raises:
        StudyError: loss dlr of fewer than three classes.
    """
    objective, within = (
        _Objective(expectation, labels, passes, mean, loss),
        ball.around(images, epsilon),
    )
    radius, best = radii(epsilon).to(images), _Best.of(objective, images)
    for restart in range(restarts):
        start = images
        if random_start or restart:
            start = _random_start(within, radius, images, draws, restart)
        found = _climb(objective, within, start, 1 + restart * steps, steps, step_size * radius)
        best.compare(objective, found)
    return best.point


def auto_pgd(
    expectation: Expectation,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    passes: int,
    mean: Mean,
    loss: Loss,
    steps: int,
    step_size: float,
    restarts: int,
    ball: type[Ball] = Box,
) -> Tensor:
    """AutoPGD on the mean loss: momentum, and steps that are halved where they are in vain.

    After Croce & Hein 2020 (arXiv 2003.01690, algorithm 1). Where a step is halved, the attack goes on from
    its best point, without momentum. Queries, and what is kept of the restarts, as of `pgd`.

    Args:
        expectation: as of `pgd`.
        images: as of `pgd`.
        labels: as of `pgd`.
        epsilon: as of `pgd`.
        draws: the random starts.
        passes: as of `pgd`.
        mean: as of `pgd`.
        loss: as of `pgd`.
        steps: gradient steps of each restart.
        step_size: length of the first step, in epsilons.
        restarts: random starts.
        ball: as of `pgd`.

    Returns:
        as `pgd`.

    Raises:
        StudyError: as `pgd`.
    """
    objective, within = (
        _Objective(expectation, labels, passes, mean, loss),
        ball.around(images, epsilon),
    )
    radius, best = radii(epsilon).to(images), _Best.of(objective, images)
    for restart in range(restarts):
        start = _random_start(within, radius, images, draws, restart)
        first = 1 + restart * steps
        found = _auto_climb(objective, within, start, first, steps, step_size * radius)
        best.compare(objective, found)
    return best.point


def square(
    expectation: Expectation,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    passes: int,
    mean: Mean,
    loss: Loss,
    steps: int,
    share: float,
) -> Tensor:
    """Gradient-free search by vertical stripes, then square tiles (Andriushchenko et al. 2020), L∞.

    A proposal is kept where its mean loss is higher than that of the point before, both under the same M
    draws; each proposal is compared under draws of its own, so that none stays for lucky ones.

    Args:
        expectation: as of `pgd`.
        images: as of `pgd`.
        labels: as of `pgd`.
        epsilon: as of `pgd`.
        draws: the signs of each image's stripes; place and signs of the tiles, common to a network's images.
        passes: as of `pgd`.
        mean: as of `pgd`.
        loss: as of `pgd`.
        steps: tiles that are tried.
        share: share of the image that the first tile covers.

    Returns:
        as `pgd`.

    Raises:
        StudyError: as `pgd`.
    """
    objective, ball = (
        _Objective(expectation, labels, passes, mean, loss),
        Box.around(images, epsilon),
    )
    channels, height, width = images.shape[2:]
    found = images
    for trial in range(steps + 1):
        if trial == 0:
            proposal = ball.face(draws.per_image(0, (channels, 1, width)).to(images) >= 0.5)
        else:
            side = tile_side(share, (trial - 1) / steps, height, width)
            proposal = tiled(found, ball, draws.common(trial, 2 + channels).to(images), side)
        before, after = objective.losses([found, proposal], trial)
        found = choose(after > before, proposal, found)
    return found


def losses(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Return what an attack makes grow, of each image, (S, B).

    Args:
        logits: (S, B, classes).
        labels: (B,) or (S, B).
        loss: as of `pgd`.

    Raises:
        StudyError: loss dlr of fewer than three classes.
    """
    from torch.nn.functional import cross_entropy

    own = labels.expand(logits.shape[:2])
    if loss == "ce":
        return cross_entropy(logits.movedim(-1, 1), own, reduction="none")
    of_label = own[..., None]
    wrong = logits.scatter(-1, of_label, -float("inf")).amax(-1)
    margin = wrong - logits.gather(-1, of_label)[..., 0]
    return margin if loss == "margin" else margin / _spread(logits)


def _spread(logits: Tensor) -> Tensor:
    """Return the highest logit minus the third highest, above 0."""
    if logits.shape[-1] < 3:
        raise StudyError(f"loss dlr needs 3 classes, found {logits.shape[-1]}; use loss margin")
    first, _, third = logits.topk(3).values.unbind(-1)
    return first - third + 1e-12


@dataclass(frozen=True)
class _Objective:
    """What is to grow: the mean loss over M draws, or the loss of the mean logits."""

    expectation: Expectation
    labels: Tensor
    passes: int
    mean: Mean
    loss: Loss

    def losses(self, points: Sequence[Tensor], query: int) -> list[Tensor]:
        """Return the losses of several points (S, B, C, H, W) under the same draws, (S, B) each."""
        import torch

        with torch.no_grad():
            return self._losses([self.expectation.shared(point) for point in points], query)

    def slope(self, point: Tensor, query: int) -> tuple[Tensor, Tensor]:
        """Return the loss, (S, B), and its gradient, as `point`.

        What the draws share runs once, forward and backward; of the rest one draw at a time is in memory.
        """
        import torch

        with torch.enable_grad():
            variable = point.detach().requires_grad_()
            shared = self.expectation.shared(variable)
            behind_it = self._of_losses if self.mean == "losses" else self._of_mean_logits
            loss, behind = behind_it(shared.detach().requires_grad_(), self._numbers(query))
            (gradient,) = torch.autograd.grad(shared, variable, behind)
        return loss, gradient

    def _of_losses(self, shared: Tensor, numbers: range) -> tuple[Tensor, Tensor]:
        """Return the mean loss and its gradient in what the draws share."""
        import torch

        gradient, each = torch.zeros_like(shared), []
        for number in numbers:
            own = self._of(self.expectation.passed(shared, number))
            gradient += torch.autograd.grad(own.sum(), shared)[0]
            each.append(own.detach())
        return torch.stack(each).mean(0), gradient / len(numbers)

    def _of_mean_logits(self, shared: Tensor, numbers: range) -> tuple[Tensor, Tensor]:
        """Return the loss of the mean logits and its gradient in what the draws share."""
        import torch

        gradient, run = torch.zeros_like(shared), self.expectation.passed
        with torch.no_grad():
            mean = torch.stack([run(shared, number) for number in numbers]).mean(0)
        loss = self._of(mean.requires_grad_())
        (upstream,) = torch.autograd.grad(loss.sum(), mean)
        for number in numbers:
            gradient += torch.autograd.grad(run(shared, number), shared, upstream)[0]
        return loss.detach(), gradient / len(numbers)

    def _losses(self, shared: Sequence[Tensor], query: int) -> list[Tensor]:
        import torch

        run = self.expectation.passed
        # draw by draw: points that share one need it at once
        each = [[run(values, number) for values in shared] for number in self._numbers(query)]
        logits = [torch.stack(own) for own in zip(*each, strict=True)]
        if self.mean == "logits":
            return [self._of(own.mean(0)) for own in logits]
        return [torch.stack([self._of(one) for one in own]).mean(0) for own in logits]

    def _numbers(self, query: int) -> range:
        return self.expectation.numbers(query, self.passes)

    def _of(self, logits: Tensor) -> Tensor:
        return losses(logits, self.labels, self.loss)


@dataclass
class _Best:
    """The best point of each image yet, by its mean loss under draws that all points are compared under."""

    point: Tensor
    loss: Tensor

    QUERY = 0

    @classmethod
    def of(cls, objective: _Objective, images: Tensor) -> _Best:
        """Begin with the clean images."""
        (loss,) = objective.losses([images], cls.QUERY)
        return cls(images, loss)

    def compare(self, objective: _Objective, points: Sequence[Tensor]) -> None:
        """Keep what is better among other points."""
        for point, loss in zip(points, objective.losses(points, self.QUERY), strict=True):
            better = loss >= self.loss
            self.point = choose(better, point, self.point)
            self.loss = loss.where(better, self.loss)


def _random_start(ball: Ball, radius: Tensor, images: Tensor, draws: Draws, number: int) -> Tensor:
    uniform = draws.per_image(number, images.shape[2:]).to(images)
    return ball.project(images + radius * ball.shift(uniform))


def _climb(
    objective: _Objective, ball: Ball, start: Tensor, first: int, steps: int, step: Tensor
) -> list[Tensor]:
    """Return the best point on the way of PGD, and the last one; its queries are numbered from `first`."""
    import torch

    point = best = start
    highest = torch.full_like(start[..., 0, 0, 0], -float("inf"))
    for query in range(first, first + steps):
        loss, gradient = objective.slope(point, query)
        grown = loss > highest
        best, highest = choose(grown, point, best), loss.where(grown, highest)
        point = ball.project(point + step * ball.steepest(gradient))
    return [best, point]


@dataclass
class _Ascent:
    """AutoPGD on its way, (S, B, C, H, W) each: x_k, x_{k-1}, the gradient at x_k; the best point, its own.

    (S, B, 1, 1, 1): the length of its steps. Of each image, (S, B): the loss at x_k, the highest yet, and
    that at the last checkpoint; how often it grew since; whether the step was halved there.
    """

    point: Tensor
    previous: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    step: Tensor
    loss: Tensor
    highest: Tensor
    checked: Tensor
    growths: Tensor
    halved: Tensor

    @classmethod
    def at(cls, start: Tensor, loss: Tensor, gradient: Tensor, step: Tensor) -> _Ascent:
        """Begin."""
        import torch

        none, no = torch.zeros_like(loss), torch.zeros_like(loss, dtype=torch.bool)
        step = step.expand(*loss.shape, 1, 1, 1)
        return cls(start, start, gradient, start, gradient, step, loss, loss, loss, none, no)

    def onward(self, ball: Ball, momentum: float) -> Tensor:
        """Return x_{k+1}."""
        target = ball.project(self.point + self.step * ball.steepest(self.gradient))
        straight, drift = target - self.point, self.point - self.previous
        return ball.project(self.point + (1 - momentum) * straight + momentum * drift)

    def move(self, point: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """Go to x_{k+1}."""
        self.growths = self.growths + (loss > self.loss)
        better = loss > self.highest
        self.best = choose(better, point, self.best)
        self.best_gradient = choose(better, gradient, self.best_gradient)
        self.highest = loss.where(better, self.highest)
        self.previous, self.point, self.gradient, self.loss = self.point, point, gradient, loss

    def check(self, steps: int) -> None:
        """Go back to the best point, with half the step, where the steps since the last were in vain."""
        import torch

        idle = ~self.halved & (self.highest <= self.checked)
        stuck = (self.growths < 0.75 * steps) | idle
        self.step = choose(stuck, self.step / 2, self.step)
        self.point = choose(stuck, self.best, self.point)
        self.previous = choose(stuck, self.best, self.previous)
        self.gradient = choose(stuck, self.best_gradient, self.gradient)
        self.loss = self.highest.where(stuck, self.loss)
        self.checked, self.halved = self.highest, stuck
        self.growths = torch.zeros_like(self.growths)


def _auto_climb(
    objective: _Objective, ball: Ball, start: Tensor, first: int, steps: int, step: Tensor
) -> list[Tensor]:
    """Return what `_climb` does, of AutoPGD."""
    ascent = _Ascent.at(start, *objective.slope(start, first), step)
    marks = checkpoints(steps)
    for k in range(1, steps):
        point = ascent.onward(ball, 0.25 if k > 1 else 0.0)
        ascent.move(point, *objective.slope(point, first + k))
        if k in marks:
            ascent.check(marks[k])
    return [ascent.best, ascent.onward(ball, 0.25 if steps > 1 else 0.0)]
