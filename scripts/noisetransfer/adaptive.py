"""Adaptive attacks by gradients on stacks of noisy networks: what counts is the loss averaged over draws.

No point is kept for one lucky pass. Those without gradients are in `blind.py`; what an attacker sees is in
`expectation.py`. The Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from noisetransfer.attack_parts import Ball, Box, Draws, checkpoints, choose, radii
from noisetransfer.expectation import AveragedBudget, Expectation, Loss, Mean, Objective

if TYPE_CHECKING:
    from torch import Tensor


class AutoPGDBudget(AveragedBudget):
    """Of projected gradient descent that halves its steps."""

    loss: Loss = Field(
        default="ce", description="cross-entropy, difference of logits ratio, margin"
    )
    steps: int = Field(default=100, ge=1, description="gradient steps of each restart")
    step_size: float = Field(
        default=2.0, gt=0, le=2, description="length of the first step, in epsilons"
    )
    restarts: int = Field(default=1, ge=1, description="random starts")


class PGDBudget(AutoPGDBudget):
    """Of projected gradient descent."""

    step_size: float = Field(default=0.25, gt=0, le=2, description="length of a step, in epsilons")
    restarts: int = Field(default=1, ge=1, description="starts; those after the first are random")
    random_start: bool = Field(
        default=True, strict=True, description="whether the first start is random too"
    )


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
    random_start: bool = True,
    ball: type[Ball] = Box,
    halving: bool = False,
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
        step_size: length of a step, or of the first one, in epsilons.
        restarts: starts.
        random_start: whether the first start is random as the others are; else it is the image.
        ball: `Box` (L∞) or `Sphere` (L2).
        halving: AutoPGD, after Croce & Hein 2020 (arXiv 2003.01690, algorithm 1): momentum, and steps that
            are halved where they are in vain; the attack then goes on from its best point, without momentum.

    Returns:
        adversarial images, as `images`, within epsilon of them and in [0, 1].

    Raises:
        StudyError: loss dlr of fewer than three classes.
    """
    objective = Objective(expectation, labels, passes, mean, loss)
    within, radius = ball.around(images, epsilon), radii(epsilon).to(images)
    climb: Callable[..., list[Tensor]] = _auto_climb if halving else _climb
    best = _Best.of(objective, images)
    for restart in range(restarts):
        start = images
        if random_start or restart:
            start = _random_start(within, radius, images, draws, restart)
        found = climb(objective, within, start, 1 + restart * steps, steps, step_size * radius)
        best.compare(objective, found)
    return best.point


@dataclass
class _Best:
    """The best point of each image yet, by its mean loss under draws that all points are compared under."""

    point: Tensor
    loss: Tensor

    QUERY = 0

    @classmethod
    def of(cls, objective: Objective, images: Tensor) -> _Best:
        """Begin with the clean images."""
        (loss,) = objective.losses([images], cls.QUERY)
        return cls(images, loss)

    def compare(self, objective: Objective, points: Sequence[Tensor]) -> None:
        """Keep what is better among other points."""
        for point, loss in zip(points, objective.losses(points, self.QUERY), strict=True):
            better = loss >= self.loss
            self.point = choose(better, point, self.point)
            self.loss = loss.where(better, self.loss)


def _random_start(ball: Ball, radius: Tensor, images: Tensor, draws: Draws, number: int) -> Tensor:
    uniform = draws.per_image(number, images.shape[2:]).to(images)
    return ball.project(images + radius * ball.shift(uniform))


def _climb(
    objective: Objective, ball: Ball, start: Tensor, first: int, steps: int, step: Tensor
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
    objective: Objective, ball: Ball, start: Tensor, first: int, steps: int, step: Tensor
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
