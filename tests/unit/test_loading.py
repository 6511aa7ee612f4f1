"""Base networks of a file, trained or pretrained: as they were written, frozen, cut at any site."""

from functools import cache

import pytest
import torch
from torch import nn

from noisetransfer import zoo
from noisetransfer.artifacts import write_tensors
from noisetransfer.errors import StudyError
from noisetransfer.loading import Bases, read_bases
from noisetransfer.networks import build, footprint, stack
from noisetransfer.randomness import generator
from structures import CPU

META = torch.device("meta")
TRAINED = {"architecture": "v2", "activation": "tanh", "image_shape": [1, 12, 12], "classes": 10}
PRETRAINED = {"pretrained": "file:w.th", "architecture": "resnet20", "image_shape": [3, 16, 16]}
SPECS = {"trained": TRAINED, "pretrained": PRETRAINED}
KINDS = pytest.mark.parametrize("kind", SPECS)
SITES = {
    "trained": ["L1", "L2", "L3", "L4", "L5"],
    "pretrained": ["conv1", "relu", "layer1.1", "layer2.0.relu1", "layer3", "pool", "linear"],
}
EVERY_SITE = pytest.mark.parametrize(
    ("kind", "site"), [(kind, site) for kind, sites in SITES.items() for site in sites]
)


@cache
def resnet20():
    """Return the network without weights, but with statistics of BatchNorm that are not 0 and 1."""
    network, draws = zoo.skeleton(PRETRAINED), generator(0, "statistics")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=draws)
            module.running_var.uniform_(0.5, 1.5, generator=draws)
    return network


@cache
def originals(kind):
    if kind == "pretrained":
        return [resnet20()]
    shape = {**TRAINED, "image_shape": tuple(TRAINED["image_shape"])}
    return [build(**shape, seed=seed).eval() for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, written as `train_network` and `prepare_network` do."""
    folder = tmp_path_factory.mktemp("networks")
    paths = {kind: folder / f"{kind}.safetensors" for kind in SPECS}
    spec = {"network": TRAINED, "schedule": {}}
    stacked = stack(originals("trained"))
    write_tensors(paths["trained"], stacked, producer="train_network", spec=spec)
    own = {name: values[None] for name, values in zoo.state(resnet20()).items()}
    spec = {"network": PRETRAINED}
    write_tensors(paths["pretrained"], own, producer="prepare_network", spec=spec)
    return paths


def images(kind, count=3):
    return torch.rand(count, *SPECS[kind]["image_shape"], generator=generator(0, "images"))


def assert_same(found, expected):
    scale = 1 + float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@KINDS
def test_the_networks_of_a_file_are_those_that_were_written(files, kind):
    bases = read_bases(files[kind], trials=3)
    assert (bases.pretrained, bases.spec) == (kind == "pretrained", SPECS[kind])
    assert bases.image_shape == tuple(SPECS[kind]["image_shape"])
    assert len(bases.networks) == 3
    for own, original in zip(bases.networks, 3 * originals(kind), strict=False):
        assert torch.equal(own(images(kind)), original(images(kind)))


@KINDS
def test_the_networks_are_frozen_and_in_evaluation_mode(files, kind):
    for network in read_bases(files[kind], trials=2).networks:
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_trials_share_one_pretrained_network(files):
    alone, three = (read_bases(files["pretrained"], *n).networks for n in ((), (3,)))
    assert len(alone) == 1
    assert len(three) == 3
    assert all(network is three[0] for network in three)


def test_trained_networks_are_one_per_trial_of_their_file(files):
    """Whatever the number of trials that is asked for: their file tells."""
    networks = read_bases(files["trained"]).networks
    assert len({id(network) for network in networks}) == 3
    logits = torch.stack([network(images("trained")) for network in networks])
    assert not torch.isclose(logits[0], logits[1:]).all()


@EVERY_SITE
def test_a_cut_gives_the_whole(files, kind, site):
    bases = read_bases(files[kind], trials=3)
    cuts, batch = bases.cut(site, CPU), images(kind)
    assert len(cuts) == 3
    for cut, network in zip(cuts, bases.networks, strict=True):
        state = cut.prefix(batch)
        assert state[0].numel() == cut.shape.numel() + cut.beside
        assert_same(cut.suffix(state), network(batch))


@EVERY_SITE
def test_a_cut_is_frozen_and_in_evaluation_mode(files, kind, site):
    for cut in read_bases(files[kind], trials=2).cut(site, CPU):
        for part in (cut.prefix, cut.suffix):
            layers = [module for module in part.modules() if not any(module.children())]
            assert not any(layer.training for layer in layers)
            assert not any(parameter.requires_grad for parameter in part.parameters())


@EVERY_SITE
def test_noise_behind_a_cut_is_noise_at_the_site(files, kind, site):
    bases, batch = read_bases(files[kind]), images(kind)
    cut, network = bases.cut(site, CPU)[0], bases.networks[0]
    noise = torch.randn(3, cut.shape.numel(), generator=generator(0, "noise"))
    modules = dict(network.named_modules())
    place = modules.get(site) or modules[f"network.{site}"]
    handle = place.register_forward_hook(lambda _, __, h: h + noise.reshape(h.shape))
    expected = network(batch)
    handle.remove()
    assert_same(cut.suffix(cut.noisy(cut.prefix(batch), noise)), expected)
    assert not torch.isclose(expected, network(batch)).all()


def test_trials_share_the_cut_of_a_pretrained_network(files):
    cuts = read_bases(files["pretrained"], trials=3).cut("layer3", CPU)
    assert all(cut is cuts[0] for cut in cuts)


def test_a_site_may_be_named_with_the_wrapper_that_normalises(files):
    bases, batch = read_bases(files["pretrained"]), images("pretrained")
    states = [bases.cut(site, CPU)[0].prefix(batch) for site in ("layer2", "network.layer2")]
    assert torch.equal(*states)


def test_what_passes_a_site_by_is_told(files):
    cuts = (
        read_bases(files["pretrained"]).cut(site, CPU)[0] for site in ("layer2", "layer2.0.relu1")
    )
    assert [(cut.clean, cut.beside, cut.how) for cut in cuts] == [
        (True, 0, "graph"),
        (False, 32 * 8 * 8, "graph"),
    ]


@KINDS
def test_the_parts_move_and_the_networks_stay(files, kind):
    """A stage moves the parts to its device, and then measures the network where it is."""
    bases = read_bases(files[kind], trials=2)
    before = footprint(bases.networks[0], bases.image_shape)
    for cut in bases.cut(SITES[kind][2], META):
        parts = nn.ModuleList([cut.prefix, cut.suffix])
        assert {values.device for values in parts.state_dict().values()} == {META}
    assert footprint(bases.networks[0], bases.image_shape) == before
    assert_same(bases.networks[0](images(kind)), originals(kind)[0](images(kind)))


@pytest.mark.parametrize(
    ("kind", "site", "known"),
    [("trained", "layer3", "L1, L2, L3, L4, L5"), ("pretrained", "L2", "layer1.0.conv1")],
)
def test_an_unknown_site_lists_those_there_are(files, kind, site, known):
    with pytest.raises(StudyError) as caught:
        read_bases(files[kind]).cut(site, CPU)
    assert site in str(caught.value)
    assert known in str(caught.value)


class ByData(nn.Module):
    """Decides by the numbers: cannot be traced."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh())
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(2 * 10 * 10, 4))

    def forward(self, values):
        return self.last(self.first(values if values.mean() > 0 else -values))


def test_a_network_that_cannot_be_cut_is_run_whole_and_the_log_says_so(capsys):
    network = ByData().eval()
    bases = Bases([network] * 2, (1, 12, 12), {"pretrained": "file:x"})
    cut, _ = bases.cut("first", CPU)
    assert cut.how == "replay"
    assert_same(cut.suffix(cut.prefix(images("trained"))), network(images("trained")))
    assert capsys.readouterr().err.startswith("first: the network cannot be cut, so all of it runs")


def test_cuts_that_can_be_made_say_nothing(files, capsys):
    read_bases(files["pretrained"]).cut("layer2", CPU)
    assert capsys.readouterr().err == ""


def test_a_file_of_another_stage_is_refused(tmp_path):
    path = tmp_path / "network.safetensors"
    own = {name: values[None] for name, values in zoo.state(resnet20()).items()}
    write_tensors(path, own, producer="retrieve_network", spec={"network": PRETRAINED})
    with pytest.raises(StudyError, match=r"of prepare_network, found .* of retrieve"):
        read_bases(path)


@KINDS
def test_a_damaged_or_missing_file_is_refused(files, kind, tmp_path):
    path = tmp_path / "network.safetensors"
    with pytest.raises(StudyError, match="no such file"):
        read_bases(path)
    content = bytearray(files[kind].read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match="does not match its checksum"):
        read_bases(path)
