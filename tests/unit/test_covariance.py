import numpy as np
import pytest
import torch

from noisetransfer.covariance import fit, from_tensors, to_tensors, total_variance
from noisetransfer.errors import StudyError

NONE = {"absolute": 0.0}


def sample(n, d, seed=0):
    """Correlated rows whose spectrum falls off and whose mean is not 0."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=draws) * torch.logspace(0, -2, d)
    return torch.randn(n, d, generator=draws) @ mixing.mT + 0.5


def fitted(rows, rank=None, ridge=NONE, chunk=17, signal_trace=1.0):
    n, d = rows.shape
    chunks = rows.split(chunk)
    return fit(chunks, n=n, d=d, rank=rank, ridge=ridge, signal_trace=signal_trace, name="snow@5")


def dense(c):
    """Σ as a matrix, from its parts."""
    excess = torch.diag(c.eigenvalues - c.remainder)
    return c.eigenvectors @ excess @ c.eigenvectors.mT + c.remainder * torch.eye(len(c.diagonal))


ROUTES = pytest.mark.parametrize("shape", [(200, 30), (20, 60)], ids=["moments", "gram"])


@ROUTES
def test_all_pairs_give_numpys_covariance(shape):
    rows = sample(*shape)
    expected = np.cov(rows.double().numpy(), rowvar=False)
    scale = np.trace(expected)
    assert np.abs(dense(fitted(rows)[0]).numpy() - expected).max() < 1e-6 * scale


@ROUTES
def test_mean_diagonal_and_trace_are_exact_at_any_rank(shape):
    rows = sample(*shape)
    covariance, diagnostics = fitted(rows, rank=5)
    variance = rows.double().var(0)
    torch.testing.assert_close(
        covariance.mean.double(), rows.double().mean(0), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(covariance.diagonal.double(), variance, rtol=1e-4, atol=1e-6)
    assert covariance.trace == pytest.approx(float(variance.sum()), rel=1e-5)
    assert float(dense(covariance).trace()) == pytest.approx(covariance.trace, rel=1e-5)
    assert diagnostics.trace == pytest.approx(covariance.trace, rel=1e-5)


@ROUTES
def test_a_low_rank_keeps_the_leading_eigenpairs(shape):
    rows = sample(*shape)
    values, vectors = np.linalg.eigh(np.cov(rows.double().numpy(), rowvar=False))
    covariance, diagnostics = fitted(rows, rank=4)
    np.testing.assert_allclose(covariance.eigenvalues, values[::-1][:4], rtol=1e-4)
    overlap = np.abs(np.sum(vectors[:, ::-1][:, :4] * covariance.eigenvectors.numpy(), axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    assert diagnostics.explained == pytest.approx(values[::-1][:4].sum() / values.sum(), rel=1e-4)
    effective_rank = values.sum() ** 2 / (values**2).sum()
    assert diagnostics.effective_rank == pytest.approx(effective_rank, rel=1e-4)


def test_both_routes_agree():
    rows = sample(61, 60)
    moments, gram = fitted(rows)[0], fitted(rows[:, :], rank=60)[0]
    torch.testing.assert_close(dense(moments), dense(gram), atol=1e-4, rtol=1e-4)
    fewer, _ = fitted(sample(60, 60))
    expected = np.cov(sample(60, 60).double().numpy(), rowvar=False)
    assert np.abs(dense(fewer).numpy() - expected).max() < 1e-6 * np.trace(expected)


@ROUTES
def test_chunks_do_not_matter(shape):
    rows = sample(*shape)
    first, second = fitted(rows, chunk=3)[0], fitted(rows, chunk=1000)[0]
    torch.testing.assert_close(dense(first), dense(second), atol=1e-5, rtol=1e-5)


@ROUTES
def test_an_absolute_ridge_adds_to_the_diagonal(shape):
    rows = sample(*shape)
    plain, ridged = dense(fitted(rows)[0]), dense(fitted(rows, ridge={"absolute": 0.3})[0])
    torch.testing.assert_close(ridged - plain, 0.3 * torch.eye(shape[1]), atol=1e-4, rtol=1e-4)


def test_a_relative_ridge_is_a_share_of_the_mean_variance():
    rows = sample(200, 30)
    covariance, diagnostics = fitted(rows, ridge={"relative": 0.5})
    assert covariance.trace == pytest.approx(1.5 * float(rows.double().var(0).sum()), rel=1e-5)
    assert diagnostics.ridge_share == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@ROUTES
def test_nan_in_activations_names_the_source(shape, bad):
    rows = sample(*shape)
    rows[7, 3] = bad
    with pytest.raises(StudyError, match=r"snow@5: NaN or infinity.*learning rate"):
        fitted(rows)


@ROUTES
def test_a_source_without_difference_is_an_error_under_a_relative_ridge(shape):
    with pytest.raises(StudyError, match=r"snow@5: .*equal.*greater strength or an absolute ridge"):
        fitted(torch.zeros(shape), ridge={"relative": 1e-3})


@ROUTES
def test_an_absolute_ridge_of_0_is_none(shape):
    with pytest.raises(StudyError, match="equal"):
        fitted(torch.zeros(shape), ridge={"absolute": 0.0})


@ROUTES
def test_a_source_without_difference_is_degenerate_under_an_absolute_ridge(shape):
    covariance, diagnostics = fitted(torch.zeros(shape), ridge={"absolute": 1e-4})
    torch.testing.assert_close(dense(covariance), 1e-4 * torch.eye(shape[1]))
    assert diagnostics.degenerate


@pytest.mark.parametrize(("ridge", "degenerate"), [(0.05, False), (0.2, True)])
def test_degenerate_is_where_the_absolute_ridge_exceeds_a_tenth(ridge, degenerate):
    rows = sample(500, 10) / float(sample(500, 10).var(0).sum().sqrt()) * 10**0.5  # mean variance 1
    assert fitted(rows, ridge={"absolute": ridge})[1].degenerate is degenerate


@pytest.mark.parametrize(("signal", "degenerate"), [(0.9e4, False), (1.1e4, True)])
def test_degenerate_is_where_the_signal_is_ten_thousand_times_the_source(signal, degenerate):
    rows = sample(100, 10)
    trace = float(rows.double().var(0).sum())
    _, diagnostics = fitted(rows, ridge={"relative": 1e-3}, signal_trace=signal * trace)
    assert diagnostics.degenerate is degenerate


def test_total_variance_equals_numpys():
    rows = sample(100, 10)
    expected = np.trace(np.cov(rows.double().numpy(), rowvar=False))
    assert total_variance(rows.split(9), 100) == pytest.approx(expected, rel=1e-9)


def test_trials_of_different_rank_survive_a_file():
    covariances = [fitted(sample(200, 30, seed), rank)[0] for seed, rank in [(0, 3), (1, 6)]]
    back = from_tensors(to_tensors(covariances))
    for before, after in zip(covariances, back, strict=True):
        torch.testing.assert_close(dense(after), dense(before))
        assert after.trace == before.trace
