import pandas as pd
import pytest
import torch

from noisetransfer.arms import Factors
from noisetransfer.evaluation import NoisyNetworks, evaluate, score
from noisetransfer.networks import accuracy, build, split, stack
from noisetransfer.noise import NoiseSampler, normals

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)
INDICES = [40, 7, 12, 99, 3, 58, 21]
ARMS = ["none", "identity", "full"]
PASSES = 4


@pytest.fixture(scope="module")
def data():
    draws = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (7, *SHAPE), generator=draws, dtype=torch.uint8)
    modified = torch.rand(7, *SHAPE, generator=draws)
    return clean, modified, torch.randint(0, 10, (7,), generator=draws)


def noisy_networks(site="L2"):
    base = build("v2", "tanh", SHAPE, 10, seed=0).requires_grad_(False)
    d = split(base, site)[0](torch.zeros(1, *SHAPE)).numel()
    draws = torch.Generator().manual_seed(1)
    factors = [
        Factors(None, torch.zeros(d)),
        Factors(None, torch.full((d,), 0.5)),
        Factors(torch.randn(d, 6, generator=draws) / 3, torch.full((d,), 0.1)),
    ]
    members = [split(build("v2", "tanh", SHAPE, 10, seed=s), site)[1] for s in (1, 2, 3)]
    sampler = NoiseSampler.of([[f] for f in factors], CPU)
    return NoisyNetworks.at(base, site, stack(members), sampler, seed=5, trial=2), members, factors


def by_hand(images, site="L2"):
    """Logits (A, K, B, 10), one network, draw and image at a time."""
    networks, members, factors = noisy_networks(site)
    result = torch.empty(3, PASSES, len(images), 10)
    for a, (member, f) in enumerate(zip(members, factors, strict=True)):
        for k in range(PASSES):
            for i, index in enumerate(INDICES):
                hidden = networks.prefix(images[i : i + 1])
                z = normals(6, hidden.numel(), 5, "evaluation noise", 2, k, images=[index])
                noise = z.unit * f.variance.sqrt()
                noise = noise if f.factor is None else noise + z.factor @ f.factor.mT
                result[a, k, i] = member(hidden + noise.reshape(hidden.shape))[0]
    return result.detach()


@pytest.mark.parametrize("site", ["L1", "L2", "L3", "L4", "L5"])
def test_scores_equal_a_loop_over_networks_draws_and_images(data, site):
    _, modified, labels = data
    networks, *_ = noisy_networks(site)
    found = score(networks, {"t": modified}, labels, INDICES, passes=PASSES)["t"]
    logits = by_hand(modified, site)
    assert torch.equal(found.prediction, logits.mean(1).argmax(-1))
    assert torch.equal(found.draws_correct, (logits.argmax(-1) == labels).sum(1))


def test_shared_images_equal_images_of_each_network(data):
    _, modified, labels = data
    networks, *_ = noisy_networks()
    targets = {"shared": modified, "own": modified.expand(3, *modified.shape)}
    found = score(networks, targets, labels, INDICES, passes=PASSES)
    assert torch.equal(found["shared"].prediction, found["own"].prediction)
    assert torch.equal(found["shared"].draws_correct, found["own"].draws_correct)


def run(data, batch_size=3, site="L2"):
    clean, modified, labels = data
    attack = {"attack": "pgd", "epsilon": 0.1, "steps": 3, "step_size": 0.05}
    networks, *_ = noisy_networks(site)
    targets = {"clean@0": clean, "snow@5": modified}
    options = {"arms": ARMS, "passes": PASSES, "batch_size": batch_size}
    return evaluate(networks, clean, targets, {"pgd@0.1": attack}, labels, INDICES, **options)


def test_there_is_one_record_per_target_arm_and_image(data):
    records = run(data)
    assert len(records) == 3 * 3 * 7
    assert not records.duplicated(["target", "arm", "image"]).any()
    assert set(records["target"]) == {"clean@0", "snow@5", "pgd@0.1"}
    assert records["draws_correct"].between(0, PASSES).all()
    labels = records.drop_duplicates("image").set_index("image")["label"]
    assert labels[INDICES].tolist() == data[2].tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_records_do_not_depend_on_the_batch_size(data, batch_size):
    order = ["target", "arm", "image"]
    expected, found = (
        run(data, size).sort_values(order, ignore_index=True) for size in (3, batch_size)
    )
    pd.testing.assert_frame_equal(found, expected)


def test_the_attack_is_white_box_with_one_keyed_draw_a_gradient(data):
    clean, _, labels = data
    networks, *_ = noisy_networks()
    images = clean.float() / 255
    budget = {"attack": "pgd", "epsilon": 0.1, "step_size": 0.1}
    found = networks.attacked(images, labels, INDICES, steps=1, **budget)
    point = images.expand(3, *images.shape).clone().requires_grad_()
    logits = networks.logits(point, networks.noise("attack noise", 0, INDICES))
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.repeat(3), reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, point)
    expected = (images + 0.1 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(
        found, torch.minimum(torch.maximum(expected, images - 0.1), images + 0.1)
    )


def test_attack_and_evaluation_use_different_draws():
    networks, *_ = noisy_networks()
    attack, fresh = (networks.noise(f"{p} noise", 0, INDICES) for p in ("attack", "evaluation"))
    assert not torch.equal(attack[1], fresh[1])


def test_accuracy_counts_right_predictions():
    images = torch.eye(4).reshape(4, 1, 2, 2)
    network = torch.nn.Flatten()  # predicts the place of the white pixel
    assert accuracy(network, images, torch.tensor([0, 1, 2, 0]), CPU) == 0.75
