"""Adaptive attacks that ask no gradient, on stacks of noisy networks, L∞: by scores, and by labels alone.

The Snakefile reads this module: torch comes lazily.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from noisetransfer.attack_parts import Box, Draws, choose, radii, tile_side, tiled
from noisetransfer.expectation import (
    AdaptiveBudget,
    AveragedBudget,
    Expectation,
    Loss,
    Mean,
    Objective,
)

if TYPE_CHECKING:
    from torch import Tensor

Decision = Literal["majority", "mean"]

NEAR = 1e-3
"""Bracket of a radius, in pixel units of [0, 1], at which a bisection ends (as Chen & Gu have it)."""


class SquareBudget(AveragedBudget):
    """Of the square attack."""

    loss: Loss = Field(
        default="margin", description="cross-entropy, difference of logits ratio, margin"
    )
    steps: int = Field(default=5000, ge=1, description="tiles that are tried on each image")
    share: float = Field(
        default=0.8, gt=0, lt=1, description="share of the image that the first tile covers"
    )


class RaySBudget(AdaptiveBudget):
    """Of the ray search."""

    decision: Decision = Field(
        default="majority",
        description="the label that a query shows: that of most draws, or, as the prediction does, of the "
        "mean logits",
    )
    steps: int = Field(default=5000, ge=1, description="queries on each image")


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
    draws; each proposal is compared under draws of its own, so that none stays for lucky ones. The
    stripes, too, stay only where they help (as in ART; AutoAttack begins there in any case, which fools a few
    more images in a few hundred steps).

    Args:
        expectation: as of `adaptive.pgd`.
        images: as of `adaptive.pgd`.
        labels: as of `adaptive.pgd`.
        epsilon: as of `adaptive.pgd`.
        draws: the signs of each image's stripes; place and signs of the tiles, common to a network's images.
        passes: as of `adaptive.pgd`.
        mean: as of `adaptive.pgd`.
        loss: as of `adaptive.pgd`.
        steps: tiles that are tried.
        share: share of the image that the first tile covers.

    Returns:
        as `adaptive.pgd`.

    Raises:
        StudyError: as `adaptive.pgd`.
    """
    objective = Objective(expectation, labels, passes, mean, loss)
    ball = Box.around(images, epsilon)
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


def rays(
    expectation: Expectation,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: Tensor,
    draws: Draws,  # noqa: ARG001 - the signature that all attacks share
    passes: int,
    decision: Decision,
    steps: int,
) -> Tensor:
    """Search the ray with the nearest decision boundary, by labels alone (RayS; Chen & Gu 2020), L∞.

    After arXiv 2006.12792: a ray goes to a corner of the cube around the image. Blocks of signs, of half the
    size at each level, are turned one after another; where the image at the best radius yet is still
    misclassified, the new ray stays and the radius is bisected. The level whose blocks hold one sign or two
    is followed by the first one. Each image asks one question a query, whatever the others do, and nothing is
    random but the noise; ε decides nothing but the last point.

    Under noise, a radius that a lucky label made too small is not found out: more draws make it rarer.

    Args:
        expectation: as of `adaptive.pgd`.
        images: as of `adaptive.pgd`.
        labels: as of `adaptive.pgd`.
        epsilon: as of `adaptive.pgd`.
        draws: nothing.
        passes: M, noise draws a query.
        decision: the label that a query shows: "majority" of the draws' labels, "mean" of their logits.
        steps: queries of the search; one more chooses the point.

    Returns:
        as `adaptive.pgd`: the image moved by ε along its best ray, or, where that is classified correctly and
        a nearer point was not, that point.
    """
    oracle = _Oracle(expectation, labels, passes, decision)
    search = _Search.along(images)
    for query in range(steps):
        ray, radius = search.question()
        search.tell(ray, oracle.fooled(search.moved(ray, radius), query))
    far = search.moved(search.up, radii(epsilon).to(images))
    near = ~oracle.fooled(far, steps) & (search.radius <= epsilon[:, None].to(images))
    return choose(near, search.moved(search.up, search.radius[..., None, None, None]), far)


@dataclass(frozen=True)
class _Oracle:
    """Networks that show labels alone."""

    expectation: Expectation
    labels: Tensor
    passes: int
    decision: Decision

    def fooled(self, points: Tensor, query: int) -> Tensor:
        """Return which points (S, B, C, H, W) are misclassified, (S, B)."""
        import torch

        with torch.no_grad():
            shared = self.expectation.shared(points)
            numbers = self.expectation.numbers(query, self.passes)
            each = (self._votes(self.expectation.passed(shared, n)) for n in numbers)
            votes = torch.stack(list(each)).sum(0)
        # of labels with equally many votes the true one wins
        own = votes.gather(-1, self.labels.expand(votes.shape[:2])[..., None])
        return own[..., 0] < votes.amax(-1)

    def _votes(self, logits: Tensor) -> Tensor:
        from torch.nn.functional import one_hot

        if self.decision == "mean":
            return logits
        return one_hot(logits.argmax(-1), logits.shape[-1])


@dataclass
class _Search:
    """RayS on its way, of each image (S, B): the least radius at which its ray was seen to fool the network.

    While a radius is bisected, it lies between `low` and `radius`; `low` = `radius` means that the next block
    is to be turned. Blocks are numbered as the nodes of a binary tree, from 1.
    """

    images: Tensor
    up: Tensor
    radius: Tensor
    low: Tensor
    node: Tensor

    @classmethod
    def along(cls, images: Tensor) -> _Search:
        """Begin with whole images at radius 1, of which nothing is known: the first block holds all signs."""
        import torch

        up, one = torch.zeros_like(images, dtype=torch.bool), torch.ones_like(images[..., 0, 0, 0])
        return cls(images, up, one, one, one.long())

    def question(self) -> tuple[Tensor, Tensor]:
        """Return the rays to ask for next, as `images`, and the radii, (S, B, 1, 1, 1)."""
        middle = ((self.low + self.radius) / 2).where(self._bisecting, self.radius)
        return self._turned(), middle[..., None, None, None]

    def moved(self, up: Tensor, radius: Tensor) -> Tensor:
        """Return the images moved along rays by radii that broadcast."""
        return (self.images + radius * (2 * up.to(self.images) - 1)).clamp(0, 1)

    def tell(self, ray: Tensor, fooled: Tensor) -> None:
        """Go on, knowing for which of the rays that were asked for the network is fooled, (S, B)."""
        bisecting, middle = self._bisecting, (self.low + self.radius) / 2
        self.up = choose(fooled, ray, self.up)
        following = self.node % self._last + 1
        self.low = middle.where(bisecting & ~fooled, self.low).where(bisecting | ~fooled, 0)
        self.radius = middle.where(bisecting & fooled, self.radius)
        self.node = self.node.where(bisecting, following)

    @property
    def _bisecting(self) -> Tensor:
        return self.radius - self.low > NEAR

    @property
    def _last(self) -> int:
        """The last block of the last level, whose blocks hold one sign or two."""
        return int(2 ** self.images[0, 0].numel().bit_length() - 1)

    def _turned(self) -> Tensor:
        """Return the rays, with the signs of a block turned where a block is to be tried, as `images`."""
        import torch

        count = self.images[0, 0].numel()
        blocks = 2 ** (torch.frexp(self.node.double()).exponent.long() - 1)  # of the node's level
        place = torch.arange(count, device=self.images.device)
        own = blocks[..., None] + place * blocks[..., None] // count == self.node[..., None]
        return self.up ^ (own & ~self._bisecting[..., None]).view_as(self.up)
