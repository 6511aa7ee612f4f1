from itertools import chain

import pytest
import torch
from torch import nn

from noisetransfer.errors import StudyError
from noisetransfer.networks import build, stack
from noisetransfer.randomness import key
from noisetransfer.training import Schedule, to, train
from structures import CPU, adam, assert_is, tiny

N, RATE = 20, 1e-2


def schedule(trials=(0,), **changes):
    values = {"learning_rate": RATE, "batch_size": 8, "epochs": 2, "seed": 1}
    return Schedule(**{**values, **changes}, trials=trials)


@pytest.fixture(scope="module")
def data():
    """Images (N, 12) and labels, other ones for each of three networks."""
    draws = torch.Generator().manual_seed(0)
    return torch.rand(3, N, 12, generator=draws), torch.randint(0, 3, (3, N), generator=draws)


def taken(data, positions):
    """Batch (S, B, …) of three networks at positions (S, B)."""
    return tuple(
        torch.stack([own[row] for own, row in zip(part, positions, strict=True)]) for part in data
    )


def run(data, networks, steps, seen=None, learning_rate=RATE):
    def batch(current, epoch, positions):
        if seen is not None:
            seen.append(({n: p.detach().clone() for n, p in current.items()}, epoch, positions))
        return taken(data, positions)

    return train(networks[0], stack(networks), steps, batch, learning_rate=learning_rate)


def test_a_stack_trains_as_if_each_network_were_alone(data):
    """The reference: PyTorch's own loop over one network, the last batch of an epoch smaller."""
    steps = schedule((0, 1, 2)).steps(N, "shuffle", CPU)
    trained, losses = run(data, [tiny(s) for s in range(3)], steps)
    assert losses.shape == (6, 3)
    for s in range(3):
        network = tiny(s)
        batches = [(data[0][s][order[s]], data[1][s][order[s]]) for _, order in steps]
        assert adam(network, batches, RATE) == pytest.approx(losses[:, s].tolist(), rel=1e-5)
        assert_is({name: p[s] for name, p in trained.items()}, network)


@pytest.mark.parametrize("architecture", ["v1", "v2", "v3"])
def test_a_stack_of_a_studys_networks_trains_as_if_each_were_alone(architecture):
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(2, N, 1, 16, 16, generator=draws)
    labels = torch.randint(0, 10, (2, N), generator=draws)
    networks = [build(architecture, "tanh", (1, 16, 16), 10, seed=s) for s in (1, 2)]
    steps = schedule((0, 1)).steps(N, "shuffle", CPU)
    trained, losses = run((images, labels), networks, steps, learning_rate=1e-3)
    for s, network in enumerate(networks):
        batches = [(images[s][order[s]], labels[s][order[s]]) for _, order in steps]
        assert adam(network, batches, 1e-3) == pytest.approx(losses[:, s].tolist(), rel=1e-5)
        # where a gradient is next to 0, Adam turns its rounding into a part of a step of 1e-3
        assert_is({name: p[s] for name, p in trained.items()}, network, atol=1e-4)


def test_a_batch_is_made_for_the_networks_as_they_are(data):
    """Of each step it gets epoch, positions, and the parameters that the steps before have made."""
    steps, seen = schedule((0, 1, 2)).steps(N, "shuffle", CPU), []
    run(data, [tiny(s) for s in range(3)], steps, seen)
    assert len(seen) == len(steps)
    for i, ((current, epoch, positions), given) in enumerate(zip(seen, steps, strict=True)):
        assert (epoch, positions) == given
        until, _ = run(data, [tiny(s) for s in range(3)], steps[:i]) if i else (None, None)
        for name, values in (until or stack([tiny(s) for s in range(3)])).items():
            torch.testing.assert_close(current[name], values)


def test_the_result_is_detached_and_the_initial_parameters_stay(data):
    initial = stack([tiny(0)])
    before = {name: values.clone() for name, values in initial.items()}
    steps = schedule().steps(N, "shuffle", CPU)
    own = data[0][:1], data[1][:1]
    trained, losses = train(
        tiny(0), initial, steps, lambda *given: taken(own, given[2]), learning_rate=RATE
    )
    assert not losses.requires_grad
    for name, values in trained.items():
        assert not values.requires_grad
        assert torch.equal(initial[name], before[name])
        assert not torch.equal(values, before[name])


def normalised(seed):
    """Build a small network with BatchNorm in training mode, its statistics those of no batch yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # a bias before BatchNorm has the gradient 0, of whose rounding Adam makes whole steps
        first = nn.Linear(12, 8, bias=False)
        layers = first, nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)
        return nn.Sequential(nn.Flatten(), *layers)


def test_batch_norm_in_a_stack_trains_as_if_each_network_were_alone(data):
    """Weights, and the statistics that training leaves: of the network's own batches."""
    steps = schedule((0, 1, 2)).steps(N, "shuffle", CPU)
    trained, losses = run(data, [normalised(s) for s in range(3)], steps)
    for s in range(3):
        network = normalised(s)
        batches = [(data[0][s][order[s]], data[1][s][order[s]]) for _, order in steps]
        assert adam(network, batches, RATE) == pytest.approx(losses[:, s].tolist(), rel=1e-4)
        assert_is({name: p[s] for name, p in trained.items()}, network, atol=1e-5)
    for name in ("2.running_mean", "2.running_var"):
        assert not torch.isclose(trained[name], normalised(0).get_buffer(name)).any()
        assert not torch.isclose(trained[name][0], trained[name][1]).all()
    assert trained["2.num_batches_tracked"].tolist() == [len(steps)] * 3


def test_the_statistics_that_a_stack_starts_with_stay(data):
    initial = stack([normalised(s) for s in range(3)])
    before = {name: values.clone() for name, values in initial.items()}
    steps = schedule((0, 1, 2)).steps(N, "shuffle", CPU)
    module = normalised(0)
    train(module, initial, steps, lambda *given: taken(data, given[2]), learning_rate=RATE)
    for name, values in initial.items():
        assert torch.equal(values, before[name])
        assert torch.equal(module.state_dict()[name], before[name][0])


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("sick", [0, 1, 2])
def test_one_diverging_network_is_an_error(data, bad, sick):
    images = data[0].clone()
    images[sick] = bad
    steps = schedule((0, 1, 2)).steps(N, "shuffle", CPU)
    with pytest.raises(StudyError, match=r"diverged.*learning_rate"):
        run((images, data[1]), [tiny(s) for s in range(3)], steps)


def test_a_learning_rate_that_blows_up_is_an_error(data):
    line = nn.Linear(12, 3)
    steps = schedule((0,), epochs=20).steps(N, "shuffle", CPU)
    own = data[0][:1], data[1][:1]
    with pytest.raises(StudyError, match="diverged"):
        train(line, stack([line]), steps, lambda *given: taken(own, given[2]), learning_rate=1e37)


def orders(trials, **changes):
    """Positions of each step, by (epoch, trial)."""
    found = {}
    for epoch, positions in schedule(trials, **changes).steps(N, "shuffle", CPU):
        for trial, row in zip(trials, positions, strict=True):
            found.setdefault((int(epoch), trial), []).append(row.tolist())
    return found


def test_every_image_comes_once_an_epoch_the_last_batch_is_smaller():
    for batches in orders((4, 7)).values():
        assert [len(batch) for batch in batches] == [8, 8, 4]
        assert sorted(chain(*batches)) == list(range(N))


def test_a_batch_that_divides_the_images_leaves_none_over():
    for batches in orders((4,), batch_size=10).values():
        assert [len(batch) for batch in batches] == [10, 10]


def test_epoch_and_positions_are_tensors():
    steps = schedule((4, 7), epochs=3).steps(N, "shuffle", CPU)
    assert [int(epoch) for epoch, _ in steps] == [0] * 3 + [1] * 3 + [2] * 3
    assert steps[0][0].shape == ()
    assert steps[0][1].shape == (2, 8)


def test_the_order_is_keyed_by_seed_purpose_trial_and_epoch():
    every = orders((4, 7), seed=1) | {
        (*ids, "other"): order for ids, order in orders((4, 7), seed=2).items()
    }
    assert len({str(order) for order in every.values()}) == 8
    other = schedule((4,)).steps(N, "other", CPU)[0][1][0].tolist()
    assert other != every[0, 4][0]


def test_the_order_of_a_trial_does_not_depend_on_the_others():
    together, alone = orders((4, 7)), orders((7,))
    assert alone[0, 7] == together[0, 7]
    assert alone[1, 7] == together[1, 7]


def test_the_order_does_not_depend_on_the_size_of_a_batch():
    small, large = orders((4,)), orders((4,), batch_size=100)
    assert list(chain(*small[1, 4])) == large[1, 4][0]


def test_keys_are_those_of_seed_purpose_and_trial():
    found = schedule((4, 7)).keys("noise", CPU).tolist()
    assert found == [key(1, "noise", 4), key(1, "noise", 7)]


def test_a_stack_can_be_moved():
    moved = to(torch.device("meta"), stack([tiny(0)]))
    assert {values.device.type for values in moved.values()} == {"meta"}
