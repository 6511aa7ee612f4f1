"""Time the heavy computations against what they grow with: networks, images, d, rank.

    python benchmarks/growth.py > growth.md

Random data of the sizes of the paper's study. Each row is the least of three runs, of a covariance one run.
"""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import torch

from noisetransfer.arms import Factors
from noisetransfer.attacks import ATTACKS
from noisetransfer.covariance import fit
from noisetransfer.devices import BATCH, device
from noisetransfer.evaluation import NoisyNetworks, Test, attacked, evaluate
from noisetransfer.networks import build, split, stack
from noisetransfer.noise import NoiseSampler
from noisetransfer.retraining import recorded, train_suffixes
from noisetransfer.training import Schedule

TARGET = device()
SHAPE, SITE, D = (16, 14, 14), "L2", 3136
STEPS = 20


def main() -> None:
    print("| computation | size | milliseconds | of |\n| --- | --- | --: | --- |")
    for name, size, seconds, unit in measurements():
        print(f"| {name} | {size} | {1e3 * seconds:.2f} | {unit} |", flush=True)


def measurements() -> Iterable[tuple[str, str, float, str]]:
    for rows, trials in ((1, 1), (2, 1), (4, 1), (8, 1), (2, 4)):
        run = training(rows, trials, 256)
        size = f"{rows} rows × {trials} trials, rank 256"
        yield "step of retraining", size, least(run) / STEPS / rows / trials, "network and step"
    for rank in (0, 64, 256, 1024, D):
        size = f"2 rows, rank {rank}"
        yield (
            "step of retraining",
            size,
            least(training(2, 1, rank)) / STEPS / 2,
            "network and step",
        )
    for n in (10_000, 20_000):
        for rank in (256, "full"):
            size = f"{n:,} images, d = {D}, rank {rank}"
            yield (
                "covariance",
                size,
                least(lambda n=n, r=rank: covariance(n, D, r), 1),
                "source and trial",
            )
    for d in (400, 1176):
        size = f"20,000 images, d = {d}, rank 256"
        yield (
            "covariance",
            size,
            least(lambda d=d: covariance(20_000, d, 256), 1),
            "source and trial",
        )
    for rows, targets in ((1, 1), (4, 1), (4, 10)):
        size = f"{rows} rows, {targets} targets, 10 passes"
        count = 500 * rows * targets
        yield "evaluation", size, least(evaluation(rows, targets)) / count, "image, row and target"
    for rows in (1, 4):
        size = f"PGD on {rows} rows"
        yield "attack", size, least(attack(rows)) / 5 / 250 / rows, "image, network and gradient"


def least(run: Callable[[], object], times: int = 3) -> float:
    """Return the least seconds of several runs, after one that is not counted."""
    took = []
    for _ in range(times + 1):
        began = time.perf_counter()
        run()
        if TARGET.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took[1:])


def sampler(rows: int, trials: int, rank: int) -> NoiseSampler:
    factor = torch.randn(D, rank) / (2 * rank) ** 0.5 if rank else None
    noise = Factors(factor, torch.full((D,), 0.25))
    return NoiseSampler.of([[noise] * trials] * rows, TARGET, seed=0, trials=range(trials))


def networks(count: int) -> list[torch.nn.Sequential]:
    return [
        build("v2", "tanh", (1, 28, 28), 10, seed=i).requires_grad_(False) for i in range(count)
    ]


def training(rows: int, trials: int, rank: int) -> Callable[[], object]:
    n = 64 * STEPS
    labels, indices = torch.randint(0, 10, (n,)), torch.arange(n)
    activations = recorded([torch.rand(n, *SHAPE) for _ in range(trials)], TARGET)
    suffixes = [split(network, SITE)[1] for network in networks(trials)]
    plan, noise = Schedule(1e-3, 64, 1, 0, tuple(range(trials))), sampler(rows, trials, rank)
    return lambda: train_suffixes(suffixes, activations, labels, indices, noise, plan)


def covariance(n: int, d: int, rank: int | str) -> object:
    chunk = torch.randn(500, d, device=TARGET)
    chunks = (chunk for _ in range(n // 500))
    ridge = {"absolute": 1e-4}
    return fit(chunks, n=n, d=d, rank=rank, ridge=ridge, signal_trace=1.0, name="random")  # type: ignore[arg-type]


def noisy(rows: int) -> NoisyNetworks:
    prefix, suffix = split(networks(1)[0].to(TARGET), SITE)
    parameters = {n: p.to(TARGET) for n, p in stack([suffix] * rows).items()}
    return NoisyNetworks(prefix, suffix, parameters, sampler(rows, 1, 256))


def evaluation(rows: int, targets: int) -> Callable[[], object]:
    images, labels = torch.rand(500, 1, 28, 28), torch.randint(0, 10, (500,))
    names = [f"target {i}" for i in range(targets)]
    test = Test(
        rows=[("random", "full")] * rows,
        targets={name: range(rows) for name in names},
        clean=images,
        modified=dict.fromkeys(names, images),
        attacks={},
        labels=labels,
        indices=torch.arange(500),
        passes=10,
    )
    stacked = noisy(rows)
    return lambda: evaluate(stacked, test)


def attack(rows: int) -> Callable[[], object]:
    images, labels = torch.rand(250, 1, 28, 28, device=TARGET), torch.randint(0, 10, (250,))
    stacked, budget = noisy(rows), ATTACKS["pgd"].budget(steps=5).model_dump()
    return lambda: attacked(
        stacked,
        images,
        labels.to(TARGET),
        torch.arange(250, device=TARGET),
        attack="pgd",
        rows=range(rows),
        epsilons=[0.1] * rows,
        budget=budget,
    )


if __name__ == "__main__":
    print(f"{TARGET.type}, batches of {BATCH[TARGET.type]}", file=sys.stderr)
    main()
