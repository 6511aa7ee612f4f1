"""Training the suffix of any network anew: its parameters, its mode, whole stacks of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def reinitialise(suffix: nn.Module, seed: int) -> None:
    """Draw the parameters of a suffix anew by PyTorch's default initialisation; statistics of BatchNorm too.

    Args:
        suffix: on the CPU.
        seed: key of the draws, as from `randomness.key`; the global generator is left alone.

    Raises:
        StudyError: if parameters belong to modules that cannot draw them (class tokens, layer scales); the
            message names them, and nothing is drawn.
    """
    if not any(True for _ in suffix.parameters()):
        raise StudyError(
            "nothing behind the site has parameters to train anew; choose an earlier site, or regime: "
            "inference"
        )
    _check_drawable(suffix)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        suffix.apply(
            _draw
        )  # parts before the whole, as in construction: attention zeroes a bias of its part


def training_mode(suffix: nn.Module) -> nn.Module:
    """Put BatchNorm, and nothing else, into training mode; return the suffix.

    Dropout and stochastic depth stay off: the noise is the only regulariser, and all randomness is keyed.

    Raises:
        StudyError: if a BatchNorm averages over all batches (momentum=None), which a stack cannot.
    """
    suffix.eval()
    for name, module in suffix.named_modules():
        if isinstance(module, _BatchNorm):
            if module.momentum is None:
                raise StudyError(
                    f"{name} averages its statistics over all batches: give it a momentum, as 0.1"
                )
            module.training = True
    return suffix


def check_batches(suffix: nn.Module, images: int, batch_size: int) -> None:
    """Refuse a last batch of one image where BatchNorm would have nothing to normalise.

    Raises:
        StudyError: which says what to change.
    """
    if images % batch_size == 1 and any(isinstance(m, _BatchNorm) for m in suffix.modules()):
        raise StudyError(
            f"batch_size: {images} training images leave a last batch of one, which BatchNorm cannot "
            "normalise; take another batch_size or another number of training images"
        )


@contextmanager
def plain_attention() -> Iterator[None]:
    """Keep attention off fused routines, which the networks of a stack could only run one by one."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _drawing(module: nn.Module) -> Callable[[], Any] | None:
    """Return the method that draws a module's own parameters; MultiheadAttention hides its."""
    method: Callable[[], Any] | None = getattr(module, "reset_parameters", None)
    return method or getattr(module, "_reset_parameters", None)


def _draw(module: nn.Module) -> None:
    if draw := _drawing(module):
        draw()


def _check_drawable(suffix: nn.Module) -> None:
    bare = [
        name
        for path, module in suffix.named_modules()
        if _drawing(module) is None
        for name, _ in module.named_parameters(path, recurse=False)
    ]
    if bare:
        raise StudyError(
            f"the suffix cannot be initialised anew, no module draws: {', '.join(bare)}; choose a "
            "later site, or regime: inference"
        )
