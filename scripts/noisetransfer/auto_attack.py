"""AutoAttack (Croce & Hein 2020) through its library, on stacks of networks.

The library draws from PyTorch's global generators, and its random start of an image depends on the images
beside it. Here its attacks are called one by one, with keyed starts and a generator of their own, so that an
image fares in any batch as it does alone. The Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from noisetransfer.attack_parts import Ball, Box, Draws, Sphere, choose
from noisetransfer.errors import StudyError
from noisetransfer.expectation import AdaptiveBudget, Expectation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Version = Literal["auto", "standard", "rand"]

LOG = logging.getLogger("auto-attack")
"""The library's own: it tells of gradients that vanish."""


class AutoAttackBudget(AdaptiveBudget):
    """Of AutoAttack: that of the library, where nothing is said."""

    version: Version = Field(
        default="auto",
        description="standard: APGD, targeted APGD and FAB, Square; rand, for noisy networks: APGD on two "
        "losses, each gradient over `passes` draws; auto: standard where there is no noise, else rand",
    )
    steps: int = Field(default=100, ge=1, description="steps of each APGD and FAB")
    targets: int = Field(default=9, ge=1, description="wrong classes that are aimed at, if so many")
    queries: int = Field(default=5000, ge=1, description="tiles that Square tries on each image")

    def gradients(self) -> int:
        """Return how many it spends on an image that is never fooled, in the version that costs most."""
        aimed = 2 * self.targets * self.steps
        return 2 * self.steps if self.version == "rand" else self.steps + aimed + self.queries


def auto_attack(
    expectation: Expectation,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,
    passes: int,
    version: Version,
    steps: int,
    targets: int,
    queries: int,
    ball: type[Ball] = Box,
) -> Tensor:
    """AutoAttack of pyautoattack 0.2.0, network by network.

    `standard`: APGD on the cross-entropy, APGD and FAB aimed at wrong classes, Square; each on the images
    that are still classified correctly. An image ends at the first point by which it is found misclassified,
    else it stays clean. `rand`: APGD on the cross-entropy, then on the difference of logits ratio; without
    noise, it ends as in `standard`.

    With noise all images are attacked, and end at a point that APGD reached: that of the first part if one
    draw finds it misclassified, else that of the second, for losses of two kinds cannot be compared. A part's
    point is the last on its way that a draw misclassified, else that of the highest loss. (The library leaves
    an image clean that one draw misclassified before, or none did on the way. Scored with other draws, both
    are mostly right: the accuracy would be above what the library itself prints.) As in the library, single
    draws judge: the highest loss, and whether a point fools, hang on one each (of the loss, the last of its
    gradient). `auto_pgd_eot` judges by means.

    What is keyed: the start of each APGD, by network and image; the tiles and signs of Square, by network,
    common to its images (in the library each image has signs of its own); the noise, by query and image.
    FAB draws nothing. So nothing depends on batches, their order, or other networks of the stack, and the
    global generators stay as they are. Rounding does depend on the batch, as in all attacks: near a boundary
    it may turn a sign. The draws are not those of the library for the same seed.

    All networks of a stack are asked for each; only that of one is used: give stacks of one network.

    Args:
        expectation: as of `adaptive.pgd`.
        images: as of `adaptive.pgd`.
        labels: as of `adaptive.pgd`.
        epsilon: as of `adaptive.pgd`.
        draws: the starts; the seed of Square.
        passes: draws that version rand averages each gradient over.
        version: as in the budget.
        steps: of each APGD and FAB.
        targets: wrong classes that are aimed at.
        queries: of Square.
        ball: `Box` (L∞) or `Sphere` (L2).

    Returns:
        as `adaptive.pgd`.

    Raises:
        StudyError: version standard on networks with noise, of which its parts see other images in each
            query; fewer than four classes, or three for rand.
    """
    import torch

    steady = not expectation.noisy
    if version == "standard" and not steady:
        raise StudyError(
            "auto_attack: version standard is for networks without noise; use auto or rand, or against: "
            "noise_off"
        )
    build = _standard if steady and version != "rand" else _rand
    budget = {"steps": steps, "targets": targets, "queries": queries}
    budget["passes"] = expectation.only or passes
    norm, found = "L2" if ball is Sphere else "Linf", []
    with torch.no_grad(), _own_generator(images.device):
        for place, radius in enumerate(epsilon.tolist()):
            network = _Network(expectation, images, labels.expand(images.shape[:2])[place], place)
            _enough(network.classes, 3 if build is _rand else 4)
            common = {
                "eps": radius,
                "norm": norm,
                "seed": int(draws.common(0, 1)[place] * 2**24),
                "device": images.device,
            }
            starts = _starts(network, ball, radius, draws)
            found.append(_attacked(network, build(network, common, **budget), starts, not steady))
    return ball.around(images, epsilon).project(torch.stack(found).to(images))


@dataclass
class _Network:
    """One network of the stack as the library sees it: (b, C, H, W) → (b, classes), in single precision.

    With noise all images are asked for in each query, or a draw would not find its image.
    """

    expectation: Expectation
    stack: Tensor
    labels: Tensor
    place: int
    asked: int = 0

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return self.expectation.passed(self.expectation.shared(self.stack), 0).shape[-1]

    @property
    def images(self) -> Tensor:
        """The clean images, (B, C, H, W)."""
        return self.stack[self.place].float()

    def __call__(self, points: Tensor) -> Tensor:
        """Return logits under the next draw."""
        number = self.asked % (self.expectation.only or self.asked + 1)
        self.asked += 1
        stack = points.to(self.stack).expand(len(self.stack), *points.shape)
        return self.expectation.passed(self.expectation.shared(stack), number)[self.place].float()

    def fooled(self, points: Tensor, labels: Tensor) -> Tensor:
        """Return which points are misclassified, (b,)."""
        return self(points).argmax(1) != labels


Part = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""An attack of the library: (clean images, labels, starts) → points, whether they fool or not."""


def _attacked(
    network: _Network, parts: Sequence[Part], starts: Iterator[Tensor], noisy: bool
) -> Tensor:
    """Run one attack after another, each on the images that are left, (B, C, H, W); with noise on all."""
    images, labels = network.images, network.labels
    found, left = images.clone(), ~network.fooled(images, labels) | noisy
    for run, start in zip(parts, starts, strict=False):
        chosen = left | noisy
        if not chosen.any():
            break
        points = images.clone()
        points[chosen] = run(images[chosen], labels[chosen], start[chosen])
        fooled = left.clone()
        fooled[chosen] &= network.fooled(points[chosen], labels[chosen])
        found = choose(left if noisy else fooled, points, found)
        left = left & ~fooled
    return found


def _enough(classes: int, needed: int) -> None:
    if classes < needed:
        raise StudyError(f"auto_attack needs {needed} classes, found {classes}; use auto_pgd_eot")


def _starts(network: _Network, ball: type[Ball], radius: float, draws: Draws) -> Iterator[Tensor]:
    """Yield a random start for each attack, (B, C, H, W)."""
    images = network.images
    for number in count():
        uniform = draws.per_image(number, images.shape[1:])[network.place].to(images)
        yield (images + radius * ball.shift(uniform[None])[0]).clamp(0, 1)


def _rand(network: _Network, common: dict[str, Any], **budget: int) -> list[Part]:
    from pyautoattack.autopgd_base import APGDAttack

    own = {**common, "n_iter": budget["steps"], "eot_iter": budget["passes"], "logger": LOG}
    return [partial(_climb, APGDAttack(network, loss=loss, **own), 0) for loss in ("ce", "dlr")]


def _standard(network: _Network, common: dict[str, Any], **budget: int) -> list[Part]:
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    steps, aims = {"n_iter": budget["steps"]}, min(budget["targets"], network.classes - 1)
    free = APGDAttack(network, loss="ce", logger=LOG, **steps, **common)
    aimed = APGDAttack_targeted(network, logger=LOG, **steps, **common)
    fab = FABAttack_PT(network, targeted=True, n_target_classes=aims, **steps, **common)
    square = SquareAttack(network, n_queries=budget["queries"], resc_schedule=False, **common)
    square.random_choice = partial(_signs, common["device"])
    of_each = [partial(_climb, aimed, rank) for rank in range(2, aims + 2)]
    return [partial(_climb, free, 0), *of_each, *map(_startless, (fab, square))]


def _climb(attack: Any, rank: int, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
    """Run APGD from a start, aimed at the class of a rank among the logits if the attack is an aimed one."""
    attack.init_hyperparam(images)
    if rank:
        attack.y_target = attack.model(images).argsort(dim=1)[:, -rank]
    best, right, _, last = attack.attack_single_run(images, labels, x_init=start)
    return choose(right, best, last)


def _startless(attack: Any) -> Part:
    return lambda images, labels, _: attack.perturb(images, labels)


def _signs(device: torch.device, shape: Sequence[int]) -> Tensor:
    """Draw signs for Square; where the library draws for each image (4 dimensions), all have the same."""
    import torch

    common = [1, *shape[1:]] if len(shape) == 4 else shape
    return (2 * torch.rand(common) - 1).sign().to(device).expand(*shape)


def _own_generator(device: torch.device) -> AbstractContextManager[None]:
    """Keep PyTorch's global generators as they are."""
    import torch

    return torch.random.fork_rng([device] if device.type == "cuda" else [])
