"""Typed schema of a study file: every key, its meaning and its bounds. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from noisetransfer import references, spellings
from noisetransfer.architectures import ACTIVATIONS
from noisetransfer.arms import ARMS, CONTROLS, FINE_TUNED, UNSCALED
from noisetransfer.attacks import ATTACKS
from noisetransfer.consistency import faults
from noisetransfer.drawable import AUDIT, HEATMAP
from noisetransfer.errors import StudyError, listed
from noisetransfer.modifications import attack_of, canonical
from noisetransfer.plan import OWN
from noisetransfer.ranks import parse_rank
from noisetransfer.regimes import REGIMES
from noisetransfer.variants import variant

ID = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")

# anchors of YAML nest a short text into gigabytes: no message writes a whole value
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200


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


def _structure(value: str) -> str:
    if value == FINE_TUNED:
        raise ValueError(
            f"{FINE_TUNED} is a control, it has no noise; write controls: [{FINE_TUNED}] in the experiments "
            "that want it"
        )
    return _one_of(value, ARMS, "arm")


def _block(value: object) -> str:
    """Check a block of trials, `3` or `0-4`, and return it as the text that names it in paths."""
    text = str(value) if isinstance(value, int | str) else ""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ValueError(f"{_SHORT.repr(value)} is no block of trials; write one as 0-4 or 3")
    return text


def _unit(value: str) -> str:
    """Check what may stand in a list of sources or targets: the name of a suite, or an id."""
    return _modification(value) if "@" in value and not value.endswith(f"@{OWN}") else value


def _target(value: str) -> str:
    """Check a target: as of a source, and several joined by a plus sign."""
    return "+".join(map(_unit, value.split("+")))


def _reference(value: str) -> str:
    try:
        if value.startswith("file:"):
            value = f"file:{Path(value.removeprefix('file:')).expanduser()}"
        return str(references.parse(value))
    except StudyError as error:
        raise ValueError(str(error)) from None


def _control(value: str) -> str:
    if value in ARMS and value not in CONTROLS:
        raise ValueError(
            f"unknown control {value!r}; allowed: {', '.join(CONTROLS)}; none and identity are "
            "written under noise.arms"
        )
    return _one_of(value, CONTROLS, "control")


def _rank(value: object) -> object:
    try:
        parse_rank(value)
    except StudyError as error:
        raise ValueError(str(error)) from None
    return value


def _network(value: str) -> str:
    try:
        return str(variant(value))
    except StudyError as error:
        raise ValueError(str(error)) from None


def _tau(value: object) -> str:
    if value == UNSCALED:
        return UNSCALED
    # provenance.json holds numbers as the text of the tables
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < inf:
        return repr(float(number))
    raise ValueError(
        f"{_SHORT.repr(value)} is no trace scale; write a number above 0, or {UNSCALED}"
    )


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _taus(value: object) -> object:
    """Bring τ to the form {unit of sources, or "" for all: [τ, …]}."""
    by_source = value if isinstance(value, dict) else {"": value}
    return {source: _as_list(taus) for source, taus in by_source.items()}


class _OneOrMore(BeforeValidator):
    """A list that may be written as its one entry."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return spellings.one_or_more(handler(schema))


UNIQUE = Field(json_schema_extra={"uniqueItems": True})

Modification = Annotated[str, AfterValidator(_modification), WithJsonSchema(spellings.MODIFICATION)]
Activation = Annotated[
    str,
    AfterValidator(lambda v: _one_of(v, ACTIVATIONS, "activation")),
    WithJsonSchema(spellings.one_of(ACTIVATIONS)),
]
ArmId = Annotated[
    str,
    AfterValidator(lambda v: _one_of(v, ARMS, "arm")),
    WithJsonSchema(spellings.one_of(ARMS)),
]
Structure = Annotated[
    str,
    AfterValidator(_structure),
    WithJsonSchema(spellings.one_of([name for name in ARMS if name != FINE_TUNED])),
]
Block = Annotated[str, BeforeValidator(_block), WithJsonSchema(spellings.BLOCK)]
Unit = Annotated[str, AfterValidator(_unit), WithJsonSchema(spellings.UNIT)]
Target = Annotated[str, AfterValidator(_target), WithJsonSchema(spellings.TARGET)]
Tau = Annotated[str, BeforeValidator(_tau)]
NetworkId = Annotated[str, AfterValidator(_network), WithJsonSchema(spellings.NETWORK)]
Control = Annotated[
    str,
    AfterValidator(_control),
    WithJsonSchema(spellings.one_of(CONTROLS)),
]
RegimeId = Annotated[
    str,
    AfterValidator(lambda v: _one_of(v, REGIMES, "regime")),
    WithJsonSchema(spellings.one_of(REGIMES)),
]
Units = Annotated[list[Unit], AfterValidator(_unique), UNIQUE]
Targets = Annotated[list[Target], AfterValidator(_unique), UNIQUE]
OneOrMore = _OneOrMore(_as_list)
Folder = Annotated[Path, AfterValidator(Path.expanduser)]
Suite = Annotated[list[Modification], Field(min_length=1), AfterValidator(_unique), UNIQUE]


class Within(Model):
    """A published or expected number, and how far the measured one may be from it."""

    value: float = Field(ge=0, le=1, description="the published or expected number")
    within: float = Field(gt=0, le=1, description="the greatest difference that agrees")


def _kind_of_bound(value: object) -> str:
    return "band" if isinstance(value, dict | Within) else "least"


LeastOrWithin = Annotated[
    Annotated[float, Field(ge=0, le=1), Tag("least")] | Annotated[Within, Tag("band")],
    Discriminator(_kind_of_bound),
]
"""The least number that will do, or the expected one and how far from it."""


class Splits(Model):
    """Number of images of each split."""

    train: int = Field(ge=2, description="that networks and suffixes are trained on")
    validation: int = Field(
        default=0, ge=0, description="that base networks are measured on; 0: on test images"
    )
    test: int = Field(ge=1, description="that everything is tested on")
    calibration: int = Field(
        default=0, ge=0, description="training images that Σ is fitted on; 0: all of them"
    )

    @model_validator(mode="after")
    def _from_training(self) -> Splits:
        if self.calibration == 1 or self.calibration > self.train:
            raise ValueError(f"calibration images are training images: 0, or 2 to {self.train}")
        return self


class Dataset(Model):
    """A dataset of the registry or a folder of images, and what is taken from it."""

    splits: Splits = Field(description="number of images of each split")
    id: str | None = Field(
        default=None, description="in the registry, or folder:PATH; default: the section's name"
    )
    folder: Folder | None = Field(
        default=None,
        description="local folder with the original files; default: usual places, then download",
    )
    redraw_per_trial: bool = Field(
        default=False,
        strict=True,
        description="whether every trial draws modified images of its own, as in the paper",
    )
    resize: int | None = Field(
        default=None, ge=1, description="photographs: length in pixels of the shorter side"
    )
    crop: int | None = Field(default=None, ge=1, description="photographs: side of the middle")
    corrupted: Folder | None = Field(
        default=None, description="local folder of the published corrupted images (CIFAR-10-C, …)"
    )
    paired: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Folder] = Field(
        default={}, description="own modified versions of the same images; NAME is paired.NAME@1"
    )


class Training(Model):
    """Hyperparameters of Adam on cross-entropy, the same for base networks and suffixes."""

    learning_rate: float = Field(default=1e-3, gt=0, lt=1, description="of Adam")
    batch_size: int = Field(default=64, ge=1, description="images a step")
    epochs: int = Field(default=10, ge=1, description="passes through the training images")


Channels = Annotated[list[float], Field(min_length=1)]


Pretrained = Annotated[str, AfterValidator(_reference), WithJsonSchema(spellings.PRETRAINED)]


class Network(Model):
    """A network that the study trains, or a pretrained one."""

    architecture: Annotated[str | None, WithJsonSchema(spellings.ARCHITECTURE)] = Field(
        default=None, description="of a network that is trained, or of pretrained: file:PATH"
    )
    activation: Activation = Field(default="tanh", description="of a network that is trained")
    pretrained: Pretrained | None = Field(
        default=None, description="such as robustbench:cifar10/Linf/Standard"
    )
    mean: Channels | None = Field(default=None, description="of pretrained: file:PATH")
    std: Channels | None = Field(default=None, description="of pretrained: file:PATH")
    classes: int | None = Field(default=None, ge=2, description="of pretrained: file:PATH")
    clean_accuracy: Within | None = Field(
        default=None, description="that a pretrained network must have; default: as published"
    )
    dataset: str = Field(description="one of datasets")
    training: str | None = Field(
        default=None, description="of the whole network, or of suffixes; one of trainings"
    )

    @model_validator(mode="after")
    def _described(self) -> Network:
        if self.pretrained is not None:
            try:
                references.described(self.model_dump())
            except StudyError as error:
                raise ValueError(str(error)) from None
        return self


class Ridge(Model):
    """Added to the diagonal of a covariance; exactly one of them."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    absolute: float | None = Field(default=None, ge=0, description="a·I, as in the paper (1e-4)")
    relative: float | None = Field(default=None, ge=0, le=1, description="b · tr Σ / d · I")
    held_out: Literal[True] | None = Field(
        default=None, description="as relative, with the b that held-out images want"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Ridge:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("give either absolute, relative or held_out")
        return self


class Noise(Model):
    """How noise is made from a source."""

    arms: Annotated[list[Structure], AfterValidator(_unique), UNIQUE] = Field(
        min_length=1, description="structures of noise that are compared"
    )
    rank: Annotated[int | str, BeforeValidator(_rank), WithJsonSchema(spellings.RANK)] = Field(
        default=256,
        description="leading eigenpairs kept; full: an exact factor of the whole Σ; "
        "explained@0.95: as many as explain this share of the trace; held_out: as many as held-out "
        "images want",
    )
    ridge: Ridge = Field(
        default=Ridge(relative=1e-3), description="what is added to the diagonal of a covariance"
    )
    pooled: Units = Field(
        default=[], description="suites or modifications whose covariances arm pooled averages"
    )


class Evaluation(Model):
    """How a noisy network is scored: argmax of the mean logits of `passes` draws."""

    passes: int = Field(default=10, ge=1, description="noise draws a prediction")
    bfloat16: bool = Field(
        default=False, description="pretrained networks: convolutions and products in bfloat16"
    )
    channels_last: bool = Field(
        default=False, description="pretrained networks: channels last in memory"
    )
    compile: bool = Field(default=False, description="pretrained networks: by torch.compile")

    @property
    def ways(self) -> dict[str, bool]:
        """How pretrained networks run faster, if at all."""
        return self.model_dump(exclude={"passes"})


class Grid(Model):
    """Every noise of the sources × every target, at each network, site and trace scale."""

    network: Annotated[list[NetworkId], OneOrMore] = Field(
        min_length=1, description="one or several of networks, or variants: v2+pgd@0.1x0.5"
    )
    site: Annotated[list[str], OneOrMore] = Field(
        min_length=1,
        description="layers that the noise is added to, one at a time: L1, L2, … of a network that is "
        "trained, any module of a pretrained one",
    )
    tau: Annotated[
        dict[Unit, Annotated[list[Tau], AfterValidator(_unique)]],
        BeforeValidator(_taus),
        WithJsonSchema(spellings.TAU),
    ] = Field(default={}, description="trace scale, tr Σ = τ·d; one, several, or by source")
    sources: Units = Field(default=[], description="suites or modifications")
    targets: Targets = Field(min_length=1, description="suites or modifications; own: the source")
    controls: Annotated[list[Control], AfterValidator(_unique), UNIQUE, OneOrMore] = Field(
        default=[], description="arms beside those of the study, each made in jobs of its own"
    )
    regime: Annotated[list[RegimeId], AfterValidator(_unique), UNIQUE, OneOrMore] = Field(
        default=["retrain"], min_length=1, description="where the noise is on; one or several"
    )

    @property
    def taus(self) -> list[str]:
        """Every τ of the grid, once."""
        return list(dict.fromkeys(tau for taus in self.tau.values() for tau in taus))

    def taus_of(self, source: str) -> list[str]:
        """Return the τ of a unit of sources."""
        return self.tau.get(source, self.tau.get("", []))


CURVES = {
    "strength": {"tau"},
    "attack_transfer": {"tau"},
    "fixed_strength": {"tau"},
    "layer_sweep": {"site"},
    "trace_sweep": {"tau"},
    "adversarial_training": {"network", "regime"},
    "input_noise": {"network", "tau"},
    "regimes": {"regime"},
    "pareto": {"network", "site", "tau", "regime"},
    "learning_curve": {"tau"},
    "matched_accuracy": {"tau"},
}
"""Figures of curves, and in what the noises of one source may differ in them."""

Grids = Annotated[list[Grid], OneOrMore, Field(min_length=1)]
FigureKind = Annotated[
    str,
    AfterValidator(lambda v: _one_of(v, (HEATMAP, AUDIT, *CURVES), "figure")),
    WithJsonSchema(spellings.one_of((HEATMAP, AUDIT, *CURVES))),
]


class Published(Model):
    """Agreement of an arm's heatmap with a published one; a bound that is left out is not checked."""

    table: Path = Field(description="CSV: targets in rows, sources in columns")
    arm: ArmId = Field(default="full", description="that is compared")
    spearman: float | None = Field(
        default=None, ge=-1, le=1, description="least rank correlation over the cells"
    )
    mean_absolute_difference: float | None = Field(
        default=None, gt=0, le=1, description="greatest mean over the cells"
    )
    own_best: int | None = Field(
        default=None, ge=0, description="targets whose best source is the target itself"
    )
    largest_difference: float | None = Field(
        default=None, gt=0, le=1, description="no cell may be off by more"
    )
    diagonal_mean: Within | None = Field(default=None, description="where source = target")
    off_diagonal_mean: Within | None = Field(default=None, description="elsewhere")
    required: bool = Field(
        default=True, description="false: a disagreement is reported, the study does not fail"
    )


class PublishedCells(Model):
    """Agreement with published accuracies where source = target, cell by cell."""

    table: Path = Field(description="CSV: means of the cells, with their intervals")
    agreeing: float = Field(default=0.9, ge=0, le=1, description="least share of agreeing cells")
    tolerance: float = Field(default=0.02, ge=0, le=1, description="added to both intervals")
    required: bool = Field(
        default=True, description="false: a disagreement is reported, the study does not fail"
    )


class Checks(Model):
    """What a finished experiment must hold, else the study fails."""

    clean_accuracy: LeastOrWithin | None = Field(
        default=None,
        description="accuracy of arm none on clean test images, in every trial: the least, or {value, "
        "within}, what it must be near",
    )
    own_gain: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="least mean gain over identity of arm full where source = target",
    )
    gates: bool = Field(
        default=False,
        strict=True,
        description="whether attacks must be in order: the study fails where an adaptive one does less than "
        "a weaker one, at one epsilon",
    )
    published: Published | None = Field(default=None, description="agreement with a heatmap")
    published_cells: PublishedCells | None = Field(
        default=None, description="agreement with accuracies where source = target"
    )


class Study(Model):
    """A whole study: what is computed, from what, and what it is checked against."""

    study: ID = Field(description="its name: results go to results/NAME")
    seed: int = Field(default=0, ge=0, description="keys every random draw")
    datasets: dict[ID, Dataset] = Field(description="what images there are, by name")
    trainings: dict[ID, Training] = Field(
        default={}, description="hyperparameters of training, by name"
    )
    networks: dict[ID, Network] = Field(description="networks that are tested, by name")
    trials: list[Block] = Field(
        min_length=1,
        description="blocks of trials, one job each: 0-4 or 3; a new one leaves the others",
    )
    noise: Noise = Field(description="how noise is made from a source")
    evaluation: Evaluation = Field(
        default=Evaluation(), description="how a noisy network is scored"
    )
    attacks: dict[str, dict[str, Any]] = Field(
        default={},
        description="budgets; an attack that is not listed has its usual one; ATTACK.NAME is the same attack "
        "with another budget, whose other keys are those of ATTACK",
        json_schema_extra=spellings.budgets(),
    )
    suites: dict[ID, Suite] = Field(
        default={},
        description="named lists of sources and targets, one job each",
        json_schema_extra=spellings.SUITE_NAMES,
    )
    experiments: dict[ID, Grids] = Field(
        min_length=1, description="sources × targets, by name: one grid, or a list of grids"
    )
    figures: dict[ID, Annotated[list[FigureKind], OneOrMore]] = Field(
        default={}, description="by experiment; default: transfer_heatmap"
    )
    checks: dict[ID, Checks] = Field(
        default={}, description="by experiment: what it must hold, else the study fails"
    )

    @model_validator(mode="after")
    def _cross_checks(self) -> Study:
        found = faults(self)
        if found:
            raise ValueError("\n".join(found))
        return self

    def network(self, id: str) -> Network:
        """Return the section that a network or a variant of it is made from."""
        return self.networks[variant(id).base]

    def budget(self, attack: str) -> dict[str, Any]:
        """Return the hyperparameters of an attack, or of one with a budget of its own, `ATTACK.NAME`."""
        own = attack_of(attack)
        keys = self.attacks.get(own, {}) | self.attacks.get(attack, {})
        return ATTACKS[own].budget.model_validate(keys).model_dump()

    def figures_of(self, experiment: str) -> list[str]:
        """Return the kinds of figure that an experiment is drawn as."""
        return self.figures.get(experiment, [HEATMAP])

    def may_vary(self, figure: str) -> set[str]:
        """Return in what the noises of one source may differ in a figure."""
        return CURVES.get(figure, set())


def require_files(study: Study) -> None:
    """Refuse a study that names folders of modified images, or files of weights, that are not there.

    Raises:
        StudyError: which names the key and the path.
    """
    for name, dataset in study.datasets.items():
        named = {"corrupted": dataset.corrupted}
        named |= {f"paired.{own}": folder for own, folder in dataset.paired.items()}
        for key, folder in named.items():
            if folder and not folder.is_dir():
                raise StudyError(f"datasets.{name}.{key}: {folder}: no such folder")
    for name, network in study.networks.items():
        zoo, _, path = (network.pretrained or "").partition(":")
        if zoo == "file" and not Path(path).is_file():
            raise StudyError(f"networks.{name}.pretrained: {path}: no such file")


def load(raw: Mapping[str, Any], where: str = "the study file") -> Study:
    """Check a parsed study file.

    Raises:
        StudyError: listing every fault of a single key, or if there is none, every fault between sections;
            each with its key, its value and what is allowed.
    """
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        faults = "\n".join(f"  {line}" for e in error.errors() for line in _explain(e, raw))
        raise StudyError(f"{where} is not a valid study:\n{faults}") from None


def _explain(error: Any, raw: Mapping[str, Any]) -> Iterable[str]:
    place = ".".join(_written(error, raw))
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:  # cross-checks name their keys themselves
        return message.splitlines()
    if error["type"] == "extra_forbidden":
        return [f"{place}: unknown key; allowed: {listed(_keys_beside(error['loc']))}"]
    value = "" if error["type"] == "missing" else f" (found {_SHORT.repr(error['input'])})"
    return [f"{place}: {message}{value}"]


def _written(error: Any, raw: Mapping[str, Any]) -> Iterable[str]:
    """Return the steps to a fault that the file has: a list of one is not always written as a list."""
    at: Any = raw
    for part in error["loc"]:
        known = at if isinstance(at, Mapping) else range(len(at)) if isinstance(at, list) else ()
        if part in known:
            at = at[part]
            yield str(part)
    if error["type"] == "missing":
        yield str(part)


def _keys_beside(place: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys that the schema allows where an unknown one was found."""
    annotation: Any = Study
    for part in (part for part in place[:-1] if not isinstance(part, int)):
        model = next(iter(_models(annotation)))
        if get_origin(annotation) is dict:
            # a section by ids takes two steps: to the section, then to what stands under the id
            annotation = model
        elif part in model.model_fields:  # else a step to one of several spellings
            annotation = model.model_fields[part].annotation
    return tuple(next(iter(_models(annotation))).model_fields)


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)
