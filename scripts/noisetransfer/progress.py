"""Progress of long work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Show progress on stderr: a bar on a terminal, a line every 30 seconds in a log."""
    if sys.stderr.isatty():
        return tqdm(items, description, total)
    lines = "{desc}: {n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left\n"
    return tqdm(items, description, total, mininterval=30, bar_format=lines)
