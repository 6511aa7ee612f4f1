import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from noisetransfer import samples
from noisetransfer.covariance import fit, from_tensors, to_tensors, total_variance
from noisetransfer.errors import StudyError
from structures import NO_RIDGE, correlated, dense, fitted

ROUTES = pytest.mark.parametrize(
    "shape", [(200, 30), (31, 30), (30, 30), (20, 60)], ids=["n≫d", "n=d+1", "n=d", "n<d"]
)
TWO_ROUTES = pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])


def numpys(rows):
    return np.cov(rows.double().numpy(), rowvar=False)


def numpys_pairs(rows):
    """Eigenvalues, descending, and eigenvectors as columns."""
    values, vectors = np.linalg.eigh(numpys(rows))
    return values[::-1], vectors[:, ::-1]


def crosses(variances, d=None):
    """Rows ±s on each axis: mean 0, covariance diag(variances), the other axes 0."""
    n = 2 * len(variances)
    halves = torch.diag((torch.tensor(variances) * (n - 1) / 2).sqrt())
    rows = torch.zeros(n, d or len(variances))
    rows[:, : len(variances)] = torch.cat([halves, -halves])
    return rows


@ROUTES
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_full_rank_gives_numpys_covariance_plus_ridge(shape, ridge):
    rows = correlated(*shape)
    expected = numpys(rows) + ridge * np.eye(shape[1])
    covariance, diagnostics = fitted(rows, ridge={"absolute": ridge})
    assert np.abs(dense(covariance).numpy() - expected).max() < 2e-6 * np.trace(expected)
    assert diagnostics.explained == pytest.approx(1)
    assert diagnostics.rank == covariance.factor.shape[1] == min(shape[1], shape[0] - 1)


@TWO_ROUTES
def test_a_rank_beyond_what_there_is_keeps_everything(shape):
    rows = correlated(*shape)
    covariance, _ = fitted(rows, rank=1000)
    assert np.abs(dense(covariance).numpy() - numpys(rows)).max() < 2e-6 * np.trace(numpys(rows))


@TWO_ROUTES
@pytest.mark.parametrize("rank", [1, 5, 18, "full"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_mean_diagonal_and_trace_are_exact_at_any_rank(shape, rank, ridge):
    rows = correlated(*shape)
    covariance, diagnostics = fitted(rows, rank, {"absolute": ridge})
    mean, variance = rows.double().mean(0), rows.double().var(0)
    torch.testing.assert_close(covariance.mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(covariance.diagonal.double(), variance + ridge, rtol=1e-5, atol=1e-6)
    whole = float(variance.sum())
    assert covariance.trace == pytest.approx(whole + ridge * shape[1], rel=1e-6)
    assert float(dense(covariance).trace()) == pytest.approx(covariance.trace, rel=1e-6)
    assert diagnostics.trace == pytest.approx(whole, rel=1e-6)


@TWO_ROUTES
@pytest.mark.parametrize("rank", [1, 4, 18])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_a_low_rank_keeps_the_leading_eigenpairs_and_spreads_the_rest(shape, rank, ridge):
    rows = correlated(*shape)
    values, vectors = numpys_pairs(rows)
    covariance, diagnostics = fitted(rows, rank, {"absolute": ridge})
    found, directions = (part.flip(-1).numpy() for part in torch.linalg.eigh(dense(covariance)))
    np.testing.assert_allclose(found[:rank], values[:rank] + ridge, rtol=1e-4)
    np.testing.assert_allclose(found[rank:], covariance.remainder, rtol=1e-3)
    overlap = np.abs(np.sum(vectors[:, :rank] * directions[:, :rank], axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    lengths = covariance.factor.norm(dim=0)
    assert torch.equal(lengths, lengths.sort(descending=True).values)
    assert diagnostics.explained == pytest.approx(values[:rank].sum() / values.sum(), rel=1e-4)


def test_of_few_directions_no_more_are_kept():
    """20 rows in a plane of 3 directions: the other eigenvectors of the Gram matrix are rounding."""
    mixing = torch.randn(3, 60, generator=torch.Generator().manual_seed(0))
    rows = correlated(20, 3) @ mixing
    for rank in (10, "full"):
        covariance, diagnostics = fitted(rows, rank)
        assert diagnostics.rank <= (
            19 if rank == "full" else 10
        )  # exact: no eigenvectors, but rows
        assert torch.isfinite(covariance.factor).all()
        error = np.abs(dense(covariance).numpy() - numpys(rows)).max()
        assert error < 2e-6 * np.trace(numpys(rows))


@TWO_ROUTES
@pytest.mark.parametrize("rank", [5, "full"])
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_do_not_matter(shape, rank, chunk):
    rows = correlated(*shape)
    first, second = (dense(fitted(rows, rank, chunk=c)[0]) for c in (chunk, 17))
    torch.testing.assert_close(first, second, atol=1e-6 * float(first.trace()), rtol=0)


@TWO_ROUTES
@pytest.mark.parametrize("rank", [5, "full"])
@pytest.mark.parametrize(("block", "band"), [(1, 1), (100, 7), (10**6, 1000)])
def test_blocks_do_not_matter(monkeypatch, shape, rank, block, band):
    """A block of (n, d) may hold one column, five that do not divide d, or all."""
    rows = correlated(*shape)
    usual = dense(fitted(rows, rank)[0])
    monkeypatch.setattr(samples, "BLOCK", block)
    monkeypatch.setattr(samples, "BAND", band)
    covariance, diagnostics = fitted(rows, rank)
    torch.testing.assert_close(dense(covariance), usual, atol=1e-6 * float(usual.trace()), rtol=0)
    squares = np.square(numpys(rows)).sum()
    assert diagnostics.effective_rank == pytest.approx(
        np.trace(numpys(rows)) ** 2 / squares, rel=1e-6
    )


@TWO_ROUTES
@pytest.mark.parametrize("rank", [5, "full"])
def test_the_same_differences_give_the_same_bytes(shape, rank):
    first, second = (fitted(correlated(*shape), rank)[0] for _ in range(2))
    assert torch.equal(first.factor, second.factor)
    assert torch.equal(first.diagonal, second.diagonal)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_eigenvalues_of_few_rows_are_exact_to_a_millionth_of_the_largest(offset):
    """Also far from 0, where the mean is a million times the variance: it is removed in float64."""
    rows = correlated(50, 400) + offset
    values = numpys_pairs(rows)[0][:49]
    factor = fitted(rows, 49)[0].factor.double()
    found = torch.linalg.eigvalsh(factor.mT @ factor).flip(0).numpy()
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-6 * values[0])


@TWO_ROUTES
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_number_of_differences_than_announced_is_an_error(shape, wrong):
    rows = correlated(*shape)
    n, d = shape[0] + wrong, shape[1]
    with pytest.raises(StudyError, match=rf"snow@5: .*expected .*\b{n}\b"):
        fit(rows.split(7), n=n, d=d, rank=3, ridge=NO_RIDGE, signal_trace=1.0, name="snow@5")


@TWO_ROUTES
def test_differences_of_another_length_are_an_error(shape):
    rows = correlated(*shape)
    with pytest.raises(StudyError, match=rf"snow@5: .*expected rows of {shape[1]} numbers"):
        fit(
            rows[:, :1].split(7),
            n=shape[0],
            d=shape[1],
            rank=3,
            ridge=NO_RIDGE,
            signal_trace=1.0,
            name="snow@5",
        )


def test_with_few_rows_the_exact_factor_needs_no_eigenvectors(monkeypatch):
    rows = correlated(20, 60)
    monkeypatch.setattr(samples, "eigh", None)
    monkeypatch.setattr(torch.linalg, "eigh", None)
    covariance = fitted(rows, "full")[0]
    torch.testing.assert_close(
        dense(covariance), torch.from_numpy(numpys(rows)), atol=1e-5, rtol=1e-5
    )
    with pytest.raises(TypeError, match="not callable"):
        fitted(rows, 5)


@pytest.mark.parametrize("rank", [1, 4, 12, 18])
def test_projections_of_a_low_rank_differ_from_the_exact_by_no_more_than_what_is_left(rank):
    """What the next layer sees of the noise: along w, of length 1, λ − ρ of the eigenvectors left out."""
    rows = correlated(20, 60)
    weights = torch.randn(500, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights /= weights.norm(dim=1, keepdim=True)
    exact, low = fitted(rows, "full")[0], fitted(rows, rank)[0]
    left = max(numpys_pairs(rows)[0][rank] - low.remainder, low.remainder)
    error = (weights @ (dense(exact) - dense(low)) @ weights.mT).abs().max()
    assert 0.01 * left < error <= left * 1.001


def test_projections_of_draws_of_the_exact_factor_have_the_covariance_of_the_projected_rows():
    rows, draws = correlated(20, 60), torch.Generator().manual_seed(2)
    weights = torch.randn(5, 60, generator=draws)
    factor = fitted(rows, "full")[0].factor
    noise = torch.randn(100_000, factor.shape[1], generator=draws) @ factor.mT
    found, expected = numpys(noise @ weights.mT), numpys(rows @ weights.mT)
    spread = np.sqrt(np.outer(np.diag(expected), np.diag(expected)) / 1e5)
    assert (np.abs(found - expected) < 6 * spread).all()


GROWTH = """
from pathlib import Path
import torch
from noisetransfer import samples
from noisetransfer.covariance import fit

def held():
    # not ru_maxrss, which a process inherits from the one that starts it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def fitted(n, d, rank):
    chunks = (torch.randn(2, d) for _ in range(n // 2))
    ridge = {"relative": 1e-3}
    return fit(chunks, n=n, d=d, rank=rank, ridge=ridge, signal_trace=1.0, name="snow@5")

samples.BLOCK = 2**20
fitted(20, 500, 5)  # now all libraries are loaded
before = held()
for rank in (5, "full"):
    fitted(100, 300_000, rank)
    print((held() - before) / 120e6)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's count of memory")
def test_few_rows_are_held_once_and_little_else():
    """Of 120 MB of differences: one copy, chunks of 2 MB, a factor of 6 MB and some blocks of 8 MiB."""
    environment = {"PYTHONPATH": str(Path(samples.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GROWTH]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    low_rank, exact = map(float, ran.stdout.split())
    assert 0.9 < low_rank <= exact < 2.1


def test_differences_are_paired_with_nothing_but_their_mean_removed():
    """A shift of all rows moves the mean and leaves Σ."""
    rows = correlated(200, 30)
    near, far = fitted(rows)[0], fitted(rows + 2)[0]
    torch.testing.assert_close(dense(far), dense(near), atol=1e-4, rtol=0)
    torch.testing.assert_close(far.mean, near.mean + 2, atol=1e-5, rtol=0)


@TWO_ROUTES
def test_a_relative_ridge_is_a_share_of_the_mean_variance(shape):
    rows = correlated(*shape)
    covariance, diagnostics = fitted(rows, ridge={"relative": 0.5})
    mean_variance = np.trace(numpys(rows)) / shape[1]
    assert diagnostics.ridge == pytest.approx(0.5 * mean_variance, rel=1e-5)
    assert diagnostics.ridge_share == pytest.approx(1 / 3)
    expected = numpys(rows) + 0.5 * mean_variance * np.eye(shape[1])
    assert np.abs(dense(covariance).numpy() - expected).max() < 2e-6 * np.trace(expected)


@pytest.mark.parametrize("d", [4, 10], ids=["moments", "gram"])
@pytest.mark.parametrize(("rank", "explained"), [(1, 0.5), (2, 0.75), (3, 0.875), ("full", 1.0)])
def test_diagnostics_of_a_known_spectrum(d, rank, explained):
    """Eigenvalues 4, 2, 1, 1: trace 8, (Σλ)² / Σλ² = 64 / 22."""
    found = fitted(crosses([4.0, 2.0, 1.0, 1.0], d), rank, {"absolute": 0.5}, signal_trace=7.0)[1]
    assert (found.n, found.d, found.ridge, found.signal_trace) == (8, d, 0.5, 7.0)
    assert found.trace == pytest.approx(8, rel=1e-6)
    assert found.explained == pytest.approx(explained, rel=1e-6)
    assert found.effective_rank == pytest.approx(64 / 22, rel=1e-6)
    assert found.ridge_share == pytest.approx(0.5 * d / (8 + 0.5 * d), rel=1e-6)


@pytest.mark.parametrize("rank", [4, "full"])
def test_a_flat_spectrum_has_its_length_as_effective_rank(rank):
    found = fitted(crosses([3.0] * 6), rank)[1]
    assert found.effective_rank == pytest.approx(6)
    assert found.ridge_share == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@TWO_ROUTES
def test_nan_in_activations_names_the_source(shape, bad):
    rows = correlated(*shape)
    rows[-1, 3] = bad
    with pytest.raises(StudyError, match=r"snow@5: NaN or infinity.*learning rate"):
        fitted(rows)


@TWO_ROUTES
@pytest.mark.parametrize("ridge", [{"relative": 1e-3}, {"relative": 0.0}, {"absolute": 0.0}])
@pytest.mark.parametrize("rank", [5, "full"])
def test_a_source_without_difference_is_an_error_without_an_absolute_ridge(shape, ridge, rank):
    with pytest.raises(StudyError, match=r"snow@5: .*equal.*greater strength or an absolute ridge"):
        fitted(torch.zeros(shape), rank, ridge)


@TWO_ROUTES
@pytest.mark.parametrize("rank", [5, "full"])
def test_a_source_without_difference_is_the_absolute_ridge_and_degenerate(shape, rank):
    covariance, found = fitted(torch.zeros(shape), rank, {"absolute": 1e-4})
    expected = 1e-4 * torch.eye(shape[1], dtype=torch.float64)
    torch.testing.assert_close(dense(covariance), expected, rtol=1e-6, atol=1e-12)
    assert (found.trace, found.explained, found.effective_rank) == (0, 0, 0)
    assert found.ridge_share == pytest.approx(1)
    assert found.degenerate is True


def test_a_singular_covariance_has_no_exact_factor_without_a_ridge():
    rows = correlated(200, 10)
    rows[:, 3] = 0
    with pytest.raises(StudyError, match=r"snow@5: .*singular.*noise\.ridge.*noise\.rank"):
        fitted(rows)
    assert fitted(rows, ridge={"relative": 1e-3})[1].rank == 10
    error = np.abs(dense(fitted(rows, rank=9)[0]).numpy() - numpys(rows)).max()
    assert error < 2e-6 * np.trace(numpys(rows))


@pytest.mark.parametrize("seed", range(5))
def test_a_covariance_singular_but_for_rounding_is_refused_or_right(seed):
    rows = correlated(200, 10, seed)
    rows[:, 3] = rows[:, 5]
    try:
        covariance = dense(fitted(rows)[0]).numpy()
    except StudyError:
        return
    assert np.abs(covariance - numpys(rows)).max() < 2e-6 * np.trace(numpys(rows))


@pytest.mark.parametrize(("ridge", "degenerate"), [(0.11, False), (0.12, True)])
@pytest.mark.parametrize("rank", [2, "full"])
def test_degenerate_is_where_the_absolute_ridge_exceeds_a_tenth(ridge, degenerate, rank):
    """Mean variance 1: the ridge supplies a / (1 + a) of the trace; 1/9 is the limit."""
    found = fitted(crosses([2.0, 1.0, 0.5, 0.5]), rank, {"absolute": ridge}, signal_trace=1e9)[1]
    assert found.degenerate is degenerate


@pytest.mark.parametrize(("signal", "degenerate"), [(3.9e4, False), (4.1e4, True)])
@pytest.mark.parametrize("rank", [2, "full"])
def test_degenerate_is_where_the_signal_is_ten_thousand_times_the_source(signal, degenerate, rank):
    rows, ridge = crosses([2.0, 1.0, 0.5, 0.5]), {"relative": 0.9}
    assert fitted(rows, rank, ridge, signal_trace=signal)[1].degenerate is degenerate


@pytest.mark.parametrize("chunk", [1, 9, 100])
def test_total_variance_equals_numpys(chunk):
    rows = correlated(100, 10)
    expected = np.trace(numpys(rows))
    assert total_variance(rows.split(chunk), 100) == pytest.approx(expected, rel=1e-9)


def test_trials_of_different_rank_survive_a_file():
    covariances = [
        fitted(correlated(20, 60, seed), rank)[0] for seed, rank in [(0, 3), (1, "full"), (2, 6)]
    ]
    tensors = to_tensors(covariances)
    assert {name: tuple(values.shape) for name, values in tensors.items()} == {
        "mean": (3, 60),
        "factor": (3, 60, 19),
        "remainder": (3,),
        "diagonal": (3, 60),
    }
    for before, after in zip(covariances, from_tensors(tensors), strict=True):
        assert torch.equal(dense(after), dense(before))
        assert torch.equal(after.mean, before.mean)
        assert torch.equal(after.diagonal, before.diagonal)
        assert (after.trace, after.remainder) == (before.trace, before.remainder)
