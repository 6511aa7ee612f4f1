"""Adversarial attacks on stacks of networks; the Snakefile reads the registry, so torch comes lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Logits = Callable[[Tensor, int], Tensor]
    """Images (S, B, C, H, W) and the number of the step → logits (S, B, classes)."""


def pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
) -> Tensor:
    """Projected gradient descent, L∞, untargeted, no random start (Madry et al. 2018; ART's defaults).

    Args:
        logits: the attacked networks; network s sees images[s]. The step keys the noise of a noisy network:
            one draw per gradient.
        images: clean, in [0, 1], (S, B, C, H, W).
        labels: (B,).
        epsilon: radius of the L∞ ball, in pixel units of [0, 1].
        steps: number of gradient steps.
        step_size: length of a step, in pixel units.

    Returns:
        adversarial images, as `images`, within epsilon of them and in [0, 1].
    """
    import torch
    from torch.nn.functional import cross_entropy

    lower, upper = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    targets = labels.expand(images.shape[:2]).flatten()
    adversarial = images
    for step in range(steps):
        point = adversarial.detach().requires_grad_()
        loss = cross_entropy(logits(point, step).flatten(0, 1), targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, point)
        adversarial = (point.detach() + step_size * gradient.sign()).clamp(lower, upper)
    return adversarial


ATTACKS = {"pgd": pgd}
