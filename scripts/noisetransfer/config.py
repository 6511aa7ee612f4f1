"""Typed schema of a study file: every key, its meaning and its bounds. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from noisetransfer.architectures import ACTIVATIONS, ARCHITECTURES
from noisetransfer.arms import ARMS
from noisetransfer.attacks import ATTACKS
from noisetransfer.datasets import DATASETS, too_large
from noisetransfer.errors import StudyError
from noisetransfer.modifications import canonical, parse

ID = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Model(BaseModel):
    """A section of the study file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _one_of(value: str, known: Iterable[str], what: str) -> str:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; allowed: {', '.join(known)}")
    return value


def _modification(value: str) -> str:
    try:
        return canonical(value)
    except StudyError as error:
        raise ValueError(str(error)) from None


def _unique(values: list[str]) -> list[str]:
    twice = sorted({v for v in values if values.count(v) > 1})
    if twice:
        raise ValueError(f"listed twice: {', '.join(twice)}")
    return values


def _block(value: object) -> str:
    """Check a block of trials, `3` or `0-4`, and return it as the text that names it in paths."""
    text = str(value)
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ValueError(f"{value!r} is no block of trials; write one as 0-4 or 3")
    return text


def trials_of(block: str) -> list[int]:
    """Return the trials of a block: `0-2` → [0, 1, 2]."""
    first, _, last = block.partition("-")
    return list(range(int(first), int(last or first) + 1))


Modification = Annotated[str, AfterValidator(_modification)]
Architecture = Annotated[str, AfterValidator(lambda v: _one_of(v, ARCHITECTURES, "architecture"))]
Activation = Annotated[str, AfterValidator(lambda v: _one_of(v, ACTIVATIONS, "activation"))]
ArmId = Annotated[str, AfterValidator(lambda v: _one_of(v, ARMS, "arm"))]
Block = Annotated[str, BeforeValidator(_block)]
Suite = Annotated[list[Modification], Field(min_length=1), AfterValidator(_unique)]


class Splits(Model):
    """Number of images of each split; calibration images (for Σ) are the training images."""

    train: int = Field(ge=2)
    validation: int = Field(default=0, ge=0)
    test: int = Field(ge=1)


class Dataset(Model):
    """A dataset of the registry, and what is taken from it."""

    splits: Splits
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        default=None,
        description="local folder with the original files; default: usual places, then download",
    )


class Training(Model):
    """Hyperparameters of Adam on cross-entropy, the same for base networks and suffixes."""

    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    epochs: int = Field(default=10, ge=1)


class Network(Model):
    """A network that the study trains."""

    architecture: Architecture
    activation: Activation = "tanh"
    dataset: str
    training: str


class Ridge(Model):
    """Added to the diagonal of a covariance; exactly one of the two."""

    absolute: float | None = Field(default=None, ge=0, description="a·I, as in the paper (1e-4)")
    relative: float | None = Field(default=None, ge=0, le=1, description="b · tr Σ / d · I")

    @model_validator(mode="after")
    def _exactly_one(self) -> Ridge:
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("give either absolute or relative")
        return self


class Noise(Model):
    """How noise is made from a source."""

    arms: Annotated[list[ArmId], AfterValidator(_unique)] = Field(min_length=1)
    rank: int | None = Field(
        default=256, ge=1, description="leading eigenpairs kept; null keeps all (exact)"
    )
    ridge: Ridge = Ridge(relative=1e-3)


class Evaluation(Model):
    """How a noisy network is scored: argmax of the mean logits of `passes` draws."""

    passes: int = Field(default=10, ge=1)


class Attack(Model):
    """Budget of an attack; its ε stands in the modification's id (pgd@0.1)."""

    steps: int = Field(ge=1)
    step_size: float = Field(gt=0, le=1)


class Experiment(Model):
    """Every source × target of the named suites at one site of one network."""

    network: str
    site: str
    tau: float = Field(gt=0, description="trace scale: tr Σ = τ·d")
    sources: Suite
    suites: Annotated[list[str], AfterValidator(_unique)] = Field(min_length=1)


class Published(Model):
    """Agreement that a heatmap must reach with a published one."""

    table: Path
    arm: ArmId = "full"
    spearman: float = Field(ge=-1, le=1)
    mean_absolute_difference: float = Field(gt=0, le=1)
    own_best: int = Field(ge=0, description="targets whose best source is the target itself")


class Checks(Model):
    """What a finished study must hold, else it fails."""

    clean_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="least accuracy of arm none on clean test images",
    )
    own_gain: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="least mean gain over identity of arm full where source = target",
    )
    published: Published | None = None


class Study(Model):
    """A whole study: what is computed, from what, and what it is checked against."""

    study: ID
    seed: int = Field(default=0, ge=0)
    datasets: dict[ID, Dataset]
    trainings: dict[ID, Training]
    networks: dict[ID, Network]
    trials: list[Block] = Field(min_length=1)
    noise: Noise
    evaluation: Evaluation = Evaluation()
    attacks: dict[str, Attack] = {}
    suites: dict[ID, Suite]
    experiments: dict[ID, Experiment] = Field(min_length=1)
    checks: dict[ID, Checks] = {}

    @model_validator(mode="after")
    def _cross_checks(self) -> Study:
        faults = [
            *self._unknown_ids(),
            *self._bad_splits(),
            *self._bad_targets(),
            *self._bad_checks(),
        ]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _unknown_ids(self) -> Iterable[str]:
        known: Mapping[str, Iterable[str]]
        for name, network in self.networks.items():
            known = {"dataset": self.datasets, "training": self.trainings}
            yield from _unknown(f"networks.{name}", network, known)
        for name, experiment in self.experiments.items():
            yield from _unknown(f"experiments.{name}", experiment, {"network": self.networks})
            for suite in experiment.suites:
                if suite not in self.suites:
                    yield f"experiments.{name}.suites: unknown {suite!r}; allowed: {_list(self.suites)}"
            if experiment.network in self.networks:
                sites = ARCHITECTURES[self.networks[experiment.network].architecture].sites
                yield from _unknown(f"experiments.{name}", experiment, {"site": sites})
        for name in self.datasets:
            if name not in DATASETS:
                yield f"datasets: unknown {name!r}; allowed: {_list(DATASETS)}"
        for name in self.attacks:
            if name not in ATTACKS:
                yield f"attacks: unknown {name!r}; allowed: {_list(ATTACKS)}"
        for name in self.checks:
            if name not in self.experiments:
                yield f"checks: unknown experiment {name!r}; allowed: {_list(self.experiments)}"

    def _bad_splits(self) -> Iterable[str]:
        for name, dataset in self.datasets.items():
            fault = name in DATASETS and too_large(name, dataset.splits.model_dump())
            if fault:
                yield f"datasets.{name}.splits: {fault}"
        numbers = [trial for block in self.trials for trial in trials_of(block)]
        if len(set(numbers)) < len(numbers):
            yield f"trials: blocks {_list(self.trials)} overlap"

    def _bad_targets(self) -> Iterable[str]:
        named = {f"suites.{name}": ids for name, ids in self.suites.items()}
        named |= {f"experiments.{n}.sources": e.sources for n, e in self.experiments.items()}
        for place, ids in named.items():
            for modification, _ in map(parse, ids):
                if modification.kind == "attack" and modification.name not in self.attacks:
                    yield f"{place}: {modification.name} needs its budget under attacks"
                if modification.kind == "clean" and place.endswith("sources"):
                    yield f"{place}: clean images cannot be a source, their difference is 0"
        for name in self.experiments:
            targets = self._targets(name)
            twice = sorted({t for t in targets if targets.count(t) > 1})
            if twice:
                yield f"experiments.{name}.suites: in two suites: {_list(twice)}"

    def _bad_checks(self) -> Iterable[str]:
        for name, checks in self.checks.items():
            needed = {
                "clean_accuracy": {"none"} if checks.clean_accuracy is not None else set(),
                "own_gain": {"full", "identity"} if checks.own_gain is not None else set(),
                "published": {checks.published.arm} if checks.published else set(),
            }
            for check, arms in needed.items():
                missing = arms.difference(self.noise.arms)
                if missing:
                    yield f"checks.{name}.{check}: needs {_list(missing)} among noise.arms"
            if checks.own_gain is not None and not set(self._sources(name)) & set(
                self._targets(name)
            ):
                yield f"checks.{name}.own_gain: no source of {name} is among its targets"
            if checks.published and not ARMS[checks.published.arm].from_source:
                yield f"checks.{name}.published.arm: {checks.published.arm} belongs to no source"
            if checks.clean_accuracy is not None and "clean@0" not in self._targets(name):
                yield f"checks.{name}.clean_accuracy: needs clean@0 in a suite of {name}"

    def _sources(self, experiment: str) -> list[str]:
        return self.experiments[experiment].sources if experiment in self.experiments else []

    def _targets(self, experiment: str) -> list[str]:
        suites = self.experiments[experiment].suites if experiment in self.experiments else []
        return [target for suite in suites for target in self.suites.get(suite, [])]


def load(raw: Mapping[str, Any], where: str = "the study file") -> Study:
    """Check a parsed study file.

    Raises:
        StudyError: listing every fault of a single key, or if there is none, every fault between sections;
            each with its key, its value and what is allowed.
    """
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        faults = "\n".join(f"  {line}" for e in error.errors() for line in _explain(e))
        raise StudyError(f"{where} is not a valid study:\n{faults}") from None


def _explain(error: Any) -> Iterable[str]:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:  # cross-checks name their keys themselves
        return message.splitlines()
    if error["type"] == "extra_forbidden":
        return [f"{place}: unknown key; allowed: {_list(_keys_beside(error['loc']))}"]
    value = "" if error["type"] == "missing" else f" (found {error['input']!r})"
    return [f"{place}: {message}{value}"]


def _keys_beside(place: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys that the schema allows where an unknown one was found."""
    annotation: Any = Study
    for part in place[:-1]:
        model = next(iter(_models(annotation)))
        # a section by ids takes two steps: to the section, then to what stands under the id
        inside_section = get_origin(annotation) is dict
        annotation = model if inside_section else model.model_fields[part].annotation
    return tuple(next(iter(_models(annotation))).model_fields)


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _unknown(place: str, section: Model, known: Mapping[str, Iterable[str]]) -> Iterable[str]:
    for field, allowed in known.items():
        value = getattr(section, field)
        if value not in allowed:
            yield f"{place}.{field}: unknown {value!r}; allowed: {_list(allowed)}"


def _list(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "(none)"
