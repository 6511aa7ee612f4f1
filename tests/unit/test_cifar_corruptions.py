"""The corruptions of CIFAR-10-C: their known answers, from the seed alone, and on photographs.

The pixels are compared with `cifar_corruption_hashes.json`. After a change that is meant to alter
them: `PYTHONPATH=scripts python tests/unit/test_cifar_corruptions.py` writes that file anew.
"""

import hashlib
import json
import os
import subprocess
import sys
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom

from noisetransfer import cifar_corruptions, corruptions
from noisetransfer.cifar_corruptions import corrupt
from noisetransfer.corrupted_sets import CORRUPTIONS

HASHES = Path(__file__).with_name("cifar_corruption_hashes.json")
NAMES = list(CORRUPTIONS)
SEVERITIES = (1, 2, 3, 4, 5)
IDS = [(name, severity) for name in NAMES for severity in SEVERITIES]
UNDRAWN = {
    "brightness",
    "contrast",
    "defocus_blur",
    "gaussian_blur",
    "jpeg_compression",
    "pixelate",
    "saturate",
    "zoom_blur",
}
BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur")
LIGHT = {"gaussian_noise", "impulse_noise", "snow", "frost", "brightness", "spatter"}


def picture(seed: int = 0) -> np.ndarray:
    """Return coloured blocks with a little noise, uint8 (32, 32, 3), without black and white."""
    draws = np.random.RandomState(seed)
    blocks = np.kron(draws.randint(40, 200, (8, 8, 3)), np.ones((4, 4, 1), dtype=int))
    return (blocks + draws.randint(0, 20, (32, 32, 3))).astype(np.uint8)


def flat(value: int) -> np.ndarray:
    return np.full((32, 32, 3), value, dtype=np.uint8)


def spot() -> np.ndarray:
    image = flat(0)
    image[16, 16] = 255
    return image


def fingerprint(name: str, severity: int) -> str:
    """Return the SHA-256 of two corrupted pictures."""
    pixels = b"".join(corrupt(picture(s), name, severity, s).tobytes() for s in (1, 2))
    return hashlib.sha256(pixels).hexdigest()


# all of them


def test_names_and_order_are_those_of_the_registry():
    assert list(cifar_corruptions._CORRUPTIONS) == NAMES
    assert all(len(constants) == 5 for _, constants in cifar_corruptions._CORRUPTIONS.values())


def test_importing_imports_nothing_heavy():
    heavy = "{'torch', 'imagecorruptions', 'cv2', 'skimage', 'scipy', 'PIL'}"
    program = f"import sys, noisetransfer.cifar_corruptions; print({heavy} & set(sys.modules))"
    scripts = Path(__file__).parents[2] / "scripts"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(("name", "severity"), IDS)
def test_corruption_works_and_follows_its_seed(name, severity, capfd):
    before = picture()
    once, again, other = (corrupt(before, name, severity, seed) for seed in (1, 1, 2))
    assert once.dtype == np.uint8
    assert once.shape == (32, 32, 3)
    assert np.array_equal(once, again)
    assert np.array_equal(once, other) == (name in UNDRAWN)
    assert not np.array_equal(once, before)
    assert np.array_equal(before, picture())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "severity"), IDS)
def test_pixels_are_the_stored_ones(name, severity):
    stored = json.loads(HASHES.read_text())
    assert fingerprint(name, severity) == stored[f"{name}@{severity}"]


@pytest.mark.parametrize("name", NAMES)
def test_black_white_and_random_images(name):
    noise = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    for severity in SEVERITIES:
        for seed in range(3):
            black, white, _ = (
                corrupt(image, name, severity, seed) for image in (flat(0), flat(255), noise)
            )
            assert (black <= 1).all() == (name not in LIGHT)  # JPEG makes it 1
            assert white.mean() > 60


def test_order_and_what_ran_before_change_nothing():
    forwards = [corrupt(picture(), name, 2, 3) for name in NAMES]
    backwards = []
    for name in reversed(NAMES):
        corruptions.corrupt(picture(), "fog", 1, seed=9)
        backwards.append(corrupt(picture(), name, 2, 3))
    assert np.array_equal(forwards, backwards[::-1])


def test_numpys_global_generator_is_left_alone():
    def state() -> str:
        return repr(np.random.get_state(legacy=False))

    before = state()
    for name in NAMES:
        corrupt(picture(), name, 5, seed=3)
    assert state() == before


def test_refuses_unknown_names_other_images_and_severities():
    with pytest.raises(KeyError, match="rain"):
        corrupt(picture(), "rain", 1, seed=0)
    for severity in (0, 6, 2.5):
        with pytest.raises(AttributeError, match=f"severity .* 1, 2, 3, 4 or 5: {severity}"):
            corrupt(picture(), "fog", severity, seed=0)
    for image in (picture()[:28], picture()[..., 0], picture() / 255):
        with pytest.raises(AttributeError, match=r"uint8 \(32, 32, 3\)"):
            corrupt(image, "fog", 1, seed=0)


# noise


def spread(name: str, value: int) -> list[float]:
    """Return the standard deviation, in [0, 1], by severity, of what a flat image becomes."""
    return [corrupt(flat(value), name, severity, 0).std() / 255 for severity in SEVERITIES]


def test_gaussian_noise_has_its_deviation():
    assert spread("gaussian_noise", 128) == pytest.approx([0.04, 0.06, 0.08, 0.09, 0.10], rel=0.05)


def test_speckle_noise_grows_with_the_brightness():
    stds = np.array([0.06, 0.10, 0.12, 0.16, 0.20])
    for value in (51, 102):
        assert spread("speckle_noise", value) == pytest.approx(list(value / 255 * stds), rel=0.05)


def test_shot_noise_has_the_variance_of_counted_photons():
    photons = np.array([500, 250, 100, 75, 50])
    for value in (51, 127):
        expected = list(np.sqrt(value / 255 / photons))
        assert spread("shot_noise", value) == pytest.approx(expected, rel=0.06)


def test_impulse_noise_hits_its_share_with_black_and_white():
    results = [corrupt(flat(128), "impulse_noise", severity, 0) for severity in SEVERITIES]
    hit = [result != 128 for result in results]
    assert [h.mean() for h in hit] == pytest.approx([0.01, 0.02, 0.03, 0.05, 0.07], abs=0.008)
    assert all((weak <= strong).all() for weak, strong in pairwise(hit))
    assert set(np.unique(results)) == {0, 128, 255}


def test_severities_share_their_draws():
    weak, strong = (corrupt(flat(128), "gaussian_noise", s, 4).ravel() for s in (1, 5))
    assert np.corrcoef(weak, strong)[0, 1] > 0.99


# blur


@pytest.mark.parametrize("name", [*BLURS, "elastic_transform", "pixelate"])
def test_what_moves_pixels_leaves_a_flat_image(name):
    for value in (0, 100, 255):
        for severity in SEVERITIES:
            difference = corrupt(flat(value), name, severity, 0).astype(int) - value
            assert np.isin(difference, (0, -1)).all()  # cut off, not rounded


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "gaussian_blur"])
def test_blur_keeps_the_light_of_a_spot(name):
    for severity in SEVERITIES:
        result = corrupt(spot(), name, severity, 0)[..., 0]
        lost = 255 - int(result.sum())
        assert -1 <= lost <= 49  # a grey level, at most, from each of 7 × 7 pixels


def test_gaussian_blur_has_its_width():
    offsets = np.arange(-4, 5)
    for severity, sigma in enumerate((0.4, 0.6, 0.7, 0.8, 1), start=1):
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        peak = 255 * (weights.max() / weights.sum()) ** 2
        result = corrupt(spot(), "gaussian_blur", severity, 0)
        assert result.max() == pytest.approx(peak, abs=1.01)
        assert result[16, 16, 0] == result.max()


def test_defocus_blur_spreads_over_its_disk():
    """Radius 1 is a plus of five pixels, 1.5 a square of nine; weaker ones are a soft spot."""
    lit = [np.count_nonzero(corrupt(spot(), "defocus_blur", s, 0)[..., 0] > 20) for s in (4, 5)]
    assert lit == [5, 9]


def test_motion_blur_trails_within_45_degrees():
    angles = set()
    for seed in range(20):
        row, column = np.mean(np.argwhere(corrupt(spot(), "motion_blur", 5, seed)[..., 0]), axis=0)
        assert abs(row - 16) <= abs(column - 16) + 0.2
        angles.add(round(row - 16))
    assert len(angles) > 2


def test_motion_blur_weighs_by_half_a_gaussian():
    weights = np.exp(-(np.arange(19) ** 2) / (2 * 2.5**2))
    assert corrupt(spot(), "motion_blur", 5, 0).max() == int(255 * weights[0] / weights.sum())


@pytest.mark.parametrize("factor", [1, 1.01, 1.07, 1.25, 1.75, 2.25])
def test_enlarged_is_scipys_zoom_cropped(factor):
    image = picture() / 255
    kept = int(np.ceil(32 / factor))
    first = (32 - kept) // 2
    middle = image[first : first + kept, first : first + kept]
    expected = zoom(middle, (factor, factor, 1), order=1)
    surplus = (len(expected) - 32) // 2
    inside = slice(surplus, surplus + 32)
    result = cifar_corruptions._enlarged(np.moveaxis(image, -1, 0), factor)
    assert np.allclose(np.moveaxis(result, 0, -1), expected[inside, inside], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_glass_blur_moves_pixels_as_the_published_loop(seed):
    """The loop "swaps" rows of a numpy array, which are views: the second is never changed."""
    loop, draws = picture(), np.random.RandomState(seed)
    for row in range(31, 1, -1):
        for column in range(31, 1, -1):
            right, down = draws.randint(-1, 1, 2)
            here, there = (row, column), (row + down, column + right)
            loop[here], loop[there] = loop[there], loop[here]
    result = cifar_corruptions._jittered(picture(), np.random.RandomState(seed))
    assert np.array_equal(result, loop)
    assert not np.array_equal(result, picture())


# weather


@pytest.mark.parametrize("name", ["brightness", "snow"])
def test_light_is_added(name):
    for severity in SEVERITIES:
        assert (corrupt(picture(), name, severity, 0) >= picture().astype(int) - 1).all()


def test_brightness_shifts_the_value_of_grey():
    for severity, shift in enumerate((0.05, 0.10, 0.15, 0.20, 0.30), start=1):
        for value in (0, 100, 240):
            expected = min(255, value + 255 * shift)
            result = corrupt(flat(value), "brightness", severity, 0)
            assert np.abs(result - expected).max() <= 1


def test_brightness_keeps_the_hue():
    image = flat(0) + np.array([100, 50, 0], dtype=np.uint8)
    assert corrupt(image, "brightness", 5, 0)[0, 0] == pytest.approx([176.5, 88.25, 0], abs=1)


def test_frost_is_a_weighted_sum_with_a_picture():
    weights = [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]
    layers = []
    for severity, (kept, added) in enumerate(weights, start=1):
        frost = corrupt(flat(0), "frost", severity, 0) / added
        expected = kept * picture() + added * frost
        result = corrupt(picture(), "frost", severity, 0)
        assert np.abs(result - np.minimum(expected, 255)).max() <= 1
        layers.append(frost)
    assert np.ptp(layers, axis=0).max() <= 5.1  # one crop for all severities
    assert np.mean(layers[-1]) > 30


def test_five_pictures_of_frost():
    shapes = {picture.shape for picture in cifar_corruptions._frost_pictures()}
    assert len(cifar_corruptions._frost_pictures()) == 5
    assert all(min(height, width) > 32 and colours == 3 for height, width, colours in shapes)


def test_fog_spans_its_thickness():
    for severity, thickness in enumerate((0.2, 0.5, 0.75, 1, 1.5), start=1):
        grey = 100 / 255
        thinned = grey / (grey + thickness)
        result = corrupt(flat(100), "fog", severity, 0)
        expected = 255 * thinned * np.array([grey, grey + thickness])
        assert [result.min(), result.max()] == pytest.approx(expected, abs=1)


def test_water_adds_light_and_mud_is_brown():
    for severity in (1, 2, 3):
        added = corrupt(flat(50), "spatter", severity, 1).astype(int) - 50
        assert (added >= 0).all()
        assert added.max() == pytest.approx(0.5 * 238, abs=1)
    for severity in (4, 5):
        result = corrupt(flat(200), "spatter", severity, 1).astype(int)
        covered = result[(result < 100).all(axis=-1)]
        assert 10 < len(covered) < 300
        assert covered.min(axis=0) == pytest.approx([63, 42, 20], abs=8)


def test_no_liquid_no_change():
    assert not cifar_corruptions._wetness(np.zeros((32, 32), dtype=np.uint8)).any()


# digital


def test_contrast_shrinks_towards_the_mean_of_each_colour():
    means = picture().mean(axis=(0, 1))
    for severity, factor in enumerate((0.75, 0.50, 0.40, 0.30, 0.15), start=1):
        expected = means + factor * (picture() - means)
        assert np.abs(corrupt(picture(), "contrast", severity, 0) + 0.5 - expected).max() <= 0.501


def test_pixelate_has_its_number_of_pixels():
    sides = []
    for severity in SEVERITIES:
        result = corrupt(picture(), "pixelate", severity, 0)
        sides.append([len(np.unique(np.moveaxis(result, axis, 0), axis=0)) for axis in (0, 1)])
    assert sides == [[side, side] for side in (30, 28, 27, 24, 20)]


def test_jpeg_compression_has_its_quality():
    for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
        file = BytesIO()
        Image.fromarray(picture()).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file))
        assert np.array_equal(corrupt(picture(), "jpeg_compression", severity, 0), expected)


def test_saturate_scales_and_shifts_the_saturation():
    image = flat(0) + np.array([200, 160, 120], dtype=np.uint8)  # of saturation 0.4
    for severity, saturation in enumerate((0.12, 0.04, 0.6, 0.9, 1.0), start=1):
        result = corrupt(image, "saturate", severity, 0)[0, 0]
        lowest = 200 * (1 - saturation)
        assert result == pytest.approx([200, (200 + lowest) / 2, lowest], abs=1)


def test_elastic_transform_moves_the_middle_by_its_jitter():
    """The middle lies between two corners; each moves evenly, up to 0.08 of the side."""
    rows, columns = np.indices((32, 32))
    ramps = np.stack([8 * rows, 8 * columns, 0 * rows], axis=-1).astype(np.uint8)
    for severity, jitter in ((1, 32 * 0.08), (2, 32 * 0.07)):
        moved = [
            (corrupt(ramps, "elastic_transform", severity, seed)[16, 16, :2] - 127.5) / 8
            for seed in range(200)
        ]
        assert np.std(moved) == pytest.approx(jitter / np.sqrt(6), rel=0.12)


def test_elastic_transform_becomes_uneven():
    """By severity 5 neighbours move apart: steps of a ramp, even at severity 1, scatter."""
    ramp = np.broadcast_to(8 * np.arange(32)[:, np.newaxis], (32, 32)).astype(np.uint8)
    image = np.stack([ramp] * 3, axis=-1)
    inside = (corrupt(image, "elastic_transform", s, 0)[8:24, 8:24, 0] for s in (1, 5))
    even, uneven = (np.diff(pixels.astype(int), axis=0).std() for pixels in inside)
    assert even < 1 < uneven


# photographs


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """The first 24 test images of CIFAR-10: in the sheet, one row of 1,024 pixels is one image."""
    folder = os.environ.get("NOISETRANSFER_TEST_DATA", "")
    sheet = Path(folder) / "cifar10_png/cifar10_batch_50.png"
    if not (folder and sheet.is_file()):
        pytest.skip("NOISETRANSFER_TEST_DATA does not name a folder with cifar10_png")
    return np.asarray(Image.open(sheet))[:24].reshape(24, 32, 32, 3)


def error(photographs, name, severity, function=corrupt) -> float:
    """Return the mean squared difference of photographs and what a corruption makes of them."""
    pixels = [function(image, name, severity, seed) for seed, image in enumerate(photographs)]
    return float(np.mean((np.stack(pixels).astype(float) - photographs) ** 2))


@pytest.mark.parametrize("name", NAMES)
def test_the_difference_grows_with_severity(name, photographs):
    errors = [error(photographs, name, severity) for severity in SEVERITIES]
    grows = [weak < strong for weak, strong in pairwise(errors)]
    falls = {  # steps that the published constants make no stronger
        "glass_blur": {2, 3, 5},
        "motion_blur": {4},
        "frost": {4, 5},
        "spatter": {4},
        "elastic_transform": {2, 3, 4, 5},
        "saturate": {3},
    }
    assert {step for step, grown in enumerate(grows, start=2) if not grown} == falls.get(
        name, set()
    )


def test_severities_3_and_4_of_motion_blur_are_the_same(photographs):
    three, four = (corrupt(photographs[0], "motion_blur", severity, 0) for severity in (3, 4))
    assert np.array_equal(three, four)


@pytest.mark.parametrize("name", NAMES)
def test_milder_than_imagenet_c(name, photographs):
    few = photographs[:8]
    assert 0 < error(few, name, 3) < error(few, name, 3, corruptions.corrupt)


def write() -> None:
    """Store the hash of every corruption at every severity."""
    hashes = {f"{name}@{severity}": fingerprint(name, severity) for name, severity in IDS}
    HASHES.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    write()
