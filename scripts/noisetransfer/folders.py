"""Photographs in class folders: which there are, their labels, and their pixels when they are wanted.

A folder holds class folders (`CLASS/image.jpg`), or class folders in `val/` and, for calibration,
in `train/`. Other files, hidden ones, and what lies beside `val/` and `train/` are left alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from noisetransfer.archives import MemberBounds, list_members, stream_members
from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    Contents = Callable[[Collection[str]], Iterator[tuple[str, IO[bytes]]]]
    """Names of files → each with its opened content, in any order."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
LAYOUT = "CLASS/image.jpg, or val/CLASS/image.jpg and, for calibration, train/CLASS/image.jpg"
SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}
IMAGENET = 1000  # classes
_WNID = re.compile(r"n\d{8}", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_DEEPEST = 4  # one more than train / class / image, to tell of misplaced ones
# Imagenette has 13,394 images, 320 pixels and more: 0.35 GB
_BOUNDS = MemberBounds(members=30_000, each=2**25, total=2**30)


@dataclass(frozen=True)
class Preprocessing:
    """How photographs of any size become images of one: the usual evaluation on ImageNet.

    Attributes:
        resize: length of the shorter side, in pixels; None: the photographs are of the size of the crop.
        crop: side of the central square that is kept, in pixels.
    """

    resize: int | None = 256
    crop: int = 224

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise StudyError(f"crop: {self.crop} pixels; allowed: 1 or more")
        if self.resize is not None and self.resize < self.crop:
            raise StudyError(
                f"resize: {self.resize} pixels are fewer than crop: {self.crop}; allowed: {self.crop} or more"
            )

    def pixels(self, content: IO[bytes], place: str) -> NDArray[np.uint8]:
        """Decode a photograph.

        Args:
            content: of the file.
            place: the file's path, for messages.

        Returns:
            uint8, shape (3, crop, crop); the numbers of torchvision's Resize (bilinear, antialiased)
            and CenterCrop of PIL images.

        Raises:
            StudyError: it cannot be read, is too large, or has more than 8 bits a channel.
        """
        image = decode(content, place)
        if self.resize is None:
            if image.size != (self.crop, self.crop):
                raise StudyError(
                    f"{place}: is {_size(image)} pixels, expected {self.crop} × {self.crop}"
                )
            return _channels_first(image)
        return _channels_first(_resized(image, self.resize, self.crop))


def _resized(image: Image, resize: int, crop: int) -> Image:
    from torchvision.transforms.v2 import InterpolationMode, functional

    bilinear = InterpolationMode.BILINEAR
    smaller = functional.resize(image, [resize], interpolation=bilinear, antialias=True)
    cropped: Image = functional.center_crop(smaller, [crop, crop])
    return cropped


def decode(content: IO[bytes], place: str) -> Image:
    """Return a photograph in RGB, as it is stored (no rotation by its EXIF data).

    Raises:
        StudyError: it cannot be read, is too large, or has more than 8 bits a channel.
    """
    with _image(content, place) as image:
        if image.mode.startswith(("I", "F")):
            raise StudyError(f"{place}: has more than 8 bits a channel; convert it to 8 bits")
        return image.convert("RGB")


def dimensions(path: Path) -> tuple[int, int]:
    """Return the width and height of a photograph, from the head of its file.

    Raises:
        StudyError: it cannot be read.
    """
    with _opened(path) as content, _image(content, str(path)) as image:
        return image.size


@contextmanager
def _image(content: IO[bytes], place: str) -> Iterator[Image]:
    """Open an image; all that goes wrong with it in the block becomes a StudyError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=FORMATS) as image:
                yield image
    except StudyError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        most = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise StudyError(f"{place}: has more than {most} pixels; shrink or remove it") from None
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise StudyError(f"{place}: not an image ({known}); replace or remove it") from None
    except Exception as error:  # what PIL raises depends on where the damage is
        raise StudyError(
            f"{place}: not a readable image ({error}); replace or remove it"
        ) from error


def _size(image: Image) -> str:
    return " × ".join(map(str, image.size))


def _channels_first(image: Image) -> NDArray[np.uint8]:
    return np.moveaxis(np.asarray(image), -1, 0)


@dataclass(frozen=True)
class Photographs:
    """A pool of photographs, not decoded yet.

    Attributes:
        place: the folder or archive that holds them.
        names: their paths relative to it, with '/', sorted.
        labels: int64 (n,).
        contents: opens those that are named.
    """

    place: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    contents: Contents

    def take(
        self, positions: NDArray[np.int64], preprocessing: Preprocessing | None
    ) -> NDArray[np.uint8]:
        """Decode the photographs at some positions, one after the other.

        Returns:
            uint8, shape (len(positions), 3, crop, crop).

        Raises:
            StudyError: one cannot be read.
        """
        prepared = preprocessing or Preprocessing()
        row = {self.names[position]: i for i, position in enumerate(positions.tolist())}
        images = np.empty((len(row), 3, prepared.crop, prepared.crop), np.uint8)
        for name, content in self.contents(tuple(row)):
            images[row.pop(name)] = prepared.pixels(content, str(self.place / name))
        if row:
            raise StudyError(f"{self.place}: {_some(row)}: gone since it was listed; run again")
        return images


def read_folder(folder: Path) -> list[Photographs]:
    """List the photographs of a folder in class folders.

    Args:
        folder: laid out as this module says.

    Returns:
        One pool; or the pool of `train/`, then that of `val/`.

    Raises:
        StudyError: there are none, they are laid out otherwise, or their classes are named in several ways.
    """
    return _pools(
        folder, list(filter(_is_image, _files(folder))), lambda names: opened(folder, names)
    )


def read_archive(path: Path) -> list[Photographs]:
    """As `read_folder`, of the one folder that a gzipped tar archive holds; nothing is unpacked to disk.

    Raises:
        StudyError: also if the archive is damaged or holds more than expected.
    """
    members = [name for name in list_members(path, _BOUNDS) if _is_image(name)]
    roots = {name.partition("/")[0] for name in members}
    if len(roots) > 1:
        raise StudyError(f"{path}: holds several folders: {_some(sorted(roots))}; expected one")
    root = "".join(f"{name}/" for name in roots)

    def contents(names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        for name, content in stream_members(path, {root + name for name in names}, _BOUNDS):
            yield name.removeprefix(root), content

    return _pools(path, [name.removeprefix(root) for name in members], contents)


def opened(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Open files of a folder, one after the other.

    Raises:
        StudyError: one cannot be opened.
    """
    for name in names:
        with _opened(folder / name) as content:
            yield name, content


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        content = path.open("rb")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from error
    with content:
        yield content


def _pools(place: Path, names: Sequence[str], contents: Contents) -> list[Photographs]:
    """Group the names of images into pools and give them labels."""
    pooled = any(name.startswith("val/") and name.count("/") > 1 for name in names)
    groups = [_classes(place, names, start) for start in (("train/", "val/") if pooled else ("",))]
    labels = class_labels({kind for group in groups for kind in group.values()}, place)
    return [
        Photographs(
            place, tuple(group), np.array([labels[kind] for kind in group.values()]), contents
        )
        for group in groups
        if group
    ]


def _classes(place: Path, names: Sequence[str], start: str) -> dict[str, str]:
    """Return the class folder of each image whose name starts so, sorted by name."""
    return {
        name: _class(place / name, name.removeprefix(start).split("/")[:-1])
        for name in sorted(names)
        if name.startswith(start)
    }


def _class(path: Path, folders: Sequence[str]) -> str:
    if len(folders) == 1:
        return folders[0]
    where = "in a folder within a class folder" if folders else "in no class folder"
    raise StudyError(f"{path}: lies {where}; expected {LAYOUT}")


def class_labels(classes: Collection[str], place: Path) -> dict[str, int]:
    """Return the label of each class folder.

    Args:
        classes: names of the folders: all WordNet ids of ImageNet's 1,000 classes (labelled 0 to 999, as
            there), or all whole numbers (the labels), or any other (labelled 0, 1, … in sorted order).
        place: where they are, for messages.

    Raises:
        StudyError: there are none, they are of several kinds, or an id is none of ImageNet's.
    """
    if not classes:
        raise StudyError(f"{place}: holds no images ({' '.join(SUFFIXES)}); expected {LAYOUT}")
    if SPLIT_NAMES.issuperset(classes):
        raise StudyError(
            f"{place}: {_some(classes)}: images, but no class folders; expected {LAYOUT}"
        )
    for kind, pattern in (("a WordNet id", _WNID), ("a number", _NUMBER)):
        others = [name for name in classes if not pattern.fullmatch(name)]
        if others and len(others) < len(classes):
            one = next(name for name in sorted(classes) if name not in others)
            raise StudyError(
                f"{place}: class folder {one!r} is {kind}, but not {_some(others)}; "
                "allowed: WordNet ids only, numbers only, or names only"
            )
        if not others:
            return _by_wnid(classes, place) if pattern is _WNID else _by_number(classes, place)
    return {name: label for label, name in enumerate(sorted(classes))}


def _by_wnid(classes: Collection[str], place: Path) -> dict[str, int]:
    known = {wnid: label for label, wnid in enumerate(wnids())}
    if unknown := set(classes) - set(known):
        raise StudyError(f"{place}: {_some(unknown)}: none of the {len(known)} classes of ImageNet")
    return {name: known[name] for name in classes}


def _by_number(classes: Collection[str], place: Path) -> dict[str, int]:
    labels = {name: int(name) for name in classes}
    if len(set(labels.values())) < len(labels):
        raise StudyError(f"{place}: class folders of one number: {_some(classes)}; rename them")
    return labels


def _some(names: Iterable[str]) -> str:
    """Return the first names, quoted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(map(repr, ordered[:3])) + more


@cache
def fingerprint(folder: Path) -> str:
    """Return a SHA-256 over the names, sizes and times of the files of a folder, to see that it changed.

    Hidden files are left out. The folder is read once a process.

    Raises:
        StudyError: the folder or a file of it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for name in sorted(_files(folder)):
            status = (folder / name).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    except OSError as error:
        raise StudyError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _files(folder: Path, deepest: int = _DEEPEST) -> Iterator[str]:
    """Yield the paths of the files in a folder, relative to it, in any order; hidden ones are left out."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise StudyError(f"{folder}: no readable folder ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield entry.name
        elif deepest > 1:
            yield from (f"{entry.name}/{name}" for name in _files(Path(entry.path), deepest - 1))


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


@cache
def wnids() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet's 1,000 classes, in the order of their labels.

    Raises:
        StudyError: the package timm, which lists them, is not installed.
    """
    return tuple(_timm_list("imagenet_synsets.txt"))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of their labels."""
    names = dict(line.split("\t", 1) for line in _timm_list("imagenet_synset_to_lemma.txt"))
    return tuple(names[wnid].partition(",")[0] for wnid in wnids())


def _timm_list(name: str) -> list[str]:
    """Read a list of ImageNet that timm ships (Apache-2.0), without importing timm."""
    package = importlib.util.find_spec("timm")
    for place in (package and package.submodule_search_locations) or ():
        return (Path(place) / "data" / "_info" / name).read_text(encoding="utf-8").splitlines()
    raise StudyError("the classes of ImageNet are listed by the package timm: pip install timm")


def class_names(pools: Iterable[Photographs]) -> dict[int, str]:
    """Return the name of each label that occurs; of WordNet ids, the word."""
    found = {
        label: name.split("/")[-2]
        for pool in pools
        for name, label in zip(pool.names, pool.labels.tolist(), strict=True)
    }
    return {
        label: imagenet_classes()[label] if _WNID.fullmatch(name) else name
        for label, name in sorted(found.items())
    }
