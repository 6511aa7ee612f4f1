"""Modified images that are read, not made: published corrupted sets, and the user's own pairs. No torch.

CIFAR-10-C and ImageNet-C: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from noisetransfer.archives import damaged, locate_member
from noisetransfer.downloads import RemoteFile, fetch
from noisetransfer.errors import StudyError
from noisetransfer.folders import SUFFIXES, Preprocessing, dimensions, opened
from noisetransfer.modifications import MODIFICATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORRUPTIONS = tuple(
    m.name for m in MODIFICATIONS.values() if m.kind == "corruption" and not m.build
)
_TRAINING, _TEST = 50_000, 10_000  # images of CIFAR-10
_ROWS = 5 * _TEST
_TARS = {  # of ImageNet-C: what each holds
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "weather": ("snow", "frost", "fog", "brightness"),
}


@dataclass(frozen=True)
class Chosen:
    """The clean images whose modified versions are wanted, n of them.

    Attributes:
        indices: original indices, as `datasets.splits` returns them.
        labels: of the classes.
        names: of photographs: their paths, as `datasets.names_of` returns them.
    """

    indices: Sequence[int]
    labels: Sequence[int]
    names: Sequence[str] = ()


@dataclass(frozen=True)
class CorruptedSet:
    """A published corrupted set.

    Attributes:
        title: as it was published.
        dataset: id of the dataset whose test images it corrupts.
        preprocessing: of the clean images, so that they fit; None if they are of one size.
        read: corruption, severity, folder, images → pixels.
        files: what `retrieve_official` gets.
        mirrors: addresses that `files` are downloaded from.
        hint: how to get it otherwise.
    """

    title: str
    dataset: str
    preprocessing: Preprocessing | None
    read: Callable[[str, int, Path, Chosen], NDArray[np.uint8]]
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    hint: str


def read_official(
    set_name: str, corruption: str, severity: int, folder: Path, chosen: Chosen
) -> NDArray[np.uint8]:
    """Read the published corrupted versions of test images.

    Args:
        set_name: id in `SETS`.
        corruption: one of `CORRUPTIONS`.
        severity: 1 to 5.
        folder: of the set: for cifar10_c of its .npy files or of CIFAR-10-C.tar, for imagenet_c of
            `corruption/severity/wnid/file.JPEG`.
        chosen: the clean images.

    Returns:
        uint8, shape (n, 3, H, W), as the clean images.

    Raises:
        StudyError: the set lacks a file, a file is not as published, or an image is no test image.
    """
    if not folder.is_dir():
        raise StudyError(f"{set_name}: {folder}: no such folder. {SETS[set_name].hint}")
    return SETS[set_name].read(corruption, severity, folder, chosen)


def misfit(set_name: str, dataset: str, preprocessing: Preprocessing | None) -> str | None:
    """Say why the images of a dataset do not fit a published set; None if they do.

    Args:
        set_name: id in `SETS`.
        dataset: id of the clean images' dataset.
        preprocessing: what is done to them.
    """
    published = SETS[set_name]
    if dataset != published.dataset:
        return f"{published.title} holds images of {published.dataset}, not of {dataset}"
    wanted = published.preprocessing
    if wanted and preprocessing != wanted:
        return (
            f"{published.title} was made with resize: {wanted.resize} and crop: {wanted.crop}; "
            f"only these fit {dataset}'s images to it"
        )
    return None


def retrieve_official(set_name: str, into: Path) -> None:
    """Download a published set into a folder and verify it, unless it is there already.

    Raises:
        StudyError: it cannot be downloaded.
    """
    published = SETS[set_name]
    if not published.files:
        raise StudyError(f"{set_name}: no folder of it is named. {published.hint}")
    for file in published.files:
        try:
            fetch(file, published.mirrors, into)
        except StudyError as error:
            raise StudyError(f"{set_name}: {error}\nWithout a network: {published.hint}") from None


def read_paired(
    folder: Path,
    names: Sequence[str],
    preprocessing: Preprocessing,
    originals: Path | None = None,
) -> NDArray[np.uint8]:
    """Read the user's own modified versions of photographs, resized and cropped as those are.

    Args:
        folder: holds a file for each photograph, under its path or the last two parts of it
            (`CLASS/image`); the suffix may differ.
        names: paths of the photographs, as `datasets.names_of` returns them.
        preprocessing: what is done to the photographs.
        originals: their folder: pairs must be of the size of those that lie there.

    Returns:
        uint8, shape (n, 3, crop, crop).

    Raises:
        StudyError: a file is missing, cannot be read, or is of another size than its original.
    """
    pairs = _all_found(folder, names)
    for pair, name in zip(pairs, names, strict=True):
        if originals and (originals / name).is_file():
            _check_size(folder / pair, originals / name)
    return _decoded(folder, pairs, preprocessing)


def _check_size(pair: Path, original: Path) -> None:
    """Raise a StudyError unless a pair is of the size of its original."""
    sizes = [dimensions(pair), dimensions(original)]
    if sizes[0] != sizes[1]:
        one, other = (f"{width} × {height}" for width, height in sizes)
        raise StudyError(
            f"{pair}: is {one} pixels, but its original {original} {other}; a pair is to be of "
            "the size of its original: both are then resized and cropped alike"
        )


def _all_found(folder: Path, names: Sequence[str], advice: str = "") -> list[str]:
    """Return the path, relative to a folder, of the version there of each photograph."""
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder")
    found = [_version(folder, name) for name in names]
    missing = [name for name, version in zip(names, found, strict=True) if not version]
    if missing:
        raise StudyError(
            f"{folder}: {len(missing)} of {len(names)} images are missing, first that of {missing[0]}{advice}"
        )
    return [version for version in found if version]


def _version(folder: Path, name: str) -> str | None:
    path = PurePosixPath(name)
    suffixes = (path.suffix, *SUFFIXES, *map(str.upper, SUFFIXES))
    places = (path, PurePosixPath(*path.parts[-2:]))
    versions = (str(place.with_suffix(suffix)) for place in places for suffix in suffixes)
    return next((version for version in versions if (folder / version).is_file()), None)


def _decoded(folder: Path, names: Sequence[str], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    images = np.empty((len(names), 3, preprocessing.crop, preprocessing.crop), np.uint8)
    for image, (name, content) in zip(images, opened(folder, names), strict=True):
        image[:] = preprocessing.pixels(content, str(folder / name))
    return images


def _inventory(present: Collection[str]) -> str:
    has = ", ".join(name for name in CORRUPTIONS if name in present)
    lacks = ", ".join(name for name in CORRUPTIONS if name not in present)
    return f"It has {has or 'none of the corruptions'}; it lacks {lacks}."


# CIFAR-10-C


def _read_cifar10_c(
    corruption: str, severity: int, folder: Path, chosen: Chosen
) -> NDArray[np.uint8]:
    """Read rows of `{corruption}.npy`: the 10,000 test images in their order, once a severity."""
    positions = np.asarray(chosen.indices, np.int64) - _TRAINING
    if outside := positions[(positions < 0) | (positions >= _TEST)].tolist():
        raise StudyError(
            f"cifar10_c: image {outside[0] + _TRAINING} of cifar10 is no test image, and CIFAR-10-C "
            "holds no others: take it as a target, not as a source"
        )
    rows = (severity - 1) * _TEST + positions
    _check_labels(folder, rows, chosen)
    images = _array(folder, corruption, (_ROWS, 32, 32, 3))[rows]
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _check_labels(folder: Path, rows: NDArray[np.int64], chosen: Chosen) -> None:
    found = _array(folder, "labels", (_ROWS,))[rows]
    for row, label, index, expected in zip(rows, found, chosen.indices, chosen.labels, strict=True):
        if label != expected:
            raise StudyError(
                f"cifar10_c: {folder}: labels.npy: row {row} is of class {label}, but image {index} of "
                f"cifar10 of class {expected}: the rows are not in the published order"
            )


def _array(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map an array of CIFAR-10-C: a file of its own, or within the archive."""
    path, start, size = _located(folder, name)
    array = _mapped(path, start, size)
    whole = array.dtype.kind in "ui" if name == "labels" else array.dtype == np.uint8
    if array.shape != shape or not whole:
        raise StudyError(
            f"{path}: {name}.npy holds {array.dtype} {array.shape}, not whole numbers {shape}, as published"
        )
    return array


def _located(folder: Path, name: str) -> tuple[Path, int, int]:
    """Return the file that holds an array of CIFAR-10-C, the offset there and the size in bytes."""
    for place in (folder, folder / "CIFAR-10-C"):
        if (path := place / f"{name}.npy").is_file():
            return path, 0, path.stat().st_size
    archive = folder / "CIFAR-10-C.tar"
    if archive.is_file():
        if found := locate_member(archive, f"CIFAR-10-C/{name}.npy"):
            return archive, *found
        raise damaged(archive, f"member 'CIFAR-10-C/{name}.npy' is missing")
    present = {path.stem for path in [*folder.glob("*.npy"), *folder.glob("CIFAR-10-C/*.npy")]}
    raise StudyError(
        f"cifar10_c: {folder}: neither {name}.npy nor CIFAR-10-C.tar. "
        f"{_inventory(present)} {SETS['cifar10_c'].hint}"
    )


def _mapped(path: Path, start: int, size: int) -> NDArray[Any]:
    """Map an array in numpy's format that lies within a file; never a pickle."""
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with path.open("rb") as file:
            file.seek(start)
            shape, fortran, dtype = headers[npy.read_magic(file)](file)
            offset = file.tell()
        if dtype.hasobject or fortran:
            raise ValueError("an array of objects, or in Fortran's order")
        if (needed := offset - start + dtype.itemsize * int(np.prod(shape))) > size:
            raise ValueError(f"{size:,} bytes, its header tells of {needed:,}")
        return np.memmap(path, dtype, "r", offset, shape)
    except Exception as error:  # what numpy raises depends on where the damage is
        raise damaged(path, error) from error


# ImageNet-C


def _read_imagenet_c(
    corruption: str, severity: int, folder: Path, chosen: Chosen
) -> NDArray[np.uint8]:
    """Read `{corruption}/{severity}/{wnid}/{file}.JPEG`, square of 224 pixels as published."""
    if len(chosen.names) != len(chosen.indices):
        raise ValueError(f"{len(chosen.indices)} images have {len(chosen.names)} names")
    place = _imagenet_c_folder(folder, corruption) / str(severity)
    if not place.is_dir():
        raise StudyError(f"imagenet_c: {place}: no such folder. {SETS['imagenet_c'].hint}")
    advice = (
        "; ImageNet-C holds the validation images of ILSVRC2012 only, under their own file names"
    )
    names = _all_found(place, ["/".join(name.split("/")[-2:]) for name in chosen.names], advice)
    return _decoded(place, names, Preprocessing(resize=None, crop=224))


def _imagenet_c_folder(folder: Path, corruption: str) -> Path:
    """Return the folder of a corruption, which some keep under the name of its archive."""
    present = {path.name: path for path in [*folder.glob("*/*/"), *folder.glob("*/")]}
    if corruption in present:
        return present[corruption]
    archive = next(tar for tar, held in _TARS.items() if corruption in held)
    raise StudyError(
        f"imagenet_c: {folder}: no folder {corruption}, which {archive}.tar holds. "
        f"{_inventory(present)} {SETS['imagenet_c'].hint}"
    )


SETS = {
    # size and MD5 are Zenodo's (56bf5dcef84df0e2308c6dcbcbbd8499); the SHA-256 is that of TensorFlow Datasets
    "cifar10_c": CorruptedSet(
        title="CIFAR-10-C",
        dataset="cifar10",
        preprocessing=None,
        read=_read_cifar10_c,
        files=(
            RemoteFile(
                "CIFAR-10-C.tar",
                ("c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",),
                most=2_918_471_680,
            ),
        ),
        mirrors=("https://zenodo.org/records/2535967/files/",),
        hint=(
            "CIFAR-10-C is Zenodo record 2535967: CIFAR-10-C.tar (2.9 GB). Name the folder that holds it, "
            "or its .npy files, as datasets: cifar10: corrupted: in the study file."
        ),
    ),
    "imagenet_c": CorruptedSet(
        title="ImageNet-C",
        dataset="imagenet",
        preprocessing=Preprocessing(resize=256, crop=224),
        read=_read_imagenet_c,
        files=(),
        mirrors=(),
        hint=(
            "ImageNet-C is Zenodo record 2235448: blur.tar, digital.tar, extra.tar, noise.tar, weather.tar "
            "(75 GB). Unpack those you need, CORRUPTION/SEVERITY/WNID/FILE.JPEG, and name their folder as "
            "datasets: imagenet: corrupted: in the study file."
        ),
    ),
}
