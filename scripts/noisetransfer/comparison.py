"""Two studies side by side: differences of all cells that both have, on the page of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from noisetransfer import figures
from noisetransfer.arms import NO_NOISE
from noisetransfer.artifacts import read_json, read_table
from noisetransfer.errors import StudyError
from noisetransfer.explorer import SETTING, explorer
from noisetransfer.findings import decimal
from noisetransfer.report import CELL, Grid, Page, Section, summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYS = [name for name in CELL if name != "study"]
TITLES = {key: f"difference in {title}, A − B" for key, title in figures.TITLES.items()}
FACTS = {"accuracy_a": "accuracy in A", "accuracy_b": "accuracy in B"}
INTERVALS = (
    "The studies are taken as independent: the half width of a difference is the root of the summed squares "
    "of both half widths. Where both tested the same images this is too wide. Below five trials (resampled: "
    "images) an interval speaks of these very networks: two trainings of the same kind differ by more."
)


def of_studies(a: Path, b: Path) -> Page:
    """Compare every experiment that two folders of results share.

    Args:
        a: folder of a finished study, results/{study}.
        b: as `a`.

    Raises:
        StudyError: which says what to run, if a folder or a table is missing; or if the studies have no
            experiment or no cell in common.
    """
    told = {"A": _provenance(a), "B": _provenance(b)}
    names = {side: list(one["study"]["experiments"]) for side, one in told.items()}
    shared = [name for name in names["A"] if name in names["B"]]
    if not shared:
        listed = "; ".join(f"{side} has {', '.join(own)}" for side, own in names.items())
        raise StudyError(f"{a} and {b} have no experiment in common: {listed}")
    tables = {name: differences(_summary(a, name), _summary(b, name)) for name in shared}
    if all(table.empty for table in tables.values()):
        raise StudyError(f"{a} and {b} have no cell in common: networks, sites or τ differ")
    found = {name: table for name, table in tables.items() if len(table)}
    title = f"A: {told['A']['study']['study']}, B: {told['B']['study']['study']}"
    return Page(
        title=title,
        summary=[*(sentence(name, table) for name, table in found.items()), INTERVALS],
        sections=[*(_section(name, table) for name, table in found.items()), _origins(told)],
        files={f"{name}_differences.csv": _csv(table) for name, table in found.items()},
    )


def differences(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Subtract two summaries cell by cell, A − B.

    Args:
        a: as from `report.summary_of`.
        b: as `a`. A network, site, τ or regime that each has only one of is compared although its name
            differs.

    Returns:
        columns `KEYS`, n, trials, resampled; accuracy and the gains with _low and _high, their differences
        with 95% intervals as of independent studies; accuracy_a, accuracy_b with theirs.
    """
    both = _aligned(a, b)
    joined = both[0].merge(both[1], on=KEYS, suffixes=("_a", "_b"), validate="one_to_one")
    found = joined[KEYS].copy()
    for name in ("n", "trials", "resampled"):
        found[name] = _either(joined[f"{name}_a"], joined[f"{name}_b"])
    for key in TITLES:
        found[key] = joined[f"{key}_a"] - joined[f"{key}_b"]
        half = np.hypot(_half(joined, key, "a"), _half(joined, key, "b"))
        found[f"{key}_low"], found[f"{key}_high"] = found[key] - half, found[key] + half
    for side in "ab":
        for end in ("", "_low", "_high"):
            found[f"accuracy_{side}{end}"] = joined[f"accuracy{end}_{side}"]
    return found


def sentence(name: str, table: pd.DataFrame) -> str:
    """Say how two studies differ in the accuracies of one experiment."""
    values = table["accuracy"]
    told = (
        f"Experiment {name}: accuracy in A minus that in B is {decimal(values.mean())} on average over "
        f"{len(table)} cells, from {decimal(values.min())} to {decimal(values.max())}"
    )
    known = table.dropna(subset=["accuracy_low", "accuracy_high"])
    if known.empty:
        return f"{told}; no intervals were computed."
    apart = int(((known["accuracy_low"] > 0) | (known["accuracy_high"] < 0)).sum())
    return f"{told}; in {apart} of {len(known)} the 95% interval leaves out 0."


def _half(joined: pd.DataFrame, key: str, side: str) -> pd.Series[float]:
    return (joined[f"{key}_high_{side}"] - joined[f"{key}_low_{side}"]) / 2


def _either(a: pd.Series[Any], b: pd.Series[Any]) -> pd.Series[Any]:
    """Return what both say; where they differ, what each says."""
    return a.where(a == b, a.astype(str) + " in A, " + b.astype(str) + " in B")


def _aligned(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give one name to a network, site, τ or regime that each study has only one of."""
    for name in SETTING:
        ones, others = (sorted(set(table[name]) - {NO_NOISE}) for table in (a, b))
        if len(ones) == len(others) == 1 and ones != others:
            both = f"{ones[0]} | {others[0]}"
            a, b = (
                table.assign(**{name: table[name].replace(own[0], both)})
                for table, own in ((a, ones), (b, others))
            )
    return a, b


def _provenance(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder; give results/{{study}} of a finished study")
    path = folder / "provenance.json"
    if not path.is_file():
        raise StudyError(
            f"{path}: not there; finish the study: .venv/bin/snakemake --configfile FILE"
        )
    return dict(read_json(path))


def _summary(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"tables/{name}.parquet"
    if not path.is_file():
        wanted = f".venv/bin/snakemake {name} --configfile FILE"
        raise StudyError(f"{path}: not there; make it with {wanted}")
    return summary_of(folder, name, read_table(path))


def _section(name: str, table: pd.DataFrame) -> Section:
    return Section(
        id=f"experiment-{name}",
        title=f"Experiment {name}, A − B",
        explorer=explorer(table, TITLES, FACTS),
    )


def _origins(told: Mapping[str, Mapping[str, Any]]) -> Section:
    rows = [
        [
            side,
            one["study"]["study"],
            str(one["git"]["commit"]),
            str(one["seed"]),
            one["study_sha256"],
        ]
        for side, one in told.items()
    ]
    columns = ["", "study", "commit", "seed", "SHA-256 of the study"]
    return Section("provenance", "Provenance", grids=[Grid("The two studies", columns, rows)])


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
