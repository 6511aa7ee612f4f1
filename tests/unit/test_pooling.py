import pytest
import torch

from noisetransfer.pooling import pool
from structures import D, covariance, dense

FITS = [covariance(6, seed=s) for s in (0, 1, 2)]
EXACT = [covariance("full", seed=s) for s in (3, 4)]
FEW = [covariance("full", n=12, seed=s) for s in (5, 6, 7)]
"""Exact, of few images: n − 1 columns, the ridge as remainder."""


def mean(covariances):
    """The mean of the sources' Σ, each of trace d."""
    return torch.stack([dense(c) * D / dense(c).trace() for c in covariances]).mean(0)


def close(found, expected, tolerance=2e-6):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.max()))


@pytest.mark.parametrize("fits", [FITS, EXACT, FEW, [*EXACT, *FITS]])
def test_all_eigenpairs_give_the_mean_of_the_normalised_covariances(fits):
    close(dense(pool(fits)), mean(fits))


@pytest.mark.parametrize("rank", [1, 6, 10, 39, 40, 500])
@pytest.mark.parametrize("fits", [FITS, EXACT, FEW])
def test_a_rank_keeps_the_leading_eigenpairs_and_the_trace(fits, rank):
    found = pool(fits, rank)
    assert found.factor.shape[1] <= rank
    assert float(dense(found).trace()) == pytest.approx(D, rel=1e-6)
    kept = min(rank, D)
    values, vectors = torch.linalg.eigh(dense(found))
    wanted, axes = torch.linalg.eigh(mean(fits))
    # the isotropic parts of the sources are in every direction, whatever is kept
    close(values[-kept:], wanted[-kept:], 1e-5)
    assert float((vectors[:, -1] @ axes[:, -1]).abs()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rank", [None, 6])
def test_the_diagonal_is_exact_and_the_mean_that_of_the_sources(rank):
    found = pool(FITS, rank)
    diagonals = [c.diagonal.double() * D / c.trace for c in FITS]
    close(found.diagonal.double(), torch.stack(diagonals).mean(0))
    close(found.mean, torch.stack([c.mean for c in FITS]).mean(0))
    assert found.trace == pytest.approx(D, rel=1e-6)


def test_a_stronger_source_counts_no_more():
    strong = [FITS[0], scaled(FITS[1], 100.0), FITS[2]]
    close(dense(pool(strong)), dense(pool(FITS)))


def scaled(c, by):
    return type(c)(c.mean, c.factor * by**0.5, c.remainder * by, c.diagonal * by)


def test_the_order_of_the_sources_matters_not():
    close(dense(pool(FITS[::-1], 6)), dense(pool(FITS, 6)), 1e-5)


def test_of_one_source_it_is_that_source():
    close(dense(pool(FITS[:1], 6)), mean(FITS[:1]))


def test_columns_of_zeros_from_other_trials_change_nothing():
    c = FITS[0]
    padded = type(c)(c.mean, torch.nn.functional.pad(c.factor, (0, 5)), c.remainder, c.diagonal)
    close(dense(pool([padded, FITS[1]], 6)), dense(pool(FITS[:2], 6)))
