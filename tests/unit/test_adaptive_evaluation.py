"""What attacks that average over noise see of a stack of networks, and what they make of it."""

from dataclasses import replace

import pandas as pd
import pytest
import test_evaluation
import torch
from test_evaluation import (
    INDICES,
    INPUT_NOISE,
    PASSES,
    SITES,
    base,
    by_hand,
    noisy,
    sort,
    suffixes,
    trial,
)
from torch.nn.functional import cross_entropy

from noisetransfer import evaluation
from noisetransfer.evaluation import attacked, evaluate, expectation
from noisetransfer.networks import split

data = test_evaluation.data  # the fixture

_EOT = {
    "against": "noisy",
    "passes": 3,
    "mean": "losses",
    "loss": "ce",
    "steps": 3,
    "step_size": 0.5,
    "restarts": 2,
}
ADAPTIVE = {
    "pgd_eot": {**_EOT, "random_start": False},
    "pgd_l2_eot": {**_EOT, "random_start": True},
    "auto_pgd_eot": _EOT,
    "auto_pgd_l2_eot": _EOT,
    "square_eot": {
        "against": "noisy",
        "passes": 2,
        "mean": "logits",
        "loss": "margin",
        "steps": 4,
        "share": 0.5,
    },
    "rays_eot": {"against": "noisy", "passes": 2, "decision": "majority", "steps": 6},
    "auto_attack": {
        "against": "noisy",
        "passes": 2,
        "version": "auto",
        "steps": 2,
        "targets": 1,
        "queries": 4,
    },
}
every_adaptive_attack = pytest.mark.parametrize("name", ADAPTIVE)


def craft_adaptively(networks, data, name, rows=(0, 1, 2), epsilons=(0.1,) * 3, **budget):
    return attacked(
        networks,
        data[0].float() / 255,
        data[2],
        INDICES,
        attack=name,
        rows=list(rows),
        epsilons=[(10 if "l2" in name else 1) * epsilon for epsilon in epsilons],
        budget={**ADAPTIVE[name], **budget},
        passes=PASSES,
    )


def seen_by(networks, data, against, rows, images=None):
    """Logits (draws, rows, images, classes) that an attacker sees, by default on clean images."""
    clean = data[0].float() / 255
    own = expectation(networks, clean, INDICES, list(rows), against, PASSES)
    shared = own.shared(clean.expand(len(rows), *clean.shape) if images is None else images)
    return torch.stack([own.passed(shared, number) for number in range(PASSES)]), own


@SITES
@INPUT_NOISE
def test_who_knows_the_seed_sees_the_draws_that_score(data, site, input_noise):
    rows = [2, 1, 2]
    seen, own = seen_by(noisy(site, input_noise), data, "known_seed", rows)
    assert own.numbers(7, 20) == range(PASSES)
    for place, row in enumerate(rows):
        expected = by_hand(data[0].float() / 255, row, site, input_noise)
        torch.testing.assert_close(seen[:, place], expected)


def test_auto_attack_may_know_the_one_draw_that_scores(data):
    """A single known draw is noise still: every image has its own."""
    found = attacked(
        noisy(),
        data[0].float() / 255,
        data[2],
        INDICES,
        attack="auto_attack",
        rows=[1],
        epsilons=[0.1],
        budget={**ADAPTIVE["auto_attack"], "against": "known_seed"},
        passes=1,
    )
    assert found.shape == (1, *data[0].shape)


@SITES
@INPUT_NOISE
def test_others_see_draws_of_their_own(data, site, input_noise):
    """Those of the attacks that take one draw a gradient."""
    networks, images = noisy(site, input_noise), data[0].float() / 255
    seen, own = seen_by(networks, data, "noisy", [2, 1])
    assert own.numbers(7, 20) == range(140, 160)
    see, draw = networks.seen("attack noise"), networks.noise("attack noise")
    for number, found in enumerate(seen):
        shown = see(images, number, INDICES).expand(3, *images.shape)
        expected = networks.logits(shown, draw(number, INDICES))
        torch.testing.assert_close(found, expected[[2, 1]])


@SITES
@INPUT_NOISE
def test_with_the_noise_off_the_networks_or_the_base_are_seen(data, site, input_noise):
    images = data[0].float() / 255
    hidden = split(base(), site)[0](images)
    off, own = seen_by(noisy(site, input_noise), data, "noise_off", [2, 1])
    assert own.numbers(7, 20) == range(1)
    expected = torch.stack([suffixes(site)[row](hidden) for row in (2, 1)])
    torch.testing.assert_close(off, expected.expand(PASSES, *expected.shape))
    plain = base()(images)
    networks = replace(noisy(site, input_noise), suffix=split(base(), site)[1])
    seen, own = seen_by(networks, data, "base", [2, 1])
    assert own.numbers(7, 20) == range(1)
    torch.testing.assert_close(seen, plain.expand(PASSES, 2, *plain.shape))


def test_without_any_noise_all_attackers_see_the_same(data):
    networks = noisy(rows=[0])
    for against in ("noisy", "known_seed", "noise_off"):
        seen, own = seen_by(networks, data, against, [0])
        assert own.only == 1
        expected = suffixes("L2")[0](split(base(), "L2")[0](data[0].float() / 255))
        torch.testing.assert_close(seen[0, 0], expected)


@SITES
@INPUT_NOISE
def test_the_gradient_is_the_mean_over_draws_of_the_attacker(data, site, input_noise):
    """One step of PGD, by hand: no two gradients share a draw, and the first query compares points."""
    networks, images = noisy(site, input_noise), data[0].float() / 255
    found = craft_adaptively(networks, data, "pgd_eot", steps=1, restarts=1, step_size=1.0)
    see, draw = networks.seen("attack noise"), networks.noise("attack noise")
    for row, suffix in enumerate(suffixes(site)):
        point = images.clone().requires_grad_()
        for number in range(3, 6):
            hidden = networks.prefix(see(point, number, INDICES))
            noise = draw(number, INDICES)[row].reshape(hidden.shape)
            cross_entropy(suffix(hidden + noise), data[2], reduction="sum").backward()
        expected = (images + 0.1 * point.grad.sign()).clamp(0, 1)
        moved = (found[row] != images).flatten(1).any(1)
        assert moved.any()
        torch.testing.assert_close(found[row][moved], expected[moved])


@every_adaptive_attack
@INPUT_NOISE
def test_rows_and_radii_are_attacked_adaptively_as_if_alone(data, name, input_noise):
    networks = noisy(input_noise=input_noise)
    rows, epsilons = [2, 0, 2, 1], [0.05, 0.1, 0.2, 0.02]
    found = craft_adaptively(networks, data, name, rows, epsilons)
    for own, row, epsilon in zip(found, rows, epsilons, strict=True):
        alone = craft_adaptively(networks, data, name, [row], [epsilon])[0]
        torch.testing.assert_close(own, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("against", ["noisy", "known_seed", "noise_off", "base"])
@INPUT_NOISE
def test_records_of_adaptive_attacks_depend_neither_on_batches_nor_on_stacks(
    monkeypatch, data, input_noise, against
):
    test, networks = adaptive_trial(data, against), noisy(input_noise=input_noise)
    expected = sort(evaluate(networks, test))
    pd.testing.assert_frame_equal(sort(evaluate(networks, test, 3)), expected)
    monkeypatch.setattr(evaluation, "stack_size", lambda *_: 2)
    pd.testing.assert_frame_equal(sort(evaluate(networks, test)), expected)


def adaptive_trial(data, against):
    attacks = {
        f"{name}@{1.0 if 'l2' in name else 0.1}": {
            "attack": name,
            "epsilon": 1.0 if "l2" in name else 0.1,
            **budget,
            "against": against,
        }
        for name, budget in ADAPTIVE.items()
    }
    targets = {target: [0, 1, 2] for target in attacks}
    return replace(trial(data), modified={}, attacks=attacks, targets=targets)


def test_adaptive_attacks_run_on_a_network_as_it_is(data):
    """Regime inference: the network's own suffix serves all rows."""
    networks, suffix = noisy(), split(base(), "L2")[1]
    networks = replace(networks, suffix=suffix)
    copied = {n: p.expand(3, *p.shape).clone() for n, p in suffix.state_dict().items()}
    for against in ("noisy", "base"):
        test = adaptive_trial(data, against)
        found, expected = (
            evaluate(replace(networks, parameters=own), test) for own in (None, copied)
        )
        pd.testing.assert_frame_equal(found, expected)


def test_who_knows_the_draws_makes_most_of_the_loss_under_them(data):
    networks = noisy()
    loud = replace(networks.sampler, factors=(None,) * 3, scale=3 * networks.sampler.scale)
    networks = replace(networks, sampler=loud)

    def loss(against):
        found = craft_adaptively(
            networks, data, "auto_pgd_eot", [1], [0.1], against=against, steps=20, passes=8
        )
        seen, _ = seen_by(networks, data, "known_seed", [1], images=found)
        return cross_entropy(seen.flatten(0, 2), data[2].repeat(PASSES))

    known = loss("known_seed")
    assert all(known > loss(other) + 0.02 for other in ("noisy", "noise_off", "base"))
