"""What the jobs of a study will cost, learnt from the benchmark files of finished studies. Imports no torch.

Seconds grow with the *work* of a job, bytes on disk with its *content*, memory with what it *holds*. Each is
fitted by a straight line, one for every stage, device and setting. To add a stage, add its entry to `STAGES`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from noisetransfer import plan
from noisetransfer.arms import NO_SOURCE
from noisetransfer.config import Network, Study
from noisetransfer.datasets import DATASETS, SPLITS
from noisetransfer.errors import StudyError
from noisetransfer.modifications import parse
from noisetransfer.variants import variant

CPU = "CPU"
"""The device of stages that ask for no GPU, and of studies that were run without one."""

STARTS = {"seconds": 2.0, "memory": 7e8, "disk": 0.0}
"""What is measured of a job, in seconds and bytes, and what of it the start of Python and PyTorch is taken to
need, at most, where all measured jobs are of one size: they cannot tell the start from the work."""

FARTHEST = 100
"""Times the greatest measured size up to which time and memory are extrapolated; bytes on disk always are."""

DRAW = 4
"""Targets that take as long, in a pass of an evaluation, as a draw of its noise. Both constants were measured
on a CPU, at layer L2 of network v2 and rank 256."""

QUERY = 30
"""Targets that take as long, in a pass of an evaluation, as a gradient of an attack on the noisy network."""


@dataclass(frozen=True)
class Job:
    """A job of a study: its rule, and the wildcards that name it."""

    study: Study
    rule: str
    wildcards: Mapping[str, str]

    @classmethod
    def named(cls, study: Study, name: str) -> Job:
        """Return the job of a log or benchmark file, such as `train_network/v2/0-9`.

        Raises:
            StudyError: if no rule has such files, or the study has no such job.
        """
        rule, _, path = name.partition("/")
        stage = STAGES.get(rule)
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", stage.path) if stage else ""
        if not (found := re.fullmatch(pattern, path)) or not stage:
            raise StudyError(f"{name}: no rule writes a file of this name")
        job = cls(study, rule, found.groupdict())
        try:
            stage.setting(job), job.sizes()
        except KeyError as error:
            raise StudyError(f"{name}: the study has no {error}") from None
        return job

    def sizes(self) -> dict[str, float]:
        """Return what each quantity of `STARTS` grows with."""
        stage = STAGES[self.rule]
        held = (stage.held or stage.content)(self)
        return {"seconds": stage.work(self), "memory": held, "disk": stage.content(self)}

    @property
    def dataset(self) -> str:
        """Name of the dataset that the job works on."""
        named = self.wildcards.get("dataset")
        return named or self.study.network(self.wildcards["network"]).dataset

    @property
    def trials(self) -> int:
        """Number of trials of its block."""
        return len(plan.trials_of(self.wildcards["trials"]))

    @property
    def sources(self) -> list[str]:
        """Its sources; none of the arms without a source."""
        unit = self.wildcards["source"]
        return [] if unit == NO_SOURCE else plan.members(self.study.suites, unit)

    @property
    def arms(self) -> list[str]:
        """The arms that it handles for each source."""
        return plan.arms(self.study.noise.arms, self.wildcards["source"], self.wildcards["tau"])

    @property
    def rows(self) -> int:
        """Number of its noises of one trial."""
        return len(self.arms) * max(1, len(self.sources))

    def images(self, split: str) -> int:
        """Return the number of images of a split."""
        return int(getattr(self.study.datasets[self.dataset].splits, split))

    def targets(self) -> list[str]:
        """Return the targets of an evaluation, as often as a source is tested under them."""
        units = self.wildcards["source"], self.wildcards["suite"]
        pairs = plan.pairs(self.study.suites, *units)
        return [target for listed in pairs.values() for target in listed]


@dataclass(frozen=True)
class Observation:
    """What a finished job took on a machine with this device: the quantities of `STARTS`, where known."""

    job: Job
    device: str
    values: Mapping[str, float]


class Setting(NamedTuple):
    """What sets jobs of one stage apart beside their size.

    Attributes:
        must: those that differ in it say nothing of each other.
        may: those that differ in it are a rough guide.
    """

    must: Hashable = None
    may: Hashable = None


@dataclass(frozen=True)
class Stage:
    """A rule, as far as it matters to its cost.

    Attributes:
        path: its benchmark file, behind the name of the rule.
        files: its results in results/{study}, as globs; {} is the path.
        work: what the seconds of a job grow with.
        content: what its bytes on disk grow with.
        held: what its memory grows with; None: its content.
        setting: of a job.
        gpu: whether it asks for a GPU.
    """

    path: str
    files: tuple[str, ...]
    work: Callable[[Job], float] = lambda _: 1
    content: Callable[[Job], float] = lambda _: 1
    held: Callable[[Job], float] | None = None
    setting: Callable[[Job], Setting] = lambda _: Setting()
    gpu: bool = False


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


def work(study: Study, rule: str, wildcards: Mapping[str, str]) -> float:
    """Return what the time of a job grows with."""
    return STAGES[rule].work(Job(study, rule, wildcards))


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


def _gradients(study: Study, attack: str) -> int:
    """Return the number of gradient steps, or tiles, of an attack on an image."""
    budget = study.budget(parse(attack)[0].name)
    return int(budget.get("steps", 1) * budget.get("restarts", 1))


def _training(job: Job) -> float:
    own = variant(job.wildcards["network"])
    crafted = own.ratio * _gradients(job.study, own.attack) if own.attack else 0
    return job.images("train") * _epochs(job) * job.trials * (1 + crafted)


def _retraining(job: Job) -> float:
    return job.images("train") * _epochs(job) * job.rows * job.trials


def _epochs(job: Job) -> int:
    return job.study.trainings[_section(job).training].epochs


def _section(job: Job) -> Network:
    return job.study.network(job.wildcards["network"])


def _recording(job: Job) -> float:
    return job.images("train") * job.trials


def _crafting(job: Job) -> float:
    return _recording(job) * _gradients(job.study, job.wildcards["attack"])


def _factors(job: Job) -> float:
    return job.trials * len(job.sources)


def _networks(job: Job) -> float:
    return job.trials * job.rows


def _testing(job: Job) -> float:
    """Count passes of a target: those of the noise draws and of the attacks' gradients as so many."""
    steps = sum(_gradients(job.study, t) for t in job.targets() if parse(t)[0].kind == "attack")
    draws = DRAW * max(1, len(job.sources))
    passes = job.study.evaluation.passes * (draws + len(job.targets())) + QUERY * steps
    return job.images("test") * job.trials * len(job.arms) * passes


def _records(job: Job) -> float:
    return job.images("test") * _cells(job)


def _cells(job: Job) -> float:
    return job.trials * len(job.arms) * len(job.targets())


def _all_images(job: Job) -> float:
    return sum(job.images(split) for split in SPLITS)


def _modified_images(job: Job) -> float:
    return job.images(job.wildcards["split"])


def _all_records(job: Job) -> float:
    return sum(map(_records, _evaluations(job)))


def _all_cells(job: Job) -> float:
    return sum(map(_cells, _evaluations(job)))


def _all_losses(job: Job) -> float:
    noises = {
        tuple(own.wildcards[name] for name in ("network", "site", "tau", "source", "trials")): own
        for own in _evaluations(job)
        if own.wildcards["regime"] == "retrain"
    }
    return sum(map(_retraining, noises.values()))


def _evaluations(job: Job) -> list[Job]:
    """Return the evaluations of the experiment that a job is for."""
    found = plan.evaluations(job.study, job.wildcards["experiment"])
    return [
        Job(job.study, "evaluate", {**vars(own), "trials": block})
        for own in found
        for block in job.study.trials
    ]


def _shape(job: Job) -> Hashable:
    section = _section(job)
    return section.architecture, section.activation, DATASETS[section.dataset].shape


def _rank(job: Job) -> int | str | None:
    """Return the rank of the noise; None of the arms without a source."""
    return job.study.noise.rank if job.sources else None


def _batch(job: Job) -> int:
    return job.study.trainings[_section(job).training].batch_size


def _retrieved(job: Job) -> Setting:
    return Setting(may=(job.dataset, job.wildcards["file"]))


def _modified(job: Job) -> Setting:
    entry, _ = parse(job.wildcards["modification"])
    return Setting((entry.kind, DATASETS[job.dataset].shape), entry.name)


def _attacked(job: Job) -> Setting:
    return Setting(_shape(job), parse(job.wildcards["attack"])[0].name)


def _trained(job: Job) -> Setting:
    own = variant(job.wildcards["network"])
    attack = own.attack and parse(own.attack)[0].name
    return Setting(_shape(job), (attack, own.input_noise > 0, _batch(job)))


def _recorded(job: Job) -> Setting:
    return Setting((_shape(job), job.wildcards["site"]))


def _fitted(job: Job) -> Setting:
    """Tell exact factors, which are other work, from low ranks, which guide to each other."""
    rank = _rank(job)
    kind = rank if rank in ("full", None) else "low"
    return Setting((_shape(job), job.wildcards["site"], kind), rank)


def _retrained(job: Job) -> Setting:
    must, rank = _fitted(job)
    return Setting(must, (rank, tuple(job.arms), _batch(job)))


def _tested(job: Job) -> Setting:
    must, rank = _fitted(job)
    modifications = {parse(target)[0] for target in job.targets()}
    attacks = frozenset(entry.name for entry in modifications if entry.kind == "attack")
    noisy = variant(job.wildcards["network"]).input_noise > 0
    return Setting(must, (rank, tuple(job.arms), attacks, noisy))


_NOISY = "{network}/{site}/tau{tau}/{source}"

STAGES = {
    "retrieve_dataset": Stage("{dataset}/{file}", ("../../resources/{}",), setting=_retrieved),
    "prepare_dataset": Stage("{dataset}", ("data/{}/*",), _all_images, _all_images),
    "modify_images": Stage(
        "{dataset}/{modification}/{split}",
        ("modified/{}.*",),
        _modified_images,
        _modified_images,
        setting=_modified,
    ),
    "attack_images": Stage(
        "{dataset}/{attack}/{network}/{trials}",
        ("modified/{}/*",),
        _crafting,
        _recording,
        setting=_attacked,
        gpu=True,
    ),
    "train_network": Stage(
        "{network}/{trials}",
        ("networks/{}.*",),
        _training,
        lambda job: job.trials,
        _recording,
        _trained,
        gpu=True,
    ),
    "record_activations": Stage(
        "{network}/{site}/{trials}",
        ("activations/{}.*",),
        _recording,
        _recording,
        setting=_recorded,
        gpu=True,
    ),
    "fit_covariance": Stage(
        "{network}/{site}/{source}/{trials}",
        ("covariance/{}.*",),
        lambda job: _recording(job) * len(job.sources),
        _factors,
        _recording,
        _fitted,
        gpu=True,
    ),
    "retrain_suffix": Stage(
        f"{_NOISY}/{{trials}}",
        ("noisy/{}.*",),
        _retraining,
        _networks,
        _recording,
        _retrained,
        gpu=True,
    ),
    "evaluate": Stage(
        f"{{regime}}/{_NOISY}/{{suite}}/{{trials}}",
        ("evaluation/{}.*",),
        _testing,
        _records,
        setting=_tested,
        gpu=True,
    ),
    "tabulate_results": Stage(
        "{experiment}", ("tables/{}.*",), _all_records, _all_cells, _all_records
    ),
    "tabulate_losses": Stage("{experiment}", ("tables/{}_losses.*",), _all_losses, _all_losses),
    "plot_transfer": Stage("{experiment}", ("figures/{}_accuracy.*", "figures/{}_gain_over_*")),
    "plot_experiment": Stage("{experiment}_{kind}", ("figures/{}.*",)),
    "plot_modifications": Stage("{dataset}", ("figures/modifications/{}.*",)),
    "check_results": Stage("{experiment}", ("checks/{}.json", "checks/{}_cells.*")),
    "require_checks": Stage("{experiment}", ("checks/{}.passed",)),
    "write_provenance": Stage("", ("provenance.json",)),
}
"""Every rule that has a benchmark file."""
