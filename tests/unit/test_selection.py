"""Rank and ridge by rules: what may be written, and what the rules choose, against other libraries."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from noisetransfer import ranks, samples
from noisetransfer.errors import StudyError
from noisetransfer.ranks import Explained, HeldOut, parse_rank
from noisetransfer.samples import HELD_OUT_EVERY, collect
from noisetransfer.selection import RELATIVE_RIDGES, explaining, log_likelihoods
from structures import NO_RIDGE, correlated, dense, fitted

SHAPES = [(200, 30), (31, 30), (20, 60)]
ROUTES = pytest.mark.parametrize("shape", SHAPES, ids=["moments", "part below d", "gram"])
HELD_OUT_RIDGE = {"held_out": True}


def parts(rows):
    """Rows that are fitted, and those that are held out: every fifth."""
    held = torch.arange(1, len(rows) + 1) % HELD_OUT_EVERY == 0
    return rows[~held], rows[held]


def split(rows):
    n, d = rows.shape
    return collect(rows.split(17), n=n, d=d, name="snow@5", split=True).split


def score(rows, rank, ridge):
    """Mean log-likelihood of held-out rows under what is fitted to the others, by PyTorch's normal."""
    fitted_part, rest = parts(rows)
    found = fitted(fitted_part, rank, ridge)[0]
    variance = torch.full_like(found.diagonal, found.remainder).double()
    mean = fitted_part.double().mean(0)
    if found.remainder:
        normal = LowRankMultivariateNormal(mean, found.factor.double(), variance)
    else:
        normal = MultivariateNormal(mean, dense(found))
    return float(normal.log_prob(rest.double()).mean())


def planted(n, d, count, noise=0.1):
    """Rows along a number of directions of variance 4, and isotropic noise."""
    draws = torch.Generator().manual_seed(3)
    directions = torch.linalg.qr(torch.randn(d, count, generator=draws))[0]
    return 2 * torch.randn(n, count, generator=draws) @ directions.mT + noise * torch.randn(
        n, d, generator=draws
    )


@pytest.mark.parametrize(
    ("written", "rank"),
    [
        (1, 1),
        (256, 256),
        ("256", 256),
        ("full", "full"),
        ("held_out", HeldOut()),
        ("explained@0.95", Explained(0.95)),
        ("explained@.5", Explained(0.5)),
        ("explained@1", Explained(1.0)),
    ],
)
def test_ranks_are_read_and_written(written, rank):
    assert parse_rank(written) == rank
    assert parse_rank(str(rank)) == rank


@pytest.mark.parametrize("share", [1.0, 0.95, 1e-3, 1e-7])
def test_any_share_survives_text(share):
    assert parse_rank(str(Explained(share))) == Explained(share)


@pytest.mark.parametrize(
    "written",
    [
        *(0, -3, "0", "-1", 2.5, "2.5", True, None, [256], "", "all", "Full", "held_out@5"),
        *("explained", "explained@", "explained@0", "explained@1.01", "explained@95%"),
    ],
)
def test_another_rank_is_an_error_that_lists_what_is_allowed(written):
    allowed = r"whole number from 1, full, held_out, or explained@ .*explained@0\.95"
    with pytest.raises(StudyError, match=allowed) as error:
        parse_rank(written)
    assert repr(written) in str(error.value)


def test_no_message_writes_a_whole_value():
    nested = [0]
    for _ in range(40):
        nested = [nested] * 10
    with pytest.raises(StudyError) as error:
        parse_rank(nested)
    assert len(str(error.value)) < 400


def test_ranks_are_read_without_torch():
    check = "import sys, noisetransfer.ranks; sys.exit('torch' in sys.modules)"
    folder = str(Path(ranks.__file__).parents[1])
    subprocess.run([sys.executable, "-c", check], env={"PYTHONPATH": folder}, check=True)


@pytest.mark.parametrize(
    ("share", "count"), [(0.1, 1), (0.49, 1), (0.51, 2), (0.76, 3), (0.88, 4), (1.0, 4)]
)
def test_explaining_is_the_least_number_that_explains_the_share(share, count):
    assert explaining(torch.tensor([4.0, 2.0, 1.0, 1.0, 0.0]), share) == count


@ROUTES
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_rank_by_share_explains_it_and_one_less_does_not(shape, share):
    rows = correlated(*shape)
    covariance, found = fitted(rows, Explained(share))
    assert found.explained >= share - 1e-6
    assert found.rank == 1 or fitted(rows, found.rank - 1)[1].explained < share
    assert torch.equal(covariance.factor, fitted(rows, found.rank)[0].factor)
    assert found.held_out_log_likelihood is None


@ROUTES
def test_all_of_the_trace_is_explained_by_all_eigenpairs(shape):
    rows = correlated(*shape)
    found = fitted(rows, Explained(1.0))[1]
    assert found.rank == min(shape[0] - 1, shape[1])
    assert found.explained == pytest.approx(1)


def test_likelihoods_at_all_ranks_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows = correlated(400, 12)
    fitted_part, rest = (part.double().numpy() for part in parts(rows))
    found = log_likelihoods(split(rows), 0.0)
    for rank in range(1, 12):
        expected = decomposition.PCA(rank, svd_solver="full").fit(fitted_part).score(rest)
        assert float(found[rank]) == pytest.approx(expected, rel=1e-9)


@ROUTES
@pytest.mark.parametrize("ridge", [{"absolute": 0.3}, {"relative": 0.01}])
def test_likelihoods_at_all_ranks_are_those_of_pytorchs_normal(shape, ridge):
    rows = correlated(*shape)
    own = split(rows)
    added = ridge.get("absolute", ridge.get("relative", 0) * own.trace / own.d)
    found = log_likelihoods(own, added)
    ranks = range(1, len(own.values) + 1)
    assert len(ranks) == min(len(parts(rows)[0]) - 1, shape[1])
    expected = [score(rows, rank, ridge) for rank in ranks]
    torch.testing.assert_close(found[1:], torch.tensor(expected).double(), rtol=1e-4, atol=1e-3)


@ROUTES
def test_rank_0_is_isotropic_noise(shape):
    rows = correlated(*shape)
    own, (fitted_part, rest) = split(rows), parts(rows.double())
    variance = fitted_part.var(0).mean() + 0.1
    normal = MultivariateNormal(fitted_part.mean(0), variance * torch.eye(shape[1]).double())
    expected = float(normal.log_prob(rest).mean())
    assert float(log_likelihoods(own, 0.1)[0]) == pytest.approx(expected, rel=1e-5)


@ROUTES
@pytest.mark.parametrize("ridge", [{"absolute": 0.3}, {"relative": 1e-3}])
def test_held_out_rank_is_the_likeliest_and_fitted_to_all(shape, ridge):
    rows = correlated(*shape)
    covariance, found = fitted(rows, HeldOut(), ridge)
    scores = [score(rows, rank, ridge) for rank in range(1, len(parts(rows)[0]))][: shape[1] - 1]
    assert found.held_out_log_likelihood == pytest.approx(max(scores), rel=1e-5)
    assert scores[found.rank - 1] == pytest.approx(max(scores), rel=1e-5)
    again, same = fitted(rows, found.rank, ridge)
    torch.testing.assert_close(dense(covariance), dense(again), rtol=1e-5, atol=1e-6)
    assert same.held_out_log_likelihood is None
    assert (same.rank, same.ridge) == (found.rank, pytest.approx(found.ridge, rel=1e-5))


@ROUTES
@pytest.mark.parametrize("rank", [3, "full", Explained(0.8)])
def test_held_out_ridge_is_the_likeliest_of_the_grid(shape, rank):
    rows = correlated(*shape)
    found = fitted(rows, rank, HELD_OUT_RIDGE)[1]
    scores = {b: score(rows, rank, {"relative": b}) for b in RELATIVE_RIDGES}
    best = max(scores, key=scores.__getitem__)
    assert found.ridge == pytest.approx(best * found.trace / found.d, rel=1e-6)
    assert found.held_out_log_likelihood == pytest.approx(scores[best], rel=1e-4)


@ROUTES
def test_rank_and_ridge_are_chosen_together(shape):
    rows = correlated(*shape)
    found = fitted(rows, HeldOut(), HELD_OUT_RIDGE)[1]
    alone = [fitted(rows, HeldOut(), {"relative": b})[1] for b in RELATIVE_RIDGES]
    best = max(alone, key=lambda one: one.held_out_log_likelihood)
    assert found == best


def test_ridges_of_the_grid_are_logarithmic():
    steps = [b / a for a, b in pairwise(RELATIVE_RIDGES)]
    assert steps == pytest.approx([10**0.5] * 12)
    assert (RELATIVE_RIDGES[0], RELATIVE_RIDGES[-1]) == pytest.approx((1e-6, 1))


@pytest.mark.parametrize("shape", [(400, 50), (60, 300)], ids=["moments", "gram"])
@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("ridge", [NO_RIDGE, HELD_OUT_RIDGE])
def test_held_out_rank_finds_the_directions_that_were_planted(shape, count, ridge):
    found = fitted(planted(*shape, count), HeldOut(), ridge)[1]
    assert found.rank == count


@pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])
def test_exact_factor_without_a_ridge_is_unlikely_and_a_held_out_ridge_mends_it(shape):
    """A part of 16 rows explains nothing of the directions outside them, and much of noise inside."""
    rows = correlated(*shape)
    without = float(log_likelihoods(split(rows), 0.0)[-1])
    assert fitted(rows, "full", HELD_OUT_RIDGE)[1].held_out_log_likelihood > without


@pytest.mark.parametrize("shape", [(200, 30), (31, 30), (20, 60)])
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_do_not_change_who_is_held_out(shape, chunk):
    rows = correlated(*shape)
    first, second = (fitted(rows, HeldOut(), HELD_OUT_RIDGE, chunk=c)[1] for c in (chunk, 17))
    assert first.rank == second.rank
    assert first.ridge == pytest.approx(second.ridge, rel=1e-9)
    likelihood = pytest.approx(second.held_out_log_likelihood, rel=1e-9)
    assert first.held_out_log_likelihood == likelihood


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])
def test_splits_leave_the_whole_as_it_is(shape, offset):
    """Also with a large mean, which the part must lose too."""
    rows = correlated(*shape) + offset
    own, near = split(rows), split(rows - offset)
    torch.testing.assert_close(own.values, near.values, rtol=0, atol=2e-2)
    found = fitted(rows, 5, HELD_OUT_RIDGE)[1]
    assert found.trace == pytest.approx(float(rows.double().var(0).sum()), rel=1e-9)


@pytest.mark.parametrize("rank", [HeldOut(), 2])
@pytest.mark.parametrize("d", [3, 50], ids=["moments", "gram"])
def test_too_few_differences_to_hold_any_out_is_an_error(rank, d):
    with pytest.raises(StudyError, match=r"snow@5: .*5 images or more, not 4; write .* numbers"):
        fitted(correlated(4, d), rank, HELD_OUT_RIDGE)
    assert fitted(correlated(5, d), rank, HELD_OUT_RIDGE)[1].held_out_log_likelihood is not None


@pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])
@pytest.mark.parametrize("rank", [HeldOut(), Explained(0.9), 5, "full"])
def test_a_source_without_difference_is_the_ridge_or_an_error(shape, rank):
    zeros = torch.zeros(shape)
    covariance, found = fitted(zeros, rank, {"absolute": 1e-4})
    expected = 1e-4 * torch.eye(shape[1], dtype=torch.float64)
    torch.testing.assert_close(dense(covariance), expected, rtol=1e-6, atol=1e-12)
    assert found.degenerate
    with pytest.raises(StudyError, match=r"snow@5: .*equal"):
        fitted(zeros, rank, HELD_OUT_RIDGE)


@pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])
def test_differences_in_a_plane_have_its_rank(shape):
    """Without a ridge their likelihood has no bound but rounding: all of the plane is kept, no more."""
    mixing = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(0))
    found = fitted(correlated(shape[0], 3) @ mixing, HeldOut())[1]
    assert found.rank == 3
    assert found.explained == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])
def test_differences_that_only_the_held_out_rows_have_are_no_trap(shape):
    rows = torch.zeros(shape)
    rows[HELD_OUT_EVERY - 1] = 1.0
    found = fitted(rows, HeldOut(), HELD_OUT_RIDGE)[1]
    assert found.rank == 1
    assert found.held_out_log_likelihood > -float("inf")


def test_held_out_rows_are_every_fifth_whatever_the_chunk():
    held = torch.cat([samples._held_out(start, 4) for start in range(0, 20, 4)])
    assert held.nonzero().flatten().tolist() == [4, 9, 14, 19]
