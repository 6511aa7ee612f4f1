"""Attacks, by one table over the registry: against the Adversarial Robustness Toolbox, and by themselves."""

import copy
import inspect
import warnings
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from crowds import BUDGETS, SHAPE, Keyed, three
from noisetransfer.attacks import ATTACKS
from noisetransfer.modifications import MODIFICATIONS

QUERIES = {
    "fgm": 1,
    "pgd": 6,
    "auto_pgd": 2 * (2 * 16 + 3),
    "square": 3 * (1 + 20),
    "random_noise": 0,
}
SKIPPING = {"auto_pgd": range(0, 70, 35), "square": range(0, 63, 3)}  # queries: who is left?
TOOLBOX = {
    "fgm": "FastGradientMethod",
    "pgd": "ProjectedGradientDescentPyTorch",
    "auto_pgd": "AutoProjectedGradientDescent",
    "square": "SquareAttack",
}
NAMES = {
    "steps": "max_iter",
    "step_size": "eps_step",
    "restarts": "nb_random_init",
    "share": "p_init",
}

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_plain_attack = pytest.mark.parametrize("name", QUERIES)
every_attack_of_the_toolbox = pytest.mark.parametrize("name", TOOLBOX)
skipping_attacks = pytest.mark.parametrize("name", SKIPPING)


@pytest.fixture(scope="module")
def crowd():
    return three()


class Sine(torch.nn.Module):
    def forward(self, inputs):
        return inputs.sin()


def rough():
    """Build a network whose loss rises and falls within a step."""
    layers = torch.nn.Flatten(), torch.nn.Linear(864, 16), Sine(), torch.nn.Linear(16, 10)
    network = torch.nn.Sequential(*layers).double().requires_grad_(False)
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter[:] = torch.randn(parameter.shape, generator=draws)
    return network


class Witness(torch.nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, points):
        self.seen.append(points.detach().clone())
        return self.network(points.double())


@pytest.fixture
def toolbox(monkeypatch):
    """Attack one network with ART, in doubles and with given draws: result, points shown, attack."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

    def generate(name, crowd, **budget):
        kind = getattr(evasion, TOOLBOX[name])
        monkeypatch.setattr(inspect.getmodule(kind), "ART_NUMPY_DTYPE", np.float64)
        witness = Witness(crowd.networks[0])
        classifier = PyTorchClassifier(
            witness, torch.nn.CrossEntropyLoss(), SHAPE, 10, clip_values=(0, 1), device_type="cpu"
        )
        attack = kind(classifier, eps=crowd.epsilon[0], **options(kind, budget))
        replay(monkeypatch, Keyed(crowd.members, crowd.numbers))
        witness.seen.clear()
        result = attack.generate(crowd.images.numpy(), crowd.labels.numpy())
        return SimpleNamespace(images=torch.from_numpy(result), seen=witness.seen, attack=attack)

    return generate


def options(kind, budget):
    quiet = {"verbose": False} if "verbose" in inspect.signature(kind).parameters else {}
    return {NAMES[key]: value for key, value in budget.items()} | quiet


def replay(monkeypatch, draws):
    """Let numpy draw what the first image of the first network draws, for one attack of the toolbox."""
    restarts, trials, tile = count(), count(1), []

    def uniform(low, high, size):
        drawn = draws.per_image(next(restarts), SHAPE)[0, 0].double().numpy()
        return np.broadcast_to(low + (high - low) * drawn.reshape(1, -1), size)

    def randint(low, high):
        tile[:] = tile or draws.common(next(trials), 2 + SHAPE[0])[0].tolist()
        return low + int(tile.pop(0) * (high - low))

    def choice(values, size):
        stripes = draws.per_image(0, (SHAPE[0], 1, SHAPE[-1]))[0, 0]
        drawn = np.array(tile or stripes.flatten().tolist()).reshape(size)
        tile.clear()
        return np.where(drawn < 0.5, *values)

    for function in (uniform, randint, choice):
        monkeypatch.setattr(np.random, function.__name__, function)


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=1e-12)


def same_points(queries, seen, s=0, i=0):
    """Compare what is shown to a network of one image, until the attack of the toolbox on it is over."""
    for (points, _), point in zip(queries, seen, strict=False):
        same(points[s, i], point[0])


def test_the_registry_of_attacks_is_that_of_the_modifications():
    assert set(ATTACKS) == {m.name for m in MODIFICATIONS.values() if m.kind == "attack"}


@every_attack_of_the_toolbox
def test_equals_the_toolbox_point_by_point(crowd, toolbox, name):
    """Stacked here, with a radius of its own for each network; there image by image."""
    ours, queries = crowd.attacked(name)
    steps = set()
    for s, i in np.ndindex(3, 6):
        theirs = toolbox(name, crowd.some(slice(s, s + 1), slice(i, i + 1)), **BUDGETS[name])
        same(ours[s, i], theirs.images[0])
        same_points(queries, theirs.seen, s, i)
        steps |= set(np.ravel(getattr(theirs.attack, "eta_w_j_m_1", [])))
    before, after = crowd.correct(crowd.images), crowd.correct(ours)
    assert (before & ~after).any()
    assert (before & after).any()
    unchanged = (ours == crowd.images).flatten(2).all(-1)
    assert not unchanged[before].all()
    assert (~before).any()
    assert unchanged[~before].all() == (name in SKIPPING)
    assert name != "auto_pgd" or len(steps) > 2, "steps are halved, not all equally often"


@every_attack_of_the_toolbox
def test_the_defaults_are_those_of_the_toolbox(crowd, toolbox, name):
    one = crowd.some(slice(2, 3), slice(3, 4))
    budget = ATTACKS[name].budget().model_dump()
    theirs = toolbox(name, one, **budget)
    for key, value in budget.items():
        default = inspect.signature(type(theirs.attack)).parameters[NAMES[key]].default
        assert value == default
    ours, queries = one.attacked(name, **budget)
    same(ours[0], theirs.images)
    same_points(queries, theirs.seen)


def test_auto_pgd_equals_the_toolbox_where_steps_are_in_vain(crowd, toolbox):
    """On a rough network: back at the first points, the point before them counts as the clean image."""
    network = rough()
    labels = network(crowd.images).argmax(-1)
    some = replace(crowd.some(slice(1, 2)), networks=[network], labels=labels)
    budget = {"steps": 12, "step_size": 0.1, "restarts": 2}
    ours, queries = some.attacked("auto_pgd", **budget)
    for i in range(6):
        theirs = toolbox("auto_pgd", some.some(numbers=slice(i, i + 1)), **budget)
        same(ours[0, i], theirs.images[0])
        same_points(queries, theirs.seen, 0, i)
    points = torch.stack([points[0] for points, _ in queries])
    back = points[10] == points[[1, 3]]  # x_4, after the first checkpoint, is x_0 or x_1
    assert back.flatten(2).all(-1).any(1).all()


def test_auto_pgd_takes_a_loss_of_zero_as_the_toolbox_does_in_company(crowd, toolbox):
    """There, a batch ends when each of its losses is 0: alone, such an image would stay as it is."""
    network = copy.deepcopy(crowd.networks[1])
    network.logits.weight *= 25
    some = replace(crowd.some(slice(1, 2)), networks=[network], numbers=[0] * 6)
    budget = {"steps": 12, "step_size": 0.1, "restarts": 2}
    ours, queries = some.attacked("auto_pgd", **budget)
    second_step = some.loss(queries[5][0])[0]  # query 5 asks for the loss of x_2
    assert (second_step == 0).any()
    assert (second_step > 0).any()
    same(ours[0], toolbox("auto_pgd", some, **budget).images)
    for i in np.flatnonzero(second_step == 0):
        alone = toolbox("auto_pgd", some.some(numbers=slice(i, i + 1)), **budget)
        assert not torch.allclose(alone.images[0], ours[0, i])


def distances(name, shifts):
    return shifts.flatten(2).norm(2 if "l2" in name else torch.inf, dim=2)


@every_attack
def test_images_stay_in_the_ball_and_in_range(crowd, name):
    budget = BUDGETS[name] | ({"step_size": 0.5} if "step_size" in BUDGETS[name] else {})
    found, _ = crowd.attacked(name, **budget)
    distance = distances(name, found - crowd.images).amax(1)
    assert (distance <= crowd.radii(name) + 1e-9).all()
    assert (distance >= 0.9 * crowd.radii(name)).all()
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not found.requires_grad


@every_attack
def test_single_precision_stays_single(crowd, name):
    small = replace(crowd, networks=[copy.deepcopy(n).float() for n in crowd.networks])
    found, _ = replace(small, images=crowd.images.float()).attacked(name)
    assert found.dtype == torch.float32
    assert float(distances(name, found - crowd.images).max()) <= max(crowd.radii(name)) + 1e-5


@pytest.mark.parametrize("name", sorted({*ATTACKS} - {"random_noise"}))
def test_attacks_fool_networks(crowd, name):
    found, _ = crowd.attacked(name)
    lost = crowd.correct(crowd.images).sum(1) - crowd.correct(found).sum(1)
    assert (lost >= 0).all()
    assert lost.sum() >= 4, lost
    assert (crowd.loss(found).mean(1) > crowd.loss(crowd.images).mean(1)).all()


@every_attack
def test_the_size_of_the_batch_changes_nothing(crowd, name):
    noisy = replace(crowd, noise=0.5)
    together, _ = noisy.attacked(name)
    batches = [slice(0, 1), slice(1, 2), slice(2, 6)]
    apart = [noisy.some(numbers=batch).attacked(name)[0] for batch in batches]
    same(torch.cat(apart, 1), together)


@every_attack
def test_a_network_is_attacked_as_if_alone(crowd, name):
    noisy = replace(crowd, noise=0.5)
    together, _ = noisy.attacked(name)
    same(noisy.some(slice(1, 2)).attacked(name)[0], together[1:2])


@every_plain_attack
def test_each_query_of_an_attack_has_a_number_of_its_own(crowd, name):
    numbers = [number for _, number in replace(crowd, noise=0.5).attacked(name)[1]]
    assert sorted(numbers) == list(range(QUERIES[name]))
    assert numbers == [number for _, number in crowd.attacked(name)[1]]


@every_plain_attack
def test_gradients_are_asked_for_where_they_are_needed(crowd, name):
    asked = []

    def logits(points, number):
        asked.append(points.requires_grad and torch.is_grad_enabled())
        return crowd.logits(points, number)

    with torch.no_grad():
        crowd.attacked(name, logits)
    assert sum(asked) == {"fgm": 1, "pgd": 6, "auto_pgd": 32}.get(name, 0)


@skipping_attacks
def test_misclassified_images_cost_one_query_each_time(crowd, name):
    wrong = replace(crowd, labels=(crowd.labels + 5) % 10)
    assert not wrong.correct(wrong.images).any()
    found, queries = wrong.attacked(name)
    assert (found == wrong.images).all()
    assert [number for _, number in queries] == list(SKIPPING[name])


@skipping_attacks
def test_an_image_misclassified_by_one_draw_is_asked_again(crowd, name):
    one = crowd.some(slice(2, 3), slice(3, 4))
    assert one.correct(one.images).all()

    def unlucky(points, number):
        logits = one.logits(points, number)
        return -logits if number == 0 else logits

    found, queries = one.attacked(name, unlucky)
    assert not torch.equal(found[0], one.images)
    assert [number for _, number in queries][:2] == list(SKIPPING[name])[:2]


def test_a_tile_as_large_as_the_image_fits(crowd):
    found, _ = crowd.some(numbers=slice(2, 3)).attacked("square", steps=1, share=0.99)
    assert found.shape == (3, 1, *SHAPE)


@every_attack
def test_budgets_refuse_what_they_do_not_know(name):
    budget = ATTACKS[name].budget
    keys = {*BUDGETS[name]} | ({"against"} if ATTACKS[name].adaptive else set())
    assert set(budget.model_fields) == keys
    assert all(value.description for value in budget.model_fields.values())
    bad = [{key: value} for key in keys for value in (-1, 0, float("nan"), "many")]
    for wrong in [{"epsilon": 0.1}, {"stpes": 3}, *bad]:
        with pytest.raises(ValidationError):
            budget(**wrong)
