"""Attacks, by one table over the registry: against the Adversarial Robustness Toolbox, and by themselves."""

import copy
import inspect
import warnings
from dataclasses import dataclass, field, replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from noisetransfer.attacks import ATTACKS
from noisetransfer.modifications import MODIFICATIONS
from noisetransfer.networks import build, run_stack, stack
from noisetransfer.randomness import generator

SHAPE = (3, 16, 18)
BUDGETS = {
    "fgm": {},
    "pgd": {"steps": 6, "step_size": 0.04},
    "auto_pgd": {"steps": 16, "step_size": 0.4, "restarts": 2},
    "square": {"steps": 20, "share": 0.7},
}
QUERIES = {"fgm": 1, "pgd": 6, "auto_pgd": 2 * (2 * 16 + 3), "square": 3 * (1 + 20)}
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
skipping_attacks = pytest.mark.parametrize("name", SKIPPING)


@dataclass
class Keyed:
    """Draws of networks and images, each by its number."""

    members: list
    numbers: list

    def per_image(self, number, shape):
        return torch.stack(
            [
                torch.stack([self._rand(shape, s, i, number) for i in self.numbers])
                for s in self.members
            ]
        )

    def common(self, number, count):
        return torch.stack([self._rand((count,), s, number) for s in self.members])

    def _rand(self, shape, *ids):
        return torch.rand(*shape, generator=generator(0, "uniform", *ids))


@dataclass
class Crowd:
    """Networks and images under attack, with their numbers; doubles, so that no rounding turns a sign."""

    networks: list
    images: torch.Tensor
    labels: torch.Tensor
    epsilon: tuple = (0.05, 0.2, 0.1)
    members: list = field(default_factory=lambda: [0, 1, 2])
    numbers: list = field(default_factory=lambda: list(range(6)))
    noise: float = 0.0

    def some(self, members=slice(None), numbers=slice(None)):
        return replace(
            self,
            networks=self.networks[members],
            images=self.images[numbers],
            labels=self.labels[numbers],
            epsilon=self.epsilon[members],
            members=self.members[members],
            numbers=self.numbers[numbers],
        )

    def shared(self, images):
        return images.expand(len(self.networks), *images.shape[-4:])

    def logits(self, points, number):
        clean = run_stack(self.networks[0], stack(self.networks), points)
        ids = [(s, i, number) for s in self.members for i in self.numbers]
        draws = [torch.randn(10, generator=generator(0, "noise", *own)) for own in ids]
        return clean + self.noise * torch.stack(draws).view_as(clean)

    def attacked(self, name, logits=None, **budget):
        """Return the adversarial images and all queries, (points, number)."""
        queries = []

        def asked(points, number):
            queries.append((points.detach(), number))
            return (logits or self.logits)(points, number)

        found = ATTACKS[name].run(
            asked,
            self.shared(self.images),
            self.labels,
            epsilon=torch.tensor(self.epsilon, dtype=torch.float64),
            draws=Keyed(self.members, self.numbers),
            **(budget or BUDGETS[name]),
        )
        return found, queries

    def correct(self, images):
        return self.logits(self.shared(images), 0).argmax(-1) == self.labels

    def loss(self, images):
        logits = self.logits(self.shared(images), 0)
        labels = self.labels.expand(logits.shape[:2])
        return cross_entropy(logits.movedim(-1, 1), labels, reduction="none")


def trained(seed, steps, images, labels):
    network = build("v2", "tanh", SHAPE, 10, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.double().eval().requires_grad_(False)


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


@pytest.fixture(scope="module")
def crowd():
    """Three networks, the first one less trained, and six images of ten blocky patterns."""
    draws = torch.Generator().manual_seed(0)
    blocks = torch.rand(10, 3, 4, 3, generator=draws)
    patterns = blocks.repeat_interleave(4, -2).repeat_interleave(6, -1)
    labels = torch.randint(0, 10, (70,), generator=draws)
    images = (patterns[labels] + 0.25 * torch.randn(70, *SHAPE, generator=draws)).clamp(0, 1)
    networks = [trained(s, n, images[10:], labels[10:]) for s, n in enumerate((15, 30, 30))]
    return Crowd(networks, images[:6].double(), labels[:6])


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


@every_attack
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


@every_attack
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


@every_attack
def test_images_stay_in_the_ball_and_in_range(crowd, name):
    budget = BUDGETS[name] | ({"step_size": 0.5} if "step_size" in BUDGETS[name] else {})
    found, _ = crowd.attacked(name, **budget)
    distance = (found - crowd.images).abs().flatten(1).amax(1)
    assert (distance <= torch.tensor(crowd.epsilon) + 1e-9).all()
    assert (distance >= 0.9 * torch.tensor(crowd.epsilon)).all()
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not found.requires_grad


@every_attack
def test_single_precision_stays_single(crowd, name):
    small = replace(crowd, networks=[copy.deepcopy(n).float() for n in crowd.networks])
    found, _ = replace(small, images=crowd.images.float()).attacked(name)
    assert found.dtype == torch.float32
    assert float((found - crowd.images).abs().max()) <= max(crowd.epsilon) + 1e-6


@every_attack
def test_attacks_fool_networks(crowd, name):
    found, _ = crowd.attacked(name)
    lost = crowd.correct(crowd.images).sum(1) - crowd.correct(found).sum(1)
    assert (lost >= 0).all()
    assert lost.sum() >= 4
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


@every_attack
def test_each_query_of_an_attack_has_a_number_of_its_own(crowd, name):
    numbers = [number for _, number in replace(crowd, noise=0.5).attacked(name)[1]]
    assert sorted(numbers) == list(range(QUERIES[name]))
    assert numbers == [number for _, number in crowd.attacked(name)[1]]


@every_attack
def test_gradients_are_asked_for_where_they_are_needed(crowd, name):
    asked = []

    def logits(points, number):
        asked.append(points.requires_grad and torch.is_grad_enabled())
        return crowd.logits(points, number)

    with torch.no_grad():
        crowd.attacked(name, logits)
    assert sum(asked) == {"fgm": 1, "pgd": 6, "auto_pgd": 32, "square": 0}[name]


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
    assert set(budget.model_fields) == set(BUDGETS[name])
    assert all(value.description for value in budget.model_fields.values())
    bad = [{key: value} for key in BUDGETS[name] for value in (-1, 0, float("nan"), "many")]
    for wrong in [{"epsilon": 0.1}, {"stpes": 3}, *bad]:
        with pytest.raises(ValidationError):
            budget(**wrong)
