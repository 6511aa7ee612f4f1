"""Mantel's test: whether two matrices over the same things agree more than their order allows by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import permutation_test, rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PERMUTATIONS = 9999
"""Permutations drawn, where there are more; up to seven things (5,040) the test is exact."""

FEWEST = 3
"""Of two things, both orders give the same correlation."""


@dataclass(frozen=True)
class Mantel:
    """Result of a test.

    Attributes:
        spearman: rank correlation of the cells off the diagonal; NaN where a matrix has but one value there.
        p: two-sided, share of the orders of one matrix that correlate as much; NaN with `spearman`.
        n: number of things.
    """

    spearman: float
    p: float
    n: int


def mantel(first: Array, second: Array, rng: np.random.Generator) -> Mantel:
    """Correlate two square matrices by rank off their diagonals, against reorderings of one of them.

    Rows and columns are reordered together, since the cells of a thing are not independent (Mantel 1967). The
    matrices need not be symmetric.

    Args:
        first: (n, n), finite off the diagonal.
        second: the same, of the same things in the same order.
        rng: draws the permutations, where not all are tried.

    Raises:
        ValueError: if the shapes are not equal and square, or a cell off a diagonal is not finite.
    """
    ranks = [_ranks(matrix) for matrix in (first, second)]
    if ranks[0].shape != ranks[1].shape:
        raise ValueError(f"matrices of shapes {ranks[0].shape} and {ranks[1].shape}")
    n, norms = len(first), float(np.prod([np.linalg.norm(matrix) for matrix in ranks]))
    if n < FEWEST or not norms:
        return Mantel(np.nan, np.nan, n)

    def correlation(order: NDArray[np.intp]) -> float:
        return float(np.vdot(ranks[0][np.ix_(order, order)], ranks[1])) / norms

    things = np.arange(n)
    tested = permutation_test(
        (things,),
        correlation,
        permutation_type="pairings",
        vectorized=False,
        n_resamples=PERMUTATIONS,
        rng=rng,
    )
    return Mantel(correlation(things), float(tested.pvalue), n)


def _ranks(matrix: Array) -> Array:
    """Return the ranks of the cells off the diagonal, their mean removed; 0 on it."""
    if matrix.ndim != 2 or len(matrix) != matrix.shape[1]:
        raise ValueError(f"a matrix of shape {matrix.shape} is not square")
    off = ~np.eye(len(matrix), dtype=bool)
    if not np.isfinite(matrix[off]).all():
        raise ValueError("a cell off the diagonal is not finite")
    ranks = np.zeros(matrix.shape)
    ranks[off] = rankdata(matrix[off])
    ranks[off] -= ranks[off].mean() if off.any() else 0.0
    return ranks
