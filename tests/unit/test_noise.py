import pytest
import torch

from noisetransfer.arms import ARMS, Factors, factors, stacked
from noisetransfer.noise import NoiseSampler, Normals, normals
from structures import KEYS, D, covariance, dense

CPU = torch.device("cpu")


def draw(sampler, images, seed=0, trials=(0,)):
    own = [normals(sampler.rank, D, seed, "noise", t, images=images) for t in trials]
    return sampler.sample(
        Normals(torch.stack([z.factor for z in own]), torch.stack([z.unit for z in own]))
    )


@pytest.mark.parametrize("rank", [None, 8], ids=["exact", "low rank"])
@pytest.mark.parametrize("arm", ARMS)
def test_injected_noise_has_the_covariance_of_its_arm(arm, rank):
    """The empirical covariance of n draws differs from Σ by about √((tr² + ‖Σ‖²)/n) in Frobenius norm."""
    wanted = factors(arm, 0.5, D, covariance(rank), KEYS)
    n = 20_000
    rows = draw(NoiseSampler.of([[wanted]], CPU), range(n))[0, 0].double()
    sigma, found = dense(wanted).double(), rows.mT @ rows / n
    expected_error = ((sigma.trace() ** 2 + sigma.square().sum()) / n).sqrt()
    assert float((found - sigma).norm()) <= 1.3 * float(expected_error)
    assert float(found.trace()) == pytest.approx(wanted.trace, rel=0.03, abs=1e-9)
    top, expected_top = (float(torch.linalg.eigvalsh(m)[-1]) for m in (found, sigma))
    edge = 2 * (D / n) ** 0.5  # Marchenko and Pastur: what sampling adds to a flat spectrum
    assert top == pytest.approx(expected_top, rel=edge + 0.02, abs=1e-9)


def test_arms_share_their_draws():
    scales = [Factors(None, torch.full((D,), v)) for v in (1.0, 4.0)]
    noise = draw(NoiseSampler.of([[f] for f in scales], CPU), range(5))
    torch.testing.assert_close(noise[1], 2 * noise[0])


def test_a_stack_draws_what_its_members_draw():
    arms = ["diagonal", "full", "rotated"]
    table = stacked(arms, 0.5, D, [covariance(8)] * 2, seed=1, source="s", trials=[0, 1])
    together = draw(NoiseSampler.of(table, CPU), range(6), trials=(0, 1))
    for a in range(3):
        for t in range(2):
            alone = NoiseSampler.of([[table[a][t]]], CPU)
            rank = NoiseSampler.of(table, CPU).rank
            z = normals(rank, D, 0, "noise", t, images=range(6))
            expected = alone.sample(Normals(z.factor[None], z.unit[None]))[0, 0]
            torch.testing.assert_close(together[a, t], expected)


def test_a_trial_can_be_taken_out():
    table = stacked(["full"], 0.5, D, [covariance(8)] * 2, seed=1, source="s", trials=[0, 1])
    sampler = NoiseSampler.of(table, CPU)
    both = draw(sampler, range(6), trials=(0, 1))
    torch.testing.assert_close(draw(sampler.trial(1), range(6), trials=(1,))[:, 0], both[:, 1])


def test_sources_share_the_draws_whatever_their_rank():
    assert torch.equal(
        normals(0, D, 1, "noise", images=[3]).unit, normals(9, D, 1, "noise", images=[3]).unit
    )
