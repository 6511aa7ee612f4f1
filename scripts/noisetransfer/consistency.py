"""What the sections of a study must say of each other. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from noisetransfer.architectures import ARCHITECTURES
from noisetransfer.arms import ARMS, FINE_TUNED, NO_NOISE, NO_SOURCE
from noisetransfer.attack_order import ordered
from noisetransfer.attacks import ATTACKS
from noisetransfer.corrupted_sets import SETS, misfit
from noisetransfer.datasets import DATASETS, find, too_large, validation_is_unseen
from noisetransfer.drawable import AUDIT, undrawable
from noisetransfer.errors import StudyError, listed
from noisetransfer.modifications import MODIFICATIONS, attack_of, is_budgeted, parse
from noisetransfer.plan import (
    OWN,
    VALIDATION,
    apart,
    attacked,
    evaluations,
    members,
    pairs,
    trials_of,
)
from noisetransfer.regimes import REGIMES
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from noisetransfer.config import Checks, Dataset, Grid, Network, Study


def faults(study: Study) -> list[str]:
    """Return what is wrong between the sections of a study, each with its key and what is allowed."""
    checks = (
        _unknown_ids,
        _bad_images,
        _bad_splits,
        _bad_grids,
        _bad_validation,
        _missing_budgets,
        _misplaced_attacks,
        _bad_read_images,
        _bad_pooled,
        _computed_twice,
        undrawable,
        _bad_checks,
    )
    for check in checks:
        found = list(dict.fromkeys(check(study)))
        if found:  # the later checks rely on the earlier ones
            return found
    return []


def _unknown_ids(study: Study) -> Iterable[str]:
    for name, network in study.networks.items():
        yield from _bad_network(study, f"networks.{name}", network)
    for name, dataset in study.datasets.items():
        yield from _bad_dataset(name, dataset)
    for name in study.attacks:
        yield from _bad_budget(study, name)
    for name in {OWN, NO_SOURCE} & set(study.suites):
        yield f"suites.{name}: {name!r} has a meaning of its own, choose another name"
    for section in ("figures", "checks"):
        for name in set(getattr(study, section)) - set(study.experiments):
            yield f"{section}: unknown experiment {name!r}; allowed: {listed(study.experiments)}"
    for name, grids in study.experiments.items():
        for grid in grids:
            yield from _unknown_in_grid(study, f"experiments.{name}", grid)
    for unit in study.noise.pooled:
        yield from _unknown_unit(study, "noise.pooled", unit)


def _bad_network(study: Study, place: str, network: Network) -> Iterable[str]:
    known: dict[str, Iterable[str]] = {"dataset": study.datasets}
    if network.pretrained is None:
        known |= {"architecture": ARCHITECTURES, "training": study.trainings}
        for key in ("mean", "std", "classes", "clean_accuracy"):
            if getattr(network, key) is not None:
                yield f"{place}.{key}: only of a pretrained network"
    elif network.training is not None:
        known["training"] = study.trainings
    yield from _unknown(place, network, known)


def _unknown_in_grid(study: Study, place: str, grid: Grid) -> Iterable[str]:
    for network in grid.network:
        base = variant(network).base
        if base not in study.networks:
            yield f"{place}.network: unknown {base!r}; allowed: {listed(study.networks)}"
            continue
        yield from _bad_network_of_grid(place, grid, network, study.networks[base])
    for unit in grid.sources:
        yield from _unknown_unit(study, f"{place}.sources", unit)
    for unit in (part for target in grid.targets for part in target.split("+")):
        if unit != OWN and not unit.endswith(f"@{OWN}"):
            yield from _unknown_unit(study, f"{place}.targets", unit)
        elif unit != OWN and not _is_modification(unit.removesuffix(f"@{OWN}")):
            yield f"{place}.targets: unknown modification in {unit!r}"
        if not grid.sources and (unit == OWN or unit.endswith(f"@{OWN}")):
            yield f"{place}.targets: {unit} needs sources"
    for source in set(grid.tau) - {"", *grid.sources}:
        yield f"{place}.tau: {source!r} is not among its sources: {listed(grid.sources)}"


def _bad_network_of_grid(place: str, grid: Grid, id: str, network: Network) -> Iterable[str]:
    if network.pretrained is None:
        # a pretrained network is not there yet: the first job that cuts it knows its sites
        architecture = ARCHITECTURES.get(str(network.architecture))
        sites = architecture.sites if architecture else grid.site
        for site in set(grid.site) - set(sites):
            yield f"{place}.site: unknown {site!r}; allowed: {listed(sites)}"
        return
    if id != variant(id).base:
        yield f"{place}.network: {id}: a pretrained network has no variants, they would be trained"
    trained = [regime for regime in grid.regime if REGIMES[regime].suffix != "base"]
    if trained and network.training is None:
        base = variant(id).base
        yield (
            f"{place}.regime: {trained[0]} needs networks.{base}.training, the hyperparameters of the new "
            "suffix; or write regime: inference"
        )


def _is_modification(name: str) -> bool:
    return name in MODIFICATIONS or is_budgeted(name)


def _unknown_unit(study: Study, place: str, unit: str) -> Iterable[str]:
    if "@" not in unit and unit not in study.suites:
        yield (
            f"{place}: unknown suite {unit!r}; allowed: {listed(study.suites)}, "
            "or a modification as name@strength"
        )


def _bad_budget(study: Study, name: str) -> Iterable[str]:
    attack = attack_of(name)
    if attack not in ATTACKS:
        yield f"attacks: unknown {name!r}; allowed: {listed(ATTACKS)}"
        return
    if name != attack and not is_budgeted(name):
        yield f"attacks.{name}: write ATTACK.NAME with a NAME of a-z, 0-9 and _"
        return
    try:
        study.budget(name)
    except ValidationError as error:
        allowed = listed(ATTACKS[attack].budget.model_fields)
        for fault in error.errors():
            key = ".".join(map(str, fault["loc"]))
            yield f"attacks.{name}.{key}: {fault['msg']} (keys of {attack}: {allowed})"


def _bad_dataset(name: str, section: Dataset) -> Iterable[str]:
    try:
        dataset = find(section.id or name, resize=section.resize, crop=section.crop)
    except StudyError as error:
        yield f"datasets.{name}: {error}"
        return
    if section.paired and dataset.preprocessing is None:
        yield f"datasets.{name}.paired: only photographs, which have file names, have pairs"


def _bad_images(study: Study) -> Iterable[str]:
    for name, network in study.networks.items():
        section = study.datasets[network.dataset]
        if network.pretrained is not None:
            if section.redraw_per_trial:
                yield (
                    f"datasets.{network.dataset}.redraw_per_trial: pretrained {name} is one network for all "
                    "trials, and so are its images; allowed for networks that the study trains"
                )
            continue
        found = find(section.id or network.dataset, resize=section.resize, crop=section.crop).shape
        wanted = ARCHITECTURES[str(network.architecture)].images
        if found != wanted:
            fitting = listed(id for id, dataset in DATASETS.items() if dataset.shape == wanted)
            yield (
                f"networks.{name}.dataset: {network.architecture} takes images of {_size(wanted)}, "
                f"but {network.dataset} has {_size(found)}; allowed: {fitting}"
            )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _bad_splits(study: Study) -> Iterable[str]:
    for name, dataset in study.datasets.items():
        fault = too_large(dataset.id or name, dataset.splits.model_dump())
        if fault:
            yield f"datasets.{name}.splits: {fault}"
    numbers = [trial for block in study.trials for trial in trials_of(block)]
    if len(set(numbers)) < len(numbers):
        yield f"trials: blocks {listed(study.trials)} overlap"


def _bad_grids(study: Study) -> Iterable[str]:
    for name, grids in study.experiments.items():
        place = f"experiments.{name}"
        for grid in grids:
            yield from _bad_grid(study, place, grid)


def _bad_grid(study: Study, place: str, grid: Grid) -> Iterable[str]:
    for regime in grid.regime:
        if REGIMES[regime].suffix == "none" and "none" not in study.noise.arms:
            yield f"{place}.regime: {regime} needs none among noise.arms: it tests that arm's suffixes"
        if regime != "retrain" and FINE_TUNED in grid.controls:
            yield (
                f"{place}.regime: {regime}: control {FINE_TUNED} has no noise; allowed beside it: retrain. "
                "Write the other regimes as another item of the experiment"
            )
    for source in grid.sources:
        if any(parse(id)[0].kind == "clean" for id in members(study.suites, source)):
            yield f"{place}.sources: clean images cannot be a source, their difference is 0"
        if not grid.taus_of(source):
            yield f"{place}.tau: {source} has none; write a number above 0"
        for target in grid.targets:
            try:
                pairs(study.suites, source, target)
            except StudyError as error:
                yield f"{place}.targets: {target} of {source}: {error}"


def _bad_validation(study: Study) -> Iterable[str]:
    """Find validation images as a target that are beside test images, not there, or were trained on."""
    for name, suite in study.suites.items():
        if VALIDATION in suite:
            yield f"suites.{name}: {VALIDATION} is no test image; list it among targets, by itself"
    for name, grids in study.experiments.items():
        for grid in grids:
            if VALIDATION in grid.targets:
                for network in grid.network:
                    yield from _unvalidated(study, f"experiments.{name}.targets", network)
                if len(grid.targets) == 1:
                    yield f"experiments.{name}.targets: {VALIDATION} needs targets of test images beside it"
            for target in grid.targets:
                if target != VALIDATION and VALIDATION in target.split("+"):
                    yield f"experiments.{name}.targets: {target}: list {VALIDATION} by itself"


def _unvalidated(study: Study, place: str, network: str) -> Iterable[str]:
    dataset = study.network(network).dataset
    section = study.datasets[dataset]
    if not section.splits.validation:
        yield f"{place}: {VALIDATION} needs images in datasets.{dataset}.splits.validation"
    elif study.network(network).pretrained and not validation_is_unseen(section.id or dataset):
        yield (
            f"{place}: {VALIDATION}: pretrained {network} was trained on the images that {dataset} "
            "has for validation; allowed for networks that the study trains"
        )


def _missing_budgets(study: Study) -> Iterable[str]:
    """Find attacks with a budget of their own, `ATTACK.NAME`, that the study does not give."""
    for name in study.experiments:
        for job in evaluations(study, name):
            for source, targets in pairs(study.suites, job.source, job.suite).items():
                used = [parse(id)[0].name for id in (source, *targets) if id != NO_SOURCE]
                for attack in filter(is_budgeted, used):
                    if attack not in study.attacks:
                        budgets = listed(filter(is_budgeted, study.attacks))
                        yield f"experiments.{name}: attacks has no {attack!r}; allowed: {budgets}"


def _misplaced_attacks(study: Study) -> Iterable[str]:
    """Find AutoAttack for networks without noise on networks with it."""
    for name in study.experiments:
        for (job, source), balls in attacked(study, name).items():
            if job.tau == NO_NOISE or not REGIMES[job.regime].tested:
                continue
            for attack in sorted({attack for names in balls.values() for attack in names}):
                budget = study.budget(attack)
                if budget.get("version") == "standard" and budget["against"] in (
                    "noisy",
                    "known_seed",
                ):
                    yield (
                        f"experiments.{name}: attacks.{attack}: version standard is for networks without "
                        f"noise, but {source} at tau {job.tau} has noise; use auto or rand, or against: "
                        "noise_off"
                    )


def _bad_read_images(study: Study) -> Iterable[str]:
    """Find modified images that are not made but read, and cannot be read for a dataset."""
    for name in study.experiments:
        for job in evaluations(study, name):
            dataset = study.network(job.network).dataset
            for source, targets in pairs(study.suites, job.source, job.suite).items():
                if source != NO_SOURCE and parse(source)[0].kind == "official":
                    yield (
                        f"experiments.{name}.sources: {source}: published sets hold test images, a "
                        "source needs training images"
                    )
                for id in (source, *targets) if source != NO_SOURCE else targets:
                    yield from _unreadable(study, f"experiments.{name}", id, dataset)


def _bad_pooled(study: Study) -> Iterable[str]:
    """Find what arm pooled lacks, or cannot average."""
    grids = [grid for listed in study.experiments.values() for grid in listed]
    named = {*study.noise.arms, *(arm for grid in grids for arm in grid.controls)}
    if "pooled" in named and not study.noise.pooled:
        yield "noise.pooled: arm pooled needs the sources whose covariances it averages"
    ids = [id for unit in study.noise.pooled for id in members(study.suites, unit)]
    if len(set(ids)) < len(ids):
        yield "noise.pooled: a source is in two of its suites; once is enough"
    for id in ids:
        if parse(id)[0].kind in ("clean", "official"):
            yield f"noise.pooled: {id}: is no source, which needs modified training images"
    jobs = [job for name in study.experiments for job in evaluations(study, name)]
    for dataset in {study.network(job.network).dataset for job in jobs}:
        for id in ids:
            yield from _unreadable(study, "noise.pooled", id, dataset)


def _unreadable(study: Study, place: str, id: str, dataset: str) -> Iterable[str]:
    kind, section = parse(id)[0].kind, study.datasets[dataset]
    group, _, name = parse(id)[0].name.partition(".")
    if kind == "paired" and name not in section.paired:
        allowed = listed(section.paired)
        yield f"{place}: {id}: datasets.{dataset}.paired has no {name!r}; allowed: {allowed}"
    if kind == "official":
        known = find(section.id or dataset, resize=section.resize, crop=section.crop)
        fault = misfit(group, section.id or dataset, known.preprocessing)
        if fault:
            yield f"{place}: {id}: {fault}"
        elif not section.corrupted and not SETS[group].files:
            yield f"{place}: {id}: datasets.{dataset}.corrupted is to name its folder. {SETS[group].hint}"


def _computed_twice(study: Study) -> Iterable[str]:
    units: dict[tuple[str, ...], str] = {}
    for name in study.experiments:
        tested = set()
        for job in evaluations(study, name):
            noise = (job.regime, job.network, job.site, job.tau, apart(job.source))
            for source, targets in pairs(study.suites, job.source, job.suite).items():
                if units.setdefault((*noise, source), job.source) != job.source:
                    others = f"{units[*noise, source]} and {job.source}"
                    yield f"experiments.{name}.sources: {source} is in {others}; once is enough"
                for pair in ((*noise, source, target) for target in targets):
                    if pair in tested:
                        yield f"experiments.{name}.targets: {pair[-1]} is listed twice for {source}"
                    tested.add(pair)


def _bad_checks(study: Study) -> Iterable[str]:
    for name, checks in study.checks.items():
        for check, arms in _needed(checks).items():
            missing = arms.difference(study.noise.arms)
            if missing:
                yield f"checks.{name}.{check}: needs {listed(missing)} among noise.arms"
        tests = [
            (source, target)
            for job in evaluations(study, name)
            for source, targets in pairs(study.suites, job.source, job.suite).items()
            for target in targets
        ]
        if checks.own_gain is not None and not any(s == t for s, t in tests):
            yield f"checks.{name}.own_gain: no source of {name} is among its targets"
        if checks.clean_accuracy is not None and (NO_SOURCE, "clean@0") not in tests:
            yield f"checks.{name}.clean_accuracy: needs clean@0 among the targets of {name}"
        if checks.published and not ARMS[checks.published.arm].from_source:
            yield f"checks.{name}.published.arm: {checks.published.arm} belongs to no source"
        if checks.gates and not _has_gates(study, name):
            yield (
                f"checks.{name}.gates: no two attacks of {name} can be compared; a gate needs two of which "
                "one is stronger by construction (such as fgm and pgd, pgd and auto_pgd_eot: "
                "docs/audit.md), at one epsilon under the same noise"
            )


def _has_gates(study: Study, experiment: str) -> bool:
    """Tell whether two attacks of an experiment are in an order, or an audit checks the noise itself."""
    if AUDIT in study.figures_of(experiment):
        return True
    found = [names for own in attacked(study, experiment).values() for names in own.values()]
    budgets = {n: {"attack": attack_of(n), **study.budget(n)} for names in found for n in names}
    return any(any(ordered({name: budgets[name] for name in names})) for names in found)


def _needed(checks: Checks) -> dict[str, set[str]]:
    """Return the arms that each check of an experiment needs."""
    return {
        "clean_accuracy": {"none"} if checks.clean_accuracy is not None else set(),
        "own_gain": {"full", "identity"} if checks.own_gain is not None else set(),
        "published": {checks.published.arm} if checks.published else set(),
    }


def _unknown(place: str, section: Network, known: Mapping[str, Iterable[str]]) -> Iterable[str]:
    for field, allowed in known.items():
        value = getattr(section, field)
        if value not in allowed:
            found = "missing" if value is None else f"unknown {value!r}"
            yield f"{place}.{field}: {found}; allowed: {listed(allowed)}"
