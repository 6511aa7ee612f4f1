"""The stages of a study as far as they cost: what the time, the files and the memory of their jobs grow with.

To add a stage, add its entry to `STAGES`. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from noisetransfer import plan
from noisetransfer.arms import NO_SOURCE
from noisetransfer.attacks import ATTACKS
from noisetransfer.config import Network, Study, Training
from noisetransfer.datasets import CALIBRATION, SPLITS, Dataset, find, validation_is_unseen
from noisetransfer.errors import StudyError
from noisetransfer.modifications import parse
from noisetransfer.ranks import parse_rank
from noisetransfer.regimes import REGIMES
from noisetransfer.variants import variant

DRAW = 4
"""Targets that take as long, in a pass of an evaluation, as a draw of its noise. Both constants were measured
on a CPU, at layer L2 of network v2 and rank 256; for other networks they are a guess."""

QUERY = 30
"""Targets that take as long, in a pass of an evaluation, as a gradient of an attack on the noisy network."""

SHARED = 5
"""Draws of an adaptive attack that take as long as what all draws of a gradient share (measured as above)."""


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
        """Return what its seconds, memory and bytes on disk grow with."""
        stage = STAGES[self.rule]
        held = (stage.held or stage.content)(self)
        return {"seconds": stage.work(self), "memory": held, "disk": stage.content(self)}

    @property
    def network(self) -> Network:
        """The section of its network."""
        return self.study.network(self.wildcards["network"])

    @property
    def dataset(self) -> str:
        """Name of the section of the dataset that the job works on."""
        return self.wildcards.get("dataset") or self.network.dataset

    @property
    def id(self) -> str:
        """What the section says which dataset it is."""
        return self.study.datasets[self.dataset].id or self.dataset

    @property
    def original(self) -> Dataset:
        """The dataset of this id, with its images as the job sees them."""
        section = self.study.datasets[self.dataset]
        return find(self.id, resize=section.resize, crop=section.crop)

    @property
    def calibration(self) -> str:
        """The split that covariances are fitted on."""
        splits = self.study.datasets[self.dataset].splits
        return CALIBRATION if splits.calibration else "train"

    @property
    def held_out(self) -> str:
        """The split that a base network is measured on."""
        splits = self.study.datasets[self.dataset].splits
        unseen = not self.network.pretrained or validation_is_unseen(self.id)
        return "validation" if splits.validation and unseen else "test"

    @property
    def training(self) -> Training:
        """The hyperparameters that its networks or suffixes are trained with.

        Raises:
            StudyError: if the study trains none of them.
        """
        if self.network.training is None:
            raise StudyError(f"networks.{self.wildcards['network']}: has no training")
        return self.study.trainings[self.network.training]

    @property
    def trials(self) -> int:
        """Number of trials of its block."""
        return len(plan.trials_of(self.wildcards["trials"]))

    @property
    def bases(self) -> int:
        """Number of its base networks: a pretrained one serves all trials."""
        return 1 if self.network.pretrained else self.trials

    @property
    def sources(self) -> list[str]:
        """Its sources; none of the arms without a source."""
        unit = self.wildcards["source"]
        plain = plan.source_of(unit) == NO_SOURCE
        return [] if plain else plan.members(self.study.suites, unit)

    @property
    def arms(self) -> list[str]:
        """The arms that it handles for each source."""
        return plan.arms(self.study.noise.arms, self.wildcards["source"], self.wildcards["tau"])

    @property
    def rows(self) -> int:
        """Number of its noises of one trial."""
        return len(self.arms) * max(1, len(self.sources))

    @property
    def tested(self) -> int:
        """Number of images of the split that it tests on."""
        return self.images(plan.split_of(self.wildcards["suite"]))

    def images(self, split: str) -> int:
        """Return the number of images of a split."""
        return int(getattr(self.study.datasets[self.dataset].splits, split))

    def targets(self) -> list[str]:
        """Return the targets of an evaluation, as often as a source is tested under them."""
        units = self.wildcards["source"], self.wildcards["suite"]
        pairs = plan.pairs(self.study.suites, *units)
        return [target for listed in pairs.values() for target in listed]


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


def _gradients(study: Study, attack: str) -> int:
    """Return the number of gradient steps, or tiles, of an attack on an image."""
    name = parse(attack)[0].name
    return ATTACKS[name].budget.model_validate(study.budget(name)).gradients()


def _draws(study: Study, attack: str) -> float:
    """Return how much longer a gradient takes that averages over draws than one through a single draw."""
    budget = study.budget(parse(attack)[0].name)
    known = {"known_seed": study.evaluation.passes, "noise_off": 1, "base": 1}
    draws = known.get(budget.get("against", ""), budget.get("passes", 1))
    return float(SHARED + draws) / (SHARED + 1)


def _training(job: Job) -> float:
    own = variant(job.wildcards["network"])
    crafted = own.ratio * _gradients(job.study, own.attack) if own.attack else 0
    return job.images("train") * job.training.epochs * job.trials * (1 + crafted)


def _retraining(job: Job) -> float:
    return job.images("train") * job.training.epochs * job.rows * job.trials


def _recording(job: Job) -> float:
    return job.images("train") * job.bases


def _crafted(job: Job) -> float:
    return job.images(job.wildcards["split"]) * job.bases


def _crafting(job: Job) -> float:
    return _crafted(job) * _gradients(job.study, job.wildcards["attack"])


def _measuring(job: Job) -> float:
    return job.images(job.held_out)


def _calibrating(job: Job) -> float:
    return job.images(job.calibration) * job.bases


def _fitting(job: Job) -> float:
    return _calibrating(job) * max(1, len(job.sources))


def _factors(job: Job) -> float:
    return job.bases * max(1, len(job.sources))


def _pooling(job: Job) -> float:
    pooled = job.study.noise.pooled
    return job.bases * sum(len(plan.members(job.study.suites, unit)) for unit in pooled)


def _networks(job: Job) -> float:
    return job.trials * job.rows


def _testing(job: Job) -> float:
    """Count passes of a target: those of the noise draws and of the attacks' gradients as so many."""
    attacks = [t for t in job.targets() if parse(t)[0].kind == "attack"]
    steps = sum(_gradients(job.study, t) * _draws(job.study, t) for t in attacks)
    draws = DRAW * max(1, len(job.sources))
    passes = job.study.evaluation.passes * (draws + len(job.targets())) + QUERY * steps
    return job.tested * job.trials * len(job.arms) * passes


def _records(job: Job) -> float:
    return job.tested * _cells(job)


def _cells(job: Job) -> float:
    return job.trials * len(job.arms) * len(job.targets())


def _all_images(job: Job) -> float:
    return sum(job.images(split) for split in SPLITS)


def _modified_images(job: Job) -> float:
    return job.images(job.wildcards["split"])


def _redrawn_images(job: Job) -> float:
    return job.trials * _modified_images(job)


def _all_records(job: Job) -> float:
    return sum(map(_records, _evaluations(job)))


def _all_cells(job: Job) -> float:
    return sum(map(_cells, _evaluations(job)))


def _all_pairs(job: Job) -> float:
    """Count the pairs of covariances of an experiment, and the covariances."""
    sources: dict[tuple[str, ...], set[str]] = {}
    for own in _evaluations(job):
        block = plan.PRETRAINED if own.network.pretrained else own.wildcards["trials"]
        place = own.wildcards["network"], own.wildcards["site"], block
        sources.setdefault(place, set()).update(own.sources)
    counts = {place: len(names) for place, names in sources.items()}
    return sum(len(plan.trials_of(block)) * n * (n + 1) / 2 for (*_, block), n in counts.items())


def _all_losses(job: Job) -> float:
    noises = {
        tuple(own.wildcards[name] for name in ("network", "site", "tau", "source", "trials")): own
        for own in _evaluations(job)
        if REGIMES[own.wildcards["regime"]].suffix == "arm"
    }
    return sum(map(_retraining, noises.values()))


def _evaluations(job: Job) -> list[Job]:
    """Return the evaluations on test images of the experiment that a job is for."""
    jobs = plan.evaluations(job.study, job.wildcards["experiment"])
    found = [own for own in jobs if own.split == "test"]
    return [
        Job(job.study, "evaluate", {**vars(own), "trials": block})
        for own in found
        for block in job.study.trials
    ]


def _network(job: Job) -> Hashable:
    """Return what decides the work of a network on an image; a pretrained one is its own kind."""
    section = job.network
    return section.pretrained, section.architecture, section.activation, job.original.shape


def _rank(job: Job) -> int | str | None:
    """Return the rank of the noise; None of the arms that need no covariance."""
    shaped = plan.has_covariance(job.wildcards["source"])
    return job.study.noise.rank if shaped else None


def _file(job: Job) -> Setting:
    """Tell files apart, whose sizes nothing tells."""
    return Setting(tuple(job.wildcards.items()))


def _weights(job: Job) -> Setting:
    return Setting((job.network.pretrained, job.network.architecture))


def _prepared(job: Job) -> Setting:
    """Tell apart images of one size, which are read whole, and photographs, which are decoded."""
    return Setting((job.original.shape, job.original.preprocessing), job.id)


def _modified(job: Job) -> Setting:
    entry, _ = parse(job.wildcards["modification"])
    return Setting((entry.kind, job.original.shape), entry.name)


def _read(job: Job) -> Setting:
    published, _, name = parse(job.wildcards["modification"])[0].name.partition(".")
    return Setting((published, job.original.shape), name)


def _measured(job: Job) -> Setting:
    return Setting(_network(job))


def _attacked(job: Job) -> Setting:
    return Setting(_network(job), parse(job.wildcards["attack"])[0].name)


def _trained(job: Job) -> Setting:
    own = variant(job.wildcards["network"])
    attack = own.attack and parse(own.attack)[0].name
    return Setting(_network(job), (attack, own.input_noise > 0, job.training.batch_size))


def _recorded(job: Job) -> Setting:
    return Setting((_network(job), job.wildcards["site"]))


def _averaged(job: Job) -> Setting:
    """Tell apart activations that were recorded and computed ones."""
    recorded = job.calibration == "train" and not job.network.pretrained
    return Setting((_network(job), job.wildcards["site"], recorded))


def _noise(job: Job) -> Setting:
    """Tell low ranks, which guide to each other, from exact factors and from ranks that a fit will find."""
    rank = _rank(job)
    kind = "low" if rank and isinstance(parse_rank(rank), int) else rank
    return Setting((_network(job), job.wildcards["site"], kind), rank)


def _fitted(job: Job) -> Setting:
    """Tell apart clean activations that were recorded, as with no calibration split, and computed ones."""
    must, rank = _noise(job)
    recorded = job.calibration == "train" and not job.network.pretrained
    held_out = job.study.noise.ridge.held_out
    return Setting((must, recorded, held_out), rank)


def _retrained(job: Job) -> Setting:
    must, rank = _noise(job)
    return Setting(must, (rank, tuple(job.arms), job.training.batch_size))


def _tested(job: Job) -> Setting:
    must, rank = _noise(job)
    modifications = {parse(target)[0] for target in job.targets()}
    attacks = frozenset(entry.name for entry in modifications if entry.kind == "attack")
    noisy = variant(job.wildcards["network"]).input_noise > 0
    return Setting(must, (rank, tuple(job.arms), attacks, noisy, job.wildcards["regime"]))


_NOISY = "{network}/{site}/tau{tau}/{source}"

STAGES = {
    "retrieve_dataset": Stage("{dataset}/{file}", ("../../resources/{}",), setting=_file),
    "retrieve_corrupted": Stage("{published}/{file}", ("../../resources/{}",), setting=_file),
    "retrieve_network": Stage("{network}", ("weights/{}.*",), setting=_weights),
    "prepare_dataset": Stage(
        "{dataset}", ("data/{}/*",), _all_images, _all_images, setting=_prepared
    ),
    "modify_images": Stage(
        "{dataset}/{modification}/{split}",
        ("modified/{}.*",),
        _modified_images,
        _modified_images,
        setting=_modified,
    ),
    "redraw_images": Stage(
        "{dataset}/{modification}/{trials}/{split}",
        ("modified/{}.*",),
        _redrawn_images,
        _redrawn_images,
        setting=_modified,
    ),
    "read_modified": Stage(
        "{dataset}/{modification}/{split}",
        ("modified/{}.*",),
        _modified_images,
        _modified_images,
        setting=_read,
    ),
    "attack_images": Stage(
        "{dataset}/{attack}/{network}/{trials}/{split}",
        ("modified/{}.*",),
        _crafting,
        _crafted,
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
    "prepare_network": Stage(
        f"{{network}}/{plan.PRETRAINED}",
        ("networks/{}.*",),
        _measuring,
        held=_measuring,
        setting=_measured,
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
        _fitting,
        _factors,
        _calibrating,
        _fitted,
        gpu=True,
    ),
    "pool_covariances": Stage(
        "{network}/{site}/{source}/{trials}",
        ("covariance/{}.*",),
        _pooling,
        lambda job: job.bases,
        _pooling,
        _noise,
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
    "average_classes": Stage(
        "{network}/{site}/{trials}",
        ("classes/{}.*",),
        _calibrating,
        lambda job: job.bases,
        _calibrating,
        _averaged,
        gpu=True,
    ),
    "compare_covariances": Stage(
        "{experiment}", ("tables/{}_geometry.*", "tables/{}_spectra.*"), _all_pairs, _all_pairs
    ),
    "show_noise": Stage(
        f"{_NOISY}/{{trials}}",
        ("figures/noise/{}.*",),
        lambda job: len(job.sources),
        lambda job: len(job.sources),
        _factors,
        _noise,
        gpu=True,
    ),
    "plot_geometry": Stage(
        "{experiment}",
        ("figures/{}_geometry.*", "figures/{}_spectra.*", "tables/{}_mantel.*"),
    ),
    "probe_noise": Stage(
        f"{{regime}}/{_NOISY}/{{trials}}",
        ("probes/{}.*",),
        _networks,
        _networks,
        setting=_noise,
        gpu=True,
    ),
    "tabulate_results": Stage(
        "{experiment}", ("tables/{}.*",), _all_records, _all_cells, _all_records
    ),
    "summarise_results": Stage(
        "{experiment}",
        tuple(
            f"tables/{{}}_{kind}.*" for kind in ("summary", "families", "variance", "robustness")
        ),
        _all_records,
        _all_cells,
        _all_records,
    ),
    "tabulate_losses": Stage("{experiment}", ("tables/{}_losses.*",), _all_losses, _all_losses),
    "tabulate_matched": Stage("{experiment}", ("tables/{}_matched.*",)),
    "tabulate_audit": Stage(
        "{experiment}",
        ("tables/{}_audit.*", "tables/{}_verdicts.*", "tables/{}_probes.*"),
        _all_records,
        _all_cells,
        _all_records,
    ),
    "plot_audit": Stage("{experiment}", ("figures/{}_audit.*",)),
    "plot_transfer": Stage(
        "{experiment}",
        tuple(f"figures/{{}}_{kind}.*" for kind in ("accuracy", "gain_over_*", "clustered")),
    ),
    "plot_experiment": Stage("{experiment}_{kind}", ("figures/{}.*",)),
    "plot_modifications": Stage(
        "{dataset}",
        ("figures/modifications/{}.*",),
        setting=lambda job: Setting(job.original.shape),
    ),
    "check_results": Stage("{experiment}", ("checks/{}.json", "checks/{}_cells.*")),
    "require_checks": Stage("{experiment}", ("checks/{}.passed",)),
    "write_provenance": Stage("", ("provenance.json",)),
    "build_report": Stage("", ("report.html",)),
}
"""Every rule that has a benchmark file."""
