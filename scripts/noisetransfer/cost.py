"""What the jobs of a study will cost, learnt from the benchmark files of finished studies. Imports no torch.

Seconds grow with the *work* of a job, bytes on disk with its *content*, memory with what it *holds*. Each is
fitted by a straight line, one for every stage, device and setting; what they are, `cost_stages` tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from noisetransfer.cost_stages import STAGES, Job

CPU = "CPU"
"""The device of stages that ask for no GPU, and of studies that were run without one."""

STARTS = {"seconds": 2.0, "memory": 7e8, "disk": 0.0}
"""What is measured of a job, in seconds and bytes, and what of it the start of Python and PyTorch is taken to
need, at most, where all measured jobs are of one size: they cannot tell the start from the work."""

FARTHEST = 100
"""Times the greatest measured size up to which time and memory are extrapolated; bytes on disk always are."""


@dataclass(frozen=True)
class Observation:
    """What a finished job took on a machine with this device: the quantities of `STARTS`, where known."""

    job: Job
    device: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """start + slope · size, fitted to sizes from `least` to `most`.

    Attributes:
        excess: how far a measured value lay above the line, at most.
        jobs: number of measured values.
    """

    start: float
    slope: float
    least: float
    most: float
    excess: float
    jobs: int

    def at(self, size: float) -> float:
        """Return the value at a size."""
        return self.start + self.slope * size

    def covers(self, size: float) -> bool:
        """Whether a size lies among those measured."""
        return self.least <= size <= self.most


Place = tuple[Hashable, ...]
"""Quantity, rule, device and setting: what has a line of its own."""


@dataclass(frozen=True)
class Model:
    """Lines by place, and how far single jobs were from what the others said.

    Attributes:
        lines: of each quantity and place.
        spreads: rule and device → least and greatest measured / predicted time of a job, predicted from the
            other jobs of its setting; of jobs of a size among theirs.
        jobs: rule and device → number of observations.
    """

    lines: Mapping[Place, Line]
    spreads: Mapping[tuple[str, str], tuple[float, float]]
    jobs: Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Cost:
    """What the jobs of one rule will take on a device.

    Attributes:
        rule: its name.
        jobs: how many there are to do.
        seconds: of all together, but for those that are unknown.
        spread: least and greatest measured / predicted time of a job; None where that is not known.
        disk: bytes of all together; None where nothing is known.
        memory: bytes of the greatest job; None where nothing is known.
        unknown: jobs of which nothing comparable was measured, or only far smaller ones.
        extrapolated: jobs whose measured ones are all smaller, all larger, or of other settings.
        measured: observations of the rule on this device.
    """

    rule: str
    jobs: int
    seconds: float
    spread: tuple[float, float] | None
    disk: float | None
    memory: float | None
    unknown: int
    extrapolated: int
    measured: int


def fit(observations: Iterable[Observation]) -> Model:
    """Fit a line to every quantity at every place, from finished jobs."""
    points: dict[Place, list[tuple[float, float]]] = defaultdict(list)
    jobs: dict[tuple[str, str], int] = defaultdict(int)
    for seen in observations:
        jobs[seen.job.rule, _device(seen.job.rule, seen.device)] += 1
        sizes = seen.job.sizes()
        for quantity, value in seen.values.items():
            for place in _places(quantity, seen.job, seen.device):
                points[place].append((sizes[quantity], value))
    lines = {place: fit_line(found, STARTS[str(place[0])]) for place, found in points.items()}
    return Model(lines, _spreads(points), jobs)


def estimate(model: Model, jobs: Iterable[Job], device: str) -> list[Cost]:
    """Return what jobs cost by rule, in the order of their first jobs.

    Args:
        model: of `fit`.
        jobs: those to do.
        device: where the stages run that ask for a GPU: its name, or `CPU`.
    """
    by_rule: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_rule[job.rule].append(job)
    return [_cost(model, rule, own, device) for rule, own in by_rule.items()]


def fit_line(points: Sequence[tuple[float, float]], start: float) -> Line:
    """Fit a line to (size, value): no part of it is negative, nor is its start above the least value.

    Errors are taken to grow as the root of the size, which keeps the sum of all values as measured. Where
    all sizes are equal, the value beyond `start` is taken to be proportional to the size.
    """
    sizes, values = np.array(points, dtype=float).T
    least, most = sizes.min(), sizes.max()
    if least == most:
        start = min(start, values.min())
        slope = (values.mean() - start) / least
    else:
        matrix = np.column_stack([np.ones_like(sizes), sizes / most])
        weights = np.sqrt(most / sizes)
        bounds = (0, [max(values.min(), 1e-9), np.inf])
        found = lsq_linear(matrix * weights[:, None], values * weights, bounds, method="bvls")
        start, slope = found.x / (1, most)
    excess = max(0.0, (values - start - slope * sizes).max())
    return Line(float(start), float(slope), least, most, float(excess), len(values))


def _device(rule: str, device: str) -> str:
    """Return where a rule runs, on a machine with this device."""
    return device if STAGES[rule].gpu else CPU


def _places(quantity: str, job: Job, device: str) -> list[Place]:
    """Return the places of a job, the one that fits it best first."""
    must, may = STAGES[job.rule].setting(job)
    place = (quantity, job.rule, _device(job.rule, device), must)
    return [(*place, may), place]


def _spreads(
    points: Mapping[Place, list[tuple[float, float]]],
) -> dict[tuple[str, str], tuple[float, float]]:
    """Predict each time from the others of its setting, if they are not all smaller or all larger."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (quantity, rule, device, *setting), own in points.items():
        if quantity != "seconds" or len(setting) < 2 or len(own) < 2:
            continue
        for i, (size, value) in enumerate(own):
            others = fit_line([*own[:i], *own[i + 1 :]], STARTS["seconds"])
            if others.covers(size):
                found[str(rule), str(device)].append(value / others.at(size))
    return {key: (min(own), max(own)) for key, own in found.items() if len(own) > 1}


def _cost(model: Model, rule: str, jobs: Sequence[Job], device: str) -> Cost:
    found = [_amounts(model, job, device) for job in jobs]
    disk, memory, seconds = (
        [own[quantity] for own, _ in found if quantity in own]
        for quantity in ("disk", "memory", "seconds")
    )
    place = rule, _device(rule, device)
    return Cost(
        rule,
        jobs=len(jobs),
        seconds=sum(seconds),
        spread=model.spreads.get(place),
        disk=sum(disk) if disk else None,
        memory=max(memory, default=None),
        unknown=len(jobs) - len(seconds),
        extrapolated=sum(rough for _, rough in found),
        measured=model.jobs.get(place, 0),
    )


def _amounts(model: Model, job: Job, device: str) -> tuple[dict[str, float], bool]:
    """Return what is known of a job, and whether its time is extrapolated."""
    amounts, rough = {}, False
    for quantity, size in job.sizes().items():
        places = _places(quantity, job, device)
        known = next((place for place in places if place in model.lines), None)
        line = model.lines[known] if known else None
        if line and (quantity == "disk" or size <= FARTHEST * line.most):
            amounts[quantity] = line.at(size) + (line.excess if quantity == "memory" else 0)
            rough |= quantity == "seconds" and (known != places[0] or not line.covers(size))
    return amounts, rough
