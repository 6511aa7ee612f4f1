"""What adaptive attacks see of noisy networks, and make grow: losses averaged over draws of the noise.

A gradient through one draw mostly fits that draw, and a noisy network seems robust that is not (Athalye et
al. 2018, arXiv 1802.00420). Here every loss and gradient is the mean over M draws (expectation over
transformation, EOT). What the attacker knows of the network is in the `Expectation` that it is given. The
Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from noisetransfer.attack_parts import Budget
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


class AveragedBudget(AdaptiveBudget):
    """What those have in common that make a loss grow."""

    mean: Mean = Field(
        default="losses",
        description="what is averaged: the loss of each draw, or, as the prediction does, the logits",
    )


@dataclass(frozen=True)
class Expectation:
    """Networks whose noise can be drawn many times for the same images: logits = passed(shared(points), n).

    Attributes:
        shared: images (S, B, C, H, W) → what all draws have in common.
        passed: (what is shared, number of the draw) → logits (S, B, classes) under that draw. The number keys
            the noise; it does not depend on what becomes of any image.
        only: how many draws there are, if not endless: every query then takes these.
        noisy: whether there is any noise: without it all draws are one.
    """

    shared: Callable[[Tensor], Tensor]
    passed: Callable[[Tensor, int], Tensor]
    only: int | None = None
    noisy: bool = True

    @classmethod
    def steady(cls, logits: Callable[[Tensor, int], Tensor]) -> Expectation:
        """Return that of networks without noise."""
        return cls(lambda points: points, logits, only=1, noisy=False)

    def numbers(self, query: int, passes: int) -> range:
        """Return the numbers of the draws of a query: no two queries share one, if draws are endless."""
        return range(self.only) if self.only else range(query * passes, (query + 1) * passes)


@dataclass(frozen=True)
class Objective:
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
