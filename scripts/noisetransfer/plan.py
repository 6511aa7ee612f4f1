"""From a study to its jobs: which noise is made, and what each is tested under. Imports no torch.

A *unit* is what one job handles: a suite of modifications by its name, or a single modification by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from noisetransfer.arms import ARMS, NO_SOURCE, UNSCALED
from noisetransfer.modifications import canonical, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noisetransfer.config import Grid, Study

NO_NOISE = "0"
"""The τ that arm none is filed under."""

OWN = "own"
"""As a target: the source itself; `pgd@own`: PGD at its strength; `own+clean@0`: both in one job."""


@dataclass(frozen=True)
class Evaluation:
    """One noise under one suite of targets: what names a job of `evaluate`, but for its trials."""

    regime: str
    network: str
    site: str
    tau: str
    source: str
    suite: str


def evaluations(study: Study, experiment: str) -> list[Evaluation]:
    """Return the evaluations of an experiment, each once, in the order of the study file."""
    found = (job for grid in study.experiments[experiment] for job in _of_grid(study, grid))
    return list(dict.fromkeys(found))


def members(suites: Mapping[str, Sequence[str]], unit: str) -> list[str]:
    """Return the modifications of a unit: those of the suite, or the modification itself."""
    return list(suites[unit]) if unit in suites else [canonical(unit)]


def pairs(suites: Mapping[str, Sequence[str]], source: str, suite: str) -> dict[str, list[str]]:
    """Return what each source of a unit is tested under: source → targets."""
    if source == NO_SOURCE:
        return {NO_SOURCE: members(suites, suite)}
    return {own: _targets(suites, own, suite) for own in members(suites, source)}


def arms(names: Iterable[str], source: str, tau: str) -> list[str]:
    """Return those of a study's arms that a noise has: none at τ = 0, identity at the others."""
    if source != NO_SOURCE:
        return [name for name in names if ARMS[name].from_source]
    plain = [name for name in names if not ARMS[name].from_source]
    return [name for name in plain if (name == "none") == (tau == NO_NOISE)]


def trials_of(block: str) -> list[int]:
    """Return the trials of a block: `0-2` → [0, 1, 2]."""
    first, _, last = block.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _of_grid(study: Study, grid: Grid) -> Iterable[Evaluation]:
    for network, site in product(grid.network, grid.site):
        plain = [NO_NOISE, *(tau for tau in grid.taus if tau != UNSCALED)]
        for tau, suite in product(plain, _plain_suites(study.suites, grid)):
            if arms(study.noise.arms, NO_SOURCE, tau):
                yield Evaluation(grid.regime, network, site, tau, NO_SOURCE, suite)
        for source, target in product(grid.sources, grid.targets):
            suite = _shortest(study.suites, source, target)
            if arms(study.noise.arms, source, ""):
                for tau in grid.taus_of(source):
                    yield Evaluation(grid.regime, network, site, tau, source, suite)


def _shortest(suites: Mapping[str, Sequence[str]], source: str, target: str) -> str:
    """Return `own` for `pgd@own` of a unit of PGD: one name for one evaluation."""
    names = {parse(id)[0].name for id in members(suites, source)}
    return OWN if {target} == {f"{name}@{OWN}" for name in names} else target


def _plain_suites(suites: Mapping[str, Sequence[str]], grid: Grid) -> list[str]:
    """Return the suites that cover every target of a grid, for the arms without a source."""
    sources = [source for unit in grid.sources for source in members(suites, unit)]
    wanted: dict[str, None] = {}
    found: dict[str, None] = {}
    for part in (part for target in grid.targets for part in target.split("+")):
        if _is_own(suites, part):
            wanted |= dict.fromkeys(_own(part, source) for source in sources)
        else:
            found[part] = None
    return [*_covering(suites, list(wanted)), *found]


def _covering(suites: Mapping[str, Sequence[str]], wanted: list[str]) -> list[str]:
    """Cut modifications into units: the largest suite that lists none but them, and so on."""
    inside = [name for name, listed in suites.items() if set(listed) <= set(wanted)]
    if not inside:
        return wanted
    largest = max(inside, key=lambda name: len(suites[name]))
    rest = [one for one in wanted if one not in suites[largest]]
    return [largest, *_covering(suites, rest)]


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
