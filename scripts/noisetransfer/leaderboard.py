"""RobustBench's tables of models and clean accuracies, from its installed description; without torch."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

from noisetransfer.errors import StudyError

_DATASETS = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "ImageNet": "imagenet"}
_HEADING = re.compile(r"#### (Linf|L2|Common Corruptions|Corruptions)\b")
_ROW = re.compile(r"\|\s*<sub>\*\*\d+.*?<sup>\*\*(\S+)\*\*</sup>.*?<sub>([\d.]+)%</sub>")
"""| number | model | paper | clean accuracy | …"""


@cache
def accuracies() -> dict[tuple[str, str], dict[str, float]]:
    """Return (dataset, threat model) → model → clean top-1 accuracy, 0 to 1.

    Raises:
        StudyError: if RobustBench is not installed.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    dataset, table = "", {}
    for line in _description().splitlines():
        if line.startswith("### "):
            dataset = _DATASETS.get(line.strip("# "), "")
        elif (heading := _HEADING.match(line)) and dataset:
            threat = "corruptions" if "orruptions" in heading[1] else heading[1]
            table = tables.setdefault((dataset, threat), {})
        elif row := _ROW.match(line):
            table[row[1]] = round(float(row[2]) / 100, 6)
    return tables


def _description() -> str:
    try:
        return str(metadata("robustbench").get_payload())  # type: ignore[attr-defined]
    except PackageNotFoundError:
        raise StudyError("RobustBench is not installed: pip install robustbench==1.1.1") from None
