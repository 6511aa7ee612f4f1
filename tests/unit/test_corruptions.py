"""The adapter over imagecorruptions: all 19 × 5 work, from the seed alone, and disturb nothing."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from noisetransfer import corruptions
from noisetransfer.corrupted_sets import CORRUPTIONS
from noisetransfer.corruptions import corrupt

NAMES = list(CORRUPTIONS)
SEVERITIES = (1, 2, 3, 4, 5)


def picture(height: int = 32, width: int = 32) -> np.ndarray:
    """Return a fixed coloured image without black, uint8 (height, width, 3)."""
    return np.random.default_rng(0).integers(30, 226, (height, width, 3), dtype=np.uint8)


def test_registry_lists_the_corruptions_of_the_library():
    assert sorted(NAMES) == sorted(corruptions._library().get_corruption_names("all"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_corruption_works_and_follows_its_seed(name, severity, capfd):
    before = picture()
    once, again = (corrupt(before, name, severity, seed=1) for _ in range(2))
    assert once.dtype == np.uint8
    assert once.shape == before.shape
    assert np.array_equal(once, again)
    assert not np.array_equal(once, before)
    assert np.array_equal(before, picture())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_corruption_of_a_larger_image_that_is_not_square(name):
    assert corrupt(picture(48, 64), name, 3, seed=1).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "impulse_noise", "glass_blur", "frost", "fog", "spatter"]
)
def test_another_seed_gives_another_draw(name):
    first, second = (corrupt(picture(), name, 3, seed) for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_draws_are_those_of_numpy_seeded_globally():
    noise = np.random.RandomState(7).normal(size=(32, 32, 3), scale=0.08)
    expected = np.uint8(np.clip(picture() / 255.0 + noise, 0, 1) * 255)
    assert np.array_equal(corrupt(picture(), "gaussian_noise", 1, seed=7), expected)


def test_severities_share_their_draws():
    changed = [corrupt(picture(), "impulse_noise", s, seed=1) != picture() for s in SEVERITIES]
    shares = [pixels.mean() for pixels in changed]
    assert shares == pytest.approx([0.03, 0.06, 0.09, 0.17, 0.27], abs=0.02)
    assert all((weak <= strong).all() for weak, strong in pairwise(changed))


def test_spatter_without_liquid_leaves_the_image_as_it_is():
    results = [corrupt(picture(), "spatter", 1, seed) for seed in range(60)]
    assert all(result.any() for result in results)
    unchanged = [seed for seed, result in enumerate(results) if np.array_equal(result, picture())]
    assert unchanged == [35]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("dy", [-20, -1, 0, 7])
@pytest.mark.parametrize("dx", [-31, 0, 1, 12])
def test_shift_repeats_the_border(dx, dy, dtype):
    image = picture().astype(dtype)
    rows, columns = (np.clip(np.arange(32) - step, 0, 31) for step in (dy, dx))
    assert np.array_equal(corruptions._shift(image, dx, dy), image[rows][:, columns])


def test_numpys_global_generator_is_left_alone():
    def state() -> str:
        return repr(np.random.get_state(legacy=False))

    before = state()
    for name in NAMES:
        corrupt(picture(), name, 1, seed=3)
    with pytest.raises(AttributeError, match="Severity"):
        corrupt(picture(), "fog", 6, seed=3)
    assert state() == before


def test_refuses_unknown_names_and_small_images():
    with pytest.raises(KeyError, match="rain"):
        corrupt(picture(), "rain", 1, seed=0)
    with pytest.raises(AttributeError, match="32 pixels"):
        corrupt(picture(28, 28), "fog", 1, seed=0)


def test_other_packages_are_left_alone():
    corruptions._library()
    assert not hasattr(np, "float_")
    assert getattr(sys.modules.get("pkg_resources"), "resource_filename", None) is not (
        corruptions._beside
    )


def test_stub_gives_way_to_what_was_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", np)
    with corruptions._pkg_resources():
        assert sys.modules["pkg_resources"] is not np
    assert sys.modules["pkg_resources"] is np
