from dataclasses import replace

import pytest
import torch

from noisetransfer.arms import ARMS, Factors, factors, rows
from noisetransfer.noise import NoiseSampler, Normals, embedded, noisy_pixels
from noisetransfer.randomness import key
from structures import CPU, KEYS, D, correlated, covariance, dense, fitted

TRIALS = (0, 3)
IMAGES = torch.tensor([40, 7, 12, 99, 3, 58])


def whole(number):
    return torch.tensor(number)


def of(stack, trials=(0,), seed=5):
    return NoiseSampler.of(stack, CPU, seed=seed, trials=trials)


def draw(sampler, images=IMAGES, number=0, purpose="noise"):
    return sampler.draw(sampler.keys(purpose), whole(number), images)


def crowd():
    """Four rows of unlike rank, one of them without factors, and two trials of unlike rank."""
    fits = {"snow@5": [covariance(8), covariance(5, seed=1)], "pgd@0.1": [covariance()] * 2}
    return rows(["diagonal", "full"], "0.5", D, fits, seed=1, trials=TRIALS)


@pytest.mark.parametrize("rank", ["full", 8])
@pytest.mark.parametrize("arm", ARMS)
def test_noise_has_the_covariance_of_its_arm(arm, rank):
    """Exactly: of independent draws z, the noise is linear with the matrix (F, √v)."""
    wanted = factors(arm, "0.5", D, covariance(rank), KEYS)
    sampler = of([[wanted]])
    units = torch.eye(sampler.rank + D)[None]
    noise = sampler.sample(Normals(units[..., : sampler.rank], units[..., sampler.rank :]))[0, 0]
    found = noise.double().mT @ noise.double()
    torch.testing.assert_close(found, dense(wanted), rtol=0, atol=1e-6 * D)


@pytest.mark.parametrize("rank", ["full", 8])
@pytest.mark.parametrize("arm", ARMS)
def test_drawn_noise_has_the_covariance_of_its_arm(arm, rank):
    """The empirical covariance of n draws differs from Σ by about √((tr² + ‖Σ‖²)/n) in Frobenius norm."""
    wanted, n = factors(arm, "0.5", D, covariance(rank), KEYS), 6_000
    noise = draw(of([[wanted]]), torch.arange(n))[0, 0].double()
    sigma, found = dense(wanted), noise.mT @ noise / n
    error = float(((sigma.trace() ** 2 + sigma.square().sum()) / n).sqrt())
    assert float((found - sigma).norm()) <= 1.3 * error
    assert float(noise.mean(0).norm()) <= 1.5 * float((sigma.trace() / n).sqrt())
    spread = float((2 * sigma.square().sum() / n).sqrt())  # of the trace
    assert float(found.trace()) == pytest.approx(float(sigma.trace()), abs=4 * spread + 1e-9)


def test_a_factor_in_half_precision_keeps_the_covariance():
    """Drawn alike, so that only the rounding differs; errors in units of the mean variance."""
    d, images = 300, torch.arange(1500)
    c = fitted(correlated(900, d), ridge={"relative": 1e-3})[0]
    exact = of([[factors("full", "1.0", d, c, KEYS)]])
    half = replace(exact, factors=(exact.factors[0].bfloat16(),))
    fine, coarse = (draw(sampler, images)[0, 0] for sampler in (exact, half))
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, fine)
    fine, coarse = fine.double(), coarse.double()
    error = (coarse.mT @ coarse - fine.mT @ fine) / len(images)
    assert float(error.trace().abs()) / d < 1e-3
    assert float(error.square().mean().sqrt()) < 1e-3
    assert float(error.abs().max()) < 1e-2  # rows of the Cholesky factor with few entries
    assert float(error.norm() / dense(factors("full", "1.0", d, c, KEYS)).norm()) < 4e-3


def test_a_draw_belongs_to_key_number_and_image_alone():
    """Whatever the batch and its order, and whatever the other rows and trials."""
    table = crowd()
    together = draw(of(table, TRIALS), number=2)
    assert together.shape == (4, 2, 6, D)
    for r, t, i in [(0, 0, 0), (1, 1, 5), (2, 0, 3), (3, 1, 2), (1, 0, 4)]:
        alone = of([[table[r][t]]], TRIALS[t : t + 1])
        found = draw(alone, IMAGES[i : i + 1], number=2)
        torch.testing.assert_close(found[0, 0, 0], together[r, t, i], rtol=1e-5, atol=1e-6)
    turned = draw(of(table[::-1], TRIALS), IMAGES.flip(0), number=2)
    torch.testing.assert_close(turned.flip(0, 2), together, rtol=1e-5, atol=1e-6)


def test_trials_may_look_at_different_images():
    table = crowd()
    mixed = draw(of(table, TRIALS), torch.stack([IMAGES, IMAGES.flip(0)]))
    shared = draw(of(table, TRIALS), IMAGES)
    torch.testing.assert_close(mixed[:, 0], shared[:, 0])
    torch.testing.assert_close(mixed[:, 1], shared[:, 1].flip(1))


def test_draws_of_other_keys_numbers_and_images_are_others():
    one = [[Factors(None, torch.ones(D))]]
    draws = [
        draw(of(one)),
        draw(of(one), number=1),
        draw(of(one), purpose="other noise"),
        draw(of(one, trials=(1,))),
        draw(of(one, seed=6)),
    ]
    every = torch.cat(draws).flatten(0, 2)
    correlation = torch.corrcoef(every) - torch.eye(len(every))
    assert correlation.abs().max() < 5 / D**0.5
    assert len(every.unique(dim=0)) == 5 * len(IMAGES)


def test_keys_are_those_of_seed_purpose_and_trial():
    sampler = of(crowd(), TRIALS)
    assert sampler.keys("noise").tolist() == [key(5, "noise", t) for t in TRIALS]


def test_rows_share_their_draws():
    """Four times the variance is twice the noise: with and without factors."""
    f = factors("full", "0.5", D, covariance(8), KEYS)
    both = draw(of([[f], [f.scaled(4 * f.trace)]]))
    torch.testing.assert_close(both[1], 2 * both[0])
    plain = Factors(None, torch.ones(D))
    both = draw(of([[plain], [plain.scaled(4 * D)]]))
    torch.testing.assert_close(both[1], 2 * both[0])


def test_isotropic_draws_do_not_depend_on_the_rank_of_other_rows():
    plain = [Factors(None, torch.ones(D))]
    alone = draw(of([plain]))[0]
    for rank in (1, 7, "full"):
        other = [factors("full", "0.5", D, covariance(rank), KEYS)]
        assert torch.equal(draw(of([plain, other]))[0], alone)
        own = draw(of([[Factors(other[0].factor * 0, torch.ones(D))]]))[0]
        torch.testing.assert_close(own, alone)


def test_trials_of_unlike_rank_make_one_stack():
    table = [[factors("full", "0.5", D, covariance(rank), KEYS) for rank in (3, 8)]]
    sampler = of(table, TRIALS)
    assert sampler.rank == 8
    alone = draw(of([table[0][:1]], TRIALS[:1]))
    torch.testing.assert_close(draw(sampler)[:, :1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("r", [slice(0, 1), slice(1, 3), slice(0, 4)])
@pytest.mark.parametrize("t", [slice(0, 1), slice(1, 2), slice(0, 2)])
def test_a_part_draws_what_the_whole_draws(r, t):
    whole_stack = of(crowd(), TRIALS)
    part = whole_stack.part(r, t)
    assert (part.seed, part.trials) == (5, TRIALS[t])
    expected = draw(whole_stack)[r, t]
    assert draw(part).shape == expected.shape
    torch.testing.assert_close(draw(part), expected, rtol=1e-5, atol=1e-6)


def test_the_rank_is_that_of_the_part():
    sampler = of(crowd(), TRIALS)
    ranks = [sampler.part(slice(r, r + 1), slice(None)).rank for r in range(4)]
    assert ranks == [0, 8, 0, D]


def test_silent_is_where_no_row_has_noise():
    none, identity = ([factors(arm, "0.5", D)] for arm in ("none", "identity"))
    low_rank = [Factors(torch.ones(D, 1), torch.zeros(D))]
    assert of([none]).silent
    assert of([none, none]).silent
    assert not of([none, identity]).silent
    assert not of([none, low_rank]).silent
    assert of([none, identity]).part(slice(0, 1), slice(None)).silent
    assert not draw(of([none])).any()


@pytest.mark.parametrize("shape", [(12,), (2, 3, 2), (3, 1, 4)])
def test_embedded_noise_has_the_shape_of_an_activation(shape):
    noise = torch.rand(3, 2, 5, 12)
    found = embedded(noise, torch.Size(shape))
    assert found.shape == (3, 2, 5, *shape)
    assert torch.equal(found.flatten(3), noise)


def test_embedded_noise_leaves_alone_what_a_state_holds_beside_the_activation():
    noise = torch.rand(3, 5, 12)
    found = embedded(noise, torch.Size([20]))
    assert torch.equal(found[..., :12], noise)
    assert not found[..., 12:].any()


def seen(images, sigma=0.3, keys=(11, 22), draw=0, indices=IMAGES):
    return noisy_pixels(images, sigma, torch.tensor(keys), whole(draw), indices)


def test_noisy_pixels_have_their_sigma_and_are_not_clamped():
    images = torch.rand(2, 6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    noise = (seen(images) - images).double()
    n = noise.numel()
    assert float(noise.std()) == pytest.approx(0.3, rel=4 / (2 * n) ** 0.5)
    assert abs(float(noise.mean())) < 4 * 0.3 / n**0.5
    assert seen(images).min() < 0
    assert seen(images).max() > 1
    correlation = torch.corrcoef(noise.flatten(2).flatten(0, 1)) - torch.eye(12)
    assert correlation.abs().max() < 5 / 1200**0.5


def test_noisy_pixels_are_keyed_by_trial_draw_and_image():
    images = torch.rand(2, 6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    whole_batch = seen(images)
    part = seen(images[1:, 2:4], keys=(22,), indices=IMAGES[2:4])
    assert torch.equal(part, whole_batch[1:, 2:4])
    own = seen(images, indices=torch.stack([IMAGES, IMAGES]))
    assert torch.equal(own, whole_batch)
    assert not torch.isclose(seen(images, draw=1), whole_batch).any()
    torch.testing.assert_close(
        seen(images, sigma=0.6) - images, 2 * (whole_batch - images), rtol=1e-4, atol=1e-5
    )
