"""Structured noise at a site of any network: inject it, turn it off, average over it."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from noisetransfer.errors import StudyError
from noisetransfer.randomness import key
from noisetransfer.sites import check_activation, find_site, not_run, run_twice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noisetransfer.arms import Factors
    from noisetransfer.covariance import Diagnostics

_PASS = "_noise_pass"


@dataclass(frozen=True)
class Noise:
    """Noise ξ ~ N(0, Σ) for a site, Σ = F Fᵀ + diag(v).

    Attributes:
        site: where it was fitted.
        arm: its structure, a name in `arms.ARMS`.
        shape: of one activation at the site, d numbers.
        factors: F, (d, r) or None, and v, (d,); on the CPU.
        diagnostics: of the fit, before arm and trace scale.
    """

    site: str
    arm: str
    shape: torch.Size
    factors: Factors
    diagnostics: Diagnostics

    @property
    def trace(self) -> float:
        """Tr Σ."""
        return self.factors.trace

    @property
    def rank(self) -> int:
        """Columns of F; 0 where the arm has none."""
        return 0 if self.factors.factor is None else self.factors.factor.shape[1]


def inject(network: nn.Module, site: str, noise: Noise, *, seed: int = 0) -> NoisyNetwork:
    """Return a copy of a network with noise added at a site, fresh for every image and pass.

    Args:
        network: any module; it is not changed, nor trained with the copy.
        site: name of a module in it.
        noise: fitted on activations of the same shape.
        seed: of all draws. Processes that share the work (DistributedDataParallel) need one each.

    Raises:
        StudyError: if there is no such site, or if it has noise already.
    """
    return NoisyNetwork(network, site, noise, seed)


class NoisyNetwork(nn.Module):
    """A network that adds ξ ~ N(0, Σ) to the activations at a site: logits = g(h(x) + ξ).

    The noise is on in training and in evaluation mode. Its draws are a function of the seed, the site, the
    number of the pass and the place in the batch; they neither use nor move PyTorch's global generators, and
    a GPU draws other numbers than a CPU. So networks of one seed are compared under the same draws, and a
    deep copy goes on with those that the original would have made. Each replica of DataParallel has draws of
    its own. Gradients flow through h(x).

    Attributes:
        network: the copy of the network; call the whole, not this part.
        noise_factor: F, (d, r), or None.
        noise_deviation: √v, (d,).
    """

    noise_factor: Tensor | None
    noise_deviation: Tensor

    def __init__(self, network: nn.Module, site: str, noise: Noise, seed: int = 0) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.training = network.training
        self.site, self.shape, self.active = site, noise.shape, True
        place = find_site(self.network, site)
        if _add_noise in place._forward_hooks.values():
            raise StudyError(f"site {site} has noise already")
        place.register_forward_hook(_add_noise)
        for name, values in _buffers(noise.factors, _device(network)).items():
            self.register_buffer(name, values)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin anew with the first pass of a seed."""
        self._passes = _Passes(seed, self.site)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the network with noise.

        Raises:
            StudyError: if the site does not run exactly once, or puts out anything but one tensor (B, …) of
                the noise's shape.
        """
        place, current = self.network.get_submodule(self.site), _Pass(self)
        place.__dict__[_PASS] = current
        try:
            outputs = self.network(*inputs, **options)
        finally:
            del place.__dict__[_PASS]
        if not current.runs:
            raise StudyError(not_run(self.site))
        return outputs

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Draw the noise ξ of the next pass for images in a batch, (count, d), on a device."""
        source = torch.Generator(device).manual_seed(self._passes.next())
        deviation, factor = self.noise_deviation.to(device), self.noise_factor

        def normal(size: int) -> Tensor:
            return torch.randn(count, size, generator=source, device=device)

        noise = deviation * normal(len(deviation))
        if factor is None:
            return noise
        return noise + normal(factor.shape[1]).to(factor.dtype) @ factor.to(device).mT

    def _replicate_for_data_parallel(self) -> NoisyNetwork:
        """Give a replica passes of its own: replicas are made anew, one after another, for every batch."""
        replica = cast("NoisyNetwork", super()._replicate_for_data_parallel())  # type: ignore[no-untyped-call]
        replica._passes = _Passes(self._passes.next(), self.site)
        return replica


class Averaged(nn.Module):
    """The mean of a noisy network's outputs over several passes: its prediction, its expected gradient.

    Attributes:
        network: noisy, with outputs of one tensor.
        passes: K, 1 or more.
    """

    def __init__(self, network: nn.Module, passes: int = 10) -> None:
        super().__init__()
        if passes < 1:
            raise StudyError(f"passes: {passes}; write 1 or more")
        self.network, self.passes = network, passes
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Return mean logits of images (B, C, H, W)."""
        return torch.stack([self.network(images) for _ in range(self.passes)]).mean(0)


@contextmanager
def noise_off(network: nn.Module) -> Iterator[None]:
    """Turn off all noise in a network, such as `inject` returns or a module around it, for a while.

    Raises:
        StudyError: if the network has no noise.
    """
    if not _noisy_parts(network):
        raise StudyError("this network has no noise to turn off: give what `inject` returns")
    with silenced(network):
        yield


@contextmanager
def silenced(network: nn.Module) -> Iterator[None]:
    """Turn off what noise a network has, if any, for a while."""
    before = [(part, part.active) for part in _noisy_parts(network)]
    try:
        for part, _ in before:
            part.active = False
        yield
    finally:
        for part, active in before:
            part.active = active


def _noisy_parts(network: nn.Module) -> list[NoisyNetwork]:
    return [module for module in network.modules() if isinstance(module, NoisyNetwork)]


@dataclass
class _Passes:
    """Numbers the passes of a network, and gives each a key."""

    seed: int
    site: str
    number: int = 0

    def next(self) -> int:
        """Return the key of the next pass."""
        self.number += 1
        return key(self.seed, "injected noise", self.site, self.number)


@dataclass
class _Pass:
    """One forward pass of a noisy network."""

    owner: NoisyNetwork
    runs: int = 0

    def noisy(self, output: Tensor) -> Tensor:
        """Return what a site puts out, (B, …), with noise: of its dtype, on its device."""
        self.runs += 1
        site = self.owner.site
        if self.runs > 1:
            raise StudyError(run_twice(site))
        if not self.owner.active:
            return output
        count = len(output) if isinstance(output, Tensor) and output.dim() else 0
        check_activation(output, site, count, self.owner.shape)
        noise = self.owner.draw(count, output.device)
        return output + noise.reshape(output.shape).to(output.dtype)


def _add_noise(module: nn.Module, inputs: object, output: Tensor) -> Tensor:  # noqa: ARG001
    """Forward hook of a site. It has no state: the replicas of DataParallel share the hook."""
    current = module.__dict__.get(_PASS)
    if current is None:
        raise StudyError(
            "a site with noise ran outside a pass of its noisy network (called in part, or run again by "
            "gradient checkpointing): call what `inject` returned; noise_off(it) runs it without noise"
        )
    return cast("_Pass", current).noisy(output)


def _buffers(noise: Factors, device: torch.device) -> dict[str, Tensor | None]:
    # copies: networks with the same noise share nothing
    factor = None if noise.factor is None else noise.factor.to(device, copy=True)
    return {"noise_factor": factor, "noise_deviation": noise.variance.sqrt().to(device)}


def _device(network: nn.Module) -> torch.device:
    like = next(network.parameters(), None)
    return torch.device("cpu") if like is None else like.device
