"""What the figures of a study need of its experiments. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisetransfer.arms import NO_NOISE, NO_SOURCE
from noisetransfer.attack_order import averages, through_one_draw
from noisetransfer.errors import listed
from noisetransfer.modifications import FLOOR, parse
from noisetransfer.plan import (
    VALIDATION,
    apart,
    attacked,
    evaluations,
    is_matched,
    pairs,
    source_of,
)
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noisetransfer.config import Study
    from noisetransfer.plan import Attacks, Ball, Evaluation

HEATMAP = "transfer_heatmap"
"""The figure of an experiment that names none."""

MATCHED = "matched_accuracy"
"""The figure of accuracies at equal clean accuracy."""

AUDIT = "audit"
"""The figure of what attackers of more effort leave of gains."""

AUDIT_PASSES = 32
"""Fresh draws with which an audit scores a finished image, at the least."""

SIDE_BY_SIDE = (HEATMAP, AUDIT, "attack_transfer", "fixed_strength")
"""Figures of all noises of an experiment together, the arms without a source once for all."""

VARIED = ("network", "site", "tau", "regime")
"""In what noises of one source may differ."""

NETWORKS = ("network", "regime")
"""What an audit draws in lines of their own."""


def undrawable(study: Study) -> Iterable[str]:
    """Yield what the figures of a study cannot show of its experiments, each with its key and what to do."""
    for name in study.experiments:
        yield from _bad_audit(study, name)
        if MATCHED in study.figures_of(name) and not is_matched(study, name):
            yield (
                f"figures.{name}: {MATCHED} needs {VALIDATION} among the targets, two numbers as tau of a "
                "source, and full among noise.arms"
            )
        yield from _bad_by_strength(study, name)
        for kind in study.figures_of(name):
            yield from _mixed(study, name, kind)
            if kind == AUDIT:
                yield from _mixed_networks(study, name)


def _bad_audit(study: Study, experiment: str) -> Iterable[str]:
    """Find an audit that lacks what it compares: arm none, enough draws, both kinds of attacks at one ε."""
    if AUDIT not in study.figures_of(experiment):
        return
    if "none" not in study.noise.arms:
        yield f"figures.{experiment}: audit needs none among noise.arms"
    if study.evaluation.passes < AUDIT_PASSES:
        yield (
            f"figures.{experiment}: audit needs evaluation.passes of {AUDIT_PASSES} or more: so many fresh "
            "draws score a finished image"
        )
    attacks = attacked(study, experiment)
    reference = _attacks_without_noise(attacks)
    bare = {
        _noise(job, source)
        for (job, source), found in attacks.items()
        if not _shows_both(study, [(b, found[b] & reference.get(b, set())) for b in found])
    }
    if bare and "none" in study.noise.arms:
        yield (
            f"figures.{experiment}: audit needs among the targets of every noise, and of the network without "
            "noise, at one epsilon, an attack through one draw a gradient (such as pgd; in L2 an adaptive "
            "one with passes: 1) and one that averages over draws of the noise (such as auto_pgd_eot, with "
            "against: noisy and passes above 1); "
            f"without them: {listed(bare)}"
        )


def _noise(job: Evaluation, source: str) -> str:
    """Name a noise in a message: `pgd@0.1+half_a of v2 at tau 2.0`."""
    unit = "+".join(filter(None, (source, apart(job.source))))
    return f"{unit} of {job.network} at tau {job.tau}"


def _attacks_without_noise(attacks: Attacks) -> dict[Ball, set[str]]:
    """Return the attacks on the network without changes and without noise, which all gains refer to."""
    found: dict[Ball, set[str]] = {}
    for (job, source), own in attacks.items():
        if source == NO_SOURCE and job.tau == NO_NOISE and job.network == variant(job.network).base:
            for ball, names in own.items():
                found.setdefault(ball, set()).update(names)
    return found


def _shows_both(study: Study, found: Iterable[tuple[Ball, set[str]]]) -> bool:
    """Tell whether some of the attacks in one ball look at one draw, and some average over several."""
    for (l2, _), names in found:
        budgets = [study.budget(name) for name in names - {FLOOR}]
        one_draw = any(through_one_draw(budget, l2) for budget in budgets)
        if one_draw and any(averages(budget) for budget in budgets):
            return True
    return False


def _bad_by_strength(study: Study, experiment: str) -> Iterable[str]:
    """Find figures by the strength of targets that no source of an experiment is tested under."""
    kinds = {
        parse(target)[0].kind
        for job in evaluations(study, experiment)
        if source_of(job.source) != NO_SOURCE
        for targets in pairs(study.suites, job.source, job.suite).values()
        for target in targets
    }
    figures = study.figures_of(experiment)
    if "attack_transfer" in figures and "full" not in study.noise.arms:
        yield f"figures.{experiment}: attack_transfer needs full among noise.arms"
    if "attack_transfer" in figures and "attack" not in kinds:
        yield (
            f"figures.{experiment}: attack_transfer needs a source that is tested under attacks, but "
            f"{experiment} has none; allowed: fixed_strength, which draws targets of every kind"
        )
    if "fixed_strength" in figures and not kinds - {"clean"}:
        yield (
            f"figures.{experiment}: fixed_strength needs a source that is tested under modified images, but "
            f"{experiment} has none"
        )


def _mixed(study: Study, experiment: str, kind: str) -> Iterable[str]:
    """Find variants that a figure would show as one: of one source, or of all that are side by side."""
    of_one = _variants_of_a_source(study, experiment)
    of_all = _variants(study, experiment) if kind in SIDE_BY_SIDE else {}
    apart = {*study.may_vary(kind), *(NETWORKS if kind == AUDIT else ())}
    for field in (field for field in VARIED if field not in apart):
        if len(found := of_one.get(field, set())) > 1:
            yield (
                f"figures.{experiment}: {kind} shows one {field} of a source, but {experiment} has "
                f"{listed(found)}; split the experiment or choose another figure"
            )
        elif len(found := of_all.get(field, set())) > 1:
            yield (
                f"figures.{experiment}: {kind} shows all sources at one {field}, but {experiment} has "
                f"{listed(found)}; split the experiment or choose another figure"
            )


def _mixed_networks(study: Study, experiment: str) -> Iterable[str]:
    """Find what an audit, with a line for each variant of its network, would show as one line."""
    regimes: dict[str, set[str]] = {}
    for grid in study.experiments[experiment]:
        for network in grid.network:
            regimes.setdefault(network, set()).update(grid.regime)
    bases = {variant(network).base for network in regimes}
    if missing := bases - regimes.keys():
        yield (
            f"figures.{experiment}: audit needs the network without changes beside its variants; add a grid "
            f"of {listed(missing)}"
        )
    if len(bases) > 1:
        yield (
            f"figures.{experiment}: audit shows one network and its variants, but {experiment} has "
            f"{listed(bases)}; split the experiment"
        )
    for network, found in regimes.items():
        if len(found) > 1:
            yield (
                f"figures.{experiment}: audit shows one regime of a network, but {network} has "
                f"{listed(found)}; split the experiment"
            )


def _variants(study: Study, experiment: str) -> dict[str, set[str]]:
    """Return the networks, sites, τ (other than none, 0) and regimes of all grids of an experiment."""
    grids = study.experiments[experiment]
    return {
        "network": {network for grid in grids for network in grid.network},
        "site": {site for grid in grids for site in grid.site},
        "tau": {tau for grid in grids for tau in grid.taus},
        "regime": {regime for grid in grids for regime in grid.regime},
    }


def _variants_of_a_source(study: Study, experiment: str) -> dict[str, set[str]]:
    """Return the networks, sites, τ and regimes of the source that has most of them."""
    found: dict[str, dict[str, set[str]]] = {}
    for job in evaluations(study, experiment):
        if source_of(job.source) != NO_SOURCE:
            for field in VARIED:
                values = found.setdefault(field, {}).setdefault(job.source, set())
                values.add(getattr(job, field))
    return {field: max(values.values(), key=len) for field, values in found.items()}
