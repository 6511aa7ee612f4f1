import warnings

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from noisetransfer.attacks import ATTACKS, pgd
from noisetransfer.modifications import MODIFICATIONS
from noisetransfer.networks import build, run_stack, stack

SHAPE = (1, 28, 28)


def networks(count=3):
    return [
        build("v2", "tanh", SHAPE, 10, seed=s).eval().requires_grad_(False) for s in range(count)
    ]


@pytest.fixture
def batch():
    draws = torch.Generator().manual_seed(0)
    return torch.rand(6, *SHAPE, generator=draws), torch.randint(0, 10, (6,), generator=draws)


def attack(members, images, labels, **budget):
    parameters = stack(members)
    return pgd(
        lambda x, _: run_stack(members[0], parameters, x),
        images.expand(len(members), *images.shape),
        labels,
        **{"epsilon": 0.1, "steps": 5, "step_size": 0.03, **budget},
    )


def test_the_registry_of_attacks_is_that_of_the_modifications():
    assert set(ATTACKS) == {m.name for m in MODIFICATIONS.values() if m.kind == "attack"}


@pytest.mark.parametrize(
    ("epsilon", "step_size", "steps"), [(0.1, 0.03, 5), (0.05, 0.1, 8), (0.3, 0.01, 3)]
)
def test_pgd_equals_the_adversarial_robustness_toolbox(batch, epsilon, step_size, steps):
    """Point by point, on deterministic networks, stacked here and one by one there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier
    images, labels = batch
    ours = attack(networks(), images, labels, epsilon=epsilon, step_size=step_size, steps=steps)
    for found, network in zip(ours, networks(), strict=True):
        classifier = PyTorchClassifier(
            network, torch.nn.CrossEntropyLoss(), SHAPE, 10, clip_values=(0, 1), device_type="cpu"
        )
        reference = ProjectedGradientDescentPyTorch(
            classifier, eps=epsilon, eps_step=step_size, max_iter=steps, verbose=False
        ).generate(images.numpy(), np.eye(10)[labels])
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-6)


def test_images_stay_in_the_ball_and_in_range(batch):
    images, labels = batch
    found = attack(networks(), images, labels, step_size=0.5)
    assert float((found - images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_the_loss_grows(batch):
    images, labels = batch
    for found, network in zip(attack(networks(), images, labels), networks(), strict=True):
        assert cross_entropy(network(found), labels) > cross_entropy(network(images), labels) + 0.01


def test_a_network_is_attacked_as_if_alone(batch):
    together = attack(networks(), *batch)
    torch.testing.assert_close(together[1:2], attack(networks()[1:2], *batch))


def test_no_step_leaves_the_images_as_they_are(batch):
    assert torch.equal(attack(networks(1), *batch, steps=0)[0], batch[0])


def test_the_step_reaches_the_networks(batch):
    images, labels = batch
    seen = []

    def logits(x, step):
        seen.append(step)
        return x.flatten(2)[..., :10]

    pgd(logits, images[None], labels, epsilon=0.1, steps=3, step_size=0.1)
    assert seen == [0, 1, 2]
