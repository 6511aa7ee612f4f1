"""Noise at a site of any network: its covariance, its draws, what it leaves alone, and who works with it."""

import copy
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import noisetransfer
from noisetransfer import Averaged, fit_noise, inject, noise_off
from noisetransfer.errors import StudyError
from noisetransfer.robustbench_zoo import library
from structures import dense

ROOT = Path(__file__).parents[2]
ARMS = ("identity", "diagonal", "full", "rotated", "permuted")
N, D = 60, 36  # images, activations at the site `block`
every_arm = pytest.mark.parametrize("arm", ARMS)
BOTH_ROUTES = pytest.mark.parametrize("n", [60, 20], ids=["n>d", "n<d"])


class Branching(nn.Module):
    """A residual network with two branches, BatchNorm, Dropout and an activation that writes in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.halves = Halves()
        self.spare = nn.Identity()
        self.mixed = Transposed()
        self.again = self.relu
        self.head = nn.Linear(D, 5)

    def forward(self, images):
        x = self.relu(self.stem(images))
        x = self.relu(self.block(x) + 0.1) + self.halves(x)[0]
        return self.head(self.mixed(self.drop(x)).mT.flatten(1))


class Halves(nn.Module):
    def forward(self, x):
        return x, x


class Transposed(nn.Module):
    """Puts the batch last."""

    def forward(self, x):
        return x.flatten(1).mT


def made(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def images(n=N, seed=0):
    """Clean images 8 × 8, and the same ones darker, brighter and noisy by columns."""
    draws = torch.Generator().manual_seed(seed)
    clean = torch.rand(n, 1, 8, 8, generator=draws)
    change = torch.rand(n, 1, 1, 8, generator=draws) * torch.linspace(0, 1, 8)
    return clean, (0.3 * clean + 0.7 * change)


@pytest.fixture
def network():
    network = made(Branching).eval()
    network.stem[1].running_mean.fill_(0.1)
    return network


def at_site(network, site, batch):
    """What the noise-free network puts out at a site, in one go, by a hook of the test's own."""
    found = []
    handle = network.get_submodule(site).register_forward_hook(
        lambda _, __, output: found.append(output.detach().clone())
    )
    with torch.no_grad():
        network(batch)
    handle.remove()
    return found[0].flatten(1)


def sample_covariance(network, n=N, site="block"):
    clean, modified = images(n)
    rows = at_site(network, site, modified) - at_site(network, site, clean)
    return torch.cov(rows.double().mT)


def with_ridge(sigma, share=1e-3):
    return sigma + share * sigma.trace() / len(sigma) * torch.eye(len(sigma), dtype=sigma.dtype)


def injected(network, passes=3, arm="full", trace=0.5, seed=0, batch=500, **options):
    """Rows of the noise that reaches the site's successor: of one image many times over."""
    noise = fit_noise(network, "block", *images(), arm, trace, **options)
    noisy = inject(network, "block", noise, seed=seed)
    same = images(1)[0].expand(batch, -1, -1, -1)
    rows = torch.cat([at_site(noisy, "network.block", same) for _ in range(passes)])
    return noise, (rows - at_site(network, "block", images(1)[0])).double()


# the fit


@BOTH_ROUTES
def test_noise_has_the_covariance_of_the_differences_scaled_to_its_trace(network, n):
    noise = fit_noise(network, "block", *images(n), trace=0.5)
    sigma = with_ridge(sample_covariance(network, n))
    torch.testing.assert_close(
        dense(noise.factors), sigma * 0.5 * D / sigma.trace(), rtol=0, atol=1e-5
    )
    assert noise.trace == pytest.approx(0.5 * D, rel=1e-6)
    assert noise.shape == (4, 3, 3)
    assert noise.rank == (D if n > D else n - 1)


@BOTH_ROUTES
@pytest.mark.parametrize("rank", [1, 5])
def test_a_rank_keeps_the_leading_eigenvectors_and_the_trace(network, n, rank):
    noise = fit_noise(network, "block", *images(n), trace="unscaled", rank=rank, ridge=0)
    sigma = sample_covariance(network, n)
    assert noise.rank == rank
    assert noise.trace == pytest.approx(float(sigma.trace()), rel=1e-5)
    kept, wanted = (torch.linalg.eigvalsh(m)[-rank:] for m in (dense(noise.factors), sigma))
    torch.testing.assert_close(kept, wanted, rtol=1e-3, atol=1e-6)


@every_arm
@pytest.mark.parametrize("trace", [0.25, 2.0, "unscaled"])
def test_every_arm_has_the_trace_asked_for(network, arm, trace):
    found = fit_noise(network, "block", *images(), arm, trace)
    own = float(with_ridge(sample_covariance(network)).trace())
    assert found.trace == pytest.approx(own if trace == "unscaled" else trace * D, rel=1e-5)


def test_arms_have_their_structure(network):
    sigma = {a: dense(fit_noise(network, "block", *images(), a).factors) for a in ARMS}
    torch.testing.assert_close(sigma["identity"], 0.5 * torch.eye(D, dtype=torch.float64))
    torch.testing.assert_close(
        sigma["diagonal"], sigma["full"].diagonal().diag(), rtol=0, atol=1e-6
    )
    spectra = {a: torch.linalg.eigvalsh(m) for a, m in sigma.items()}
    for arm in ("rotated", "permuted"):
        torch.testing.assert_close(spectra[arm], spectra["full"], rtol=0, atol=1e-5)
        assert float((sigma[arm] - sigma["full"]).abs().max()) > 0.1


@pytest.mark.parametrize("arm", ["rotated", "permuted"])
def test_random_arms_are_keyed_by_their_seed(network, arm):
    first, again, other = (
        dense(fit_noise(network, "block", *images(), arm, seed=s).factors) for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 0.1


def test_batches_of_every_kind_give_the_same_noise(network):
    clean, modified = images()
    expected = dense(fit_noise(network, "block", clean, modified).factors)
    labels = torch.zeros(N)
    kinds = {
        "small batches": (clean, modified, {"batch_size": 7}),
        "lists": (clean.split(11), modified.split(11), {}),
        "iterators": (iter(clean.split(11)), iter(modified.split(11)), {}),
        "loaders": (*(DataLoader(TensorDataset(x, labels), 13) for x in (clean, modified)), {}),
        "labelled": ([(clean, labels)], [(modified, labels)], {}),
    }
    for kind, (own, others, options) in kinds.items():
        found = dense(fit_noise(network, "block", own, others, **options).factors)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=kind)


def test_bytes_are_pixels(network):
    clean, modified = ((255 * x).byte() for x in images())
    found = fit_noise(network, "block", clean, modified)
    wanted = fit_noise(network, "block", clean.float() / 255, modified.float() / 255)
    assert torch.equal(dense(found.factors), dense(wanted.factors))


def test_the_fit_sees_the_output_of_a_site_before_a_later_layer_writes_into_it(network):
    """The next layer of stem is a ReLU in place: its Δ would be rectified."""
    noise = fit_noise(network, "stem", *images(), trace="unscaled", ridge=0, rank=3)
    sigma = torch.cov(
        (
            network.stem(images()[1]).detach().flatten(1)
            - network.stem(images()[0]).detach().flatten(1)
        )
        .double()
        .mT
    )
    assert noise.trace == pytest.approx(float(sigma.trace()), rel=1e-5)


def test_images_survive_a_network_that_writes_into_them():
    network = nn.Sequential(
        nn.ReLU6(inplace=True), nn.Threshold(0.5, 0.1, inplace=True), nn.Flatten()
    )
    clean, modified = images()
    before = clean.clone()
    fit_noise(network, "1", clean, modified)
    assert torch.equal(clean, before)


def test_many_activations_need_no_square_matrix():
    """d = 200,000 would need a matrix of 160 GB."""
    network = nn.Sequential(nn.Upsample((447, 448)), nn.Flatten(), nn.Identity())
    noise = fit_noise(network, "0", *images(6), trace=0.5)
    assert noise.factors.factor.shape == (447 * 448, 5)
    assert noise.trace == pytest.approx(0.5 * 447 * 448, rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_fit_leaves_the_network_as_it_was(network, training):
    network.train(training)
    network.block.train(not training)
    before, own_hook = copy.deepcopy(network.state_dict()), lambda *_: None
    handle = network.block.register_forward_hook(own_hook)
    with pytest.raises(StudyError):  # in the last batch
        fit_noise(network, "block", images()[0].split(20), images()[1].split(20)[:2])
    fit_noise(network, "block", *images())
    assert [m.training for m in (network, network.block, network.stem[1])] == [
        training,
        not training,
        training,
    ]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert list(network.block._forward_hooks.values()) == [own_hook]
    assert torch.is_grad_enabled()
    handle.remove()


def test_the_fit_is_that_of_evaluation_mode_without_noise(network):
    expected = fit_noise(network, "block", *images())
    noisy = inject(network, "stem.0", fit_noise(network, "stem.0", *images(), trace=2.0)).train()
    found = fit_noise(noisy, "network.block", *images())
    assert torch.equal(dense(found.factors), dense(expected.factors))
    assert noisy.active
    assert noisy.training


# what is refused


@pytest.mark.parametrize("call", ["fit", "inject"])
@pytest.mark.parametrize("site", ["layer9", "", "stem.7"])
def test_a_wrong_site_lists_those_there_are(network, call, site):
    listed = r"the network has: stem, stem\.0, stem\.1, relu, block, .*head$"
    noise = fit_noise(network, "block", *images())
    calls = {"fit": (fit_noise, *images()), "inject": (inject, noise)}
    function, *rest = calls[call]
    with pytest.raises(StudyError, match=f"unknown site '{site}'; {listed}"):
        function(network, site, *rest)


UNFIT = {
    "relu": "relu runs more than once",
    "again": "again runs more than once",
    "halves": "halves puts out tuple, not one tensor",
    "mixed": r"mixed puts out \(36, 1\) where \(1, 1\) is expected: the batch",
    "spare": "spare does not run in a forward pass",
}


@pytest.mark.parametrize(("site", "message"), UNFIT.items())
def test_a_site_that_is_no_place_for_noise_says_why(network, site, message):
    with pytest.raises(StudyError, match=message):
        fit_noise(network, site, *images())
    assert not network.get_submodule(site)._forward_hooks


INJECTED_UNFIT = UNFIT | {
    "mixed": r"mixed puts out \(36, 2\) where \(36, 4, 3, 3\)",
    "stem": r"stem puts out \(2, 4, 3, 3\) where \(2, 36\)",
}


@pytest.mark.parametrize(("site", "message"), INJECTED_UNFIT.items())
def test_noise_at_a_place_where_it_does_not_fit_says_why(network, site, message):
    noise = fit_noise(network, "block", *images())
    if site == "stem":
        flat = nn.Sequential(network.stem, nn.Flatten(), nn.Identity())
        noise = fit_noise(flat, "2", *images())
    noisy = inject(network, site, noise)
    with pytest.raises(StudyError, match=message):
        noisy(images(2)[0])


def test_integers_are_no_activations():
    class Rounds(nn.Module):
        def forward(self, x):
            return (9 * x).long()

    with pytest.raises(StudyError, match=r"site 0 puts out torch\.int64, not one tensor of float"):
        fit_noise(nn.Sequential(Rounds()), "0", *images())


class Brightness(nn.Module):
    def forward(self, x):
        return x.mean((1, 2, 3))


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones(1, 4)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Brightness, r"site 0 puts out \(1,\) .*the batch of 1"),
        (Constant, r"site 0 puts out \(1, 4\) where \(2, 4\) is expected: the batch of 2"),
    ],
)
def test_one_number_an_image_or_one_for_all_images_is_no_activation(part, message):
    with pytest.raises(StudyError, match=message):
        fit_noise(nn.Sequential(part()), "0", *images(), batch_size=1)


def test_images_of_another_size_are_refused(network):
    noise = fit_noise(network.stem, "0", *images())
    with pytest.raises(
        StudyError, match=r"puts out \(2, 4, 4, 4\) where \(2, 4, 3, 3\) is expected"
    ):
        inject(network.stem, "0", noise)(torch.rand(2, 1, 10, 10))


BAD = {
    "other numbers": (lambda c, m: (c, m[:-1]), {}, r"batch 0: clean images \(60, .*modified \(59"),
    "more batches": (lambda c, m: (c.split(30), m.split(30)[:1]), {}, "batch 1: .*modified None"),
    "fewer batches": (
        lambda c, m: (c.split(30)[:1], m.split(30)),
        {},
        "batch 1: clean images None",
    ),
    "one image": (lambda c, m: (c[:1], m[:1]), {}, "two images or more, not 1"),
    "no image": (lambda c, m: ([], []), {}, "no images"),
    "normalised": (
        lambda c, m: (c - 0.5, m),
        {},
        r"pixels from -0\.\d+ to 0\.\d+, expected 0 to 1",
    ),
    "bright": (lambda c, m: (2 * c, m), {}, r"pixels from .* to (1\.\d+|2), expected 0 to 1"),
    "without batch": (lambda c, m: (c[0], m[0]), {}, r"images of shape \(1, 8, 8\)"),
    "not a number": (lambda c, m: (c, m * math.nan), {}, "pixels from nan"),
    "no change": (lambda c, m: (c, c), {}, "at block: .*equal"),
    "arm": (lambda c, m: (c, m), {"arm": "none"}, "unknown arm 'none'; there are: identity, diag"),
    "trace": (lambda c, m: (c, m), {"trace": 0}, "trace 0; write a number above 0, or unscaled"),
    "rank": (lambda c, m: (c, m), {"rank": 0}, "0 is no rank; write a whole number from 1, full"),
    "ridge": (lambda c, m: (c, m), {"ridge": -1}, "ridge -1; write 0 or more"),
    "shuffled": (
        lambda c, m: (DataLoader(TensorDataset(c), 30, shuffle=True), m),
        {},
        "random order: give a DataLoader without shuffle",
    ),
}


@pytest.mark.parametrize(("change", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_and_says_why(network, change, options, message):
    with pytest.raises(StudyError, match=message):
        fit_noise(network, "block", *change(*images()), **options)


def test_a_change_too_weak_for_a_structure_is_told(network):
    clean = images()[0] * 0.9
    with pytest.warns(UserWarning, match="at block by less than 1e-4 of their variance"):
        weak = fit_noise(network, "block", clean, clean + 1e-4 * images(seed=3)[1])
    assert weak.diagnostics.degenerate
    found = fit_noise(network, "block", *images()).diagnostics
    assert not found.degenerate
    expected = torch.cov(at_site(network, "block", images()[0]).double().mT).trace()
    assert found.signal_trace == pytest.approx(float(expected), rel=1e-5)


# the noise that is injected


@every_arm
@pytest.mark.parametrize("rank", ["full", 3])
def test_injected_noise_has_the_covariance_that_was_fitted(network, arm, rank):
    """In units of Σ, the covariance of n draws differs from I by √((d² + d)/n) in Frobenius norm."""
    noise, rows = injected(network, passes=12, arm=arm, rank=rank)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(dense(noise.factors)), rows.mT, upper=False
    )
    n = white.shape[1]
    assert n == 6000
    assert float(white.square().mean()) == pytest.approx(1, abs=4 * (2 / (n * D)) ** 0.5)
    error = float((white @ white.mT / n - torch.eye(D)).norm())
    assert error == pytest.approx(((D**2 + D) / n) ** 0.5, rel=0.15)
    assert float(white.mean(1).norm()) == pytest.approx((D / n) ** 0.5, rel=0.5)


def test_injected_noise_of_low_rank_has_the_rank_above_its_remainder(network):
    noise, rows = injected(network, passes=12, rank=3)
    found, wanted = (
        torch.linalg.eigvalsh(m).flip(0) for m in (torch.cov(rows.mT), dense(noise.factors))
    )
    remainder = float(wanted[-1])
    assert wanted[2] > 3 * remainder
    torch.testing.assert_close(wanted[3:], wanted[3:].mean().expand(33), rtol=1e-3, atol=0)
    torch.testing.assert_close(found[:3], wanted[:3], rtol=0.1, atol=0)
    # of d − r flat eigenvalues, n samples make (1 ± √(d/n))²
    assert 0.8 * remainder < float(found[-1]) <= float(found[3]) < 1.25 * remainder


def test_every_image_and_pass_has_a_draw_of_its_own(network):
    rows = injected(network, passes=2, batch=4)[1]
    correlation = torch.corrcoef(rows) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.999
    distances = torch.cdist(rows, rows) + 9 * torch.eye(8)
    assert float(distances.min()) > 0.1


def test_draws_belong_to_the_seed_and_the_number_of_the_pass(network):
    noise, (x, _) = fit_noise(network, "block", *images()), images(3)
    noisy = inject(network, "block", noise, seed=1)
    first, second = noisy(x), noisy(x)
    assert not torch.isclose(first, second).any()
    assert torch.equal(inject(network, "block", noise, seed=1)(x), first)
    assert not torch.isclose(inject(network, "block", noise, seed=2)(x), first).any()
    noisy.reseed(1)
    assert torch.equal(noisy(x), first)
    assert torch.equal(noisy(x), second)
    noisy.reseed(2)
    assert not torch.isclose(noisy(x), first).any()


def test_global_generators_are_neither_used_nor_moved(network):
    outputs = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            noise = fit_noise(network, "block", *images(), "rotated")
            outputs.append(inject(network, "block", noise)(images(3)[0]))
            assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*outputs)


def test_the_network_that_was_given_stays_without_noise(network):
    x = images(3)[0]
    before = network(x)
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    assert torch.equal(network(x), before)
    assert not torch.isclose(noisy(x), before).any()
    noisy.network.head.bias.data += 1
    assert torch.equal(network(x), before)


def test_noise_off_is_the_network_itself_and_ends(network):
    x = images(3)[0]
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    expected = noisy(x)
    noisy.reseed(0)
    outer = nn.DataParallel(nn.Sequential(noisy))
    with noise_off(outer):
        assert torch.equal(outer(x), network(x))
        with noise_off(noisy):
            pass
        assert torch.equal(noisy(x), network(x))
    assert torch.equal(noisy(x), expected)  # and took no pass
    with pytest.raises(ZeroDivisionError), noise_off(noisy):
        raise ZeroDivisionError
    assert noisy.active
    with pytest.raises(StudyError, match="no noise to turn off"), noise_off(network):
        pass


def test_noise_is_on_in_both_modes_and_modes_reach_the_network(network):
    x = images(3)[0]
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    assert not noisy.training
    assert not torch.equal(noisy(x), noisy(x))
    noisy.train()
    assert noisy.network.drop.training
    before = noisy.network.stem[1].running_mean.clone()
    noisy(x)
    assert not torch.equal(noisy.network.stem[1].running_mean, before)
    assert not noisy.eval().network.drop.training
    mixed = inject(network.train(), "block", fit_noise(network, "block", *images()))
    assert mixed.training


def test_noise_at_two_sites_and_never_twice_at_one(network):
    noise = {s: fit_noise(network, s, *images()) for s in ("block", "stem")}
    noisy = inject(
        inject(network, "block", noise["block"], seed=1), "network.stem", noise["stem"], seed=2
    )
    x = images(3)[0]
    with noise_off(noisy):
        assert torch.equal(noisy(x), network(x))
    both = noisy(x)
    assert not torch.isclose(both, inject(network, "block", noise["block"], seed=1)(x)).any()
    assert not torch.isclose(both, inject(network, "stem", noise["stem"], seed=2)(x)).any()
    parts = inject(network, "block", noise["block"]), inject(network, "stem", noise["stem"])
    draws = [part.draw(500, torch.device("cpu")).flatten() for part in parts]
    assert abs(float(torch.corrcoef(torch.stack(draws))[0, 1])) < 0.05  # one seed, two sites
    with pytest.raises(StudyError, match=r"network\.stem has noise already"):
        inject(inject(network, "stem", noise["stem"]), "network.stem", noise["stem"])


def test_parts_of_a_noisy_network_do_not_run_alone(network):
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    for _ in range(2):
        with pytest.raises(StudyError, match="outside a pass of its noisy network"):
            noisy.network(images(3)[0])
        noisy(images(3)[0])


def test_gradients_flow_through_the_clean_activation(network):
    """Of Σ y over a linear rest, the noise cancels: the gradient is that without noise."""
    linear = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)).eval()
    noisy = inject(linear, "1", fit_noise(linear, "1", *images()))
    x = images(3)[0].requires_grad_()
    (found,) = torch.autograd.grad(noisy(x).sum(), x)
    (expected,) = torch.autograd.grad(linear(x).sum(), x)
    torch.testing.assert_close(found, expected)
    assert float(found.abs().max()) > 0
    noisy(x).sum().backward()
    assert all(p.grad is not None for p in noisy.network.parameters())
    assert not [n for n, p in noisy.named_parameters() if "noise" in n]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("when", ["before", "after"])
def test_noise_has_the_dtype_of_the_activation(network, dtype, when):
    noise = fit_noise(network, "block", *images())
    if when == "before":
        noisy = inject(copy.deepcopy(network).to(dtype), "block", noise)
    else:
        noisy = inject(network, "block", noise).to(dtype)
    x = images(1)[0].to(dtype).expand(500, -1, -1, -1)
    seen = []
    noisy.network.block.register_forward_hook(lambda _, __, output: seen.append(output))
    logits = noisy(x)
    assert seen[0].dtype == logits.dtype == dtype
    exact = inject(network, "block", noise)
    noisy.reseed(0)
    rows, wanted = (
        at_site(n, "network.block", y).double() for n, y in [(noisy, x), (exact, x.float())]
    )
    error = {torch.float16: 0.01, torch.bfloat16: 0.08}.get(dtype, 1e-5)
    torch.testing.assert_close(rows, wanted, rtol=0, atol=error)


def test_half_precision_networks_can_be_fitted(network):
    half = copy.deepcopy(network).bfloat16()
    found, wanted = (dense(fit_noise(n, "block", *images()).factors) for n in (half, network))
    assert float((found - wanted).norm() / wanted.norm()) < 0.05


def test_channels_last_stays(network):
    noise = fit_noise(network, "block", *images())
    noisy = inject(network, "block", noise).to(memory_format=torch.channels_last)
    seen = []
    noisy.network.block.register_forward_hook(lambda _, __, output: seen.append(output))
    x = images(3)[0].contiguous(memory_format=torch.channels_last)
    found = noisy(x)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, inject(network, "block", noise)(images(3)[0]))


def test_autocast_keeps_the_dtype_of_the_activation(network):
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    seen = []
    noisy.network.block.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        noisy(images(3)[0])
    assert seen == [torch.bfloat16]


# PyTorch's own machinery


@pytest.mark.parametrize("arm", ["full", "identity"])
def test_a_state_dict_carries_weights_and_noise(network, arm, tmp_path):
    noisy = inject(network, "block", fit_noise(network, "block", *images(), arm))
    torch.save(noisy.state_dict(), tmp_path / "noisy.pt")
    other = made(Branching, seed=7).eval()
    again = inject(other, "block", fit_noise(other, "block", *images(seed=5), arm, 2.0))
    again.load_state_dict(torch.load(tmp_path / "noisy.pt", weights_only=True))
    x = images(3)[0]
    assert torch.equal(again(x), noisy(x))


def test_networks_with_the_same_noise_share_nothing(network):
    noise = fit_noise(network, "block", *images(), rank=5)
    first, second = (inject(network, "block", noise) for _ in range(2))
    first.noise_factor.zero_()
    first.noise_deviation.zero_()
    assert second.noise_factor.all()
    assert second.noise_deviation.all()
    assert noise.trace == pytest.approx(0.5 * D, rel=1e-5)


def test_a_deep_copy_goes_on_by_itself(network):
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    x = images(3)[0]
    noisy(x)
    copied = copy.deepcopy(noisy)
    assert torch.equal(copied(x), noisy(x))
    copied.network.block.weight.data.zero_()
    copied(x)
    with noise_off(copied):
        assert noisy.active
        noisy(x)


def test_a_whole_network_can_be_saved(network, tmp_path):
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    torch.save(noisy, tmp_path / "noisy.pt")
    again = torch.load(tmp_path / "noisy.pt", weights_only=False)
    assert torch.equal(again(images(3)[0]), noisy(images(3)[0]))


def test_data_parallel_without_gpus_is_the_network(network):
    noise, x = fit_noise(network, "block", *images()), images(3)[0]
    parallel = nn.DataParallel(inject(network, "block", noise))
    assert torch.equal(parallel(x), inject(network, "block", noise)(x))


@pytest.fixture
def replicas(monkeypatch):
    """PyTorch's own `replicate`, but for the copies to devices, which are left out."""
    from torch.nn.parallel import replicate as module

    def broadcast(tensors, devices, detach=False):
        return [[t.detach() if detach else t.view_as(t) for t in tensors] for _ in devices]

    real = sys.modules["torch.nn.parallel.replicate"]
    monkeypatch.setattr(real, "_broadcast_coalesced_reshape", broadcast)
    monkeypatch.setattr(real, "_get_device_index", lambda device, optional: device)
    return lambda network, count: module(network, list(range(count)))


def in_threads(networks, batch):
    """Run networks at once, each in a thread of its own, as DataParallel does."""
    outputs, gate = {}, threading.Barrier(len(networks))

    def run(number):
        gate.wait()
        with torch.no_grad():  # a setting of the thread
            outputs[number] = networks[number](batch)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(networks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return torch.stack([outputs[i] for i in range(len(networks))])


def test_replicas_have_draws_of_their_own_that_can_be_repeated(network, replicas):
    """Three replicas see the same images, in threads; then again: all draws differ, and follow the seed."""
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    x = images(2)[0].repeat(20, 1, 1, 1)

    def batches():
        return torch.cat([in_threads(replicas(noisy, 3), x), noisy(x)[None].detach()])

    first, second = batches(), batches()
    together = torch.cat([first, second])
    for i, own in enumerate(together):
        for other in together[i + 1 :]:
            assert not torch.isclose(own, other, atol=1e-6).all(-1).any()
    noisy.reseed(0)
    assert torch.equal(batches(), first)
    assert torch.equal(batches(), second)
    with noise_off(noisy):
        for own in in_threads(replicas(noisy, 3), x):
            torch.testing.assert_close(own, network(x))


def test_replicas_give_gradients_to_the_weights(network, replicas):
    noisy = inject(network, "block", fit_noise(network, "block", *images()))
    sum(own(images(3)[0]).sum() for own in replicas(noisy, 2)).backward()
    assert noisy.network.block.weight.grad.any()


# the mean of several passes


def test_averaged_is_the_mean_of_its_passes(network):
    noise, x = fit_noise(network, "block", *images()), images(3)[0]
    noisy = inject(network, "block", noise)
    expected = torch.stack([noisy(x) for _ in range(4)]).mean(0)
    noisy.reseed(0)
    averaged = Averaged(noisy, passes=4)
    torch.testing.assert_close(averaged(x), expected)
    assert not averaged.training
    with noise_off(averaged):
        torch.testing.assert_close(averaged(x), network(x))
    with pytest.raises(StudyError, match="passes: 0"):
        Averaged(noisy, passes=0)


# the tools of others


def test_the_standard_autoattack_runs_and_finds_gradients(network):
    from pyautoattack import AutoAttack

    torch.manual_seed(0)  # the attack draws from the global generator
    x = images(6)[0]
    noisy = inject(network, "block", fit_noise(network, "block", *images(), trace=0.01))
    labels = network(x).argmax(1)
    attack = AutoAttack(noisy, eps=0.3, version="standard", seed=0)
    attack.apgd.n_iter = attack.apgd_targeted.n_iter = attack.fab.n_iter = 5
    attack.square.n_queries = 20
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 2
    crafted, _ = attack.run_standard_evaluation(x, labels, batch_size=4)
    assert crafted.shape == x.shape
    assert float((crafted - x).abs().max()) <= 0.3 + 1e-6
    assert 0 <= float(crafted.min()) <= float(crafted.max()) <= 1
    right = [(Averaged(noisy, 20)(batch).argmax(1) == labels).sum() for batch in (x, crafted)]
    assert right[1] < right[0]


def test_clean_accuracy_of_robustbench_is_that_of_the_same_passes(network):
    clean_accuracy = library().clean_accuracy
    noise, (x, _) = fit_noise(network, "block", *images(), trace=2.0), images()
    labels, noisy = network(x).argmax(1), inject(network, "block", noise)
    found = clean_accuracy(noisy, x, labels, batch_size=25)
    noisy.reseed(0)
    hits = torch.cat([noisy(batch).argmax(1) for batch in x.split(25)]) == labels
    assert 0 < found < 1
    assert found == pytest.approx(float(hits.float().mean()))
    with noise_off(noisy):
        assert clean_accuracy(noisy, x, labels) == 1


# the package


def test_the_package_offers_its_names_without_importing_torch():
    code = (
        "import sys, noisetransfer; assert 'torch' not in sys.modules; "
        "from noisetransfer import *; assert 'torch' in sys.modules; "
        "print(fit_noise, inject, noise_off, Averaged, Noise, NoisyNetwork)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'fit_noises'"):
        noisetransfer.fit_noises  # noqa: B018
