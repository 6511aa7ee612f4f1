from dataclasses import replace

import pytest
import torch
from torch import nn

from noisetransfer import probing
from noisetransfer.arms import Factors
from noisetransfer.evaluation import NoisyNetworks
from noisetransfer.networks import stack
from noisetransfer.noise import NoiseSampler
from noisetransfer.probing import gradients, moments
from structures import CPU

D, CLASSES = 12, 3
INDICES = torch.arange(40)
IMAGES = torch.rand(40, 1, 3, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % CLASSES


def sampler(*factors):
    return NoiseSampler.of([[one] for one in factors], CPU, seed=5, trials=[2])


def factors(scale=1.0):
    draws = torch.Generator().manual_seed(1)
    low_rank = torch.randn(D, 5, generator=draws) * torch.tensor([3.0, 2, 1, 0.5, 0.1])
    return Factors(low_rank * scale, torch.full((D,), 0.1 * scale**2))


def networks(noise, middle=None):
    """One row: flatten, add the noise, then a linear layer (or what stands before it)."""
    torch.manual_seed(3)
    layers = [middle] if middle else []
    suffix = nn.Sequential(*layers, nn.Linear(D, CLASSES)).requires_grad_(False)
    return NoisyNetworks(nn.Flatten(), suffix, stack([suffix]), noise)


SILENT = Factors(None, torch.zeros(D))


def test_the_gradient_of_a_linear_network_without_noise_is_always_the_same():
    found = gradients(networks(sampler(SILENT)), IMAGES, LABELS, INDICES, draws=5)
    assert found.zero.tolist() == [0]
    assert found.ratio.isnan().all()


def test_a_gradient_that_is_masked_is_counted():
    clipped = networks(sampler(SILENT), nn.Hardtanh(5.0, 6.0))  # nothing passes: its slope is 0
    assert gradients(clipped, IMAGES, LABELS, INDICES, draws=5).zero.tolist() == [1]


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_ratio_is_that_of_gradients_drawn_by_hand(scale):
    noisy = networks(sampler(factors(scale)), nn.Tanh())
    found = gradients(noisy, IMAGES, LABELS, INDICES, draws=30)
    draw = noisy.noise("attack noise")
    each = []
    for number in range(30):
        points = IMAGES.clone().requires_grad_()
        logits = noisy.suffix(points.flatten(1) + draw(number, INDICES)[0])
        loss = nn.functional.cross_entropy(logits, LABELS, reduction="sum")
        each.append(torch.autograd.grad(loss, points)[0].flatten(1))
    every = torch.stack(each)
    spread = every.var(0).sum(-1)
    signal = (every.mean(0).norm(dim=-1).square() - spread / 30).clamp(min=0)
    by_hand = signal.sqrt() / spread.sqrt()
    torch.testing.assert_close(found.ratio[0], by_hand, rtol=1e-3, atol=1e-5)


def test_the_ratio_of_gradients_that_are_chance_alone_is_about_0():
    """Uncorrected it would be 1 / √30 = .18; the true ratio .5 is found."""
    draws = torch.randn(30, 1, 400, 50, generator=torch.Generator().manual_seed(7))
    assert probing._ratio(draws).median() < 0.06
    shifted = probing._ratio(draws + 0.5)
    assert shifted.median() == pytest.approx(0.5, abs=0.02)


def test_more_noise_makes_gradients_agree_less():
    ratios = [
        gradients(networks(sampler(factors(s)), nn.Tanh()), IMAGES, LABELS, INDICES, draws=30).ratio
        for s in (0.03, 0.3, 3.0)
    ]
    medians = [float(ratio.median()) for ratio in ratios]
    assert medians == sorted(medians, reverse=True)


def test_noise_as_asked_for_is_within_chance():
    asked = sampler(factors(), Factors(None, torch.linspace(0.1, 2, D)))
    found = moments(asked, asked, INDICES, draws=50)
    assert found.trace.tolist() == pytest.approx([1, 1], abs=0.1)
    assert found.trace_z.abs().max() < 4
    assert found.direction_z.max() < 4.5


WRONG = {
    "too strong": lambda one: replace(one, scale=one.scale * 1.2, factors=(one.factors[0] * 1.2,)),
    "without its factor": lambda one: replace(one, factors=(None,)),
    "in another place": lambda one: replace(one, factors=(one.factors[0].roll(1, dims=1),)),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_noise_of_another_covariance_is_seen(change):
    asked = sampler(factors())
    found = moments(change(asked), asked, INDICES, draws=50)
    assert max(found.trace_z.abs().max(), found.direction_z.max()) > 6


def test_the_trace_is_held_against_what_tau_asks_for():
    """Factors that were scaled wrongly, and drawn from as they are."""
    asked = sampler(factors(), SILENT)
    trace = float(probing._trace(asked)[0])
    right, wrong = (moments(asked, asked, INDICES, draws=50, trace=t) for t in (trace, 1.3 * trace))
    assert abs(right.trace_z[0]) < 4
    assert wrong.trace_z[0] < -6
    assert right.trace[1].isnan()


def test_columns_of_a_factor_that_are_0_are_no_directions():
    padded = Factors(torch.cat([factors().factor[:, :2], torch.zeros(D, 6)], 1), torch.ones(D))
    found = moments(sampler(padded), sampler(padded), INDICES, draws=50)
    assert found.direction_z.max() < 4.5


def test_no_noise_has_no_moments():
    found = moments(sampler(SILENT), sampler(SILENT), INDICES, draws=3)
    assert found.trace.isnan().all()
    assert found.direction_z.isnan().all()
