"""What became of every image: the records of an experiment as one array per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from noisetransfer.errors import StudyError
from noisetransfer.statistics import CELL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Array = NDArray[np.floating]

KEYS = [name for name in CELL if name != "trial"]
"""Columns that name a cell: the trials of one noise under one target."""


@dataclass(frozen=True)
class Outcome:
    """The T trials of a cell, on the same n images.

    Attributes:
        trials: their numbers, rising, (T,).
        images: their original indices, rising, (n,).
        right: whether the prediction of the mean was right, (T, n).
        draws: how many of the K draws alone were right, (T, n).
        passes: K.
    """

    trials: NDArray[np.int64]
    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    draws: NDArray[np.int32]
    passes: int


def outcomes(parts: Iterable[pd.DataFrame]) -> tuple[pd.DataFrame, list[Outcome]]:
    """Arrange records by cell; each part is let go before the next one is read.

    Args:
        parts: records of evaluations: columns `KEYS`, trial, image, label, prediction, draws_correct, K.

    Returns:
        the cells, columns `KEYS`, sorted, and the outcome of each.

    Raises:
        StudyError: the trials of a cell were not all tested on the same images, each once.
    """
    found: dict[tuple[str, ...], list[Outcome]] = {}
    for part in parts:
        for cell, outcome in _split(part):
            found.setdefault(cell, []).append(outcome)
    cells = sorted(found)
    return pd.DataFrame(cells, columns=KEYS), [_joined(cell, found.pop(cell)) for cell in cells]


def difference(own: Outcome, base: Outcome) -> Array:
    """Return by how much a noise is better than another, image by image: −1, 0 or 1, float32, (T, n).

    Raises:
        StudyError: they were not tested in the same trials on the same images.
    """
    same = (np.array_equal(getattr(own, k), getattr(base, k)) for k in ("trials", "images"))
    if not all(same):
        raise StudyError("a noise and its baseline were tested in other trials or on other images")
    return own.right.astype(np.float32) - base.right


def _split(records: pd.DataFrame) -> Iterable[tuple[tuple[str, ...], Outcome]]:
    """Yield the cells of one table of records."""
    right = (records["prediction"] == records["label"]).to_numpy()
    columns = [records[name].to_numpy() for name in ("trial", "image", "draws_correct", "K")]
    for cell, rows in records.groupby(KEYS, sort=False, observed=True).indices.items():
        own = tuple(map(str, cast("tuple[str, ...]", cell)))
        yield own, _outcome(own, right[rows], *(column[rows] for column in columns))


def _outcome(
    cell: tuple[str, ...],
    right: NDArray[np.bool_],
    trial: NDArray[np.int64],
    image: NDArray[np.int64],
    draws: NDArray[np.int64],
    passes: NDArray[np.int64],
) -> Outcome:
    order = np.lexsort((image, trial))
    trials = np.unique(trial)
    shape = len(trials), len(image) // len(trials)
    square = len(image) == shape[0] * shape[1]
    images = image[order].reshape(shape) if square else image[None]
    if not square or (images != images[0]).any() or (np.diff(images[0]) == 0).any():
        raise StudyError(f"{_name(cell)}: not every trial was tested on the same images, each once")
    right, draws = right[order].reshape(shape), draws[order].reshape(shape)
    return Outcome(trials, images[0], right, draws.astype(np.int32), int(passes[0]))


def _joined(cell: tuple[str, ...], blocks: list[Outcome]) -> Outcome:
    """Put the blocks of trials of a cell together."""
    trials = np.concatenate([block.trials for block in blocks])
    order = np.argsort(trials)
    same = all(np.array_equal(block.images, blocks[0].images) for block in blocks)
    if not same or len(set(trials.tolist())) < len(trials):
        raise StudyError(f"{_name(cell)}: not every trial was tested on the same images, each once")
    right, draws = (
        np.concatenate([getattr(b, name) for b in blocks])[order] for name in ("right", "draws")
    )
    return Outcome(trials[order], blocks[0].images, right, draws, blocks[0].passes)


def _name(cell: tuple[str, ...]) -> str:
    return ", ".join(f"{key} {value}" for key, value in zip(KEYS, cell, strict=True))
