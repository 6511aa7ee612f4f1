"""Published corrupted sets and the user's own pairs: the right versions of the right images, or advice."""

import hashlib
import io
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisetransfer import corrupted_sets
from noisetransfer.corrupted_sets import (
    CORRUPTIONS,
    SETS,
    Chosen,
    misfit,
    read_official,
    read_paired,
    retrieve_official,
)
from noisetransfer.downloads import RemoteFile
from noisetransfer.errors import StudyError
from noisetransfer.folders import Preprocessing
from noisetransfer.modifications import MODIFICATIONS, OFFICIAL


def complaint(action) -> str:
    with pytest.raises(StudyError) as caught:
        action()
    return str(caught.value)


def save(path: Path, image: np.ndarray | Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return path


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# the registry


def test_there_are_the_19_published_corruptions():
    published = (
        "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost "
        "fog brightness contrast elastic_transform pixelate jpeg_compression "
        "speckle_noise gaussian_blur spatter saturate"
    )
    assert set(CORRUPTIONS) == set(published.split())
    assert sorted(name for held in corrupted_sets._TARS.values() for name in held) == sorted(
        CORRUPTIONS
    )


def test_every_set_has_its_modifications():
    assert tuple(SETS) == OFFICIAL
    assert {name for name, m in MODIFICATIONS.items() if m.kind == "official"} == {
        f"{published}.{name}" for published in SETS for name in CORRUPTIONS
    }


@pytest.mark.parametrize("entry", SETS.values(), ids=SETS)
def test_files_have_checksums_addresses_and_sizes(entry):
    assert bool(entry.files) == bool(entry.mirrors)
    assert all(mirror.endswith("/") for mirror in entry.mirrors)
    for file in entry.files:
        assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in file.sha256)
        assert file.most == 2_918_471_680


def test_the_published_archive_is_as_large_as_its_19_arrays_and_labels():
    """A tar archive: a header of 512 bytes and whole blocks for each member, then two empty blocks."""

    def blocks(size: int) -> int:
        return 512 + -(-size // 512) * 512

    arrays = 19 * blocks(128 + 50_000 * 32 * 32 * 3)
    whole = 512 + arrays + blocks(128 + 50_000) + 1024
    assert -(-whole // 10_240) * 10_240 == SETS["cifar10_c"].files[0].most


@pytest.mark.parametrize(
    ("set_name", "dataset", "preprocessing", "fault"),
    [
        ("cifar10_c", "cifar10", None, None),
        ("imagenet_c", "imagenet", Preprocessing(256, 224), None),
        ("cifar10_c", "mnist", None, "CIFAR-10-C holds images of cifar10, not of mnist"),
        (
            "imagenet_c",
            "imagenette",
            Preprocessing(256, 224),
            "ImageNet-C holds images of imagenet, not of imagenette",
        ),
        (
            "imagenet_c",
            "imagenet",
            Preprocessing(232, 224),
            "ImageNet-C was made with resize: 256 and crop: 224; only these fit imagenet's images to it",
        ),
    ],
)
def test_images_that_do_not_fit_a_set(set_name, dataset, preprocessing, fault):
    assert misfit(set_name, dataset, preprocessing) == fault


@pytest.mark.parametrize("set_name", SETS)
def test_folder_that_is_not_there(tmp_path, set_name):
    folder = tmp_path / "none"
    message = complaint(lambda: read_official(set_name, "fog", 1, folder, Chosen([], [])))
    assert message == f"{set_name}: {folder}: no such folder. {SETS[set_name].hint}"
    assert "Zenodo record" in message
    assert f"datasets: {SETS[set_name].dataset}: corrupted:" in message


# CIFAR-10-C: one image in a thousand is real, the others stay holes in the file


INDICES = [50_000, 51_000, 59_999]
LABELS = np.arange(10_000, dtype=np.uint8) % 10
CHOSEN = Chosen(INDICES, LABELS[np.array(INDICES) - 50_000].tolist())


def pixel(severity: int, position: int) -> int:
    return (40 * severity + position) % 256


@pytest.fixture(scope="module")
def cifar10_c(tmp_path_factory):
    """A folder of a whole file of fog, and one of snow that nothing reads."""
    folder = tmp_path_factory.mktemp("CIFAR-10-C")
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    (folder / "snow.npy").touch()
    array = np.lib.format.open_memmap(folder / "fog.npy", "w+", np.uint8, (50_000, 32, 32, 3))
    for severity in range(1, 6):
        for position in (0, 1000, 9999):
            row = (severity - 1) * 10_000 + position
            array[row] = pixel(severity, position)
            array[row, 3, 5, 2] = 255  # row, column, channel
    array.flush()
    return folder


@pytest.fixture
def partial_set(cifar10_c, tmp_path):
    """A folder of links to the files of that folder, to be spoilt."""
    folder = tmp_path / "set"
    folder.mkdir()
    for path in cifar10_c.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def check_cifar10_c(folder: Path, severity: int) -> None:
    images = read_official("cifar10_c", "fog", severity, folder, CHOSEN)
    assert (images.shape, images.dtype) == ((3, 3, 32, 32), np.uint8)
    assert images[:, 2, 3, 5].tolist() == [255] * 3
    assert images[:, 0, 0, 0].tolist() == [pixel(severity, i - 50_000) for i in INDICES]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_rows_of_a_severity_are_read(cifar10_c, severity):
    check_cifar10_c(cifar10_c, severity)


def test_order_of_the_images_is_kept(cifar10_c):
    images = read_official("cifar10_c", "fog", 2, cifar10_c, CHOSEN)
    backwards = Chosen(CHOSEN.indices[::-1], CHOSEN.labels[::-1])
    assert np.array_equal(images[::-1], read_official("cifar10_c", "fog", 2, cifar10_c, backwards))


def test_folder_above_the_files_will_do(partial_set):
    partial_set.rename(partial_set.parent / "CIFAR-10-C")
    check_cifar10_c(partial_set.parent, 4)


def test_no_images_give_no_images(cifar10_c):
    images = read_official("cifar10_c", "fog", 2, cifar10_c, Chosen([], []))
    assert images.shape == (0, 3, 32, 32)


@pytest.fixture
def small_set(monkeypatch):
    """Let the set have 20 test images: an archive of it is quickly written."""
    monkeypatch.setattr(corrupted_sets, "_TEST", 20)
    monkeypatch.setattr(corrupted_sets, "_ROWS", 100)


def packed(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def write_archive(folder: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "CIFAR-10-C.tar", "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return folder / "CIFAR-10-C.tar"


def small_archive() -> dict[str, bytes]:
    fog = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    members = {"snow": fog[::-1], "fog": fog, "labels": np.tile(LABELS[:20], 5)}
    return {f"CIFAR-10-C/{name}.npy": packed(array) for name, array in members.items()}


SMALL = Chosen([50_000, 50_019], [0, 9])


def test_archive_is_read_where_it_lies(tmp_path, small_set):
    members = small_archive()
    write_archive(tmp_path, members)
    images = read_official("cifar10_c", "fog", 3, tmp_path, SMALL)
    expected = np.load(io.BytesIO(members["CIFAR-10-C/fog.npy"]))[[40, 59]]
    assert np.array_equal(images, np.moveaxis(expected, -1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["CIFAR-10-C.tar"]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda m: m.pop("CIFAR-10-C/fog.npy"), "member 'CIFAR-10-C/fog.npy' is missing"),
        (lambda m: m.update({"../x": b""}), "member '../x' leads out of the archive"),
        (lambda m: m.update({"CIFAR-10-C/fog.npy": b"x"}), "the magic string is not correct"),
    ],
    ids=["missing", "hostile name", "no array"],
)
def test_archive_that_is_not_as_published(tmp_path, small_set, spoil, fault):
    members = small_archive()
    spoil(members)
    path = write_archive(tmp_path, members)
    message = complaint(lambda: read_official("cifar10_c", "fog", 3, tmp_path, SMALL))
    assert message.startswith(f"{path}: damaged ({fault}")
    assert message.endswith("delete it and run again")


def test_archive_that_is_cut(tmp_path, small_set):
    path = write_archive(tmp_path, small_archive())
    path.write_bytes(path.read_bytes()[:310_000])
    message = complaint(lambda: read_official("cifar10_c", "fog", 3, tmp_path, SMALL))
    assert message.startswith(f"{path}: damaged (")


def replaced(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.npy").unlink()
    (folder / f"{name}.npy").write_bytes(content)


SMALL_ARRAY = np.zeros((10_000, 32, 32, 3), np.uint8)
SPOILT = {
    "one severity only": (
        "fog",
        packed(SMALL_ARRAY),
        "fog.npy holds uint8 (10000, 32, 32, 3), not",
    ),
    "floats": ("fog", packed(np.zeros((2, 2))), "fog.npy holds float64 (2, 2), not whole numbers"),
    "labels of one severity": ("labels", packed(LABELS), "labels.npy holds uint8 (10000,), not"),
    "labels as floats": ("labels", packed(np.zeros(50_000)), "labels.npy holds float64 (50000,)"),
    "cut": ("labels", packed(np.tile(LABELS, 5))[:-1], "damaged (50,127 bytes, its header tells"),
    "empty": ("fog", b"", "damaged (EOF: reading magic string"),
    "HTML": ("fog", b"<!DOCTYPE html><html>", "damaged (the magic string is not correct"),
    "pickle": (
        "labels",
        packed(np.tile(LABELS, 5).astype(object)),
        "damaged (an array of objects, or in Fortran's order)",
    ),
    "Fortran's order": (
        "labels",
        packed(np.asfortranarray(np.zeros((2, 3)))),
        "damaged (an array of objects, or in Fortran's order)",
    ),
}


@pytest.mark.parametrize(("name", "content", "fault"), SPOILT.values(), ids=SPOILT)
def test_file_that_is_not_as_published(partial_set, name, content, fault):
    replaced(partial_set, name, content)
    message = complaint(lambda: read_official("cifar10_c", "fog", 1, partial_set, CHOSEN))
    assert message.startswith(f"{partial_set / name}.npy: {fault}")


def test_random_damage_of_a_header_gives_an_error(tmp_path, small_set):
    generator = np.random.default_rng(0)
    (tmp_path / "labels.npy").write_bytes(packed(np.tile(LABELS[:20], 5)))
    good = packed(np.zeros((100, 32, 32, 3), np.uint8))
    for _ in range(200):
        bad = bytearray(good)
        for at in generator.integers(0, 70, 3):
            bad[at] = generator.integers(0, 256)
        (tmp_path / "fog.npy").write_bytes(bad)
        with suppress(StudyError):
            images = read_official("cifar10_c", "fog", 3, tmp_path, SMALL)
            assert images.shape == (2, 3, 32, 32)


def test_labels_in_another_order_are_refused(cifar10_c):
    wrong = Chosen([50_000, 50_001], [0, 7])
    message = complaint(lambda: read_official("cifar10_c", "fog", 2, cifar10_c, wrong))
    assert message == (
        f"cifar10_c: {cifar10_c}: labels.npy: row 10001 is of class 1, but image 50001 of cifar10 of "
        "class 7: the rows are not in the published order"
    )


@pytest.mark.parametrize("index", [0, 49_999, 60_000])
def test_training_images_have_no_published_versions(cifar10_c, index):
    chosen = Chosen([50_000, index], [0, 0])
    message = complaint(lambda: read_official("cifar10_c", "fog", 1, cifar10_c, chosen))
    assert message == (
        f"cifar10_c: image {index} of cifar10 is no test image, and CIFAR-10-C holds no others: "
        "take it as a target, not as a source"
    )


def test_partial_set_tells_what_it_has(cifar10_c):
    message = complaint(lambda: read_official("cifar10_c", "frost", 1, cifar10_c, CHOSEN))
    assert message.startswith(
        f"cifar10_c: {cifar10_c}: neither frost.npy nor CIFAR-10-C.tar. It has snow, fog; it lacks "
        "gaussian_noise, shot_noise, "
    )
    assert message.endswith(SETS["cifar10_c"].hint)


# ImageNet-C


WNID = "n01440764"
NAMES = [f"val/{WNID}/ILSVRC2012_val_0000{i}.JPEG" for i in (293, 2138, 3014)]
THREE = Chosen([5, 7, 8], [0, 0, 0], NAMES)


@pytest.fixture
def imagenet_c(tmp_path):
    for severity in (1, 3):
        for i, name in enumerate(NAMES):
            path = tmp_path / "fog" / str(severity) / WNID / Path(name).name
            save(path, np.full((224, 224, 3), 10 * severity + i, np.uint8))
    (tmp_path / "snow" / "1").mkdir(parents=True)
    return tmp_path


def test_the_images_chosen_are_read(imagenet_c):
    chosen = Chosen([8, 5], [0, 0], [NAMES[2], NAMES[0]])
    images = read_official("imagenet_c", "fog", 3, imagenet_c, chosen)
    assert (images.shape, images.dtype) == ((2, 3, 224, 224), np.uint8)
    assert np.array_equal(images[:, :, 100, 100], [[32] * 3, [30] * 3])


def test_folders_named_by_the_archives_will_do(imagenet_c):
    (imagenet_c / "weather").mkdir()
    (imagenet_c / "fog").rename(imagenet_c / "weather" / "fog")
    assert len(read_official("imagenet_c", "fog", 1, imagenet_c, THREE)) == 3


def test_missing_corruption_names_those_that_are_there(imagenet_c):
    message = complaint(lambda: read_official("imagenet_c", "frost", 1, imagenet_c, THREE))
    assert message.startswith(
        f"imagenet_c: {imagenet_c}: no folder frost, which weather.tar holds. It has snow, fog; it lacks "
    )
    assert "frost" in message.partition("it lacks ")[2]
    assert message.endswith(SETS["imagenet_c"].hint)


def test_missing_severity(imagenet_c):
    message = complaint(lambda: read_official("imagenet_c", "fog", 2, imagenet_c, THREE))
    assert message.startswith(f"imagenet_c: {imagenet_c / 'fog/2'}: no such folder. ImageNet-C is")


def test_missing_images_are_counted(imagenet_c):
    place = imagenet_c / "fog" / "3"
    for name in NAMES[1:]:
        (place / WNID / Path(name).name).unlink()
    message = complaint(lambda: read_official("imagenet_c", "fog", 3, imagenet_c, THREE))
    assert message == (
        f"{place}: 2 of 3 images are missing, first that of {WNID}/ILSVRC2012_val_00002138.JPEG; "
        "ImageNet-C holds the validation images of ILSVRC2012 only, under their own file names"
    )


def test_image_of_another_size(imagenet_c):
    path = save(imagenet_c / "fog" / "3" / WNID / Path(NAMES[1]).name, photo(256, 224))
    message = complaint(lambda: read_official("imagenet_c", "fog", 3, imagenet_c, THREE))
    assert message == f"{path}: is 256 × 224 pixels, expected 224 × 224"


def test_images_without_names_are_a_fault_of_the_caller(imagenet_c):
    with pytest.raises(ValueError, match="3 images have 0 names"):
        read_official("imagenet_c", "fog", 3, imagenet_c, Chosen([5, 7, 8], [0, 0, 0]))


# pairs


PREPARED = Preprocessing(resize=32, crop=24)
PAIRS = ["val/dog/1.png", "val/cat/2.png"]


@pytest.fixture
def originals(tmp_path):
    for seed, name in enumerate(PAIRS):
        save(tmp_path / "originals" / name, photo(50, 40, seed))
    return tmp_path / "originals"


@pytest.mark.parametrize("inside", ["{}", "val/{}"], ids=["class first", "as the originals"])
def test_pairs_are_prepared_as_their_originals(tmp_path, originals, inside):
    rain = tmp_path / "rain"
    for name in PAIRS:
        save(
            rain / inside.format(name.removeprefix("val/")),
            255 - np.asarray(Image.open(originals / name)),
        )
    images = read_paired(rain, PAIRS, PREPARED, originals)
    clean = read_paired(originals, PAIRS, PREPARED)
    assert images.shape == (2, 3, 24, 24)
    assert np.abs(255 - images.astype(int) - clean).max() <= 1


def test_pairs_may_be_of_another_format(tmp_path, originals):
    for name in PAIRS:
        save(tmp_path / "rain" / Path(name).with_suffix(".bmp"), Image.open(originals / name))
    expected = read_paired(originals, PAIRS, PREPARED)
    assert np.array_equal(read_paired(tmp_path / "rain", PAIRS, PREPARED, originals), expected)


def test_pair_of_another_size_than_its_original(tmp_path, originals):
    save(tmp_path / "rain" / PAIRS[0], photo(50, 40))
    path = save(tmp_path / "rain" / PAIRS[1], photo(24, 24))
    message = complaint(lambda: read_paired(tmp_path / "rain", PAIRS, PREPARED, originals))
    assert message == (
        f"{path}: is 24 × 24 pixels, but its original {originals / PAIRS[1]} 50 × 40; a pair is to be of "
        "the size of its original: both are then resized and cropped alike"
    )


def test_pairs_of_originals_in_an_archive_are_not_measured(tmp_path, originals):
    images = read_paired(originals, PAIRS, PREPARED, tmp_path / "resources")
    assert np.array_equal(images, read_paired(originals, PAIRS, PREPARED))


def test_missing_pairs_are_counted(tmp_path, originals):
    rain = tmp_path / "rain"
    assert complaint(lambda: read_paired(rain, PAIRS, PREPARED)) == f"{rain}: no such folder"
    save(rain / PAIRS[0], photo(50, 40))
    message = complaint(lambda: read_paired(rain, PAIRS, PREPARED))
    assert message == f"{rain}: 1 of 2 images are missing, first that of val/cat/2.png"


def test_unreadable_pair_is_named(tmp_path, originals):
    (originals / PAIRS[1]).write_bytes(b"no image")
    message = complaint(lambda: read_paired(originals, PAIRS, PREPARED))
    assert message.startswith(f"{originals / PAIRS[1]}: not an image (JPEG")


# downloads


def test_only_cifar10_c_is_downloaded(tmp_path):
    message = complaint(lambda: retrieve_official("imagenet_c", tmp_path))
    assert message == f"imagenet_c: no folder of it is named. {SETS['imagenet_c'].hint}"


def test_archive_at_hand_is_not_downloaded(tmp_path, monkeypatch):
    path = write_archive(tmp_path, small_archive())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = RemoteFile(path.name, (sha256,), most=path.stat().st_size)
    monkeypatch.setitem(SETS, "cifar10_c", replace(SETS["cifar10_c"], files=(file,), mirrors=()))
    retrieve_official("cifar10_c", tmp_path)
    assert path.exists()


def test_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "cifar10_c", replace(SETS["cifar10_c"], mirrors=()))
    message = complaint(lambda: retrieve_official("cifar10_c", tmp_path))
    assert message.startswith(f"cifar10_c: {tmp_path / 'CIFAR-10-C.tar'}: no mirror delivered it")
    assert message.endswith(f"Without a network: {SETS['cifar10_c'].hint}")
