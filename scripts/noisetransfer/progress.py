"""Progress of long work."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

SECONDS = 30
"""How often a log is told."""


def progress(items: Sequence[T], description: str) -> Iterable[T]:
    """Show progress on stderr: a bar on a terminal; in a log a line every 30 seconds, and one at the end."""
    return tqdm(items, description) if sys.stderr.isatty() else _lines(items, description)


def _lines(items: Sequence[T], description: str) -> Iterator[T]:
    began = told = monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = monotonic()
        if now - told >= SECONDS or done == len(items):
            told, elapsed = now, now - began
            times = [
                tqdm.format_interval(t) for t in (elapsed, elapsed / done * (len(items) - done))
            ]
            line = f"{description}: {done}/{len(items)}, {times[0]} elapsed, {times[1]} left"
            print(line, file=sys.stderr, flush=True)
