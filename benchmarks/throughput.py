"""Time noise in large networks: a noisy forward pass over a plain one, and shared prefixes over whole passes.

    python benchmarks/throughput.py > throughput.md

ResNet-50 with random weights on images of 224 × 224, random factors of rank 256, batches of 16, one thread.
Medians of interleaved runs, since other load drifts.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from noisetransfer.arms import Factors
from noisetransfer.covariance import Diagnostics
from noisetransfer.cuts import cut
from noisetransfer.devices import device
from noisetransfer.evaluation import NoisyNetworks, View, score
from noisetransfer.injection import Noise, inject
from noisetransfer.modifications import modify
from noisetransfer.noise import NoiseSampler
from noisetransfer.sites import activation_shape

TARGET = device()
RANK, BATCH, RUNS = 256, 16, 2
SITES = ("layer4", "layer3", "layer2", "layer1")
SOURCES, DRAWS = 3, 3
PREPARED = 4000


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval().to(TARGET)
    images = torch.rand(BATCH, 3, 224, 224, device=TARGET)
    head = "site | d | noisy over plain pass (ms an image) | cost | S × K over one prefix and the suffixes"
    print(f"| {head} |")
    print("| --- | --: | --- | --: | --- |")
    for site in SITES:
        print("| " + " | ".join(row(network, images, site)) + " |", flush=True)
    print()
    print("| d | naive noise | milliseconds an image | ours |\n| --: | --- | --: | --: |")
    for cells in naive():
        print("| " + " | ".join(cells) + " |", flush=True)
    print()
    print("| images of 224 × 224 corrupted | processes | images a second |\n| --- | --: | --: |")
    for cells in preparation():
        print("| " + " | ".join(cells) + " |", flush=True)


def row(network: nn.Module, images: Tensor, site: str) -> Iterable[str]:
    shape = activation_shape(network, site, images[:1])
    noise = random_noise(site, shape)
    noisy = inject(network, site, noise)
    plain, with_noise = medians(lambda: network(images), lambda: noisy(images))
    shared, alone, whole = medians(*transfer(network, noisy, images, site, noise.factors))
    yield from (site, f"{shape.numel():,}")
    yield f"{1e3 * with_noise / BATCH:.1f} over {1e3 * plain / BATCH:.1f}"
    yield f"{100 * (with_noise / plain - 1):.1f}%"
    yield (
        f"{shared:.2f} s over {alone:.2f} s ({100 * (shared / alone - 1):.0f}% more); "
        f"whole network each time: {whole:.2f} s"
    )


def transfer(
    network: nn.Module, noisy: nn.Module, images: Tensor, site: str, factors: Factors
) -> Iterable[Callable[[], object]]:
    """Yield S sources × K draws: as the study evaluates them, without noise, and as whole networks."""
    parts = cut(network, site, (3, 224, 224))
    sampler = NoiseSampler.of([[factors]] * SOURCES, TARGET, seed=0, trials=[0])
    stacked = NoisyNetworks(parts.prefix, parts.suffix, None, sampler)
    indices, labels = torch.arange(BATCH, device=TARGET), torch.zeros(BATCH, device=TARGET)
    views = {"clean@0": View(range(SOURCES), images)}
    states = parts.prefix(images)
    many = states.repeat(SOURCES, *[1] * (states.dim() - 1))
    yield lambda: score(stacked, views, labels, indices, passes=DRAWS)
    yield lambda: (parts.prefix(images), *[parts.suffix(many) for _ in range(DRAWS)])
    yield lambda: [noisy(images) for _ in range(SOURCES * DRAWS)]


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
        theirs, ours = medians(
            partial(dense.sample, (BATCH,)), partial(sampler.draw, keys, number, indices)
        )
        yield f"{d:,}", "dense Cholesky factor", *(f"{1e3 * t / BATCH:.2f}" for t in (theirs, ours))
    for site_d in (100_352, 802_816):
        yield f"{site_d:,}", f"none: a dense factor takes {4e-9 * site_d**2:,.0f} GB", "–", "–"


def preparation() -> Iterable[tuple[str, str, str]]:
    """Make corrupted images with more and more processes."""
    images = np.random.default_rng(0).integers(0, 256, (PREPARED, 3, 224, 224), np.uint8)
    for workers in range(1, (os.cpu_count() or 1) + 1):
        run = partial(modify, images, "motion_blur@3", seed=0, dataset="none", workers=workers)
        took = seconds(lambda run=run: run(indices=range(PREPARED)))
        yield "motion_blur@3", str(workers), f"{PREPARED / took:.0f}"


def random_noise(site: str, shape: torch.Size) -> Noise:
    d = shape.numel()
    factors = Factors(torch.randn(d, RANK) / RANK**0.5, torch.full((d,), 0.1))
    return Noise(site, "full", shape, factors, Diagnostics(2000, d, RANK, d, 1, RANK, 0, 0, d))


def medians(*runs: Callable[[], object]) -> list[float]:
    """Return the median seconds of each of several runs, made in turn."""
    took: list[list[float]] = [[] for _ in runs]
    for _ in range(RUNS + 1):
        for own, run in zip(took, runs, strict=True):
            own.append(seconds(run))
    return [statistics.median(own[1:]) for own in took]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if TARGET.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
