"""Adversarial attacks on stacks of networks: L∞, untargeted, as the Adversarial Robustness Toolbox has them.

Each follows ART 1.20.1 (Nicolae et al. 2018, arXiv 1807.01069) and has its defaults, but what becomes of an
image never depends on the other images of its batch. Those that average over noise are in `adaptive.py`,
`blind.py` and `auto_attack.py`. To add an attack, add its budget, its function and its entry of `ATTACKS`:
`docs/adding.md`; `tests/unit/test_attacks.py` tests it. The Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from noisetransfer import adaptive, auto_attack, blind
from noisetransfer.attack_parts import (
    Box,
    Budget,
    Draws,
    Sphere,
    checkpoints,
    choose,
    radii,
    tile_side,
    tiled,
)
from noisetransfer.expectation import AdaptiveBudget, Expectation

if TYPE_CHECKING:
    from torch import Tensor

Logits = Callable[["Tensor", int], "Tensor"]
"""Images (S, B, C, H, W) and the number of the query → logits (S, B, classes).

The number keys the noise of a noisy network: no two queries of an attack share one, and it does not depend on
what becomes of any image.
"""


class FGMBudget(Budget):
    """The fast gradient method has no choice to make."""


class PGDBudget(Budget):
    """Of projected gradient descent."""

    steps: int = Field(default=100, ge=1, description="gradient steps")
    step_size: float = Field(
        default=0.1, gt=0, le=1, description="length of a step, in pixel units of [0, 1]"
    )


class AutoPGDBudget(Budget):
    """Of projected gradient descent that halves its steps."""

    steps: int = Field(default=100, ge=1, description="gradient steps of each restart")
    step_size: float = Field(
        default=0.1, gt=0, le=1, description="length of the first step, in pixel units of [0, 1]"
    )
    restarts: int = Field(default=5, ge=1, description="random starts")


class SquareBudget(Budget):
    """Of the square attack."""

    steps: int = Field(default=100, ge=1, description="tiles that are tried on each image")
    share: float = Field(
        default=0.8, gt=0, lt=1, description="share of the image that the first tile covers"
    )


class RandomNoiseBudget(Budget):
    """Random noise has no choice to make."""


@dataclass(frozen=True)
class Attack:
    """An entry of the registry.

    Attributes:
        run: (logits, images, labels, *, epsilon, draws, **budget) → adversarial images, as `pgd`. Adaptive
            attacks take an `Expectation` for the logits, and a budget without `against`, which
            is for those who make the expectation.
        budget: the keyword arguments that are this attack's own, with their defaults and bounds.
        l2: whether its epsilon is a radius in L2, not L∞.
        alone: whether it attacks one network of the stack after another.
    """

    run: Callable[..., Tensor]
    budget: type[Budget]
    l2: bool = False
    alone: bool = False

    @property
    def adaptive(self) -> bool:
        """Whether it averages over draws of the noise."""
        return issubclass(self.budget, AdaptiveBudget)

    def without_noise(self, logits: Logits, *images_and_labels: Tensor, **options: Any) -> Tensor:
        """Run on networks without noise: `options` are those of `run` and the whole budget."""
        if not self.adaptive:
            return self.run(logits, *images_and_labels, **options)
        own = {name: value for name, value in options.items() if name != "against"}
        return self.run(Expectation.steady(logits), *images_and_labels, **own)


def fgm(logits: Logits, images: Tensor, labels: Tensor, *, epsilon: Tensor, draws: Draws) -> Tensor:
    """Fast gradient method (Goodfellow et al. 2015): PGD whose one step reaches the faces of the ball.

    Arguments and result as of `pgd`. One query.
    """
    return pgd(logits, images, labels, epsilon=epsilon, draws=draws, steps=1, step_size=1.0)


def pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,  # noqa: ARG001 - the signature that all attacks share
    steps: int,
    step_size: float,
) -> Tensor:
    """Projected gradient descent without a random start (Madry et al. 2018).

    One query, and its gradient, a step.

    Args:
        logits: the attacked networks; network s sees images[s].
        images: clean, in [0, 1], (S, B, C, H, W).
        labels: (B,), or of each network its own, (S, B).
        epsilon: radius of the L∞ ball of each network, in pixel units of [0, 1], (S,).
        draws: what the attack draws at random: here, nothing.
        steps: number of gradient steps.
        step_size: length of a step, in pixel units.

    Returns:
        adversarial images, as `images`, within epsilon of them and in [0, 1].
    """
    networks, ball = _Networks(logits, labels), Box.around(images, epsilon)
    point = images
    for step in range(steps):
        point = ball.project(point + step_size * networks.uphill(point, step))
    return point


def auto_pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    steps: int,
    step_size: float,
    restarts: int,
) -> Tensor:
    """Projected gradient descent with momentum and halving steps, on the cross-entropy (Croce & Hein 2020).

    Each restart leaves alone the images that one query finds misclassified. Each of the others starts at a
    random shift of what the restart before made of it, projected onto the ball, and becomes its last point if
    one more query finds that misclassified, else its random start: not the point of the highest loss, unless
    the last checkpoint led there. 2·steps + 3 queries a restart, `steps` of them with a gradient.

    ART ends a batch once each of its losses is exactly 0, and the attack once no image is left. Both depend
    on the company of an image, so neither is kept: an image fares as in a batch that goes on.

    Args:
        logits: as of `pgd`.
        images: as of `pgd`.
        labels: as of `pgd`.
        epsilon: as of `pgd`.
        draws: the random shifts.
        steps: gradient steps of each restart.
        step_size: length of the first step, in pixel units of [0, 1].
        restarts: random starts.

    Returns:
        as `pgd`.
    """
    networks, ball = _Networks(logits, labels), Box.around(images, epsilon)
    found = images
    for restart in range(restarts):
        first = restart * (2 * steps + 3)
        robust = networks.correct(found, first)
        if not robust.any():
            continue
        shift = 2 * draws.per_image(restart, images.shape[2:]).to(images) - 1
        start = ball.project(found + shift * radii(epsilon).to(images))
        last = _ascend(networks, ball, images, start, first + 1, steps, step_size)
        fooled = ~networks.correct(last, first + 2 * steps + 2)
        found = choose(robust, choose(fooled, last, start), found)
    return found


def square(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    steps: int,
    share: float,
) -> Tensor:
    """Gradient-free search by vertical stripes, then square tiles (Andriushchenko et al. 2020).

    A proposal is kept where it lowers the margin of an image that is still classified correctly. Each takes
    three queries, the stripes too: is the image still correct, its margin, the margin of the proposal.

    ART ends the attack once no image is left; here each proposal asks anew, as in a batch that goes on. A
    tile as high or wide as the image, at which ART fails, has one place.

    Args:
        logits: as of `pgd`.
        images: as of `pgd`.
        labels: as of `pgd`.
        epsilon: as of `pgd`.
        draws: the signs of each image's stripes; place and signs of the tiles, common to a network's images.
        steps: tiles that are tried.
        share: share of the image that the first tile covers.

    Returns:
        as `pgd`.
    """
    networks, ball = _Networks(logits, labels), Box.around(images, epsilon)
    channels, height, width = images.shape[2:]
    found = images
    for trial in range(steps + 1):
        robust = networks.correct(found, 3 * trial)
        if not robust.any():
            continue
        if trial == 0:
            proposal = ball.face(draws.per_image(0, (channels, 1, width)).to(images) >= 0.5)
        else:
            side = tile_side(share, (trial - 1) / steps, height, width)
            proposal = tiled(found, ball, draws.common(trial, 2 + channels).to(images), side)
        before = networks.margin(found, 3 * trial + 1)
        better = networks.margin(proposal, 3 * trial + 2) < before
        found = choose(robust & better, proposal, found)
    return found


def random_noise(
    logits: Logits,  # noqa: ARG001 - the signature that all attacks share
    images: Tensor,
    labels: Tensor,  # noqa: ARG001
    *,
    epsilon: Tensor,
    draws: Draws,
) -> Tensor:
    """Move each pixel by epsilon, up or down at random: the floor, which every attack must beat.

    Arguments and result as of `pgd`. No query.
    """
    up = draws.per_image(0, images.shape[2:]).to(images) >= 0.5
    return Box.around(images, epsilon).face(up)


ATTACKS: dict[str, Attack] = {
    "fgm": Attack(fgm, FGMBudget),
    "pgd": Attack(pgd, PGDBudget),
    "auto_pgd": Attack(auto_pgd, AutoPGDBudget),
    "square": Attack(square, SquareBudget),
    "random_noise": Attack(random_noise, RandomNoiseBudget),
    "pgd_eot": Attack(adaptive.pgd, adaptive.PGDBudget),
    "auto_pgd_eot": Attack(partial(adaptive.pgd, halving=True), adaptive.AutoPGDBudget),
    "square_eot": Attack(blind.square, blind.SquareBudget),
    "pgd_l2_eot": Attack(partial(adaptive.pgd, ball=Sphere), adaptive.PGDBudget, l2=True),
    "auto_pgd_l2_eot": Attack(
        partial(adaptive.pgd, halving=True, ball=Sphere), adaptive.AutoPGDBudget, l2=True
    ),
    "rays_eot": Attack(blind.rays, blind.RaySBudget),
    "auto_attack": Attack(auto_attack.auto_attack, auto_attack.AutoAttackBudget, alone=True),
    "auto_attack_l2": Attack(
        partial(auto_attack.auto_attack, ball=Sphere),
        auto_attack.AutoAttackBudget,
        l2=True,
        alone=True,
    ),
}


@dataclass(frozen=True)
class _Networks:
    """The attacked networks: what a query (point (S, B, C, H, W), number) tells of them."""

    logits: Logits
    labels: Tensor

    def uphill(self, point: Tensor, number: int) -> Tensor:
        """Return the sign of the gradient of the cross-entropy, as `point`."""
        import torch

        with torch.enable_grad():
            variable = point.detach().requires_grad_()
            loss = self._losses(self.logits(variable, number)).sum()
            (gradient,) = torch.autograd.grad(loss, variable)
        return gradient.sign()

    def loss(self, point: Tensor, number: int) -> Tensor:
        """Return the cross-entropy of each image, (S, B)."""
        return self._losses(self._quietly(point, number))

    def correct(self, point: Tensor, number: int) -> Tensor:
        """Return which images are classified correctly, (S, B)."""
        return self._quietly(point, number).argmax(-1) == self.labels

    def margin(self, point: Tensor, number: int) -> Tensor:
        """Return the label's logit minus the second highest one, be that the label's or not, (S, B)."""
        logits = self._quietly(point, number)
        own = logits.gather(-1, self.labels.expand(logits.shape[:2])[..., None])
        return own[..., 0] - logits.topk(2).values[..., 1]

    def _losses(self, logits: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        labels = self.labels.expand(logits.shape[:2])
        return cross_entropy(logits.movedim(-1, 1), labels, reduction="none")

    def _quietly(self, point: Tensor, number: int) -> Tensor:
        import torch

        with torch.no_grad():
            return self.logits(point, number)


@dataclass
class _Ascent:
    """AutoPGD on its way, (S, B, C, H, W) each: x_k and x_{k-1}; the best point yet, and the point before it.

    Of each image, (S, B): the highest loss yet, and how often it grew since the last checkpoint;
    (S, B, 1, 1, 1): the length of its steps.
    """

    point: Tensor
    previous: Tensor
    best: Tensor
    before_best: Tensor
    highest: Tensor
    growths: Tensor
    step: Tensor

    def onward(self, uphill: Tensor, ball: Box, momentum: float) -> Tensor:
        """Return x_{k+1}."""
        target = ball.project(self.point + self.step * uphill)
        straight, drift = target - self.point, self.point - self.previous
        return ball.project(self.point + (1 - momentum) * straight + momentum * drift)

    def begin(self, point: Tensor, loss: Tensor) -> None:
        """Go to x_1; the point before the best one stays the clean image, as in ART."""
        self._keep(loss >= self.highest, point, loss)
        self.point = point

    def move(self, point: Tensor, loss: Tensor) -> None:
        """Go to x_{k+1}, k > 0."""
        grown = loss > self.highest
        self._keep(grown, point, loss)
        self.before_best = choose(grown, self.point, self.before_best)
        self.previous, self.point = self.point, point

    def check(self, steps: int) -> None:
        """Go back to the best point, with half the step, where the loss grew in under 3/4 of the steps.

        ART's other condition, that it has not grown at all, adds nothing (but for a tie of the first two
        losses in an attack of fewer than 5 steps).
        """
        import torch

        stuck = self.growths < 0.75 * steps
        self.step = choose(stuck, self.step / 2, self.step)
        self.point = choose(stuck, self.best, self.point)
        self.previous = choose(stuck, self.before_best, self.previous)
        self.growths = torch.zeros_like(self.growths)

    def _keep(self, grown: Tensor, point: Tensor, loss: Tensor) -> None:
        self.best = choose(grown, point, self.best)
        self.highest = loss.where(grown, self.highest)
        self.growths = self.growths + grown


def _ascend(
    networks: _Networks,
    ball: Box,
    images: Tensor,
    start: Tensor,
    first: int,
    steps: int,
    step_size: float,
) -> Tensor:
    """Return where one restart of AutoPGD ends; its 2·steps + 1 queries are numbered from `first`."""
    import torch

    loss, step = networks.loss(start, first), torch.full_like(start[..., :1, :1, :1], step_size)
    ascent = _Ascent(start, start, start, images, loss, torch.zeros_like(loss), step)
    marks = checkpoints(steps)
    for k in range(steps):
        uphill = networks.uphill(ascent.point, first + 1 + 2 * k)
        point = ascent.onward(uphill, ball, 0.25 if k else 0.0)
        advance = ascent.move if k else ascent.begin
        advance(point, networks.loss(point, first + 2 + 2 * k))
        if k in marks:
            ascent.check(marks[k])
    return ascent.point
