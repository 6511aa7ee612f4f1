"""Cutting networks of many kinds: the parts give the whole, under noise too, alone and in stacks."""

import importlib.util
import warnings
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torchvision import models

from noisetransfer.cuts import cut
from noisetransfer.errors import StudyError
from noisetransfer.networks import build, run_shared, run_stack, stack
from noisetransfer.suffixes import check_batches, plain_attention, reinitialise, training_mode

CLASSES = 7
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


class Toy(nn.Module):
    """A residual block with every habit that makes cutting hard; `forward` can be traced."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, stride=4)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.same = nn.Identity()
        self.block = nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 6, 1)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 0.7))
        self.branches = Branches()
        self.spare = nn.Identity()
        self.again = nn.Tanh()
        self.shared = nn.Conv2d(6, 6, 1)
        self.head = nn.Sequential(nn.Linear(6 * 64, CLASSES))

    def forward(self, images, extra=None):
        if extra is not None:
            return extra
        x = self.same(self.relu(self.norm(self.stem(images).mul_(0.9))))
        n, c, h, _ = x.shape
        y = self.shared(self.again(self.again(self.block(self.shared(x)))))
        y += self.shortcut(x) * (2 * self.scale)
        y = self.relu_(y).reshape(n * c, h, -1).mul(0.9).sub_(0.1)
        return self.head(y.reshape(n, -1))

    def relu_(self, x):
        return nn.functional.relu(x, inplace=True)


class Branches(nn.Module):
    def forward(self, x):
        return x, x


class ByData(Toy):
    """Decides by the numbers: cannot be traced."""

    def forward(self, images, extra=None):
        return super().forward(images if images.mean() > 0 else -images)


class BySize(Toy):
    """Counts by the size of its images: cannot be traced, but runs in stacks."""

    def forward(self, images, extra=None):
        shift = sum(0.01 for _ in range(images.shape[2]))
        return super().forward(images + shift)


class Wrapped(nn.Module):
    """Normalises the images of a network."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images - 0.5) / 0.3)


def of_robustbench(module, **options):
    """Make a network of robustbench from its file alone: the package does not import without adapters."""
    package = Path(importlib.util.find_spec("robustbench").origin).parent
    path = package / "model_zoo" / "architectures" / f"{module}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found.WideResNet(**options)


def of_timm(name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm

        return timm.create_model(name, num_classes=CLASSES, **options)


def vgg11():
    """VGG-11 with narrow linear layers: its own 120 million weights are slow to draw."""
    with torch.device("meta"):
        network = models.VGG(models.vgg.make_layers(models.vgg.cfgs["A"]))
    network.features.to_empty(device="cpu")
    network.classifier = nn.Sequential(
        nn.Linear(512 * 49, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 7)
    )
    reinitialise(network, 0)
    return network


def convnext():
    config = [models.convnext.CNBlockConfig(*sizes) for sizes in ((8, 16, 2), (16, None, 1))]
    return models.ConvNeXt(config, num_classes=CLASSES, layer_scale=0.5)


def own(architecture):
    return build(architecture, "relu", (3, 32, 32), CLASSES)


def torchvision_of(name, **options):
    return partial(getattr(models, name), num_classes=CLASSES, **options)


VIT = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "mlp_dim": 32,
}
SWIN = {
    "patch_size": [4, 4],
    "embed_dim": 12,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": [4, 4],
}
ATTENTION = "encoder.layers.encoder_layer_0"

# how to make it, sites whose output is the whole state, sites that others pass by; the first and last of the
# clean ones are the first and last modules of the network
NETWORKS = {
    "toy": (Toy, "stem norm relu same head", "block shortcut"),
    "wrapped": (lambda: Wrapped(Toy()), "stem norm head", "block network.shortcut"),
    "v1": (partial(own, "v1"), "conv1 L1 L2 logits", ""),
    "v2": (partial(own, "v2"), "conv1 L2 flatten L5 logits", ""),
    "resnet18": (
        torchvision_of("resnet18"),
        "conv1 bn1 layer3 fc",
        "layer3.0.conv1 layer3.1.bn2 layer4.0.downsample",
    ),
    "densenet": (
        lambda: models.DenseNet(8, (2, 3), 8, num_classes=CLASSES),
        "features.conv0 features.denseblock1 features.norm5 classifier",
        "features.denseblock2.denselayer2.conv1 features.denseblock2.denselayer1",
    ),
    "mobilenet_v3_small": (
        torchvision_of("mobilenet_v3_small"),
        "features.0.0 features.9 classifier.3",
        "features.10.block.0.0 features.10.block.2.fc1 features.10.block.2.avgpool features.10.block.3.0",
    ),
    "vgg11": (vgg11, "features.0 features.7 classifier.3", ""),
    "squeezenet": (
        torchvision_of("squeezenet1_1"),
        "features.0 features.12 classifier.1 classifier.3",
        "features.12.expand1x1",
    ),
    "googlenet": (
        torchvision_of("googlenet", init_weights=False, aux_logits=True),
        "conv1 inception5a fc",
        "inception5a.branch2 inception5b.branch3.0.conv",
    ),
    "vit": (
        lambda: models.VisionTransformer(**VIT, num_classes=CLASSES),
        f"conv_proj encoder.dropout {ATTENTION} encoder.ln heads.head",
        f"{ATTENTION}.ln_1 {ATTENTION}.mlp.0",
    ),
    "swin": (
        lambda: models.SwinTransformer(**SWIN, num_classes=CLASSES),
        "features.0.0 features.1 features.2.norm head",
        "features.1.1.attn features.3.0.mlp.0",
    ),
    "convnext": (
        convnext,
        "features.0.0 features.1 classifier.0 classifier.2",
        "features.1.1.block.0 features.3.0.block.5",
    ),
    "efficientnet_b0": (
        torchvision_of("efficientnet_b0"),
        "features.0.0 features.7 classifier.1",
        "features.6.3.block.2.avgpool features.6.3.block.1.0",
    ),
    "robustbench Standard": (
        partial(of_robustbench, "wide_resnet", depth=10, widen_factor=1, num_classes=CLASSES),
        "conv1 block1 block2.layer.0.bn1 fc",
        "block2.layer.0.conv1 block3.layer.0.bn2",
    ),
    "tf_efficientnet_lite0": (
        partial(of_timm, "tf_efficientnet_lite0"),
        "conv_stem blocks.3 global_pool classifier",
        "blocks.5.2.conv_dw blocks.5.2.bn1",
    ),
    "timm vit": (
        partial(of_timm, "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24),
        "patch_embed.proj blocks.0 norm head",
        "blocks.0.attn.qkv blocks.1.mlp.fc1",
    ),
}
SITES = [
    (name, site, clean)
    for name, (_, *both) in NETWORKS.items()
    for clean, sites in zip((True, False), both, strict=True)
    for site in sites.split()
]


@cache
def network(name):
    """Make a network with random weights, and statistics of BatchNorm that are not 0 and 1."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        made = NETWORKS[name][0]()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def images(count=3, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def under_noise(whole, site, noise, batch):
    """Logits of a whole network with noise added at a site by a hook of the test's own."""
    place = dict(whole.named_modules()).get(site) or whole.get_submodule(f"network.{site}")
    handle = place.register_forward_hook(lambda _, __, h: h + noise.reshape(h.shape))
    try:
        return whole(batch)
    finally:
        handle.remove()


def assert_same(found, expected):
    scale = 1 + float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@torch.no_grad()
def assert_cut(found, whole, site):
    """Compare a cut with the whole network: without noise, and with."""
    batch = images()
    state = found.prefix(batch)
    kept = state.clone()
    assert_same(found.suffix(state), whole(batch))
    noise = normal(2, len(batch), found.shape.numel())
    noisy = found.noisy(state, noise)
    for own, xi in zip(noisy, noise, strict=True):
        assert_same(found.suffix(own), under_noise(whole, site, xi, batch))
    assert torch.equal(found.noisy(state.expand_as(noisy), noise), noisy)
    assert torch.equal(state, kept)
    size = found.shape if found.clean else (found.shape.numel() + found.beside,)
    assert state.shape == (len(batch), *size)


@pytest.mark.parametrize(("name", "site", "clean"), SITES)
def test_the_parts_of_a_network_give_the_whole(name, site, clean):
    whole = network(name)
    found = cut(whole, site, (3, 32, 32))
    assert (found.how, found.clean) == ("graph", clean)
    assert_cut(found, whole, site)


@pytest.mark.parametrize("name", ["toy", "resnet18", "vit"])
def test_a_cut_leaves_the_network_alone_and_shares_nothing_with_it(name):
    whole = network(name).train()
    before = {n: values.clone() for n, values in whole.state_dict().items()}
    attributes = set(vars(whole))
    found = cut(whole, NETWORKS[name][1].split()[2], (3, 32, 32))
    with torch.no_grad():
        for values in (*found.prefix.parameters(), *found.suffix.parameters()):
            values.fill_(7)
    assert all(torch.equal(values, before[n]) for n, values in whole.state_dict().items())
    assert set(vars(whole)) == attributes
    assert not any(module._forward_hooks or not module.training for module in whole.modules())
    assert all(values.requires_grad for values in whole.parameters())
    whole.eval()


def test_the_suffix_holds_what_comes_after_the_site_under_its_names():
    found = cut(network("resnet18"), "layer3", (3, 32, 32))
    after = {n for n in network("resnet18").state_dict() if n.startswith(("layer4", "fc"))}
    assert set(found.suffix.state_dict()) == after
    assert all(values.requires_grad for values in found.suffix.parameters())
    before = set(network("resnet18").state_dict()) - after
    assert set(found.prefix.state_dict()) == before
    assert not any(values.requires_grad for values in found.prefix.parameters())


def test_what_depends_on_parameters_alone_belongs_to_the_suffix():
    """The class token is joined behind the site: it may be trained."""
    found = cut(network("vit"), "conv_proj", (3, 32, 32))
    assert {"class_token", "encoder.pos_embedding"} < set(found.suffix.state_dict())


def test_what_runs_on_both_sides_of_the_site_is_there_twice():
    found = cut(network("toy"), "block", (3, 32, 32))
    state = found.prefix(images())
    reinitialise(found.suffix, 1)
    assert "shared.weight" in found.suffix.state_dict()
    assert torch.equal(found.prefix(images()), state)


def test_gradients_reach_the_images():
    batch = images().requires_grad_()
    found = cut(network("resnet18"), "layer3.1.conv1", (3, 32, 32))
    cuts = torch.autograd.grad(found.suffix(found.prefix(batch)).square().sum(), batch)
    whole = torch.autograd.grad(network("resnet18")(batch).square().sum(), batch)
    assert_same(cuts[0], whole[0])


# networks that cannot be traced


def replayed(kind):
    torch.manual_seed(0)
    whole = kind().eval()
    return whole, cut(whole, "block", (3, 32, 32))


@pytest.mark.parametrize("kind", [ByData, BySize])
def test_a_network_that_cannot_be_traced_is_replayed(kind):
    whole, found = replayed(kind)
    assert (found.how, found.clean, found.beside) == ("replay", False, 3 * 32 * 32)
    assert_cut(found, whole, "block")


def test_a_replaying_suffix_trains_only_what_comes_after_the_site():
    _, found = replayed(BySize)
    names = {"shared.weight", "shared.bias", "head.0.weight", "head.0.bias"}
    assert set(found.suffix.state_dict()) == names
    state = found.prefix(images())
    before = found.suffix(state).detach()
    reinitialise(found.suffix, 1)
    assert float((found.suffix(state) - before).abs().max().detach()) > 0.1
    assert torch.equal(found.prefix(images()), state)


def test_a_replaying_suffix_moves_as_a_whole():
    whole, found = replayed(BySize)
    state = found.prefix(images()).double()
    logits = found.suffix.double()(state)
    assert_same(logits, whole(images()).double())


def test_replaying_suffixes_run_in_stacks():
    _, found = replayed(BySize)
    assert_stack(found.suffix, found.prefix(images()))


class WritesUnseen(Toy):
    """Writes into a tensor that it goes on with: the graph does not show it."""

    def forward(self, images, extra=None):
        x = self.same(self.stem(images))
        y = self.block(x)
        x.add_(y)
        return self.head((x + y).flatten(1))


def test_a_graph_that_gives_other_logits_is_replayed():
    whole, found = replayed(WritesUnseen)
    assert found.how == "replay"
    assert_cut(found, whole, "block")


# stacks


def assert_stack(suffix, state):
    """Run two networks at once and one by one, each on its own and both on the same state."""
    both = stack([suffix, suffix])
    for values in both.values():
        if values.is_floating_point():
            values[1] *= 1.1
    single = [{n: values[i] for n, values in both.items()} for i in range(2)]
    with torch.no_grad(), plain_attention():
        expected = torch.stack([functional_call(suffix, own, (state,)) for own in single])
        assert_same(run_shared(suffix, both, state), expected)
        assert_same(run_stack(suffix, both, torch.stack([state, state])), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_suffixes_run_in_stacks(name):
    site = (NETWORKS[name][2] or NETWORKS[name][1]).split()[0]
    found = cut(network(name), site, (3, 32, 32))
    assert_stack(found.suffix, found.prefix(images()))


STEPS = 2
TRAINED = {
    "toy": "stem",
    "resnet18": "layer4.0.conv1",
    "tf_efficientnet_lite0": "blocks.5.2.conv_dw",
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_stack_trains_as_its_networks_one_by_one_with_their_own_statistics(name):
    found = cut(network(name), TRAINED[name], (3, 32, 32))
    suffix, d = training_mode(found.suffix), found.shape.numel()
    together = stack([suffix, suffix])
    alone = [{n: values[i].clone() for n, values in together.items()} for i in range(2)]
    for number in range(STEPS):
        states = found.noisy(found.prefix(images(8)), normal(2, 8, d, seed=number))
        losses = step(suffix, together, lambda own, x=states: run_stack(suffix, own, x))
        for own, state, loss in zip(alone, states, losses, strict=True):
            expected = step(suffix, own, lambda own, x=state: functional_call(suffix, own, (x,)))
            torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    for n, values in together.items():
        for i, own in enumerate(alone):
            torch.testing.assert_close(values[i], own[n], rtol=1e-3, atol=1e-4, msg=n)
    statistics = [n for n in together if n.endswith("running_mean")]
    assert any(float((together[n][0] - together[n][1]).abs().max()) > 1e-4 for n in statistics)
    assert all((values == STEPS).all() for n, values in together.items() if n.endswith("tracked"))


def step(suffix, own, run):
    """Take one step of gradient descent; return the losses before it."""
    trained = [n for n, _ in suffix.named_parameters()]
    for n in trained:
        own[n] = own[n].detach().requires_grad_()
    logits = run(own)
    labels = (torch.arange(8) % CLASSES).expand(logits.shape[:-1])
    losses = cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    losses = losses.unflatten(0, labels.shape).mean(-1)
    gradients = torch.autograd.grad(losses.sum(), [own[n] for n in trained])
    for n, gradient in zip(trained, gradients, strict=True):
        own[n] = own[n].detach() - 0.01 * gradient
    return losses.detach()


def test_training_mode_is_that_of_batch_norm_alone():
    suffix = nn.Sequential(
        nn.Dropout(), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    )
    on = [name for name, module in training_mode(suffix).named_modules() if module.training]
    assert on == ["1", "2.0"]
    suffix[2][0].momentum = None
    with pytest.raises(StudyError, match=r"2\.0 averages .* give it a momentum"):
        training_mode(suffix)


# initialisation


def fresh():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(2),
        nn.MultiheadAttention(9, 3),
        nn.Linear(9, 2),
    )


def test_reinitialising_is_building_anew_under_a_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = fresh().state_dict()
    module = fresh()
    module[1].running_mean.fill_(3)
    state = torch.random.get_rng_state()
    reinitialise(module, 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, values in module.state_dict().items():
        assert torch.equal(values, expected[name]), name


def test_reinitialising_a_suffix_draws_all_of_it():
    suffix = cut(network("resnet18"), "layer4.0", (3, 32, 32)).suffix
    before = {n: values.clone() for n, values in suffix.state_dict().items()}
    reinitialise(suffix, 1)
    weights = [n for n in before if values_vary(before[n])]
    assert all(not torch.equal(suffix.state_dict()[n], before[n]) for n in weights)
    assert len(weights) > 4


def values_vary(values):
    return values.is_floating_point() and float(values.max() - values.min()) > 0


def test_parameters_that_no_module_draws_are_refused_and_nothing_is_drawn():
    suffix = cut(network("vit"), "conv_proj", (3, 32, 32)).suffix
    before = {n: values.clone() for n, values in suffix.state_dict().items()}
    with pytest.raises(
        StudyError, match=r"no module draws: class_token, encoder\.pos_embedding; choose"
    ):
        reinitialise(suffix, 0)
    assert all(torch.equal(values, before[n]) for n, values in suffix.state_dict().items())


# what cannot be cut


@pytest.mark.parametrize(
    ("name", "site", "message"),
    [
        ("toy", "layer9", "unknown site 'layer9'; the network has: stem, norm, relu, same, block"),
        ("wrapped", "layer9", "unknown site 'layer9'; the network has: network, stem, norm"),
        ("toy", "again", "site again runs more than once"),
        ("resnet18", "layer1.0.relu", r"site layer1\.0\.relu runs more than once"),
        ("toy", "spare", "site spare does not run"),
        ("googlenet", "aux1", "site aux1 does not run"),
        ("vit", f"{ATTENTION}.self_attention", "puts out tuple, not one tensor"),
    ],
)
def test_sites_that_are_no_places_are_refused(name, site, message):
    with pytest.raises(StudyError, match=message):
        cut(network(name), site, (3, 32, 32))


def test_a_network_without_logits_is_refused():
    maps = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(StudyError, match=r"puts out \(3, 4, 30, 30\), not logits"):
        cut(maps, "0", (3, 32, 32))


def test_a_suffix_without_parameters_cannot_be_trained_anew():
    with pytest.raises(StudyError, match="nothing behind the site has parameters to train anew"):
        reinitialise(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 0)


def test_a_last_batch_of_one_is_refused_where_there_is_batch_norm():
    normed, plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nn.Linear(3, 2)
    check_batches(plain, images=65, batch_size=64)
    check_batches(normed, images=66, batch_size=64)
    with pytest.raises(StudyError, match="65 training images leave a last batch of one"):
        check_batches(normed, images=65, batch_size=64)
