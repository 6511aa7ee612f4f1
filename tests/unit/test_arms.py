import pytest
import torch

from noisetransfer.arms import ARMS, factors, rows
from noisetransfer.covariance import from_tensors, to_tensors
from noisetransfer.errors import StudyError
from structures import KEYS, D, covariance, dense, fitted

TAU = 0.7
SOURCED = [name for name, arm in ARMS.items() if arm.from_source and arm.noisy]
QUIET = ["none", "fine_tuned"]
FITS = {"exact": ("full", 300), "low rank": (8, 300), "few images": ("full", 20)}

every_arm = pytest.mark.parametrize("arm", ARMS)
every_fit = pytest.mark.parametrize(("rank", "n"), FITS.values(), ids=FITS)
KEYED = pytest.mark.parametrize("arm", ["rotated", "permuted"])


def made(arm, c, keys=KEYS, tau=str(TAU)):
    return factors(arm, tau, D, c, keys)


def scaled(c):
    return dense(c) * TAU * D / c.trace


def spectrum(matrix):
    return torch.linalg.eigvalsh(matrix)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance * float(expected.abs().max())
    )


@every_fit
@pytest.mark.parametrize("tau", [0.25, 2.0])
@every_arm
def test_the_trace_is_tau_d(arm, tau, rank, n):
    found = made(arm, covariance(rank, n), tau=str(tau))
    expected = 0 if arm in QUIET else tau * D
    assert found.trace == pytest.approx(expected, rel=1e-6)
    assert float(dense(found).trace()) == pytest.approx(expected, rel=1e-6)


@every_fit
@pytest.mark.parametrize("arm", SOURCED)
def test_unscaled_leaves_the_trace_of_the_source(arm, rank, n):
    c = covariance(rank, n)
    found = made(arm, c, tau="unscaled")
    assert found.trace == pytest.approx(c.trace, rel=1e-6)
    close(dense(found) * (TAU * D / c.trace), dense(made(arm, c)))


@pytest.mark.parametrize("arm", QUIET)
def test_arms_without_noise_need_no_covariance(arm):
    assert not ARMS[arm].noisy
    assert not dense(factors(arm, "0", D)).any()


def test_fine_tuning_has_a_row_for_each_source():
    table = rows(["fine_tuned"], "0", D, dict.fromkeys(SOURCES, [None] * 3), seed=1, trials=TRIALS)
    assert [[found.trace for found in row] for row in table] == [[0] * 3] * 2


def test_identity_is_tau_times_one():
    assert torch.equal(dense(factors("identity", "0.5", D)), 0.5 * torch.eye(D).double())


@every_fit
def test_full_is_the_scaled_covariance(rank, n):
    c = covariance(rank, n)
    close(dense(made("full", c)), scaled(c))
    close(dense(made("full", c, tau="unscaled")), dense(c))


@every_fit
def test_diagonal_has_the_exact_variances_and_no_correlation(rank, n):
    """The diagonal of a low rank's Σ is another one: its remainder is isotropic."""
    exact = covariance("full", n)
    close(dense(made("diagonal", covariance(rank, n))), torch.diag(scaled(exact).diagonal()))


@every_fit
def test_rotated_has_the_spectrum_but_not_the_directions(rank, n):
    c = covariance(rank, n)
    found, full = dense(made("rotated", c)), dense(made("full", c))
    close(spectrum(found), spectrum(full))
    leading = [torch.linalg.eigh(matrix)[1][:, -1] for matrix in (found, full)]
    assert float((leading[0] @ leading[1]).abs()) < 0.6  # uniform: 1 / √40 = 0.16 on average


def test_rotated_bases_are_uniform():
    """The mean of a random frame's projectors is r/d · I; another mean would prefer some axis."""
    c = covariance(8)
    bases = [dense(made("rotated", c, (1, "snow@5", trial), "1.0")) for trial in range(300)]
    mean = torch.stack(bases).mean(0)
    spread = spectrum(bases[0])[-1] / 300**0.5 / D**0.5
    assert (mean - torch.eye(D)).abs().max() < 6 * spread


@every_fit
def test_permuted_is_the_covariance_with_units_permuted(rank, n):
    c = covariance(rank, n)
    found, full = dense(made("permuted", c)), dense(made("full", c))
    close(spectrum(found), spectrum(full))
    close(found.flatten().sort().values, full.flatten().sort().values)
    close(found.diagonal().sort().values, full.diagonal().sort().values)
    moved = (found.diagonal() - full.diagonal()).abs() > 1e-3
    assert moved.sum() > D / 2


@KEYED
@pytest.mark.parametrize("keys", [(2, "snow@5", 0), (1, "pgd@0.1", 0), (1, "snow@5", 1)])
def test_random_arms_are_keyed_by_seed_source_and_trial(arm, keys):
    c = covariance()
    first, again = (dense(made(arm, c)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first - dense(made(arm, c, keys))).abs().max() > 0.1


@KEYED
def test_random_arms_turn_every_covariance_alike(arm):
    """The key alone decides: Σ and 3 Σ are turned the same way."""
    c = fitted(
        3**0.5 * torch.eye(D).repeat(3, 1) * torch.linspace(3, 1, D), ridge={"relative": 0.1}
    )
    d = fitted(torch.eye(D).repeat(3, 1) * torch.linspace(3, 1, D), ridge={"relative": 0.1})
    close(dense(made(arm, c[0])), dense(made(arm, d[0])), 1e-4)


@pytest.mark.parametrize("arm", SOURCED)
@pytest.mark.parametrize("n", [300, 20], ids=["moments", "gram"])
def test_padding_to_the_rank_of_another_trial_changes_no_arm(arm, n):
    alone = covariance(5, n)
    padded = from_tensors(to_tensors([alone, covariance(12, n, seed=1)]))[0]
    assert padded.factor.shape == (D, 12)
    close(dense(made(arm, padded)), dense(made(arm, alone)), 1e-6)


@pytest.mark.parametrize("arm", SOURCED)
@pytest.mark.parametrize("rank", [5, "full"])
@pytest.mark.parametrize("n", [300, 20], ids=["moments", "gram"])
def test_of_a_source_without_difference_every_arm_is_identity(arm, rank, n):
    """Under the absolute ridge, where Σ is the ridge."""
    c = fitted(torch.zeros(n, D), rank, {"absolute": 1e-4})[0]
    close(dense(made(arm, c)), TAU * torch.eye(D).double())


@pytest.mark.parametrize("arm", ["signal", "pooled", "half_a", "half_b"])
def test_arms_of_a_covariance_of_their_own_leave_it_as_it_is(arm):
    c = covariance(8)
    assert torch.equal(dense(made(arm, c)), dense(made("full", c)))


@pytest.mark.parametrize("arm", [*SOURCED, "signal", "pooled"])
def test_an_arm_with_a_source_needs_its_covariance(arm):
    with pytest.raises(StudyError, match=f"{arm} needs a covariance"):
        factors(arm, "0.7", D)


SOURCES = {
    "snow@5": [covariance(8, seed=s) for s in (0, 1, 2)],
    "pgd@0.1": [covariance(seed=s) for s in (3, 4, 5)],
}
TRIALS = (4, 7, 9)


def test_rows_are_the_arms_of_one_source_then_those_of_the_next():
    table = rows(["full", "rotated", "diagonal"], "0.7", D, SOURCES, seed=1, trials=TRIALS)
    named = [(source, arm) for source in SOURCES for arm in ("full", "rotated", "diagonal")]
    for (source, arm), row in zip(named, table, strict=True):
        for trial, c, found in zip(TRIALS, SOURCES[source], row, strict=True):
            assert torch.equal(dense(found), dense(made(arm, c, (1, source, trial))))


@KEYED
def test_a_row_depends_on_no_other_row_and_no_other_trial(arm):
    table = rows(["full", arm], "0.7", D, SOURCES, seed=1, trials=TRIALS)
    (alone,) = rows([arm], "0.7", D, {"pgd@0.1": SOURCES["pgd@0.1"][2:]}, seed=1, trials=TRIALS[2:])
    assert torch.equal(dense(table[3][2]), dense(alone[0]))


def test_arms_without_a_source_need_no_covariance():
    table = rows(["identity", "none"], "0.7", D, {}, seed=1, trials=TRIALS)
    assert [[found.trace for found in row] for row in table] == [
        [pytest.approx(TAU * D)] * 3,
        [0] * 3,
    ]


def test_covariances_of_another_number_of_trials_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        rows(["full"], "0.7", D, SOURCES, seed=1, trials=TRIALS[:2])
