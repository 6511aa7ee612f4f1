import pytest
import torch
from torch import nn

from noisetransfer.architectures import ARCHITECTURES
from noisetransfer.errors import StudyError
from noisetransfer.networks import (
    Pool,
    activation_shape,
    affine_head,
    batched,
    build,
    footprint,
    members,
    pixels,
    run_shared,
    run_stack,
    split,
    stack,
    without_bias,
)

SHAPE = (1, 28, 28)
EVERY_SITE = [(name, site) for name, shape in ARCHITECTURES.items() for site in shape.sites]


def network(name="v2", activation="tanh", seed=1):
    return build(name, activation, SHAPE, 10, seed=seed)


@pytest.fixture
def images():
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


# lengths of the flattened activations, by hand from arXiv 2606.13801
WIDTHS = {
    "v1": [32 * 14 * 14, 128, 64, 32, 16],
    "v2": [6 * 14 * 14, 16 * 14 * 14, 16 * 5 * 5, 32, 16],
    "v3": [6 * 14 * 14, 16 * 5 * 5, 32, 16],
}


@pytest.mark.parametrize("name", WIDTHS)
def test_hidden_layers_have_the_published_widths(name):
    prefixes = [split(network(name), site)[0] for site in ARCHITECTURES[name].sites]
    assert [activation_shape(p, SHAPE).numel() for p in prefixes] == WIDTHS[name]


def test_v2_has_the_published_number_of_parameters():
    sizes = [
        6 * 25 + 6,
        16 * 6 * 9 + 16,
        16 * 16 * 25 + 16,
        400 * 32 + 32,
        32 * 16 + 16,
        16 * 10 + 10,
    ]
    assert sum(p.numel() for p in network().parameters()) == sum(sizes)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("name", "site"), EVERY_SITE)
def test_split_network_equals_the_whole(name, site, activation, images):
    whole = network(name, activation)
    prefix, suffix = split(whole, site)
    assert torch.equal(suffix(prefix(images)), whole(images))


@pytest.mark.parametrize(("name", "site"), EVERY_SITE)
def test_a_site_comes_after_nonlinearity_and_pooling(name, site, images):
    assert split(network(name, "relu"), site)[0](images).min().item() >= 0


def test_an_unknown_site_lists_those_there_are():
    with pytest.raises(StudyError, match=r"'L6'.*L1, L2, L3, L4, L5"):
        split(network(), "L6")


def test_initialisation_is_keyed():
    torch.manual_seed(5)
    first = network(seed=1).state_dict()
    torch.manual_seed(6)
    again, other = network(seed=1).state_dict(), network(seed=2).state_dict()
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_initialisation_is_pytorchs_default():
    torch.manual_seed(7)
    assert torch.equal(nn.Conv2d(1, 6, 5).weight, network(seed=7).conv1.weight)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_stack_equals_its_members_one_by_one(name):
    networks = [network(name, seed=s) for s in range(3)]
    inputs = torch.rand(3, 4, *SHAPE)
    together = run_stack(networks[0], stack(networks), inputs)
    alone = torch.stack([n(x) for n, x in zip(networks, inputs, strict=True)])
    torch.testing.assert_close(together, alone)


def test_shared_inputs_equal_repeated_inputs(images):
    networks = [network(seed=s) for s in range(3)]
    shared = run_shared(networks[0], stack(networks), images)
    torch.testing.assert_close(
        shared, run_stack(networks[0], stack(networks), images.expand(3, *images.shape))
    )


def test_members_come_back_from_a_stack(images):
    networks = [network(seed=s) for s in range(2)]
    shape = {"architecture": "v2", "activation": "tanh", "image_shape": SHAPE, "classes": 10}
    back = members(shape, stack(networks))
    assert all(torch.equal(a(images), b(images)) for a, b in zip(networks, back, strict=True))
    assert not any(p.requires_grad for n in back for p in n.parameters())


@pytest.mark.parametrize(("name", "site"), EVERY_SITE)
def test_the_affine_head_adds_up(name, site, images):
    prefix, suffix = split(network(name), site)
    head, tail = affine_head(suffix)
    hidden = prefix(images)
    noise = torch.randn_like(hidden)
    parameters = stack([suffix])
    of_noise = run_stack(head, without_bias(parameters), noise[None])[0]
    torch.testing.assert_close(tail(head(hidden) + of_noise), suffix(hidden + noise))


def test_a_suffix_that_begins_otherwise_has_no_head():
    suffix = nn.Sequential(nn.Tanh(), nn.Linear(3, 2))
    head, tail = affine_head(suffix)
    assert head is None
    assert tail is suffix


@pytest.mark.parametrize("size", [(10, 10), (28, 28), (5, 7)])
def test_pooling_is_the_same_with_and_without_gradients(size):
    x = torch.randn(3, 2, *size)
    with torch.no_grad():
        fast = Pool()(x)
    assert torch.equal(fast, nn.MaxPool2d(2)(x))


def test_batches_do_not_change_the_outputs(images):
    many = batched(network(), images, torch.device("cpu"), 2)
    torch.testing.assert_close(torch.cat(list(many)), network()(images))


OUTPUTS = {  # of every layer of v2, by hand: convolution, nonlinearity, and where there is one pooling
    "conv1": 2 * 6 * 28 * 28 + 6 * 14 * 14,
    "conv2": 2 * 16 * 14 * 14,
    "conv3": 2 * 16 * 10 * 10 + 16 * 5 * 5,
    "flatten": 400,
    "linear": 2 * 32 + 2 * 16 + 10,
}


def test_the_footprint_counts_the_outputs_of_all_layers_for_one_image():
    whole = network()
    assert footprint(whole, SHAPE) == sum(OUTPUTS.values())
    parts = split(whole, "L2")
    first = footprint(parts[0], SHAPE)
    assert first == OUTPUTS["conv1"] + OUTPUTS["conv2"]
    assert first + footprint(parts[1], (16, 14, 14)) == footprint(whole, SHAPE)


class Twice(nn.Module):
    """A network whose one layer runs twice, inside of modules that put out nothing of their own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))

    def forward(self, values):
        return self.inner(self.inner(values.flatten(1)))


def test_the_footprint_counts_runs_of_a_layer_and_leaves_the_network_alone():
    twice = Twice()
    assert footprint(twice, (1, 2, 2)) == footprint(twice, (1, 2, 2)) == 8
    assert not any(module._forward_hooks for module in twice.modules())


def normalising(seed):
    """A small network with BatchNorm, whose statistics are its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        whole[1].running_mean.normal_()
        whole[1].running_var.uniform_(0.5, 2)
    return whole.eval()


def test_a_stack_holds_the_statistics_of_its_members(images):
    networks = [normalising(seed) for seed in range(3)]
    together = stack(networks)
    assert together["1.running_mean"].shape == (3, 4)
    expected = torch.stack([own(images) for own in networks])
    torch.testing.assert_close(run_shared(networks[0], together, images), expected)
    stacked = images.expand(3, *images.shape)
    torch.testing.assert_close(run_stack(networks[0], together, stacked), expected)
    assert not torch.isclose(expected[0], expected[1]).all()


def test_bytes_become_pixels_between_0_and_1():
    assert pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )
    already = torch.rand(3)
    assert pixels(already) is already
