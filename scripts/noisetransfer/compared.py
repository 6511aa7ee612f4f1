"""Which noises of a heatmap have their covariances compared: those whose modifications meet in its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisetransfer.arms import NO_SOURCE, UNSCALED
from noisetransfer.drawable import HEATMAP
from noisetransfer.plan import apart, evaluations, pairs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noisetransfer.config import Study
    from noisetransfer.plan import Evaluation

FEWEST = 3
"""Modifications that are compared: of two, no correlation could be tested."""


def compared(study: Study, experiment: str) -> list[Evaluation]:
    """Return the evaluations whose covariances are compared; none where too few sources are targets too.

    All noises of a heatmap are in one layer of one network (`consistency`).
    """
    if HEATMAP not in study.figures_of(experiment):
        return []
    if not {"full", "identity"} <= {*study.noise.arms}:
        return []
    jobs = [job for job in evaluations(study, experiment) if _has_own_covariance(job)]
    return jobs if len(_met(study, jobs)) >= FEWEST else []


def _has_own_covariance(job: Evaluation) -> bool:
    """Tell whether a noise is made from the covariance of a source; a control compares nothing anew."""
    return job.source != NO_SOURCE and job.tau != UNSCALED and not apart(job.source)


def _met(study: Study, jobs: Iterable[Evaluation]) -> set[str]:
    """Return the modifications that are source of one cell and target of another, source ≠ target."""
    cells = [
        (own, target)
        for job in jobs
        for own, targets in pairs(study.suites, job.source, job.suite).items()
        for target in targets
    ]
    sources = {own for own, _ in cells}
    others = [cell for cell in cells if cell[0] != cell[1] and cell[1] in sources]
    return {name for cell in others for name in cell}
