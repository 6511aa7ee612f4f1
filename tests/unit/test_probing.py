import argparse
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

import probe_noise
from noisetransfer import probing
from noisetransfer.arms import Factors
from noisetransfer.artifacts import read_table, write_tensors
from noisetransfer.evaluation import NoisyNetworks
from noisetransfer.linear import linear_map
from noisetransfer.networks import build, stack
from noisetransfer.noise import NoiseSampler
from noisetransfer.probing import Asked, gradients, moments
from structures import CPU, dense

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
    assert probing._agreement(draws)[1].median() < 0.06
    shifted = probing._agreement(draws + 0.5)[1]
    assert shifted.median() == pytest.approx(0.5, abs=0.02)


def test_running_sums_are_those_of_all_gradients_together():
    every = torch.randn(20, 2, 9, 30, generator=torch.Generator().manual_seed(8)) + 3
    every[:5, 1, 4] = 0
    spread = every.double().var(0, correction=1).sum(-1)
    signal = every.double().mean(0).square().sum(-1) - spread / 20
    zero, ratio = probing._agreement(every)
    torch.testing.assert_close(ratio.double(), (signal / spread).sqrt(), rtol=1e-5, atol=0)
    assert torch.equal(zero, (every == 0).all(-1).float().mean(0))


def test_no_more_gradients_are_kept_with_more_draws(monkeypatch):
    made, alive, draw = [], [], torch.autograd.grad

    def watched(*args):
        (gradient,) = draw(*args)
        made.append(StorageWeakRef(gradient.untyped_storage()))
        alive.append(sum(not one.expired() for one in made))
        return (gradient,)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    gradients(networks(sampler(factors()), nn.Tanh()), IMAGES, LABELS, INDICES, draws=20)
    assert len(made) == 20
    assert max(alive) <= 2


def test_batches_of_images_change_nothing(monkeypatch):
    noisy, asked = networks(sampler(factors()), nn.Hardtanh(-30, 30)), Asked(sampler(factors()))
    images = IMAGES.clone()
    images[20:] += 60  # their gradients are 0
    whole = gradients(noisy, images, LABELS, INDICES, draws=10)
    together = moments(noisy, asked, images, INDICES, draws=10)
    sizes = []

    def seven(_, values):
        sizes.append(values)
        return 7

    monkeypatch.setattr(probing, "images_at_once", seven)
    cut = gradients(noisy, images, LABELS, INDICES, draws=10)
    torch.testing.assert_close(cut.ratio, whole.ratio, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert cut.zero == whole.zero == 0.5
    apart = moments(noisy, asked, images, INDICES, draws=10)
    torch.testing.assert_close(vars(apart), vars(together), rtol=1e-4, atol=1e-4)
    assert sizes == [4 * (4 * (0 + D) + 6 * D)] * 2


def test_more_noise_makes_gradients_agree_less():
    ratios = [
        gradients(networks(sampler(factors(s)), nn.Tanh()), IMAGES, LABELS, INDICES, draws=30).ratio
        for s in (0.03, 0.3, 3.0)
    ]
    medians = [float(ratio.median()) for ratio in ratios]
    assert medians == sorted(medians, reverse=True)


def measured(noise, asked, networks=networks, **more):
    """Moments of noise that enters networks, beside what was asked for."""
    return moments(networks(noise), Asked(asked, **more), IMAGES, INDICES, draws=50)


def test_noise_as_asked_for_is_within_chance():
    asked = sampler(factors(), Factors(None, torch.linspace(0.1, 2, D)))
    found = measured(asked, asked)
    assert found.trace.tolist() == pytest.approx([1, 1], abs=0.1)
    assert found.trace_z.abs().max() < 4
    assert found.direction_z.max() < 4.5


WRONG = {
    "too strong": lambda one: replace(one, scale=one.scale * 1.2, factors=(one.factors[0] * 1.2,)),
    "without its factor": lambda one: replace(one, factors=(None,)),
    "in another place": lambda one: replace(one, factors=(one.factors[0].roll(1, dims=1),)),
}


def furthest(found):
    return max(found.trace_z.abs().max(), found.direction_z.max())


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_noise_of_another_covariance_is_seen(change):
    asked = sampler(factors())
    assert furthest(measured(change(asked), asked)) > 6


class Weakened(NoisyNetworks):
    def head_of_noise(self, noise, shape):
        return 0.8 * super().head_of_noise(noise, shape)


class Moved(NoisyNetworks):
    def head_of_noise(self, noise, shape):
        return super().head_of_noise(noise, shape).roll(1, -1)


class Swapped(NoisyNetworks):
    def noise(self, purpose):
        draw = super().noise(purpose)
        return lambda number, images: draw(number, images).flip(0)


class Biased(NoisyNetworks):
    def head(self, images):
        return super().head(images) + 1


@pytest.mark.parametrize("kind", [Weakened, Moved, Swapped, Biased])
def test_noise_that_is_drawn_rightly_and_added_wrongly_is_seen(kind):
    asked = sampler(factors(), Factors(None, torch.linspace(0.1, 2, D)))

    def changed(noise):
        return kind(**vars(networks(noise)))

    assert furthest(measured(asked, asked)) < 4.5
    assert furthest(measured(asked, asked, changed)) > 6


class Beside(nn.Module):
    """A state of h and, beside it, the mean of the image."""

    def forward(self, images):
        return torch.cat([images.flatten(1), images.mean((1, 2, 3))[:, None]], 1)


class Spilt(NoisyNetworks):
    def head_of_noise(self, noise, shape):
        spilt = super().head_of_noise(noise, shape)
        return spilt.index_fill(-1, torch.tensor([D]), 9.0)


@pytest.mark.parametrize(("kind", "seen"), [(NoisyNetworks, False), (Spilt, True)])
def test_noise_on_what_passes_the_site_by_is_seen(kind, seen):
    def around(noise):
        return kind(Beside(), nn.Linear(D + 1, CLASSES), None, noise)

    asked = sampler(factors())
    assert (furthest(measured(asked, asked, around)) > 6) == seen


def test_noise_on_the_images_is_not_that_of_the_site():
    asked = sampler(factors())
    blurred = measured(asked, asked, lambda noise: replace(networks(noise), input_noise=0.5))
    torch.testing.assert_close(vars(blurred), vars(measured(asked, asked)))


def test_the_trace_is_held_against_what_tau_asks_for():
    """Factors that were scaled wrongly, and drawn from as they are."""
    asked = sampler(factors(), SILENT)
    trace = float(Asked(asked).energy()[0])
    right, wrong = (measured(asked, asked, trace=t) for t in (trace, 1.3 * trace))
    assert abs(right.trace_z[0]) < 4
    assert wrong.trace_z[0] < -6
    assert right.trace[1].isnan()


def test_columns_of_a_factor_that_are_0_are_no_directions():
    padded = Factors(torch.cat([factors().factor[:, :2], torch.zeros(D, 6)], 1), torch.ones(D))
    found = measured(sampler(padded), sampler(padded))
    assert found.direction_z.max() < 4.5


def test_no_noise_has_no_moments():
    found = measured(sampler(SILENT), sampler(SILENT))
    assert found.trace.isnan().all()
    assert found.direction_z.isnan().all()


LINEAR = linear_map(networks(sampler(SILENT)).suffix.eval(), torch.Size([D]))


def at_logits(noise):
    """The networks with one suffix for all rows, as regime inference tests them."""
    plain = replace(networks(noise), parameters=None)
    there = plain.at_logits(torch.Size([D]))
    assert isinstance(there.suffix, nn.Identity)
    return there


BOTH = sampler(factors(), Factors(None, torch.linspace(0.1, 2, D)))


def test_at_the_logits_the_covariance_of_the_suffix_is_asked_for():
    a = LINEAR.forward(torch.eye(D)).mT
    asked = Asked(BOTH, linear=LINEAR)
    for row, own in enumerate([factors(), Factors(None, torch.linspace(0.1, 2, D))]):
        there = a @ dense(own) @ a.mT
        w = asked.directions(row)
        assert w.shape == (CLASSES, probing.DIRECTIONS)
        torch.testing.assert_close(asked.energy()[row], there.trace())
        along = (w.double() * (there @ w.double())).sum(0)
        torch.testing.assert_close(asked.variance(row, w), along)


@pytest.mark.parametrize("size", [1, D, 10**6])
def test_the_trace_at_the_logits_does_not_depend_on_chunks(monkeypatch, size):
    whole = Asked(BOTH, linear=LINEAR).energy()
    monkeypatch.setattr(probing, "CHUNK", size)
    torch.testing.assert_close(Asked(BOTH, linear=LINEAR).energy(), whole)


def test_noise_at_the_logits_is_held_against_that_of_the_site():
    right = measured(BOTH, BOTH, at_logits, linear=LINEAR)
    assert right.trace.tolist() == pytest.approx([1, 1], abs=0.1)
    assert furthest(right) < 4.5
    wrong = replace(BOTH, factors=(BOTH.factors[0].roll(1, dims=1), None))
    assert furthest(measured(wrong, BOTH, at_logits, linear=LINEAR)) > 6


def test_the_trace_at_the_logits_is_held_against_what_tau_asks_for():
    trace = float(Asked(BOTH).energy()[0])
    right, wrong = (
        measured(BOTH, BOTH, at_logits, linear=LINEAR, trace=t) for t in (trace, 1.3 * trace)
    )
    assert abs(right.trace_z[0]) < 4
    assert wrong.trace_z[0] < -6


# the stage


@pytest.fixture
def job(tmp_path):
    """Arguments of a job on one network, identity noise of τ = 0.5 and regime inference."""
    network = build("v2", "tanh", (1, 12, 12), 10, seed=1)
    spec = {"architecture": "v2", "activation": "tanh", "image_shape": [1, 12, 12], "classes": 10}
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("network", "data")}
    spec = {"network": spec, "schedule": {}}
    write_tensors(paths["network"], stack([network]), producer="train_network", spec=spec)
    images = torch.rand(30, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    data = {"images": images, "labels": torch.arange(30) % 10, "indices": torch.arange(30)}
    write_tensors(paths["data"], data, producer="prepare_dataset", spec={"split": "test"})
    noise = {"sources": [], "arms": ["identity"], "tau": "0.5", "covariance": None}
    keys = {"study": "s", "name": "v2", "seed": 5, "trials": [3], "regime": "inference"}
    more = {"noisy": None, "input_noise": 0.0, "images": 30, "draws": 20}
    return {**paths, **noise, **keys, **more, "output": tmp_path / "probes.parquet"}


@pytest.mark.parametrize(("site", "place"), [("L2", "site"), ("L5", "logits")])
def test_stage_measures_noise_where_evaluation_adds_it(job, site, place):
    probe_noise.main(argparse.Namespace(**job, site=site))
    (row,) = read_table(job["output"]).to_dict("records")
    assert (row["noise_at"], row["trial"], row["site"]) == (place, 3, site)
    assert row["trace"] == pytest.approx(1, abs=0.1)
    assert abs(row["trace_z"]) < 4
    assert row["direction_z"] < 4.5
