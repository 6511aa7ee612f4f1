import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from noisetransfer.arms import Factors
from noisetransfer.errors import StudyError
from noisetransfer.networks import build, split, stack
from noisetransfer.noise import NoiseSampler, normals
from noisetransfer.retraining import train_suffixes
from noisetransfer.training import Schedule, train, train_networks

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)
N, SITE = 70, "L3"  # d = 400


def schedule(trials=(0,), **changes):
    values = {"learning_rate": 1e-3, "batch_size": 32, "epochs": 2, "seed": 1}
    return Schedule(**{**values, **changes}, trials=trials)


@pytest.fixture(scope="module")
def data():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, *SHAPE), generator=draws, dtype=torch.uint8)
    return images, torch.randint(0, 10, (N,), generator=draws)


def fresh(trials):
    return [build("v2", "tanh", SHAPE, 10, seed=t) for t in trials]


def activations(images, trials):
    with torch.no_grad():
        return [split(n, SITE)[0](images.float() / 255) for n in fresh(trials)]


def suffixes(data, trials, arms, **changes):
    images, labels = data
    sampler = NoiseSampler.of([[arm] * len(trials) for arm in arms], CPU)
    hidden = activations(images, trials)
    new = [split(n, SITE)[1] for n in fresh(trials)]
    indices = torch.arange(N) + 100
    return train_suffixes(new, hidden, labels, indices, sampler, schedule(trials, **changes))


NONE = Factors(None, torch.zeros(400))
IDENTITY = Factors(None, torch.full((400,), 0.5))
FULL = Factors(
    torch.randn(400, 6, generator=torch.Generator().manual_seed(1)) / 9, torch.full((400,), 0.1)
)


def test_training_equals_pytorchs_own_loop(data):
    """The reference: a plain loop over one network with Adam and mean cross-entropy."""
    images, labels = data
    stacked, losses = train_networks(fresh([3]), images, labels, schedule((3,)), CPU)
    network = fresh([3])[0]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    expected = []
    for _, positions in schedule((3,)).steps(N, "shuffle for base"):
        loss = cross_entropy(network(images[positions[0]].float() / 255), labels[positions[0]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses[:, 0].tolist() == pytest.approx(expected, rel=1e-4)
    for name, values in network.state_dict().items():
        torch.testing.assert_close(stacked[name][0], values, atol=2e-5, rtol=1e-4)


def test_a_stack_of_networks_equals_them_one_by_one(data):
    together, _ = train_networks(fresh([0, 1]), *data, schedule((0, 1)), CPU)
    for i in (0, 1):
        alone, _ = train_networks(fresh([i]), *data, schedule((i,)), CPU)
        for name in alone:
            torch.testing.assert_close(together[name][i], alone[name][0], atol=2e-5, rtol=1e-4)


def test_a_stack_of_suffixes_equals_them_one_by_one(data):
    arms = [NONE, IDENTITY, FULL]
    together, losses = suffixes(data, (0, 1), arms)
    assert losses.shape == (6, 3, 2)  # 2 epochs of 3 batches
    for a, arm in enumerate(arms):
        for t in (0, 1):
            alone, own_losses = suffixes(data, (t,), [arm])
            torch.testing.assert_close(losses[:, a, t], own_losses[:, 0, 0], atol=1e-4, rtol=1e-4)
            for name in alone:
                torch.testing.assert_close(
                    together[name][a, t], alone[name][0, 0], atol=2e-5, rtol=1e-4
                )


def test_suffixes_see_clean_activations_plus_their_own_draws(data):
    """The first loss, computed by hand from the keys."""
    images, labels = data
    _, losses = suffixes(data, (4,), [FULL], epochs=1)
    positions = schedule((4,)).steps(N, "shuffle for suffix")[0][1][0]
    z = normals(6, 400, 1, "training noise", 4, 0, images=(positions + 100).tolist())
    noise = z.factor @ FULL.factor.mT + z.unit * FULL.variance.sqrt()
    suffix = split(fresh([4])[0], SITE)[1]
    hidden = activations(images, [4])[0][positions]
    expected = cross_entropy(
        suffix(hidden + noise.unflatten(1, hidden.shape[1:])), labels[positions]
    )
    assert float(losses[0, 0, 0]) == pytest.approx(expected.item(), rel=1e-5)


def test_noise_differs_between_epochs(data):
    """One batch an epoch, learning rate ~ 0: losses differ by the draws (and rounding) alone."""
    still = {"learning_rate": 1e-12, "batch_size": N}
    _, quiet = suffixes(data, (0,), [NONE], **still)
    _, noisy = suffixes(data, (0,), [IDENTITY], **still)
    assert float((quiet[0] - quiet[1]).abs()) < 1e-5
    assert float((noisy[0] - noisy[1]).abs()) > 1e-4


def test_every_image_comes_once_an_epoch_in_an_order_of_its_trial():
    steps = schedule((0, 1)).steps(N, "shuffle")
    assert [epoch for epoch, _ in steps] == [0] * 3 + [1] * 3
    assert [p.shape for _, p in steps[:3]] == [(2, 32), (2, 32), (2, 6)]
    epochs = [torch.cat([p for e, p in steps if e == epoch], 1) for epoch in (0, 1)]
    for order in (*epochs[0], *epochs[1]):
        assert sorted(order.tolist()) == list(range(N))
    assert not torch.equal(epochs[0][0], epochs[0][1])
    assert not torch.equal(epochs[0][0], epochs[1][0])


def test_the_order_of_a_trial_does_not_depend_on_the_others():
    alone, together = (schedule(t).steps(N, "shuffle")[0][1] for t in ((1,), (0, 1)))
    assert torch.equal(alone[0], together[1])


def test_a_diverging_training_is_an_error():
    network = nn.Sequential(nn.Linear(2, 2))
    batch = (torch.full((1, 3, 2), float("inf")), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(StudyError, match=r"diverged.*learning_rate"):
        train(network, stack([network]), [batch], learning_rate=1e-3)


def test_initial_parameters_are_not_changed():
    network = nn.Sequential(nn.Linear(2, 2))
    initial = stack([network])
    before = {name: values.clone() for name, values in initial.items()}
    batch = (torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.int64))
    trained, _ = train(network, initial, [batch], learning_rate=0.1)
    assert all(torch.equal(initial[name], before[name]) for name in initial)
    assert not torch.equal(trained["0.weight"], before["0.weight"])
