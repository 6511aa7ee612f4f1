"""From a study to its jobs: which noise is made, and what each is tested under. Imports no torch.

A *unit* is what one job handles: a suite of modifications by its name, or a single modification by its id.
Noise of an arm that stands apart, as all controls do, is a unit of its own: `any+signal`, `snow@5+rotated`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from noisetransfer.arms import ARMS, NO_NOISE, NO_SOURCE, UNSCALED
from noisetransfer.modifications import L2, canonical, parse
from noisetransfer.regimes import without_noise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noisetransfer.config import Grid, Study

    Ball = tuple[bool, float]  # whether in L2, and ε
    Attacks = dict[tuple["Evaluation", str], dict[Ball, set[str]]]

PRETRAINED = "pretrained"
"""In the place of a block of trials: what belongs to a pretrained network, the same in every trial."""

OWN = "own"
"""As a target: the source itself; `pgd@own`: PGD at its strength; `own+clean@0`: both in one job."""

VALIDATION = "validation@0"
"""As a target: the clean images of the validation split, in jobs and tables of their own."""


@dataclass(frozen=True)
class Evaluation:
    """One noise under one suite of targets: what names a job of `evaluate`, but for its trials."""

    regime: str
    network: str
    site: str
    tau: str
    source: str
    suite: str

    @property
    def split(self) -> str:
        """The split whose images are tested."""
        return split_of(self.suite)


def evaluations(study: Study, experiment: str) -> list[Evaluation]:
    """Return the evaluations of an experiment, each once; those with a source come first."""
    grids = study.experiments[experiment]
    shaped = [job for grid in grids for job in _with_source(study, grid)]
    return list(dict.fromkeys([*shaped, *_without_source(study, grids)]))


def split_of(suite: str) -> str:
    """Return the split whose images a suite of targets is made from."""
    return "validation" if suite == VALIDATION else "test"


def is_matched(study: Study, experiment: str) -> bool:
    """Return whether arms can be compared at equal clean accuracy: full was validated at several τ."""
    swept: dict[Evaluation, set[str]] = {}
    for job in evaluations(study, experiment):
        shared = job.split == "validation" and not apart(job.source)
        if shared and job.tau not in (UNSCALED, NO_NOISE):
            swept.setdefault(replace(job, tau=""), set()).add(job.tau)
    shaped = [taus for noise, taus in swept.items() if noise.source != NO_SOURCE]
    return "full" in study.noise.arms and any(len(taus) > 1 for taus in shaped)


def attacked(study: Study, experiment: str) -> Attacks:
    """Return the attacks that each noise and source of an experiment is tested under, by their ball."""
    found: Attacks = {}
    for job in evaluations(study, experiment):
        for source, targets in pairs(study.suites, job.source, job.suite).items():
            own = found.setdefault((replace(job, suite=""), source), {})
            for modification, epsilon in map(parse, targets):
                if modification.kind == "attack":
                    ball = modification.strengths is L2, epsilon
                    own.setdefault(ball, set()).add(modification.name)
    return found


def members(suites: Mapping[str, Sequence[str]], unit: str) -> list[str]:
    """Return the modifications of a unit: those of the suite, or the modification itself."""
    name = source_of(unit)
    return list(suites[name]) if name in suites else [canonical(name)]


def source_of(unit: str) -> str:
    """Return the sources of a unit, `any` or a suite or a modification, without its arm."""
    return unit.partition("+")[0]


def apart(unit: str) -> str:
    """Return the arm of a unit that stands apart; empty for the others."""
    return unit.partition("+")[2]


def has_covariance(unit: str) -> bool:
    """Return whether the noise of a unit is made from a fitted covariance."""
    own = apart(unit)
    return ARMS[own].factors is not None if own else unit != NO_SOURCE


def fitted(unit: str) -> str:
    """Return the unit for which the covariance of a unit is fitted: that of the source, or one of its own."""
    own = apart(unit)
    return unit if not own or ARMS[own].apart else source_of(unit)


def pairs(suites: Mapping[str, Sequence[str]], source: str, suite: str) -> dict[str, list[str]]:
    """Return what each source of a unit is tested under: source → targets."""
    if source_of(source) == NO_SOURCE:
        return {NO_SOURCE: _targets(suites, NO_SOURCE, suite)}
    return {own: _targets(suites, own, suite) for own in members(suites, source)}


def arms(names: Iterable[str], source: str, tau: str) -> list[str]:
    """Return those of a study's arms that a noise has: none at τ = 0, identity at the others."""
    if own := apart(source):
        return [own]
    together = [name for name in names if not ARMS[name].apart]
    if source != NO_SOURCE:
        return [name for name in together if ARMS[name].from_source]
    plain = [name for name in together if not ARMS[name].from_source]
    return [name for name in plain if ARMS[name].noisy == (tau != NO_NOISE)]


def trials_of(block: str) -> list[int]:
    """Return the trials of a block: `0-2` → [0, 1, 2]; what is the same in all is keyed as trial 0."""
    if block == PRETRAINED:
        return [0]
    first, _, last = block.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _with_source(study: Study, grid: Grid) -> Iterable[Evaluation]:
    """Yield the evaluations of the arms that have a source."""
    for network, site, source in product(grid.network, grid.site, grid.sources):
        for unit in _units(study, grid, source):
            taus = grid.taus_of(source) if _is_noisy(unit) else [NO_NOISE]
            for tau, target in product(taus, grid.targets):
                suite = _shortest(study.suites, source, target)
                for regime in grid.regime:
                    yield Evaluation(regime, network, site, tau, unit, suite)


def _units(study: Study, grid: Grid, source: str, tau: str = "") -> list[str]:
    """Return the units of sources, or of `any` at a τ: of the arms that share jobs, and of each other arm."""
    shared = arms(study.noise.arms, source, tau)
    others = [
        f"{source}+{name}"
        for name in dict.fromkeys([*study.noise.arms, *grid.controls])
        if (ARMS[name].apart or name not in study.noise.arms)
        and ARMS[name].from_source == (source != NO_SOURCE)
        and (source != NO_SOURCE or ARMS[name].noisy == (tau != NO_NOISE))
    ]
    return [*([source] if shared else []), *others]


def _is_noisy(unit: str) -> bool:
    own = apart(unit)
    return not own or ARMS[own].noisy


def _without_source(study: Study, grids: Iterable[Grid]) -> Iterable[Evaluation]:
    """Yield the evaluations of the arms without a source, under every target of the grids once."""
    wanted: dict[tuple[str, str, str, str, str], list[str]] = {}
    for grid in grids:
        for (tau, unit), targets in _plain_targets(study, grid).items():
            for regime, network, site in product(grid.regime, grid.network, grid.site):
                own = without_noise(regime) if tau == NO_NOISE else regime
                wanted.setdefault((own, network, site, tau, unit), []).extend(targets)
    named = [part for grid in grids for target in grid.targets for part in target.split("+")]
    units = [unit for unit in [*named, *study.suites] if not _is_own(study.suites, unit)]
    for (regime, network, site, tau, unit), targets in wanted.items():
        for suite in _covering(study.suites, units, list(dict.fromkeys(targets))):
            yield Evaluation(regime, network, site, tau, unit, suite)


def _plain_targets(study: Study, grid: Grid) -> dict[tuple[str, str], list[str]]:
    """Return the targets of a grid by τ and unit of arms without a source."""
    found: dict[tuple[str, str], list[str]] = {}
    for source in grid.sources or [NO_SOURCE]:
        targets = [
            target
            for suite in grid.targets
            for listed in pairs(study.suites, source, suite).values()
            for target in listed
        ]
        for tau in [NO_NOISE, *(grid.taus_of(source) if source in grid.sources else grid.taus)]:
            for unit in _units(study, grid, NO_SOURCE, tau) if tau != UNSCALED else ():
                found.setdefault((tau, unit), []).extend(targets)
    return found


def _shortest(suites: Mapping[str, Sequence[str]], source: str, target: str) -> str:
    """Return `own` for `pgd@own` of a unit of PGD: one name for one evaluation."""
    names = {parse(id)[0].name for id in members(suites, source)}
    return OWN if {target} == {f"{name}@{OWN}" for name in names} else target


def _covering(
    suites: Mapping[str, Sequence[str]], units: Iterable[str], wanted: list[str]
) -> list[str]:
    """Cut modifications into units: those that list nothing else, in the study's order; then one by one.

    The order keeps earlier choices where something is added at the end.
    """
    found = []
    for unit in units:
        listed = members(suites, unit)
        if set(listed) <= set(wanted):
            found.append(unit)
            wanted = [one for one in wanted if one not in listed]
    return [*found, *wanted]


def _is_own(suites: Mapping[str, Sequence[str]], target: str) -> bool:
    return target not in suites and (target == OWN or target.endswith(f"@{OWN}"))


def _targets(suites: Mapping[str, Sequence[str]], source: str, suite: str) -> list[str]:
    return [
        target
        for part in suite.split("+")
        for target in ([_own(part, source)] if _is_own(suites, part) else members(suites, part))
    ]


def _own(target: str, source: str) -> str:
    if target == OWN:
        return source
    name = target.removesuffix(f"@{OWN}")
    return canonical(f"{name}@{parse(source)[1]}")
