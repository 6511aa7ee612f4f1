"""Fit covariances at the sites of a ResNet-50 at 224 pixels: time, and the most memory a process held.

    python benchmarks/large_sites.py --sites layer4 layer1 --rank 256 > large_sites.md

Synthetic differences, made as they are asked for: 64 directions in noise. Each fit has a process of its own.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import torch

from noisetransfer.covariance import Diagnostics, fit
from noisetransfer.devices import device
from noisetransfer.ranks import parse_rank

SITES = {"layer4": 100_352, "layer3": 200_704, "layer2": 401_408, "layer1": 802_816}
DIRECTIONS, CHUNK = 64, 50


def main(sites: list[str], n: int, rank: str) -> None:
    print(
        "| site | d | images | rank | making Δ, s | in all, s | processor, s | memory, GB | explained |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for site in sites:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            times, peak, found = process.submit(measured, SITES[site], n, rank).result()
        seconds = " | ".join(f"{each:.0f}" for each in times)
        print(
            f"| {site} | {found.d:,} | {n:,} | {found.rank} | {seconds} | {peak:.1f} | "
            f"{found.explained:.3f} |",
            flush=True,
        )


def measured(d: int, n: int, rank: str) -> tuple[list[float], float, Diagnostics]:
    """Return seconds (of making the differences, in all, of processors), most memory, what was found."""
    began, used = time.perf_counter(), time.process_time()
    spent: list[float] = []
    found = fit(
        differences(n, d, device(), spent),
        n=n,
        d=d,
        rank=parse_rank(rank),
        ridge={"relative": 1e-3},
        signal_trace=1.0,
        name="synthetic",
    )[1]
    times = [sum(spent), time.perf_counter() - began, time.process_time() - used]
    return times, peak_memory(), found


def differences(n: int, d: int, target: torch.device, spent: list[float]) -> Iterator[torch.Tensor]:
    """Yield chunks (CHUNK, d) of variance 2, one half along a few directions, the other noise."""
    draws = torch.Generator(target).manual_seed(0)
    falling = torch.logspace(0, -1, DIRECTIONS, device=target).unsqueeze(1)
    falling /= falling.norm()
    mixing = falling * torch.randn(DIRECTIONS, d, generator=draws, device=target)
    for start in range(0, n, CHUNK):
        began, count = time.perf_counter(), min(CHUNK, n - start)
        scores = torch.randn(count, DIRECTIONS, generator=draws, device=target)
        chunk = torch.randn(count, d, generator=draws, device=target).addmm_(scores, mixing)
        spent.append(time.perf_counter() - began)
        yield chunk


def peak_memory() -> float:
    """Return the most gigabytes that were held: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--sites", nargs="+", choices=SITES, default=list(SITES))
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--rank", default="256", help="a number, full, explained@0.95, held_out")
    arguments = options.parse_args()
    print(f"{device().type}, {torch.get_num_threads()} threads", file=sys.stderr)
    main(arguments.sites, arguments.images, arguments.rank)
