"""Mantel's test: exact for few things, calibrated, and blind to what does not matter."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from noisetransfer import mantel as module
from noisetransfer.mantel import mantel


def rng(seed=0):
    return np.random.default_rng(seed)


def points(n, seed):
    """Return the distances between n points in the plane."""
    places = rng(seed).normal(size=(n, 2))
    return np.linalg.norm(places[:, None] - places, axis=-1)


def by_hand(first, second):
    """Return correlation and two-sided p over all orders, by the definition."""
    n, off = len(first), ~np.eye(len(first), dtype=bool)
    found = np.array(
        [
            spearmanr(first[np.ix_(order, order)][off], second[off]).statistic
            for order in permutations(range(n))
        ]
    )
    tails = [np.mean(found >= found[0] - 1e-12), np.mean(found <= found[0] + 1e-12)]
    return found[0], min(1, 2 * min(tails))


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("symmetric", [True, False])
def test_of_few_things_every_order_is_tried(n, symmetric):
    first = points(n, 1)
    second = points(n, 2) if symmetric else rng(2).normal(size=(n, n))
    found = mantel(first, second, rng())
    assert (found.spearman, found.p) == pytest.approx(by_hand(first, second))
    assert found.n == n


def test_six_things_that_agree_have_the_least_p_there_is():
    distances = points(6, 3)
    assert mantel(distances, distances**3, rng()).spearman == pytest.approx(1)
    assert mantel(distances, -distances, rng()).spearman == pytest.approx(-1)
    assert mantel(distances, -distances, rng()).p == pytest.approx(2 / 720)


def test_more_things_are_permuted_at_random_by_the_key(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 199)
    first, second = points(10, 4), points(10, 5)
    once, again, other = (mantel(first, second, rng(seed)) for seed in (1, 1, 2))
    assert once == again
    assert once.p != other.p
    assert mantel(first, first, rng()).p == pytest.approx(2 / 200)


def test_order_and_diagonal_do_not_matter():
    first, second = points(5, 6), rng(7).normal(size=(5, 5))
    order = np.ix_([3, 1, 4, 0, 2], [3, 1, 4, 0, 2])
    turned = mantel(first[order], second[order], rng())
    np.fill_diagonal(second, np.nan)
    plain = mantel(first, second, rng())
    assert (turned.spearman, turned.p) == pytest.approx((plain.spearman, plain.p))


def test_p_values_of_unrelated_matrices_are_even():
    """Their mean is ½ and 1 in 20 is .05 or less: of 300, by more than three standard errors no others."""
    found = np.array([mantel(points(5, 2 * i), points(5, 2 * i + 1), rng()).p for i in range(300)])
    assert (found <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert (found <= 0.5).mean() == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / 300))


@pytest.mark.parametrize("second", [np.ones((4, 4)), np.eye(4)])
def test_what_does_not_vary_has_no_correlation(second):
    found = mantel(points(4, 8), second, rng())
    assert np.isnan(found.spearman)
    assert np.isnan(found.p)


def test_two_things_cannot_be_tested():
    assert np.isnan(mantel(points(2, 9), rng().normal(size=(2, 2)), rng()).p)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (np.zeros((4, 3)), "not square"),
        (np.zeros((5, 5)), "shapes"),
        (np.full((4, 4), np.nan), "not finite"),
    ],
)
def test_unfit_matrices_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        mantel(points(4, 0), second, rng())
