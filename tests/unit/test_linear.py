"""Linear suffixes: which they are, and the exact covariance of noise in their logits."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from noisetransfer import linear
from noisetransfer.cuts import cut
from noisetransfer.linear import linear_map, logit_covariance, root
from noisetransfer.networks import build

CLASSES, RANK = 5, 3


class Functional(nn.Module):
    """A network whose own forward is a chain of functions behind the site `stem`."""

    def __init__(self, chain, channels=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 4).reshape(4, 1, 1))
        self.head = nn.Linear(channels, CLASSES)
        self.chain = chain

    def forward(self, images):
        return self.head(self.chain(self, self.stem(images)))


def norm_and_dropout(_, h):
    return functional.dropout(_.norm(h), 0.5, training=_.training).mean([2, 3])


FLAT = 4 * 7 * 7
AFFINE = {
    "pooled": lambda: Functional(lambda _, h: functional.adaptive_avg_pool2d(h, 1).flatten(1)),
    "mean": lambda: Functional(lambda _, h: h.mean((2, 3))),
    "view": lambda: Functional(lambda _, h: 0.5 - h.view(h.size(0), -1) / 3, FLAT),
    "shape": lambda: Functional(lambda _, h: h.reshape(h.shape[0], -1), FLAT),
    "scaled": lambda: Functional(lambda _, h: (_.scale * h + 2 * h - 1)[:, :, 0, 0]),
    "norm and dropout": lambda: Functional(norm_and_dropout),
    "sequence": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 4, 3),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(144, CLASSES),
    ),
    "own": lambda: build("v2", "tanh", (3, 16, 16), CLASSES),
    "resnet": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], CLASSES),
    "nothing": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES)),
}
AFFINE_SITES = {"sequence": "0", "own": "L5", "resnet": "layer4", "nothing": "1"}
OTHER = {
    "relu": lambda: Functional(lambda _, h: functional.relu(h).mean((2, 3))),
    "tanh method": lambda: Functional(lambda _, h: h.mean((2, 3)).tanh()),
    "square": lambda: Functional(lambda _, h: (h * h).mean((2, 3))),
    "product": lambda: Functional(lambda _, h: (h * h.mean((2, 3), keepdim=True)).mean((2, 3))),
    "quotient": lambda: Functional(lambda _, h: (1 / h).mean((2, 3))),
    "own quotient": lambda: Functional(lambda _, h: (h / h).mean((2, 3))),
    "maximum": lambda: Functional(lambda _, h: functional.max_pool2d(h, 7).flatten(1)),
    "index": lambda: Functional(lambda _, h: h.mean((2, 3)).sort().values),
    "decision": lambda: Functional(lambda _, h: h.mean((2, 3)) if h.sum() > 0 else h.sum((2, 3))),
    "beside": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], CLASSES),
}
OTHER_SITES = {"beside": "layer4.0.conv1"}


def cut_of(name):
    makers, sites = (AFFINE, AFFINE_SITES) if name in AFFINE else (OTHER, OTHER_SITES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = makers[name]()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
    return cut(network, sites.get(name, "stem"), (3, 16, 16))


def noise(d, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(d, RANK, generator=draws), torch.rand(d, generator=draws)


def dense(suffix, shape):
    """A, (c, d), from the logits of every unit vector."""
    exact = suffix.double()
    unit = torch.eye(shape.numel(), dtype=torch.float64).unflatten(1, shape)
    with torch.no_grad():
        return (exact(unit) - exact(torch.zeros_like(unit[:1]))).mT


@pytest.mark.parametrize("name", AFFINE)
def test_the_covariance_in_the_logits_is_that_of_the_dense_formula(name):
    found = cut_of(name)
    known = linear_map(found.suffix, found.shape)
    factor, variance = noise(found.shape.numel())
    a = dense(found.suffix, found.shape)
    low_rank = a @ factor.double()
    diagonal = (a * variance.double()) @ a.mT
    expected = low_rank @ low_rank.mT + diagonal
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(logit_covariance(known, factor, variance), expected)
    torch.testing.assert_close(logit_covariance(known, None, variance), diagonal)
    silent = torch.zeros_like(variance)
    torch.testing.assert_close(logit_covariance(known, factor, silent), low_rank @ low_rank.mT)


@pytest.mark.parametrize("name", AFFINE)
def test_the_map_and_its_transpose_are_those_of_the_suffix(name):
    found = cut_of(name)
    known, a = linear_map(found.suffix, found.shape), dense(found.suffix, found.shape)
    rows = noise(found.shape.numel())[0].mT
    torch.testing.assert_close(known.forward(rows), rows.double() @ a.mT)
    logits = torch.randn(RANK, a.shape[0], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(known.backward(logits), logits.double() @ a)


@pytest.mark.parametrize("name", OTHER)
def test_other_suffixes_are_not_taken_for_linear(name):
    found = cut_of(name)
    assert linear_map(found.suffix, found.shape) is None


UNTRACKED = nn.BatchNorm2d(4, track_running_stats=False)


@pytest.mark.parametrize("module", [nn.BatchNorm2d(4), nn.Dropout(), UNTRACKED])
def test_layers_are_affine_only_in_evaluation_mode(module):
    suffix = nn.Sequential(module, nn.Flatten(), nn.Linear(FLAT, CLASSES))
    shape = torch.Size([4, 7, 7])
    assert linear_map(suffix.train(), shape) is None
    tracked = getattr(module, "track_running_stats", True)
    assert (linear_map(suffix.eval(), shape) is not None) == tracked


def test_a_subclass_of_a_linear_layer_is_looked_into():
    class Loud(nn.Linear):
        def forward(self, input):
            return super().forward(input).exp()

    for layer, known in ((nn.Linear(3 * 4 * 4, 2), True), (Loud(3 * 4 * 4, 2), False)):
        found = cut(nn.Sequential(nn.Flatten(), layer), "0", (3, 4, 4))
        assert (linear_map(found.suffix, found.shape) is not None) == known


def test_a_map_is_independent_of_the_suffix():
    found = cut_of("mean")
    known, (factor, variance) = linear_map(found.suffix, found.shape), noise(found.shape.numel())
    before = logit_covariance(known, factor, variance)
    with torch.no_grad():
        for values in found.suffix.parameters():
            values.fill_(0)
    assert torch.equal(logit_covariance(known, factor, variance), before)
    assert all(values.dtype == torch.float32 for values in found.suffix.parameters())


def test_chunks_change_nothing(monkeypatch):
    found = cut_of("norm and dropout")
    known, (factor, variance) = linear_map(found.suffix, found.shape), noise(found.shape.numel())
    whole = logit_covariance(known, factor, variance)
    monkeypatch.setattr(linear, "CHUNK", 2 * found.shape.numel())
    torch.testing.assert_close(logit_covariance(known, factor, variance), whole)


def test_logits_under_drawn_noise_have_the_covariance():
    """Monte Carlo through the suffix itself, and draws from the root: 40,000 each."""
    found, n = cut_of("pooled"), 40_000
    known, (factor, variance) = linear_map(found.suffix, found.shape), noise(found.shape.numel())
    covariance, draws = logit_covariance(known, factor, variance), torch.Generator().manual_seed(2)
    normal = torch.randn(n, RANK + len(variance) + CLASSES, generator=draws)
    of_factor, of_units, of_logits = normal.split([RANK, len(variance), CLASSES], dim=1)
    xi = of_factor @ factor.mT + of_units * variance.sqrt()
    with torch.no_grad():
        logits = found.suffix(xi.unflatten(1, found.shape)).double()
    tolerance = 5 * (2 / n) ** 0.5 * float(covariance.diagonal().max())
    torch.testing.assert_close(torch.cov(logits.mT), covariance, rtol=0, atol=tolerance)
    drawn = of_logits.double() @ root(covariance).mT
    torch.testing.assert_close(torch.cov(drawn.mT), covariance, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rank", [0, 1, 4, 6])
def test_a_root_gives_the_covariance_whatever_its_rank(rank):
    factor = torch.randn(6, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = factor @ factor.mT
    found = root(covariance)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found @ found.mT, covariance)


def test_layers_called_by_keywords_alone_are_not_known_to_be_affine():
    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, CLASSES)

        def forward(self, values):
            return self.head(input=torch.flatten(input=values, start_dim=1))

    assert linear_map(Keywords(), torch.Size([1, 2, 2])) is None
