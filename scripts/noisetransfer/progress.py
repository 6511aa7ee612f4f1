"""Progress of long work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Show progress on stderr: a bar on a terminal, a line every 30 seconds in a log."""
    if sys.stderr.isatty():
        return tqdm(items, description)
    lines = "{desc}: {n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left\n"
    return tqdm(items, description, mininterval=30, bar_format=lines)
