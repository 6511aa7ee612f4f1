from functools import partial
from math import ceil

import pytest
import torch
from torch import nn

from noisetransfer import base, randomness
from noisetransfer.attacks import ATTACKS
from noisetransfer.base import Images, train_networks
from noisetransfer.networks import run_shared, run_stack, stack
from noisetransfer.randomness import Uniforms
from noisetransfer.training import Schedule
from structures import CPU, adam, assert_is, tiny

N, SHAPE, RATE, TRIALS = 20, (1, 3, 4), 1e-2, (4, 7)
BUDGETS = {
    "fgm": {},
    "pgd": {"steps": 3, "step_size": 0.05},
    "auto_pgd": {"steps": 5, "step_size": 0.1, "restarts": 2},
    "square": {"steps": 5, "share": 0.5},
}


def schedule(trials=TRIALS, **changes):
    values = {"learning_rate": RATE, "batch_size": 8, "epochs": 2, "seed": 1}
    return Schedule(**{**values, **changes}, trials=trials)


@pytest.fixture(scope="module")
def data():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, *SHAPE), generator=draws, dtype=torch.uint8)
    return images, torch.randint(0, 3, (N,), generator=draws), torch.arange(N) + 100


@pytest.fixture
def batches(monkeypatch):
    """Return what a training does to make a batch: (networks, epoch, positions) → (inputs, labels)."""

    def of(images, plan=None, networks=None):
        plan = plan or schedule()
        made = []
        with monkeypatch.context() as patch:
            patch.setattr(base, "train", lambda *given, **_: made.append(given[3]))
            train_networks(networks or [tiny(t) for t in plan.trials], images, plan, CPU)
        return lambda current, epoch, positions: made[0](current, torch.tensor(epoch), positions)

    return of


def places(*rows):
    return torch.tensor(rows)


def networks():
    return [tiny(t) for t in TRIALS]


ROWS = places([3, 0, 11, 19, 5], [7, 3, 2, 0, 12])


def test_clean_training_equals_pytorchs_own_loop(data):
    images, labels, _ = data
    parameters, losses = train_networks(networks(), Images(*data), schedule(), CPU)
    assert losses.shape == (6, 2)
    for t in range(2):
        network = tiny(TRIALS[t])
        orders = [rows[t] for _, rows in schedule().steps(N, "shuffle for base", CPU)]
        expected = [(images[order].float() / 255, labels[order]) for order in orders]
        assert adam(network, expected, RATE) == pytest.approx(losses[:, t].tolist(), rel=1e-5)
        assert_is({name: p[t] for name, p in parameters.items()}, network)


def test_a_trial_does_not_depend_on_the_others(data):
    noisy = Images(*data, input_noise=0.2)
    together, losses = train_networks(networks(), noisy, schedule(), CPU)
    alone, own = train_networks(networks()[1:], noisy, schedule(TRIALS[1:]), CPU)
    torch.testing.assert_close(losses[:, 1:], own)
    for name in alone:
        torch.testing.assert_close(together[name][1:], alone[name])


def test_without_noise_and_attack_a_batch_is_the_images(data, batches):
    inputs, labels = batches(Images(*data))(None, 0, ROWS)
    assert torch.equal(inputs, data[0][ROWS].float() / 255)
    assert torch.equal(labels, data[1][ROWS])


def test_input_noise_has_its_sigma(data, batches):
    images = torch.full((500, *SHAPE), 255, dtype=torch.uint8)
    many = Images(images, torch.zeros(500, dtype=torch.int64), torch.arange(500), input_noise=0.2)
    inputs, _ = batches(many)(None, 0, torch.arange(500).expand(2, -1))
    noise = inputs.double() - 1
    assert float(noise.std()) == pytest.approx(0.2, rel=4 / (2 * noise.numel()) ** 0.5)
    assert abs(float(noise.mean())) < 4 * 0.2 / noise.numel() ** 0.5
    assert noise.max() > 0.4  # not clamped to [0, 1]
    assert abs(float(torch.corrcoef(noise.flatten(1))[0, 1])) < 4 / 6000**0.5


def test_input_noise_belongs_to_seed_trial_epoch_and_image(data, batches):
    def noise(epoch, rows, plan=None):
        made = batches(Images(*data, input_noise=0.2), plan)
        return made(None, epoch, rows)[0] - data[0][rows].float() / 255

    whole = noise(1, ROWS)
    torch.testing.assert_close(noise(1, ROWS[:, [4, 1]]), whole[:, [4, 1]])
    torch.testing.assert_close(noise(1, ROWS[1:], schedule(TRIALS[1:])), whole[1:])
    for other in (noise(0, ROWS), noise(1, ROWS, schedule(seed=2)), noise(1, ROWS.flip(0))):
        assert not torch.isclose(other, whole).any()
    shared = noise(1, places([3], [3]))
    assert not torch.isclose(shared[0], shared[1]).any()


def attacked(name="pgd", ratio=1.0, epsilon=0.1):
    return {"attack": name, "epsilon": epsilon, "ratio": ratio, **BUDGETS[name]}


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.26, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("name", ["fgm", "pgd"])
def test_the_share_of_a_batch_that_is_replaced_is_rounded_up(data, batches, name, size, ratio):
    rows = torch.stack([torch.arange(size), torch.arange(size) + 5])
    clean = data[0][rows].float() / 255
    made = batches(Images(*data, attack=attacked(name, ratio)))
    inputs, labels = made(stack(networks()), 0, rows)
    assert torch.equal(labels, data[1][rows])
    changed = (inputs != clean).flatten(2).any(-1)
    assert changed.sum(1).tolist() == [ceil(ratio * size)] * 2


def told(current, images, labels):
    """Return logits of a stack, and the mean log-probability of the label."""
    logits = run_stack(tiny(0), current, images)
    return logits, logits.log_softmax(-1).gather(-1, labels[..., None]).mean()


@pytest.mark.parametrize("name", BUDGETS)
def test_adversarial_images_are_near(data, batches, name):
    current = stack(networks())
    inputs, labels = batches(Images(*data, attack=attacked(name)))(current, 0, ROWS)
    clean = data[0][ROWS].float() / 255
    assert inputs.min() >= 0
    assert inputs.max() <= 1
    assert 0.05 < (inputs - clean).abs().max() <= 0.1 + 1e-6
    assert not inputs.requires_grad
    assert torch.equal(labels, data[1][ROWS])


@pytest.mark.parametrize("name", ["fgm", "pgd"])
def test_gradient_attacks_are_worse_for_the_networks(data, batches, name):
    current = stack(networks())
    inputs, labels = batches(Images(*data, attack=attacked(name)))(current, 0, ROWS)
    clean = data[0][ROWS].float() / 255
    assert told(current, inputs, labels)[1] < told(current, clean, labels)[1] - 0.02


def test_attacks_run_against_the_networks_as_they_are(data, batches):
    """Of FGM, the sign of the gradient by hand."""
    made = batches(Images(*data, attack=attacked("fgm")))
    clean = data[0][ROWS].float() / 255
    found = []
    for seeds in [(1, 2), (3, 4)]:
        own = [tiny(s) for s in seeds]
        current = {name: p.requires_grad_() for name, p in stack(own).items()}
        found.append(made(current, 0, ROWS)[0])
        for t in range(2):
            points = clean[t].clone().requires_grad_()
            nn.functional.cross_entropy(own[t](points), data[1][ROWS[t]]).backward()
            expected = (clean[t] + 0.1 * points.grad.sign()).clamp(0, 1)
            torch.testing.assert_close(found[-1][t], expected)
    assert not torch.equal(*found)


@pytest.mark.parametrize("name", BUDGETS)
def test_what_becomes_of_an_image_does_not_depend_on_its_batch(data, batches, name):
    made, current = batches(Images(*data, attack=attacked(name))), stack(networks())
    whole = made(current, 1, ROWS)[0]
    torch.testing.assert_close(made(current, 1, ROWS[:, 2:4])[0], whole[:, 2:4])
    part = made(current, 1, torch.cat([ROWS[:, 2:], ROWS[:, :2]], 1))[0]
    torch.testing.assert_close(part, torch.cat([whole[:, 2:], whole[:, :2]], 1))
    some = batches(Images(*data, attack=attacked(name, 0.4)))(current, 1, ROWS)[0]
    torch.testing.assert_close(some[:, :2], whole[:, :2])


def test_random_attacks_draw_anew_in_every_epoch_and_trial(data, batches):
    images = Images(*data, attack=attacked("square"))
    made, alike = batches(images), stack([tiny(4), tiny(4)])
    first, second = (made(alike, epoch, ROWS[:1].expand(2, -1))[0] for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", ["auto_pgd", "square"])
def test_no_two_epochs_share_a_draw(monkeypatch, data, batches, name):
    numbers, whole = [set(), set()], randomness.uniform
    made, current = batches(Images(*data, attack=attacked(name))), stack(networks())
    for epoch, seen in enumerate(numbers):

        def uniform(count, keys, draw, images, seen=seen):
            seen.add(int(draw))
            return whole(count, keys, draw, images)

        monkeypatch.setattr(randomness, "uniform", uniform)
        made(current, epoch, ROWS)
    assert len(numbers[0]) > 1
    assert not numbers[0] & numbers[1]


def test_adversarial_training_equals_a_loop_that_attacks_every_step(data):
    """The first half of each batch by FGM against the network as it is."""
    images, labels, _ = data
    given = Images(*data, attack=attacked("fgm", 0.5))
    parameters, losses = train_networks(networks(), given, schedule(), CPU)
    for t in range(2):
        network = tiny(TRIALS[t])
        orders = [rows[t] for _, rows in schedule().steps(N, "shuffle for base", CPU)]

        def batches(network=network, orders=orders):
            for order in orders:
                clean, truth, half = images[order].float() / 255, labels[order], len(order) // 2
                points = clean[:half].clone().requires_grad_()
                loss = nn.functional.cross_entropy(network(points), truth[:half])
                (gradient,) = torch.autograd.grad(loss, points)
                crafted = (clean[:half] + 0.1 * gradient.sign()).clamp(0, 1)
                yield torch.cat([crafted, clean[half:]]), truth

        assert adam(network, batches(), RATE) == pytest.approx(losses[:, t].tolist(), rel=1e-4)
        assert_is({name: p[t] for name, p in parameters.items()}, network, atol=1e-5)


def features(n, seed):
    """One strong pixel that is right in 85% of the images, and 35 weak ones that are right on average."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=draws)
    signs = 2.0 * labels[:, None] - 1
    weak = 0.5 + 0.05 * signs + 0.05 * torch.randn(n, 35, generator=draws)
    right = 2.0 * (torch.rand(n, 1, generator=draws) < 0.85) - 1
    images = torch.cat([0.5 + 0.3 * signs * right, weak], 1).clamp(0, 1).unflatten(1, (1, 6, 6))
    return images, labels, torch.arange(n)


def test_adversarial_training_makes_robust():
    """Weak pixels predict better, but an attack of twice their length turns them."""
    plan = schedule((0, 1), epochs=25, batch_size=50, learning_rate=0.03)
    images, labels, indices = features(400, 1)
    fresh, truth = [tiny(t, 36, 2) for t in (0, 1)], labels.expand(2, -1)

    def accuracies(attack):
        trained, _ = train_networks(fresh, Images(*features(400, 0), attack=attack), plan, CPU)
        logits = partial(run_stack, fresh[0], trained)
        crafted = ATTACKS["pgd"].run(
            lambda points, _: logits(points),
            images.expand(2, *images.shape),
            labels,
            epsilon=torch.full((2,), 0.1),
            draws=Uniforms(torch.zeros(2, dtype=torch.int64), indices, torch.tensor(0)),
            steps=10,
            step_size=0.02,
        )
        clean = run_shared(fresh[0], trained, images)
        return [(found.argmax(-1) == truth).double().mean(1) for found in (clean, logits(crafted))]

    clean, clean_attacked = accuracies(None)
    _, robust_attacked = accuracies(attacked("pgd", 0.7))
    assert (clean > 0.95).all()
    assert (clean_attacked < 0.4).all()
    assert (robust_attacked > 0.7).all()
