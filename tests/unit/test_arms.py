import pytest
import torch

from noisetransfer.arms import ARMS, factors, stacked
from noisetransfer.errors import StudyError
from structures import KEYS, D, covariance, dense

TAU = 0.7


def spectrum(matrix):
    return torch.linalg.eigvalsh(matrix.double())


def scaled_full(rank=None):
    return dense(factors("full", TAU, D, covariance(rank), KEYS))


@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "none"])
def test_every_arm_has_the_trace_tau_d(arm, rank):
    found = factors(arm, TAU, D, covariance(rank), KEYS)
    assert found.trace == pytest.approx(TAU * D, rel=1e-5)
    assert float(dense(found).trace()) == pytest.approx(TAU * D, rel=1e-5)


def test_none_is_no_noise():
    assert dense(factors("none", TAU, D)).abs().max() == 0


def test_identity_is_tau_times_one():
    assert torch.equal(dense(factors("identity", TAU, D)), TAU * torch.eye(D))


def test_full_is_the_scaled_covariance():
    c = covariance()
    expected = c.eigenvectors @ torch.diag(c.eigenvalues) @ c.eigenvectors.mT
    torch.testing.assert_close(scaled_full(), expected * TAU * D / c.trace, atol=1e-5, rtol=1e-4)


def test_diagonal_has_the_variances_of_the_covariance():
    found = dense(factors("diagonal", TAU, D, covariance(), KEYS))
    torch.testing.assert_close(found, torch.diag(scaled_full().diagonal()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rank", [None, 8])
def test_rotated_has_the_spectrum_but_not_the_directions(rank):
    found = dense(factors("rotated", TAU, D, covariance(rank), KEYS))
    torch.testing.assert_close(spectrum(found), spectrum(scaled_full(rank)), atol=1e-4, rtol=1e-3)
    assert (found - scaled_full(rank)).abs().max() > 0.1


def test_rotated_bases_are_uniform():
    """The mean projector of random frames is r/d · I; its diagonal would show a preferred axis."""
    c = covariance(8)
    projector = torch.zeros(D, D)
    for trial in range(300):
        noise = factors("rotated", 1.0, D, c, (1, "snow@5", trial))
        projector += dense(noise) / 300
    off = projector - torch.diag(projector.diagonal())
    assert (projector.diagonal() - 1).abs().max() < 0.5
    assert off.abs().max() < 0.5


@pytest.mark.parametrize("rank", [None, 8])
def test_permuted_is_the_covariance_with_units_permuted(rank):
    found, full = dense(factors("permuted", TAU, D, covariance(rank), KEYS)), scaled_full(rank)
    torch.testing.assert_close(spectrum(found), spectrum(full), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        found.diagonal().sort().values, full.diagonal().sort().values, atol=1e-5, rtol=1e-4
    )
    assert (found - full).abs().max() > 0.1


@pytest.mark.parametrize("arm", ["rotated", "permuted"])
@pytest.mark.parametrize("keys", [(2, "snow@5", 0), (1, "pgd@0.1", 0), (1, "snow@5", 1)])
def test_random_arms_are_keyed_by_seed_source_and_trial(arm, keys):
    first, again = (dense(factors(arm, TAU, D, covariance(), KEYS)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, dense(factors(arm, TAU, D, covariance(), keys)))


def test_padding_to_the_rank_of_another_trial_changes_no_arm():
    for arm in ("full", "rotated", "permuted"):
        alone, padded = (
            factors(arm, TAU, D, c, KEYS) for c in (covariance(8), covariance(8).padded(12))
        )
        torch.testing.assert_close(dense(padded), dense(alone))


def test_an_arm_with_a_source_needs_its_covariance():
    with pytest.raises(StudyError, match="full needs the covariance"):
        factors("full", TAU, D)


def test_stacked_is_arms_by_trials():
    table = stacked(
        ["diagonal", "full"], TAU, D, [covariance(8)] * 3, seed=1, source="s", trials=[0, 1, 2]
    )
    assert [len(row) for row in table] == [3, 3]
    assert table[0][0].factor is None
    assert table[1][2].factor.shape == (D, 8)


def test_sourceless_arms_need_no_covariance():
    table = stacked(["none", "identity"], TAU, D, [], seed=1, source="any", trials=[0])
    assert [row[0].trace for row in table] == [0, pytest.approx(TAU * D)]
