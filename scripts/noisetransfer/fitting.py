"""Fitting noise to what a modification of the images does at a site of any network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from noisetransfer.arms import UNSCALED, Factors, factors
from noisetransfer.covariance import DEGENERATE_SHARE_OF_SIGNAL, Covariance, Diagnostics, fit
from noisetransfer.errors import StudyError
from noisetransfer.injection import Noise, silenced
from noisetransfer.networks import pixels
from noisetransfer.ranks import parse_rank
from noisetransfer.sites import activation_shape, activations, at_rest, check_activation

if TYPE_CHECKING:
    from collections.abc import Iterable

    Batches = Tensor | Iterable[Any]
    Trace = float | Literal["unscaled"]

ARMS_OF_ONE_SOURCE = ("identity", "diagonal", "full", "rotated", "permuted")


def fit_noise(
    network: nn.Module,
    site: str,
    clean: Batches,
    modified: Batches,
    arm: str = "full",
    trace: Trace = 0.5,
    *,
    rank: int | str = "full",
    ridge: float = 1e-3,
    batch_size: int = 100,
    seed: int = 0,
) -> Noise:
    """Fit noise to what a modification of the images does at a site: Σ of Δ = h(modified) − h(clean).

    The network is seen in evaluation mode, without noise of its own, and left as it was. Where there are more
    activations d than images n, no d × d matrix is made: memory takes 4 n·d bytes for the differences and
    4 d·r for a rank r, or about 8 n·d in all with the rank "full".

    Args:
        network: any module on images (B, C, H, W) in [0, 1]; the fit runs on its device.
        site: name of a module in it (`layer2`, `features.7`) that runs once in a pass.
        clean: images (n, C, H, W), float in [0, 1] or uint8; or batches of them, or of (images, labels).
            Batches are iterated twice; those of an iterator are therefore kept in memory.
        modified: the same images modified, in the same order and batches.
        arm: identity, diagonal, full, rotated or permuted.
        trace: τ > 0, for tr Σ = τ·d; or "unscaled", tr Σ as it was fitted.
        rank: number of leading eigenpairs kept, the rest of the trace spread evenly; "full" keeps Σ as it is;
            "explained@0.95" and "held_out" find a number (`ranks.parse_rank`).
        ridge: share of the mean variance added to every variance.
        batch_size: images run at once where tensors are given.
        seed: of the random basis of `rotated` and the permutation of `permuted`.

    Raises:
        StudyError: if the site, an argument, or an image is unfit, or modified images change nothing.
    """
    _check(arm, trace, rank, ridge)
    batches, spread = _batches(clean, batch_size), _Spread()
    if isinstance(batches, Iterator):
        batches = list(batches)
    with silenced(network), at_rest(network):
        shape = activation_shape(network, site, _first_image(batches, network))
        pairs = _pairs(batches, _batches(modified, batch_size))
        covariance, diagnostics = fit(
            _differences(network, site, pairs, shape, spread),
            n=_count(batches),
            d=shape.numel(),
            rank=parse_rank(rank),
            ridge={"relative": ridge},
            signal_trace=0.0,  # not yet known
            name=f"at {site}",
        )
    diagnostics = _judged(diagnostics, spread, site)
    return Noise(site, arm, shape, _factors(arm, trace, covariance, seed), diagnostics)


@dataclass
class _Spread:
    """Sums over clean activations that give the trace of their covariance."""

    n: int = 0
    squares: float = 0.0
    total: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, rows: Tensor) -> None:
        """Count activations (m, d)."""
        exact = rows.double()
        self.n += len(rows)
        self.squares += float(exact.square().sum())
        self.total = self.total.to(rows.device) + exact.sum(0)

    @property
    def trace(self) -> float:
        """Tr Cov h(x)."""
        return (self.squares - float(self.total.square().sum()) / self.n) / (self.n - 1)


def _differences(
    network: nn.Module,
    site: str,
    pairs: Iterable[tuple[Tensor, Tensor]],
    shape: torch.Size,
    spread: _Spread,
) -> Iterator[Tensor]:
    """Yield Δ in chunks (m, d), float32."""

    def hidden(images: Tensor) -> Tensor:
        found = activations(network, site, _to_network(images, network))
        check_activation(found, site, len(images), shape)
        found = found.flatten(1).float()
        return found if found.is_cuda else found.cpu()  # other devices have no float64

    for clean, modified in pairs:
        own = hidden(clean)
        spread.add(own)
        yield hidden(modified) - own


def _pairs(clean: Iterable[Any], modified: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for number, batches in enumerate(zip_longest(clean, modified)):
        own, others = (None if batch is None else _images(batch) for batch in batches)
        shapes = [None if images is None else tuple(images.shape) for images in (own, others)]
        if own is None or others is None or shapes[0] != shapes[1]:
            raise StudyError(
                f"batch {number}: clean images {shapes[0]}, modified {shapes[1]}; they must be the same "
                "images in the same order and batches"
            )
        yield own, others


def _batches(images: Batches, batch_size: int) -> Iterable[Any]:
    if isinstance(images, Tensor):
        chunks: tuple[Tensor, ...] = images.split(batch_size)
        return chunks
    if isinstance(getattr(images, "sampler", None), RandomSampler):
        raise StudyError("the images come in a random order: give a DataLoader without shuffle")
    return images


def _count(batches: Iterable[Any]) -> int:
    n = sum(len(_images(batch)) for batch in batches)
    if n < 2:
        raise StudyError(f"a covariance needs two images or more, not {n}")
    return n


def _first_image(batches: Iterable[Any], network: nn.Module) -> Tensor:
    for batch in batches:
        return _to_network(_images(batch)[:1], network)
    raise StudyError("there are no images")


def _images(batch: Any) -> Tensor:
    """Return the images of a batch, which may have labels, as float in [0, 1]."""
    images = pixels(batch if isinstance(batch, Tensor) else batch[0])
    if images.dim() != 4:
        raise StudyError(f"images of shape {tuple(images.shape)}; expected (n, C, H, W)")
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise StudyError(
            f"pixels from {float(images.min()):.3g} to {float(images.max()):.3g}, expected 0 to 1: let the "
            "network normalise its images itself, as in nn.Sequential(normalise, network)"
        )
    return images


def _to_network(images: Tensor, network: nn.Module) -> Tensor:
    """Copy images to the device and dtype of the network's parameters: a network may write into its input."""
    like = next(network.parameters(), images)
    return images.to(like.device, like.dtype, copy=True)


def _factors(arm: str, trace: Trace, covariance: Covariance, seed: int) -> Factors:
    own = Covariance(
        covariance.mean.cpu(),
        covariance.factor.cpu(),
        covariance.remainder,
        covariance.diagonal.cpu(),
    )
    d = len(own.diagonal)
    if arm == "identity" and trace == UNSCALED:  # the energy of the source without its structure
        trace = own.trace / d
    return factors(arm, str(trace), d, own, (seed, "", 0))


def _judged(diagnostics: Diagnostics, spread: _Spread, site: str) -> Diagnostics:
    """Add how strong the clean activations are; warn if Δ is too weak beside them to have a structure."""
    signal = spread.trace
    weak = diagnostics.trace < DEGENERATE_SHARE_OF_SIGNAL * signal
    if weak:
        warnings.warn(
            f"the modification changes the activations at {site} by less than 1e-4 of their variance: "
            "too weak to have a structure",
            stacklevel=3,
        )
    return replace(diagnostics, signal_trace=signal, degenerate=weak)


def _check(arm: str, trace: Trace, rank: int | str, ridge: float) -> None:
    if arm not in ARMS_OF_ONE_SOURCE:
        raise StudyError(f"unknown arm {arm!r}; there are: {', '.join(ARMS_OF_ONE_SOURCE)}")
    if trace != UNSCALED and not 0 < float(trace) < math.inf:
        raise StudyError(f"trace {trace!r}; write a number above 0, or {UNSCALED}")
    parse_rank(rank)
    if not 0 <= ridge < math.inf:
        raise StudyError(f"ridge {ridge!r}; write 0 or more")
