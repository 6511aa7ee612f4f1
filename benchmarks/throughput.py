"""Time noise in large networks: a noisy pass over a plain one, and what noise adds to shared prefixes.

    python benchmarks/throughput.py [SITE ...] > throughput.md

ResNet-50 with random weights on images of 224 × 224, random factors of rank 256, one thread, and the
environment that jobs have. Least of interleaved runs: processor time on a CPU, since other load drifts; wall
clock on a GPU.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import torch
import torchvision
from torch import Tensor, nn

from noisetransfer.arms import Factors
from noisetransfer.covariance import Diagnostics
from noisetransfer.cuts import cut
from noisetransfer.devices import device, images_at_once
from noisetransfer.environment import VARIABLES
from noisetransfer.evaluation import STATES, NoisyNetworks, View, score
from noisetransfer.injection import Noise, inject
from noisetransfer.noise import NoiseSampler
from noisetransfer.sites import activation_shape

TARGET = device()
RANK, BATCH, RUNS = 256, 16, 2
SITES = ("layer4", "layer3", "layer2", "layer1")
SOURCES, DRAWS = 3, 3
TARGETS = (1, 3)
"""Modifications that are tested at once: they share every draw."""
TESTED = 64
"""Most images that are tested at once; the study takes 250 on a CPU, or what fits 2 GiB."""


@torch.no_grad()
def main(sites: list[str]) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval().to(TARGET)
    print("| site | d | noisy over plain pass (ms an image) | cost |\n| --- | --: | --- | --: |")
    for site in sites or SITES:
        print("| " + " | ".join(injected(network, site)) + " |", flush=True)
    print(
        "\n| site | images tested at once | targets | ms an image and target: prefix | S × K suffixes "
        "alone | prefix, suffixes and noise | cost over suffixes | S × K whole networks |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for site in sites or SITES:
        for targets in TARGETS:
            print("| " + " | ".join(tested(network, site, targets)) + " |", flush=True)
    print()
    print("| d | naive noise | milliseconds an image | ours |\n| --: | --- | --: | --: |")
    for cells in naive():
        print("| " + " | ".join(cells) + " |", flush=True)


def injected(network: nn.Module, site: str) -> Iterable[str]:
    images = torch.rand(BATCH, 3, 224, 224, device=TARGET)
    shape = activation_shape(network, site, images[:1])
    noisy = inject(network, site, random_noise(site, shape))
    plain, with_noise = least(lambda: network(images), lambda: noisy(images))
    yield from (site, f"{shape.numel():,}")
    yield f"{1e3 * with_noise / BATCH:.1f} over {1e3 * plain / BATCH:.1f}"
    yield f"{100 * (with_noise / plain - 1):.1f}%"


def tested(network: nn.Module, site: str, targets: int) -> Iterable[str]:
    shape = activation_shape(network, site, torch.rand(1, 3, 224, 224, device=TARGET))
    many = images_at_once(TARGET, 4 * (STATES + targets) * SOURCES * shape.numel())
    images = torch.rand(targets, min(TESTED, many), 3, 224, 224, device=TARGET)
    took = least(*transfer(network, images, site, random_noise(site, shape).factors))
    count = images[:, :, 0, 0, 0].numel()
    prefix, suffixes, whole = (1e3 * seconds / count for seconds in took)
    yield from (site, str(images.shape[1]), str(targets))
    yield from (f"{prefix:.1f}", f"{suffixes:.1f}", f"{whole:.1f}")
    yield f"{100 * ((whole - prefix) / suffixes - 1):.1f}%"
    (naive,) = least(lambda: [network(images[0, :BATCH]) for _ in range(SOURCES * DRAWS)])
    yield f"{1e3 * naive / BATCH:.1f}"


def transfer(
    network: nn.Module, images: Tensor, site: str, factors: Factors
) -> Iterable[Callable[[], object]]:
    """Yield the prefix; S sources × K draws without noise, behind it; and all, as the study tests them.

    Each for images (T, B, 3, 224, 224) of T targets.
    """
    parts = cut(network, site, (3, 224, 224))
    sampler = NoiseSampler.of([[factors]] * SOURCES, TARGET, seed=0, trials=[0])
    stacked = NoisyNetworks(parts.prefix, parts.suffix, None, sampler).at_logits(parts.shape)
    count = images.shape[1]
    indices, labels = torch.arange(count, device=TARGET), torch.zeros(count, device=TARGET)
    views = {f"target {i}": View(range(SOURCES), own) for i, own in enumerate(images)}
    states = stacked.prefix(images[0])
    many = states.repeat(SOURCES, *[1] * (states.dim() - 1))
    yield lambda: [stacked.prefix(own) for own in images]
    yield lambda: [stacked.suffix(many) for _ in range(DRAWS * len(images))]
    yield lambda: score(stacked, views, labels, indices, passes=DRAWS)


def naive() -> Iterable[tuple[str, str, str, str]]:
    """Compare with a dense factor, as torch.distributions.MultivariateNormal draws."""
    for d in (4096, 16_384):
        factors = random_noise("", torch.Size([d])).factors
        sampler = NoiseSampler.of([[factors]], TARGET, seed=0, trials=[0])
        keys, number = sampler.keys("benchmark"), torch.tensor(0, device=TARGET)
        indices = torch.arange(BATCH, device=TARGET)
        root = torch.randn(d, d, device=TARGET).tril_().div_(d**0.5)
        root.diagonal().abs_().add_(1)
        dense = torch.distributions.MultivariateNormal(
            torch.zeros(d, device=TARGET), scale_tril=root, validate_args=False
        )
        theirs, ours = least(
            partial(dense.sample, (BATCH,)), partial(sampler.draw, keys, number, indices)
        )
        yield f"{d:,}", "dense Cholesky factor", *(f"{1e3 * t / BATCH:.2f}" for t in (theirs, ours))
    for site_d in (100_352, 802_816):
        yield f"{site_d:,}", f"none: a dense factor takes {4e-9 * site_d**2:,.0f} GB", "–", "–"


def random_noise(site: str, shape: torch.Size) -> Noise:
    d = shape.numel()
    factors = Factors(torch.randn(d, RANK) / RANK**0.5, torch.full((d,), 0.1))
    return Noise(site, "full", shape, factors, Diagnostics(2000, d, RANK, d, 1, RANK, 0, 0, d))


def least(*runs: Callable[[], object]) -> list[float]:
    """Return the least seconds of each of several runs, made in turn."""
    took: list[list[float]] = [[] for _ in runs]
    for _ in range(RUNS + 1):
        for own, run in zip(took, runs, strict=True):
            own.append(seconds(run))
    return [min(own[1:]) for own in took]


def seconds(run: Callable[[], object]) -> float:
    clock = time.perf_counter if TARGET.type == "cuda" else time.process_time
    start = clock()
    run()
    if TARGET.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    if (
        not VARIABLES.items() <= os.environ.items()
    ):  # the allocator reads them as the process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **VARIABLES})
    main(sys.argv[1:])
