"""Where results come from: versions, code, seeds, hardware and time."""

from __future__ import annotations

import csv
import importlib.metadata
import os
import platform
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

PACKAGES = (
    "imagecorruptions",
    "matplotlib",
    "numpy",
    "opencv-python",
    "pandas",
    "pyarrow",
    "safetensors",
    "scikit-image",
    "scipy",
    "snakemake",
    "torch",
    "torchvision",
)


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that shapes results."""
    found = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}


def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether it was edited since; None where that is not known.

    Without git (in a container) the environment variable NOISETRANSFER_COMMIT tells the commit.
    """
    commit = _output("git", "rev-parse", "HEAD") or os.environ.get("NOISETRANSFER_COMMIT") or None
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "edited": None if commit is None else bool(changed)}


def hardware() -> dict[str, Any]:
    """Return processor, cores, memory and GPU of this machine."""
    import torch

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
    }


def times(benchmarks: Path) -> dict[str, dict[str, float]]:
    """Sum Snakemake's benchmark files by rule: jobs, seconds, greatest memory of a job in MB."""
    rules: dict[str, dict[str, float]] = defaultdict(
        lambda: {"jobs": 0, "seconds": 0.0, "max_mb": 0.0}
    )
    for path in sorted(benchmarks.rglob("*.tsv")):
        with path.open() as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        own = rules[path.relative_to(benchmarks).parts[0].removesuffix(".tsv")]
        own["jobs"] += 1
        own["seconds"] = round(own["seconds"] + float(row["s"]), 1)
        own["max_mb"] = max(own["max_mb"], _number(row["max_rss"]))
    return dict(rules)


def wall_seconds(benchmarks: Path) -> float:
    """Return the time from the start of the first to the end of the last job that left a benchmark file.

    An idle time between two runs of one study counts.
    """
    spans = []
    for path in benchmarks.rglob("*.tsv"):
        with path.open() as file:
            seconds = float(next(csv.DictReader(file, delimiter="\t"))["s"])
        end = path.stat().st_mtime
        spans.append((end - seconds, end))
    return round(max(e for _, e in spans) - min(s for s, _ in spans), 1) if spans else 0.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # a job too short to be measured reads "-"
        return 0.0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
