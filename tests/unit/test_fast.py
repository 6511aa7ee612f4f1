"""Faster ways to run a network: float32 in and out, and the check that guards them."""

import pytest
import torch
from torch import nn

from noisetransfer.errors import StudyError
from noisetransfer.fast import Faster, Ways, check

WAYS = {
    "bfloat16": Ways(bfloat16=True),
    "channels_last": Ways(channels_last=True),
    "both": Ways(bfloat16=True, channels_last=True),
}


def network():
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 5),
    )
    return nn.Sequential(*layers).eval().requires_grad_(False)


IMAGES = torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_nothing_is_faster_by_default():
    assert Ways().plain
    assert not any(ways.plain for ways in WAYS.values())


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_logits_are_float32_and_nearly_the_same(ways):
    plain = network()
    found = Faster(plain, ways)(IMAGES)
    assert found.dtype == torch.float32
    assert torch.allclose(found, plain(IMAGES), atol=0.01)
    assert plain[0].weight.is_contiguous()  # a copy was rearranged


def test_bfloat16_computes_in_bfloat16():
    plain = network()
    assert not torch.allclose(Faster(plain, WAYS["bfloat16"])(IMAGES), plain(IMAGES), atol=1e-6)
    exact = Faster(plain, WAYS["channels_last"])(IMAGES)
    assert torch.allclose(exact, plain(IMAGES), atol=1e-5)


def test_gradients_flow_through():
    images = IMAGES[:2].clone().requires_grad_()
    Faster(network(), WAYS["both"])(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_compiled_networks_give_the_same(monkeypatch):
    # without a compiler: the graph is captured and run as it is
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiled(module, backend="eager"))
    plain = network()
    assert torch.allclose(Faster(plain, Ways(compile=True))(IMAGES), plain(IMAGES))


@pytest.mark.parametrize("ways", [WAYS["channels_last"], Ways()], ids=["channels_last", "plain"])
def test_agreement_is_reported(ways):
    plain = network()
    assert check(Faster(plain, ways), plain, IMAGES) == 1.0


def test_a_network_that_predicts_otherwise_is_refused():
    plain, other = network(), network()
    other[-1].bias += torch.tensor([100.0, 0, 0, 0, 0])
    with pytest.raises(StudyError, match=r"agrees with float32 on 0\.\d+ of 200 .* 0\.99 is asked"):
        check(other, plain, IMAGES)
