"""Photographs in class folders: found, labelled, prepared as torchvision does, or refused with advice."""

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from noisetransfer import folders
from noisetransfer.errors import StudyError
from noisetransfer.folders import (
    LAYOUT,
    Preprocessing,
    class_names,
    dimensions,
    imagenet_classes,
    read_archive,
    read_folder,
    wnids,
)

fingerprint = folders.fingerprint.__wrapped__  # not the one that is remembered
SMALL = Preprocessing(resize=8, crop=6)
TENCH, GOLDFISH, TOILET_TISSUE = "n01440764", "n01443537", "n15075141"


def photo(width: int = 12, height: int = 9, seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def packed(image: Image.Image, format: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, format)
    return content.getvalue()


def fill(folder: Path, *names: str) -> Path:
    """Put a photograph under each name, each different."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if name.lower().endswith(("jpeg", "jpg")) else "PNG"
        (folder / name).write_bytes(packed(photo(seed=seed), kind))
    return folder


def taken(pool, *positions: int, preprocessing: Preprocessing = SMALL) -> np.ndarray:
    return pool.take(np.array(positions, dtype=np.int64), preprocessing)


def complaint(action) -> str:
    with pytest.raises(StudyError) as caught:
        action()
    return str(caught.value)


# which there are


def test_importing_the_module_imports_nothing_heavy():
    program = (
        "import sys, noisetransfer.datasets, noisetransfer.corrupted_sets; "
        "print({'torch', 'torchvision', 'timm', 'PIL'} & set(sys.modules))"
    )
    scripts = Path(__file__).parents[2] / "scripts"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_class_folders_are_one_pool_sorted_by_name(tmp_path):
    (pool,) = read_folder(fill(tmp_path, "dog/b.png", "cat/z.JPG", "dog/a.png", "ant/m.jpeg"))
    assert pool.names == ("ant/m.jpeg", "cat/z.JPG", "dog/a.png", "dog/b.png")
    assert pool.labels.tolist() == [0, 1, 2, 2]
    assert pool.labels.dtype == np.int64


def test_train_and_val_are_two_pools_that_share_their_labels(tmp_path):
    train, val = read_folder(
        fill(tmp_path, "val/dog/1.png", "val/bee/1.png", "train/dog/2.png", "train/ant/3.png")
    )
    assert train.names == ("train/ant/3.png", "train/dog/2.png")
    assert train.labels.tolist() == [0, 2]
    assert val.names == ("val/bee/1.png", "val/dog/1.png")
    assert val.labels.tolist() == [1, 2]


def test_what_lies_beside_val_is_left_alone(tmp_path):
    (pool,) = read_folder(fill(tmp_path, "val/dog/1.png", "test/1.png", "cover.png", "x/y/z/1.png"))
    assert pool.names == ("val/dog/1.png",)


def test_a_class_may_be_called_train(tmp_path):
    (pool,) = read_folder(fill(tmp_path, "train/1.png", "aeroplane/1.png"))
    assert dict(zip(pool.names, pool.labels.tolist(), strict=True)) == {
        "aeroplane/1.png": 0,
        "train/1.png": 1,
    }


def test_hidden_and_other_files_are_left_alone(tmp_path):
    fill(tmp_path, "dog/1.png", "dog/._1.png", ".cache/1.png")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("x")
    (pool,) = read_folder(tmp_path)
    assert pool.names == ("dog/1.png",)


def test_links_are_followed(tmp_path):
    fill(tmp_path / "elsewhere", "1.png", "more/2.png")
    (tmp_path / "own" / "dog").mkdir(parents=True)
    (tmp_path / "own" / "dog" / "a.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "own" / "cat").symlink_to(tmp_path / "elsewhere" / "more")
    (pool,) = read_folder(tmp_path / "own")
    assert pool.names == ("cat/2.png", "dog/a.png")
    assert taken(pool, 0, 1).shape == (2, 3, 6, 6)


def test_a_link_to_its_own_folder_ends(tmp_path):
    fill(tmp_path, "dog/1.png")
    (tmp_path / "dog" / "again").symlink_to(tmp_path / "dog")
    assert "lies in a folder within a class folder" in complaint(lambda: read_folder(tmp_path))


# labels


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([GOLDFISH, TOILET_TISSUE, TENCH], [1, 999, 0]),
        (["7", "000", "12"], [7, 0, 12]),
        (["b", "C", "a"], [2, 0, 1]),
        (["n01", "x1"], [0, 1]),
    ],
    ids=["WordNet ids", "numbers", "names", "like ids"],
)
def test_labels_follow_the_names_of_the_folders(tmp_path, classes, labels):
    (pool,) = read_folder(fill(tmp_path, *(f"{name}/1.png" for name in classes)))
    expected = {f"{name}/1.png": label for name, label in zip(classes, labels, strict=True)}
    assert dict(zip(pool.names, pool.labels.tolist(), strict=True)) == expected


def test_the_ids_of_imagenet_are_those_of_its_numbering():
    assert len(wnids()) == len(set(wnids())) == 1000
    assert list(wnids()) == sorted(wnids())
    assert (wnids()[0], wnids()[1], wnids()[999]) == (TENCH, GOLDFISH, TOILET_TISSUE)
    assert [imagenet_classes()[i] for i in (0, 207, 999)] == [
        "tench",
        "golden retriever",
        "toilet tissue",
    ]


def test_names_of_the_classes_that_occur(tmp_path):
    assert class_names(read_folder(fill(tmp_path / "a", f"{GOLDFISH}/1.png"))) == {1: "goldfish"}
    assert class_names(read_folder(fill(tmp_path / "b", "7/1.png", "3/1.png"))) == {3: "3", 7: "7"}
    assert class_names(read_folder(fill(tmp_path / "c", "x/1.png", "b/1.png"))) == {0: "b", 1: "x"}


def test_without_the_package_that_lists_the_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    wnids.cache_clear()
    message = complaint(lambda: read_folder(fill(tmp_path, f"{TENCH}/1.png")))
    wnids.cache_clear()
    assert message == "the classes of ImageNet are listed by the package timm: pip install timm"


# folders that are not as expected


SUFFIX_LIST = ".jpg .jpeg .png .bmp .webp .tif .tiff .ppm"
FAULTS = {
    "empty": ((), f"holds no images ({SUFFIX_LIST}); expected {LAYOUT}"),
    "flat": (("1.png",), f"/1.png: lies in no class folder; expected {LAYOUT}"),
    "flat beside classes": (("dog/1.png", "1.png"), "/1.png: lies in no class folder; expected"),
    "flat val": (("val/1.png",), "'val': images, but no class folders; expected"),
    "flat train and test": (
        ("train/1.png", "test/1.png"),
        "'test', 'train': images, but no class folders; expected",
    ),
    "flat within val": (("val/1.png", "val/dog/1.png"), "/val/1.png: lies in no class folder"),
    "train and test": (
        ("train/dog/1.png", "test/dog/1.png"),
        "/dog/1.png: lies in a folder within a class folder; expected",
    ),
    "too deep": (
        ("val/dog/a/1.png",),
        "/val/dog/a/1.png: lies in a folder within a class folder; expected",
    ),
    "ids and names": (
        (f"{TENCH}/1.png", "dog/1.png", "cat/1.png"),
        f"class folder '{TENCH}' is a WordNet id, but not 'cat', 'dog'; allowed: WordNet ids only, "
        "numbers only, or names only",
    ),
    "numbers and names": (
        ("1/1.png", "a/1.png", "b/1.png", "c/1.png", "d/1.png"),
        "class folder '1' is a number, but not 'a', 'b', 'c' and 1 more; allowed: WordNet ids only,",
    ),
    "no id of ImageNet": (
        (f"{TENCH}/1.png", "n99999999/1.png"),
        "'n99999999': none of the 1000 classes of ImageNet",
    ),
    "one number twice": (("7/1.png", "07/1.png"), "class folders of one number: '07', '7'; rename"),
}


@pytest.mark.parametrize(("names", "fault"), FAULTS.values(), ids=FAULTS)
def test_folder_that_is_not_as_expected(tmp_path, names, fault):
    message = complaint(lambda: read_folder(fill(tmp_path, *names)))
    assert message.startswith(str(tmp_path))
    assert fault in message


def test_folder_that_is_not_there(tmp_path):
    message = complaint(lambda: read_folder(tmp_path / "none"))
    assert message == f"{tmp_path / 'none'}: no readable folder (No such file or directory)"


# pixels


@pytest.mark.parametrize("size", [(500, 375), (300, 640), (256, 256), (97, 213)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (64, 64)])
def test_pixels_are_those_of_torchvision(tmp_path, size, resize, crop):
    path = tmp_path / "dog" / "1.png"
    fill(tmp_path, "dog/1.png")
    path.write_bytes(packed(photo(*size)))
    (pool,) = read_folder(tmp_path)
    reference = v2.Compose(
        [
            v2.Resize(resize, interpolation=InterpolationMode.BILINEAR, antialias=True),
            v2.CenterCrop(crop),
            v2.PILToTensor(),
        ]
    )
    expected = reference(Image.open(path).convert("RGB"))
    found = taken(pool, 0, preprocessing=Preprocessing(resize, crop))
    assert found.dtype == np.uint8
    assert torch.equal(torch.from_numpy(found)[0], expected)


def test_usual_preprocessing_is_that_of_torchvisions_weights(tmp_path):
    from torchvision.transforms._presets import ImageClassification

    path = fill(tmp_path, "dog/1.png") / "dog" / "1.png"
    path.write_bytes(packed(photo(400, 300)))
    reference = ImageClassification(crop_size=224, mean=(0, 0, 0), std=(1, 1, 1))
    (pool,) = read_folder(tmp_path)
    found = taken(pool, 0, preprocessing=Preprocessing())[0]
    expected = 255 * reference(Image.open(path))
    assert np.array_equal(found, expected.round().to(torch.uint8).numpy())


def test_only_those_asked_for_are_decoded_in_the_order_asked_for(tmp_path):
    fill(tmp_path, "dog/0.png", "dog/1.png", "dog/2.png")
    (tmp_path / "dog" / "1.png").write_bytes(b"no image")
    (pool,) = read_folder(tmp_path)
    both = taken(pool, 2, 0)
    assert np.array_equal(both, np.concatenate([taken(pool, 2), taken(pool, 0)]))
    assert not np.array_equal(both[0], both[1])
    assert taken(pool).shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")],
)
def test_other_kinds_of_pixels_are_converted_to_rgb(tmp_path, mode, format):
    path = fill(tmp_path, "dog/1.png") / "dog" / "1.png"
    path.write_bytes(packed(photo(8, 8, mode=mode), format))
    (pool,) = read_folder(tmp_path)
    expected = np.moveaxis(np.asarray(Image.open(path).convert("RGB")), -1, 0)
    assert np.array_equal(taken(pool, 0, preprocessing=Preprocessing(None, 8))[0], expected)


def test_images_of_the_size_of_the_crop_may_be_left_as_they_are(tmp_path):
    (pool,) = read_folder(fill(tmp_path, "dog/1.png"))
    message = complaint(lambda: taken(pool, 0, preprocessing=Preprocessing(None, 12)))
    assert message == f"{tmp_path / 'dog/1.png'}: is 12 × 9 pixels, expected 12 × 12"


@pytest.mark.parametrize(
    ("resize", "crop", "fault"),
    [
        (256, 0, "crop: 0 pixels; allowed: 1 or more"),
        (200, 224, "resize: 200 pixels are fewer than crop: 224; allowed: 224 or more"),
    ],
)
def test_preprocessing_that_cannot_be(resize, crop, fault):
    assert complaint(lambda: Preprocessing(resize, crop)) == fault


def deep() -> bytes:
    return packed(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)))


def bomb(pixels: int) -> bytes:
    """A PNG whose header claims many pixels."""
    content = bytearray(packed(photo(8, 8)))
    content[16:24] = (pixels // 1000).to_bytes(4, "big") + (1000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


NO_IMAGE = "not an image (JPEG, PNG, BMP, WEBP, TIFF, PPM); replace or remove it"
BAD = {
    "text": (b"no image", NO_IMAGE),
    "empty": (b"", NO_IMAGE),
    "HTML": (b"<!DOCTYPE html>", NO_IMAGE),
    "cut JPEG": (packed(photo(), "JPEG")[:-50], "not a readable image (image file is truncated"),
    "cut PNG": (packed(photo())[:-150], "not a readable image ("),
    "damaged PNG": (packed(photo())[:60] + b"\0" * 40 + packed(photo())[100:], "not a readable"),
    "GIF": (packed(photo(), "GIF"), NO_IMAGE),
    "16 bits": (deep(), "has more than 8 bits a channel; convert it to 8 bits"),
    "large": (bomb(100_000_000), "has more than 89,478,485 pixels; shrink or remove it"),
    "bomb": (bomb(10**12), "has more than 89,478,485 pixels; shrink or remove it"),
}


@pytest.mark.parametrize(("content", "fault"), BAD.values(), ids=BAD)
def test_unreadable_image_is_named(tmp_path, content, fault):
    path = fill(tmp_path, "dog/1.png", "dog/2.png") / "dog" / "2.png"
    path.write_bytes(content)
    (pool,) = read_folder(tmp_path)
    message = complaint(lambda: taken(pool, 0, 1))
    assert message.startswith(f"{path}: {fault}")


def test_image_that_cannot_be_opened_is_named(tmp_path):
    path = fill(tmp_path, "dog/1.png") / "dog" / "2.png"
    path.symlink_to(tmp_path / "nowhere.png")
    (pool,) = read_folder(tmp_path)
    message = complaint(lambda: taken(pool, 1))
    assert message == f"{path}: cannot be read (No such file or directory)"


def test_dimensions_are_width_and_height(tmp_path):
    path = fill(tmp_path, "dog/1.png") / "dog" / "1.png"
    assert dimensions(path) == (12, 9)
    path.write_bytes(b"no image")
    assert complaint(lambda: dimensions(path)).startswith(f"{path}: not an image (JPEG")


# archives


NAMES = ["val/dog/1.png", "train/dog/2.png", "train/ant/3.png", "val/ant/4.png"]


@pytest.fixture
def archive(tmp_path):
    """An archive of the files of a folder, in no order, and that folder."""
    fill(tmp_path / "pets", *NAMES, ".DS_Store.png")
    (tmp_path / "pets" / "labels.csv").write_text("x")
    path = tmp_path / "pets.tgz"
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "pets", "pets", recursive=False)
        for name in [*NAMES, "labels.csv", ".DS_Store.png"]:
            file.add(tmp_path / "pets" / name, f"pets/{name}")
    return path


def test_archive_reads_as_the_folder_that_it_holds(archive):
    before = sorted(archive.parent.rglob("*"))
    for inside, outside in zip(
        read_archive(archive), read_folder(archive.with_suffix("")), strict=True
    ):
        assert inside.names == outside.names
        assert np.array_equal(inside.labels, outside.labels)
        assert np.array_equal(taken(inside, 1, 0), taken(outside, 1, 0))
        assert np.array_equal(taken(inside, 1), taken(outside, 1))
    assert sorted(archive.parent.rglob("*")) == before


def test_archive_that_changes_after_it_was_listed(archive):
    train, _ = read_archive(archive)
    with tarfile.open(archive, "w:gz") as file:
        file.add(archive.with_suffix("") / NAMES[0], f"pets/{NAMES[0]}")
    message = complaint(lambda: taken(train, 0, 1))
    assert message == (
        f"{archive}: 'train/ant/3.png', 'train/dog/2.png': gone since it was listed; run again"
    )


def test_archive_of_several_folders(archive):
    with tarfile.open(archive, "w:gz") as file:
        for folder in ("a", "b"):
            file.add(archive.with_suffix("") / NAMES[0], f"{folder}/dog/1.png")
    message = complaint(lambda: read_archive(archive))
    assert message == f"{archive}: holds several folders: 'a', 'b'; expected one"


def test_unreadable_image_within_an_archive_is_named(archive):
    (archive.with_suffix("") / NAMES[0]).write_bytes(b"no image")
    with tarfile.open(archive, "w:gz") as file:
        file.add(archive.with_suffix("") / NAMES[0], f"pets/{NAMES[0]}")
    (pool,) = read_archive(archive)
    message = complaint(lambda: taken(pool, 0))
    assert message.startswith(f"{archive}/{NAMES[0]}: not an image (JPEG")


# change


def test_fingerprint_tells_of_every_change(tmp_path):
    fill(tmp_path, "dog/1.png", "dog/2.png")
    path, seen = tmp_path / "dog" / "1.png", [fingerprint(tmp_path)]
    assert fingerprint(tmp_path) == seen[0]
    assert len(seen[0]) == hashlib.sha256().digest_size * 2

    os.utime(path, ns=(0, 0))
    seen.append(fingerprint(tmp_path))
    path.write_bytes(packed(photo(5, 5)))
    os.utime(path, ns=(0, 0))
    seen.append(fingerprint(tmp_path))
    path.rename(path.with_name("3.png"))
    seen.append(fingerprint(tmp_path))
    fill(tmp_path, "cat/1.png")
    seen.append(fingerprint(tmp_path))
    (tmp_path / "test_batch.bin").touch()
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 6


def test_fingerprint_is_read_once_a_process(tmp_path):
    before = folders.fingerprint(fill(tmp_path, "dog/1.png"))
    fill(tmp_path, "dog/2.png")
    assert folders.fingerprint(tmp_path) == before != fingerprint(tmp_path)


def test_fingerprint_depends_neither_on_the_place_nor_on_hidden_files(tmp_path):
    fill(tmp_path / "a", "dog/1.png")
    os.utime(tmp_path / "a" / "dog" / "1.png", ns=(0, 0))
    before = fingerprint(tmp_path / "a")
    (tmp_path / "a" / ".DS_Store").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path / "b") == before


def test_fingerprint_of_what_is_not_there(tmp_path):
    gone = tmp_path / "gone"
    assert complaint(lambda: fingerprint(gone)).startswith(f"{gone}: no readable folder")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.png").symlink_to(gone)
    message = complaint(lambda: fingerprint(tmp_path))
    assert message == f"{tmp_path / 'dog' / '1.png'}: cannot be read (No such file or directory)"


# real photographs


def test_real_photographs_get_the_labels_of_imagenet(tmp_path):
    data = os.environ.get("NOISETRANSFER_TEST_DATA")
    if data is None:
        pytest.skip("NOISETRANSFER_TEST_DATA is unset")
    photographs = sorted((Path(data) / "imagenet_sample200").glob("*.JPEG"))
    for path in photographs:
        link = tmp_path / path.name.partition("_")[0] / path.name
        link.parent.mkdir()
        link.symlink_to(path)
    (pool,) = read_folder(tmp_path)
    assert pool.labels.tolist() == [5 * i for i in range(200)]
    images = taken(pool, 0, 100, 199, preprocessing=Preprocessing())
    assert images.shape == (3, 3, 224, 224)
    assert images.std(axis=(1, 2, 3)).min() > 20
    words = class_names([pool])
    assert [words[label] for label in (0, 500, 995)] == ["tench", "cliff dwelling", "earthstar"]
