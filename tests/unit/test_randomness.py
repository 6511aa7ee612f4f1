import subprocess
import sys

import pytest
import torch
from scipy.stats import kstest

from noisetransfer.randomness import (
    Uniforms,
    generator,
    key,
    philox,
    standard_normal,
    uniform,
)
from structures import OnGpu

KEYS = torch.tensor([key(1, "noise", trial) for trial in (0, 1, 2)])
IMAGES = torch.tensor([40, 7, 12, 99, 59_999])
DRAWS = pytest.mark.parametrize("draws", [standard_normal, uniform])
DEVICES = pytest.mark.parametrize("gpu", [False, True], ids=["generator", "counters"])


def drawn(draws, count, keys=KEYS, draw=0, images=IMAGES, gpu=False):
    images = images.as_subclass(OnGpu) if gpu else images
    return draws(count, keys, torch.tensor(draw), images).as_subclass(torch.Tensor)


def test_keys_are_the_same_on_every_machine():
    assert key(2026, "evaluation noise", 0, 3, 17) == 1699007790


def test_keys_differ_by_seed_purpose_and_id():
    keys = {key(s, p, i) for s in range(5) for p in ("train", "test") for i in range(200)}
    assert len(keys) == 5 * 2 * 200
    assert all(0 <= k < 2**32 for k in keys)


def test_ids_are_not_glued_together():
    assert key(0, "a", 1, 23) != key(0, "a", 12, 3)
    assert key(0, "a", 1) != key(0, "a", "1")


def test_a_generator_starts_at_its_key():
    expected = torch.rand(5, generator=torch.Generator().manual_seed(key(3, "order", 1)))
    assert torch.equal(torch.rand(5, generator=generator(3, "order", 1)), expected)


# Salmon et al. 2011, Random123, known-answer vectors of philox4x32-10
PI = "243f6a88 85a308d3 13198a2e 03707344"
KNOWN = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (PI, "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return torch.tensor([int(word, 16) for word in text.split()])


@pytest.mark.parametrize(("counters", "own", "expected"), KNOWN)
def test_philox_gives_the_known_answers(counters, own, expected):
    assert torch.equal(philox(words(counters), words(own)), words(expected))


def test_philox_broadcasts_keys_against_counters():
    counters = torch.stack([words(counters) for counters, _, _ in KNOWN])
    keys = torch.stack([words(own) for _, own, _ in KNOWN])
    table = philox(counters, keys[:, None])
    for k in range(3):
        for c in range(3):
            assert torch.equal(table[k, c], philox(counters[c], keys[k]))
    assert len(table.flatten(0, 1).unique(dim=0)) == 9


@DEVICES
@DRAWS
def test_draws_do_not_depend_on_the_batch(draws, gpu):
    whole = drawn(draws, 50, gpu=gpu)
    assert whole.shape == (3, 5, 50)
    assert whole.dtype == torch.float32
    for t in range(3):
        for i in range(5):
            alone = drawn(draws, 50, KEYS[t : t + 1], images=IMAGES[i : i + 1], gpu=gpu)
            assert torch.equal(alone[0, 0], whole[t, i])
    assert torch.equal(drawn(draws, 50, images=IMAGES.flip(0), gpu=gpu), whole.flip(1))


@DEVICES
@DRAWS
def test_trials_may_have_images_of_their_own(draws, gpu):
    own = torch.stack([IMAGES, IMAGES.flip(0), IMAGES.roll(1)])
    whole, found = drawn(draws, 9, gpu=gpu), drawn(draws, 9, images=own, gpu=gpu)
    for t, row in enumerate([whole[0], whole[1].flip(0), whole[2].roll(1, 0)]):
        assert torch.equal(found[t], row)


@DEVICES
@DRAWS
def test_the_head_of_a_draw_does_not_depend_on_its_length(draws, gpu):
    long = drawn(draws, 100, gpu=gpu)
    for count in (1, 3, 4, 7, 16, 17, 33, 99):
        assert torch.equal(drawn(draws, count, gpu=gpu), long[..., :count])


@DEVICES
@DRAWS
def test_other_keys_draws_and_images_have_other_numbers(draws, gpu):
    """Even where number and image change places."""
    every = [
        drawn(draws, 8, keys, draw, torch.tensor(images), gpu)
        for keys in (KEYS, KEYS + 1)
        for draw in (0, 1, 2, 5 << 16)
        for images in ([0, 1, 2, 3], [5 << 16, 2**32 - 1])
    ]
    every = torch.cat([own.flatten(0, 1) for own in every])
    assert len(every.unique(dim=0)) == len(every)
    assert len(every[:, :2].unique(dim=0)) == len(every)


@pytest.mark.parametrize(
    ("draws", "torchs"), [(standard_normal, torch.randn), (uniform, torch.rand)]
)
def test_on_a_cpu_each_image_restarts_pytorchs_generator(draws, torchs):
    """At the key of (key of the trial, number of the draw, image)."""
    found = drawn(draws, 32, draw=6)
    for t, own in enumerate(KEYS.tolist()):
        for i, image in enumerate(IMAGES.tolist()):
            assert torch.equal(found[t, i], torchs(32, generator=generator(own, "", 6, image)))


def test_on_a_gpu_words_become_fractions_of_24_bits():
    """The first block of image 0 and draw 0 under key 0 is philox's answer to zeros."""
    zeros = torch.zeros(1, dtype=torch.int64)
    found = drawn(uniform, 4, zeros, 0, zeros, gpu=True)[0, 0]
    assert torch.equal(found, (words(KNOWN[0][2]) >> 8) / 2**24)


def test_on_a_gpu_counters_are_block_image_and_draw():
    """Under the key (key of the trial, 0)."""
    found = drawn(uniform, 8, torch.tensor([0xA4093822]), 0x13198A2E, torch.tensor([77]), gpu=True)
    expected = philox(torch.tensor([1, 77, 0x13198A2E, 0]), torch.tensor([0xA4093822, 0]))
    assert torch.equal(found[0, 0, 4:], (expected >> 8) / 2**24)


def sample(draws, gpu):
    """Doubles (trial, draw, image, 2000), 240,000 in all."""
    images = torch.arange(20)
    own = [drawn(draws, 2000, KEYS, number, images, gpu) for number in (0, 1)]
    return torch.stack(own, 1).double()


@DEVICES
def test_draws_are_standard_normal(gpu):
    draws = sample(standard_normal, gpu).flatten()
    n = len(draws)
    assert abs(float(draws.mean())) < 4 / n**0.5
    assert abs(float(draws.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((draws**3).mean())) < 4 * (15 / n) ** 0.5
    assert abs(float((draws**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    assert kstest(draws.numpy(), "norm").pvalue > 0.01
    assert torch.isfinite(draws).all()


@DEVICES
def test_uniform_draws_are_uniform(gpu):
    draws = sample(uniform, gpu).flatten()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(float(draws.mean()) - 0.5) < 4 * (1 / 12 / len(draws)) ** 0.5
    assert kstest(draws.numpy(), "uniform").pvalue > 0.01


@DEVICES
@DRAWS
def test_images_draws_and_trials_are_not_correlated(draws, gpu):
    every = sample(draws, gpu).flatten(0, 2)
    for values in (every, (every - every.mean()).square()):
        correlation = torch.corrcoef(values) - torch.eye(len(values))
        assert correlation.abs().max() < 5 / 2000**0.5


@DEVICES
@DRAWS
def test_the_numbers_of_one_draw_are_not_correlated(draws, gpu):
    """Nor are their squares: Box and Muller make pairs of one radius."""
    every = sample(draws, gpu)
    for values in (every, (every - every.mean()).square()):
        centred = values - values.mean()
        for lag in (1, 2, 3, 4, 16):
            product = (centred[..., lag:] * centred[..., :-lag]).mean() / centred.var()
            assert abs(float(product)) < 4 / every.numel() ** 0.5


def test_global_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = [drawn(draws, 20, gpu=gpu) for draws in (standard_normal, uniform) for gpu in (0, 1)]
    generator(1, "order")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = [drawn(draws, 20, gpu=gpu) for draws in (standard_normal, uniform) for gpu in (0, 1)]
    assert all(map(torch.equal, first, again))


def uniforms(keys=KEYS, images=IMAGES, offset=0):
    return Uniforms(keys, images, torch.tensor(offset))


def test_every_image_has_its_own_uniform_numbers():
    found = uniforms().per_image(3, (2, 1, 4))
    assert found.shape == (3, 5, 2, 1, 4)
    assert torch.equal(found.flatten(2), drawn(uniform, 8, draw=3))
    assert len(found.flatten(2).flatten(0, 1).unique(dim=0)) == 15


def test_common_numbers_are_those_of_no_image_and_of_all_alike():
    found = uniforms().common(3, 5)
    assert found.shape == (3, 5)
    assert len(found.unique(dim=0)) == 3
    for other in (IMAGES[:1], IMAGES + 1, torch.stack([IMAGES] * 3)):
        assert torch.equal(uniforms(images=other).common(3, 5), found)
    assert not torch.isin(found, uniforms().per_image(3, (5,))).any()


def test_an_offset_shifts_the_numbers_of_the_draws():
    shifted = uniforms(offset=7 << 16)
    assert torch.equal(shifted.per_image(2, (4,)), drawn(uniform, 4, draw=(7 << 16) + 2))
    assert torch.equal(shifted.common(2, 4), uniforms(offset=(7 << 16) + 2).common(0, 4))
    assert not torch.equal(shifted.common(2, 4), uniforms().common(2, 4))


@pytest.mark.parametrize("images", [IMAGES, torch.stack([IMAGES, IMAGES + 1, IMAGES + 2])])
def test_of_the_first_images_the_numbers_stay(images):
    every = uniforms(images=images)
    first = every.of(2)
    assert torch.equal(first.per_image(1, (4,)), every.per_image(1, (4,))[:, :2])
    assert torch.equal(first.common(1, 4), every.common(1, 4))


def test_networks_of_one_trial_draw_the_same():
    found = uniforms(KEYS[:1].expand(3)).per_image(0, (4,))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_importing_the_module_imports_no_torch():
    code = "import sys, noisetransfer.randomness; sys.exit('torch' in sys.modules)"
    folder = __file__.rsplit("tests", 1)[0] + "scripts"
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
