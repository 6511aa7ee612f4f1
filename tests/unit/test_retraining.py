import pytest
import torch
from torch import nn

from noisetransfer import retraining
from noisetransfer.arms import Factors
from noisetransfer.networks import split, stack
from noisetransfer.noise import NoiseSampler
from noisetransfer.retraining import computed, recorded, train_suffixes, under_input_noise
from noisetransfer.suffixes import training_mode
from noisetransfer.training import Schedule
from structures import CPU, adam, assert_is, tiny

N, SITE, RATE = 20, (2, 3, 2), 1e-2  # d = 12
TRIALS = (4, 7, 9)
INDICES = torch.arange(N) + 100


def schedule(trials=TRIALS, **changes):
    values = {"learning_rate": RATE, "batch_size": 8, "epochs": 2, "seed": 1}
    return Schedule(**{**values, **changes}, trials=trials)


def base(trial):
    """Build a network that is cut behind L1, where h(x) has shape (2, 3, 2)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + trial)
        network = nn.Sequential()
        network.add_module("conv1", nn.Conv2d(1, 2, (1, 2)))
        network.add_module("L1", nn.Tanh())
        return network.requires_grad_(False)


def prefixes(trials=TRIALS):
    return [split(base(t), "L1")[0] for t in trials]


def suffixes(trials=TRIALS):
    return [tiny(t) for t in trials]


@pytest.fixture(scope="module")
def data():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 1, 3, 3), generator=draws, dtype=torch.uint8)
    return images, torch.randint(0, 3, (N,), generator=draws)


@pytest.fixture(scope="module")
def activations(data):
    return torch.stack([prefix(data[0].float() / 255) for prefix in prefixes()])


def noises():
    """Four rows: silent, isotropic, of rank 3, of rank 12; the factors differ by trial."""
    draws = torch.Generator().manual_seed(1)
    low = [torch.randn(12, 3, generator=draws) / 2 for _ in TRIALS]
    high = [torch.randn(12, 12, generator=draws) / 4 for _ in TRIALS]
    return [
        [Factors(None, torch.zeros(12)) for _ in TRIALS],
        [Factors(None, torch.full((12,), 0.5)) for _ in TRIALS],
        [Factors(factor, torch.full((12,), 0.1)) for factor in low],
        [Factors(factor, torch.zeros(12)) for factor in high],
    ]


def sampler(rows=None, trials=TRIALS):
    return NoiseSampler.of(rows or noises(), CPU, seed=1, trials=trials)


def run(data, activations, noise=None, **changes):
    return train_suffixes(
        suffixes(),
        recorded(activations, CPU),
        data[1],
        INDICES,
        noise or sampler(),
        schedule(**changes),
    )


def alone(data, activations, row, trial):
    """Train one suffix by PyTorch's own loop, with the draws of its own row and trial."""
    own = sampler([noises()[row][trial : trial + 1]], TRIALS[trial : trial + 1])
    network = suffixes()[trial]
    return network, adam(network, noisy_batches(data, activations, own, trial), RATE)


def noisy_batches(data, activations, own, trial):
    """Return the batches of one trial under the noise of one row and that trial."""
    keys, batches = own.keys("training noise"), []
    for epoch, rows in schedule(TRIALS[trial : trial + 1]).steps(N, "shuffle for suffix", CPU):
        noise = own.draw(keys, epoch, INDICES[rows[0]])[0, 0].unflatten(-1, SITE)
        batches.append((activations[trial][rows[0]] + noise, data[1][rows[0]]))
    return batches


@pytest.fixture(scope="module")
def together(data, activations):
    return run(data, activations)


@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize("row", range(4))
def test_every_suffix_trains_as_if_it_were_alone(data, activations, together, row, trial):
    parameters, losses = together
    network, expected = alone(data, activations, row, trial)
    assert losses[:, row, trial].tolist() == pytest.approx(expected, rel=1e-5)
    assert_is({name: p[row, trial] for name, p in parameters.items()}, network)


def test_shapes_are_rows_by_trials(together):
    parameters, losses = together
    assert losses.shape == (6, 4, 3)
    for name, values in suffixes()[0].state_dict().items():
        assert parameters[name].shape == (4, 3, *values.shape)


def test_no_noise_is_training_on_the_activations(data, activations, together):
    """Row 0 of the stack, and a stack without any noise."""
    parameters, _ = together
    silent, _ = run(data, activations, sampler(noises()[:1]))
    for trial, network in enumerate(suffixes()):
        orders = [rows[trial] for _, rows in schedule().steps(N, "shuffle for suffix", CPU)]
        adam(network, [(activations[trial][o], data[1][o]) for o in orders], RATE)
        assert_is({name: p[0, trial] for name, p in parameters.items()}, network)
        assert_is({name: p[0, trial] for name, p in silent.items()}, network)


def test_noise_differs_between_epochs(data, activations):
    """One batch an epoch, learning rate ~ 0: losses differ by the draws (and rounding) alone."""
    _, losses = run(data, activations, batch_size=N, learning_rate=1e-12)
    change = (losses[0] - losses[1]).abs()
    assert change[0].max() < 1e-6
    assert change[1:].min() > 1e-4


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 8, 11])
@pytest.mark.parametrize("rows", [3, 4])
def test_parts_of_a_stack_are_trained_as_the_whole(
    monkeypatch, data, activations, together, limit, rows
):
    sizes, whole_train = [], retraining.train

    def train(module, parameters, *given, **options):
        sizes.append(len(next(iter(parameters.values()))))
        return whole_train(module, parameters, *given, **options)

    monkeypatch.setattr(retraining, "train", train)
    monkeypatch.setattr(retraining, "stack_size", lambda *_: limit)
    parameters, losses = run(data, activations, sampler(noises()[:rows]))
    assert sum(sizes) == rows * 3
    assert max(sizes) <= limit
    assert losses.shape == (6, rows, 3)
    torch.testing.assert_close(losses, together[1][:, :rows], rtol=1e-5, atol=1e-6)
    for name, values in together[0].items():
        torch.testing.assert_close(parameters[name], values[:rows], rtol=1e-5, atol=2e-6)


def test_a_stack_is_as_large_as_the_device_allows(monkeypatch, data, activations):
    """The room of a network counts its batch, its images and its factor."""
    asked = []
    monkeypatch.setattr(retraining, "stack_size", lambda *given: asked.append(given) or 100)
    run(data, activations)
    run(data, activations, batch_size=16)
    run(data, activations, sampler(noises()[:2]))
    first, wider, without = (size for _, size in asked)
    assert asked[0][0] == CPU
    assert wider > first > without >= 4 * (8 + N) * 12


def test_stacks_become_smaller_where_memory_runs_out(
    monkeypatch, data, activations, together, capsys
):
    real, sizes = retraining.train, []

    def train(module, parameters, *arguments, **options):
        sizes.append(len(next(iter(parameters.values()))))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(module, parameters, *arguments, **options)

    monkeypatch.setattr(retraining, "train", train)
    parameters, losses = run(data, activations)
    assert max(sizes) > 3 >= max(sizes[-4:])
    assert "going on with" in capsys.readouterr().err
    assert torch.allclose(losses, together[1], atol=1e-5)
    for name, values in together[0].items():
        assert torch.allclose(parameters[name], values, atol=1e-5)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 44, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 44, 45, 100])
def test_things_are_cut_into_few_equal_parts(count, limit):
    parts = retraining._parts(count, limit)
    covered = [i for part in parts for i in range(count)[part]]
    lengths = {part.stop - part.start for part in parts}
    assert covered == list(range(count))
    assert len(parts) == -(-count // limit)
    assert max(lengths) <= limit
    assert max(lengths) - min(lengths) <= 1


ROWS = torch.tensor([[3, 0, 11, 19], [7, 3, 2, 0], [1, 1, 5, 9]])


def asked(hidden, rows=ROWS, trials=slice(None), epoch=0):
    return hidden(trials)(torch.tensor(epoch), rows[trials])


@pytest.mark.parametrize("trials", [slice(0, 3), slice(1, 2), slice(1, 3)])
def test_recorded_activations_are_those_of_trial_and_image(activations, trials):
    found = asked(recorded(activations, CPU), trials=trials)
    expected = [activations[t][ROWS[t]] for t in range(3)[trials]]
    assert torch.equal(found, torch.stack(expected))


def noisy(data, sigma, plan=None):
    return under_input_noise(prefixes(), data[0], INDICES, sigma, plan or schedule(), CPU)


@pytest.mark.parametrize("trials", [slice(0, 3), slice(1, 2), slice(1, 3)])
def test_without_input_noise_activations_are_the_recorded_ones(data, activations, trials):
    expected = asked(recorded(activations, CPU), trials=trials)
    for sigma in (0.0, 1e-9):
        torch.testing.assert_close(asked(noisy(data, sigma), trials=trials), expected)


def test_input_noise_changes_activations_by_its_sigma(data, activations):
    """Of a prefix that passes the image on."""
    plain = [nn.Sequential(nn.Identity()) for _ in TRIALS]
    hidden = under_input_noise(plain, data[0], INDICES, 0.2, schedule(), CPU)
    rows = torch.arange(N).expand(3, -1)
    noise = torch.cat(
        [asked(hidden, rows, epoch=e) - data[0][rows].float() / 255 for e in range(10)]
    ).double()
    assert float(noise.std()) == pytest.approx(0.2, rel=4 / (2 * noise.numel()) ** 0.5)
    assert abs(float(noise.mean())) < 4 * 0.2 / noise.numel() ** 0.5


def test_input_noise_belongs_to_seed_trial_epoch_and_image(data):
    whole = asked(noisy(data, 0.2), epoch=1)
    part = asked(noisy(data, 0.2), ROWS[:, 1:3], slice(1, 3), epoch=1)
    torch.testing.assert_close(part, whole[1:, 1:3])
    others = [
        asked(noisy(data, 0.2), epoch=0),
        asked(noisy(data, 0.2, schedule(seed=2)), epoch=1),
        asked(noisy(data, 0.2, schedule((5, 6, 8))), epoch=1),
    ]
    for other in others:
        assert not torch.isclose(other, whole, atol=1e-6).any()


def test_suffixes_train_under_input_noise(data, activations, together):
    """With none, as on the recordings; with some, otherwise: by the same order and draws."""
    none, some = (
        train_suffixes(suffixes(), noisy(data, sigma), data[1], INDICES, sampler(), schedule())[1]
        for sigma in (0.0, 0.2)
    )
    torch.testing.assert_close(none, together[1], rtol=1e-5, atol=1e-6)
    assert not torch.isclose(some[0], none[0], rtol=1e-4).any()


# suffixes with BatchNorm


def normalised(trial):
    """Build a suffix with BatchNorm in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial)
        # a bias before BatchNorm has the gradient 0, of whose rounding Adam makes whole steps
        first = nn.Conv2d(2, 4, 2, bias=False)
        layers = first, nn.BatchNorm2d(4), nn.Dropout(), nn.Tanh(), nn.Flatten()
        return training_mode(nn.Sequential(*layers, nn.Linear(8, 3)))


def run_normalised(hidden, noise=None, labels=None):
    fresh = [normalised(trial) for trial in range(3)]
    return train_suffixes(fresh, hidden, labels, INDICES, noise or sampler(), schedule())


@pytest.fixture(scope="module")
def with_statistics(data, activations):
    return run_normalised(recorded(activations, CPU), labels=data[1])


@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize("row", range(4))
def test_a_suffix_with_batch_norm_trains_as_if_it_were_alone(
    data, activations, with_statistics, row, trial
):
    """Weights and statistics, which are those of its own noisy activations; dropout stays off."""
    parameters, losses = with_statistics
    own = sampler([noises()[row][trial : trial + 1]], TRIALS[trial : trial + 1])
    batches = noisy_batches(data, activations, own, trial)
    network = normalised(trial)
    assert losses[:, row, trial].tolist() == pytest.approx(adam(network, batches, RATE), rel=1e-4)
    assert_is({name: p[row, trial] for name, p in parameters.items()}, network, atol=1e-5)
    assert int(parameters["1.num_batches_tracked"][row, trial]) == len(batches)


def test_statistics_of_batch_norm_belong_to_row_and_trial(with_statistics):
    parameters, _ = with_statistics
    for name in ("1.running_mean", "1.running_var"):
        own = parameters[name].flatten(0, 1)
        assert own.shape == (12, 4)
        assert len({tuple(values.tolist()) for values in own}) == 12
    # noise adds variance: silent, isotropic
    variance = parameters["1.running_var"].mean((1, 2))
    assert variance[0] < variance[1]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_suffixes_with_batch_norm_train_in_parts_as_whole(
    monkeypatch, data, activations, with_statistics, limit
):
    monkeypatch.setattr(retraining, "stack_size", lambda *_: limit)
    parameters, losses = run_normalised(recorded(activations, CPU), labels=data[1])
    torch.testing.assert_close(losses, with_statistics[1], rtol=1e-4, atol=1e-5)
    for name, values in with_statistics[0].items():
        torch.testing.assert_close(parameters[name], values, rtol=1e-4, atol=1e-5)


# one pretrained network for all trials


class Counting(nn.Module):
    """A prefix that counts its runs by the number of images."""

    def __init__(self):
        super().__init__()
        self.prefix, self.runs = prefixes()[0], []

    def forward(self, images):
        self.runs.append(len(images))
        return self.prefix(images)


@pytest.fixture(params=["once", "anew"])
def counted(request, monkeypatch, data):
    """A prefix, and what its states are computed by: once, or where they would be too large in each step."""
    prefix = Counting()
    if request.param == "anew":
        monkeypatch.setattr(retraining, "LARGEST_RECORDING", 4 * N * 12 - 1)
    return prefix, computed(prefix, data[0], CPU), request.param == "once"


@pytest.mark.parametrize("trials", [slice(0, 3), slice(1, 2), slice(1, 3)])
def test_computed_activations_are_those_of_the_image_whatever_the_trial(
    counted, activations, trials
):
    found = asked(counted[1], trials=trials)
    torch.testing.assert_close(found, activations[0][ROWS[trials]])
    assert not found.requires_grad


def test_states_are_recorded_once_or_else_computed_in_every_step(counted):
    prefix, hidden, once = counted
    assert sum(prefix.runs) == (1 + N if once else 1)  # one image tells the shape
    for _ in range(3):
        asked(hidden)
    assert sum(prefix.runs) == (1 + N if once else 1 + 3 * ROWS.numel())


def test_as_many_states_as_there_is_room_for_are_recorded(monkeypatch, data):
    monkeypatch.setattr(retraining, "LARGEST_RECORDING", 4 * N * 12)
    prefix = Counting()
    computed(prefix, data[0], CPU)
    assert sum(prefix.runs) == 1 + N


def test_large_sets_of_images_are_recorded_in_chunks(monkeypatch, data, activations):
    monkeypatch.setattr(retraining, "CHUNK", 7)
    prefix = Counting()
    found = asked(computed(prefix, data[0], CPU))
    assert prefix.runs == [1, 7, 7, 6]
    torch.testing.assert_close(found, activations[0][ROWS])


def test_suffixes_of_a_pretrained_network_train_alike_on_recorded_and_computed_states(
    data, activations, counted
):
    """As on recordings of one base network in every trial, with BatchNorm too."""
    expected = run_normalised(recorded(activations[[0, 0, 0]], CPU), labels=data[1])
    found = run_normalised(counted[1], labels=data[1])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)
    for name, values in expected[0].items():
        torch.testing.assert_close(found[0][name], values, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(found[1][:, :, 0], found[1][:, :, 1], rtol=1e-3).any()


def test_states_that_hold_more_than_h_get_noise_on_h_alone(data):
    """A prefix that passes four numbers beside h; the suffix is trained on both."""
    draws = torch.Generator().manual_seed(6)
    states = torch.randn(N, 16, generator=draws)
    suffix = [tiny(trial, inputs=16) for trial in range(3)]
    hidden = recorded([states] * 3, CPU)
    parameters, losses = train_suffixes(suffix, hidden, data[1], INDICES, sampler(), schedule())
    for row in range(4):
        own = sampler([noises()[row][:1]], TRIALS[:1])
        keys, network, batches = own.keys("training noise"), tiny(0, inputs=16), []
        for epoch, order in schedule(TRIALS[:1]).steps(N, "shuffle for suffix", CPU):
            noisy_states = states[order[0]].clone()
            noisy_states[:, :12] += own.draw(keys, epoch, INDICES[order[0]])[0, 0]
            batches.append((noisy_states, data[1][order[0]]))
        assert losses[:, row, 0].tolist() == pytest.approx(adam(network, batches, RATE), rel=1e-5)
        assert_is({name: p[row, 0] for name, p in parameters.items()}, network)


def test_rows_of_a_trial_start_alike_and_see_the_same_images(data, activations):
    """Rows of one noise are one network."""
    parameters, losses = run(data, activations, sampler([noises()[2]] * 2))
    torch.testing.assert_close(losses[:, 0], losses[:, 1])
    for values in parameters.values():
        torch.testing.assert_close(values[0], values[1])


def test_the_fresh_suffixes_are_not_changed(data, activations):
    fresh = suffixes()
    before = stack(fresh)
    train_suffixes(fresh, recorded(activations, CPU), data[1], INDICES, sampler(), schedule())
    assert all(torch.equal(values, before[name]) for name, values in stack(fresh).items())
