"""What the log of a job tells of its device: on a cluster it is not that of the machine that sums up."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

START = "computes on: "


def tell_device(name: str) -> None:
    """Write the name of the device, a GPU or CPU, to the log."""
    print(f"{START}{name}", file=sys.stderr)


def device_of(log: Path) -> str | None:
    """Return the device that a job computed on; None where its log does not tell."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return next((line.removeprefix(START) for line in lines if line.startswith(START)), None)


def devices(logs: Path) -> dict[str, int]:
    """Return how many jobs computed on each device, by the logs in a folder."""
    found = Counter(device_of(path) for path in logs.rglob("*.log"))
    return {device: jobs for device, jobs in sorted(found.items(), key=str) if device}
