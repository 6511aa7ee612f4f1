"""The registry of modifications, their ids `name@strength`, and the modified images.

To add a corruption or a transform, add an entry to `_ENTRIES` and a function that builds it from its
strength: `docs/adding.md`. `tests/unit/test_modifications.py` then tests it. Attacks are those of
`attacks.py`. Images of the kinds `official` and `paired` are read, not made: `corrupted_sets.py`. This
module is read by the Snakefile: heavy imports are lazy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal

import numpy as np

from noisetransfer import cifar_corruptions
from noisetransfer.attacks import ATTACKS
from noisetransfer.corruptions import corrupt
from noisetransfer.errors import StudyError
from noisetransfer.randomness import key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

    Transform = Callable[[torch.Tensor], torch.Tensor]
    Pixels = NDArray[np.uint8] | NDArray[np.float32]

Kind = Literal["corruption", "transform", "attack", "clean", "official", "paired"]

OFFICIAL = ("cifar10_c", "imagenet_c")
"""The published corrupted sets: `cifar10_c.fog@3` is CIFAR-10-C's fog at severity 3."""

PAIRED = "paired."
"""What the names of the user's own modified images start with: `paired.rain@1`."""

FLOOR = "random_noise"
"""The attack that is none: what no attacker may fall behind."""

_CIFAR = (3, 32, 32)  # images that CIFAR-10-C's constants are for
_PART = 32  # images that a worker takes at a time: the next are handed over while it computes
_SMALLEST = 32  # the side, in pixels, below which imagecorruptions refuses an image


@dataclass(frozen=True)
class Strengths:
    """The strengths that a kind of modification allows: in words, as a test, as they are written (regex)."""

    text: str
    allow: Callable[[float], bool]
    written: str
    whole: bool = False


_ABOVE_0 = r"(?=[0.]*[1-9])"
_SEVERITY = Strengths(
    "a severity of 1, 2, 3, 4 or 5", (1, 2, 3, 4, 5).__contains__, r"[1-5](\.0*)?", whole=True
)

STRENGTHS: dict[Kind, Strengths] = {
    "corruption": _SEVERITY,
    "transform": Strengths(
        "a scale from 0.2 to 2.0",
        lambda scale: 0.2 <= scale <= 2.0,
        r"0?\.[2-9]\d*|1(\.\d*)?|2(\.0*)?",
    ),
    "attack": Strengths(
        "an epsilon above 0, up to 1",
        lambda epsilon: 0 < epsilon <= 1,
        rf"{_ABOVE_0}(0?\.\d+|1(\.0*)?|\d(\.\d+)?e-\d+)",
    ),
    "clean": Strengths("0 only", (0,).__contains__, r"0(\.0*)?", whole=True),
    "official": _SEVERITY,
    "paired": Strengths("1 only", (1,).__contains__, r"1(\.0*)?", whole=True),
}

L2 = Strengths(
    "an epsilon above 0, up to 1000, in L2",
    lambda epsilon: 0 < epsilon <= 1000,
    rf"{_ABOVE_0}(\d{{0,3}}\.\d+|\d{{1,3}}|1000(\.0*)?)",
)
"""The strengths of attacks in L2: on 28 × 28 pixels a visible one is above 1."""


@dataclass(frozen=True)
class Modification:
    """One way of modifying an image.

    Attributes:
        name: the part of an id before the '@'.
        kind: decides the strengths and who makes the images (attacks: `attacks.py`; official and
            paired ones are read by `corrupted_sets.py`).
        family: groups modifications in figures.
        build: of transforms, and of corruptions that are not of `imagecorruptions`: makes, from a strength,
            the function of one image, float32 (C, H, W) in [0, 1], that draws from PyTorch's default
            generator.
        own_strengths: where they are not those of the kind.
        adaptive: of attacks, whether it averages over draws of the noise.
    """

    name: str
    kind: Kind
    family: str
    build: Callable[[float], Transform] | None = None
    own_strengths: Strengths | None = None
    adaptive: bool = False

    @property
    def strengths(self) -> Strengths:
        """The strengths allowed."""
        return self.own_strengths or STRENGTHS[self.kind]


def _elastic(scale: float) -> Transform:
    """Return a smooth random displacement of about 0.6 · scale pixels (rms; images ≥ 21 px)."""
    from torchvision.transforms import v2

    transform: Transform = v2.ElasticTransform(alpha=35 * scale)
    return transform


def _perspective(scale: float) -> Transform:
    """Return a random change of viewpoint; corners move by up to scale / 8 of a side."""
    from torchvision.transforms import v2

    transform: Transform = v2.RandomPerspective(distortion_scale=0.25 * scale, p=1)
    return transform


def _rotate(scale: float) -> Transform:
    """Return a rotation by a random angle of up to 60 · scale degrees either way."""
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    transform: Transform = v2.RandomRotation(60 * scale, interpolation=bilinear)
    return transform


def _obstruction(scale: float) -> Transform:
    """Return a black square of side int(0.40 · scale · H) at a random place inside the image."""
    import torch

    def obstruct(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        side = int(0.40 * scale * min(height, width))
        down, right = torch.rand(2).tolist()  # shared by all scales
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        result = image.clone()
        result[:, top : top + side, left : left + side] = 0
        return result

    return obstruct


_CORRUPTIONS = (
    Modification("gaussian_noise", "corruption", "noise"),
    Modification("shot_noise", "corruption", "noise"),
    Modification("impulse_noise", "corruption", "noise"),
    Modification("speckle_noise", "corruption", "noise"),
    Modification("defocus_blur", "corruption", "blur"),
    Modification("glass_blur", "corruption", "blur"),
    Modification("motion_blur", "corruption", "blur"),
    Modification("zoom_blur", "corruption", "blur"),
    Modification("gaussian_blur", "corruption", "blur"),
    Modification("snow", "corruption", "weather"),
    Modification("frost", "corruption", "weather"),
    Modification("fog", "corruption", "weather"),
    Modification("brightness", "corruption", "weather"),
    Modification("spatter", "corruption", "weather"),
    Modification("contrast", "corruption", "digital"),
    Modification("elastic_transform", "corruption", "digital"),
    Modification("pixelate", "corruption", "digital"),
    Modification("jpeg_compression", "corruption", "digital"),
    Modification("saturate", "corruption", "digital"),
)

_ENTRIES = (
    *_CORRUPTIONS,
    Modification("elastic", "transform", "geometry", _elastic),
    Modification("perspective", "transform", "geometry", _perspective),
    Modification("rotate", "transform", "geometry", _rotate),
    Modification("obstruction", "transform", "occlusion", _obstruction),
    *(
        Modification(
            name,
            "attack",
            "adversarial",
            own_strengths=L2 if attack.l2 else None,
            adaptive=attack.adaptive,
        )
        for name, attack in ATTACKS.items()
    ),
    Modification("clean", "clean", "clean"),
    Modification(
        "validation", "clean", "clean"
    ),  # those of the validation split: `plan.VALIDATION`
    *(  # the published sets hold the same 19 corruptions, under the same names
        Modification(f"{published}.{made.name}", "official", made.family)
        for published in OFFICIAL
        for made in _CORRUPTIONS
    ),
)

MODIFICATIONS: dict[str, Modification] = {entry.name: entry for entry in _ENTRIES}


def parse(id: str) -> tuple[Modification, float]:
    """Return the modification and the strength that an id names, e.g. "motion_blur@5".

    Raises:
        StudyError: the id is malformed, its name unknown or its strength not allowed.
    """
    name, at, text = id.partition("@")
    if not at:
        raise StudyError(f"{id!r} has no '@': write name@strength, e.g. motion_blur@5")
    modification = MODIFICATIONS.get(name) or _budgeted(name) or _paired(id, name)
    return modification, _strength(id, modification, text)


def attack_of(name: str) -> str:
    """Return the attack of the registry that a name means: "auto_pgd_eot.m50" is an "auto_pgd_eot"."""
    return name.partition(".")[0]


def is_budgeted(name: str) -> bool:
    """Tell whether a name means an attack with a budget of its own: "auto_pgd_eot.m50"."""
    attack = MODIFICATIONS.get(attack_of(name))
    known = attack is not None and attack.kind == "attack"
    return known and re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name) is not None


def _budgeted(name: str) -> Modification | None:
    return replace(MODIFICATIONS[attack_of(name)], name=name) if is_budgeted(name) else None


def _paired(id: str, name: str) -> Modification:
    """Return the modification of the user's own that a name outside the registry means."""
    own = name.removeprefix(PAIRED)
    if re.fullmatch("[a-z0-9_]+", own) and own != name:
        return Modification(name, "paired", "paired")
    known = ", ".join(name for name, entry in MODIFICATIONS.items() if entry.kind != "official")
    published = " and ".join(f"{name}.NAME" for name in OFFICIAL)
    raise StudyError(
        f"{id!r}: unknown modification {name!r}; known are {known}; {published} with the NAME of a "
        f"corruption; {PAIRED}NAME for images of your own (a NAME of a-z, 0-9 and _); ATTACK.NAME with a "
        "budget of its own"
    )


def _strength(id: str, modification: Modification, text: str) -> float:
    """Return the strength written in an id."""
    allowed = f"{modification.name} takes {modification.strengths.text}"
    try:
        strength = float(text)
    except ValueError:
        raise StudyError(f"{id!r}: {text!r} is not a number; {allowed}") from None
    if not modification.strengths.allow(strength):
        raise StudyError(f"{id!r}: {text} is not allowed; {allowed}")
    return strength


def canonical(id: str) -> str:
    """Return the one spelling of an id: "rotate@2" gives "rotate@2.0", "snow@5.0" "snow@5".

    Raises:
        StudyError: as `parse`.
    """
    modification, strength = parse(id)
    return f"{modification.name}@{int(strength) if modification.strengths.whole else strength!r}"


def modify(
    images: NDArray[np.uint8],
    id: str,
    *,
    seed: int,
    dataset: str,
    indices: Sequence[int],
    trial: int | None = None,
    workers: int = 1,
) -> Pixels:
    """Modify images, each with randomness of its own, which all strengths share.

    An image's draws are keyed by (seed, "modify", dataset, name of the modification, index), and by the
    trial if it has draws of its own: batches, their order and the number of workers change nothing.

    Args:
        images: uint8, shape (n, C, H, W), C = 1 or 3.
        id: a corruption, a transform or "clean@0".
        seed: the study's seed.
        dataset: the name of the dataset.
        indices: n original indices of the images in the dataset.
        trial: its number, if it draws images of its own; None: those that all trials share.
        workers: processes. They are spawned: with more than one, the calling script needs its
            `if __name__ == "__main__"`.

    Returns:
        Shape (n, C, H, W): uint8 of clean images and the corruptions of `imagecorruptions`; float32 in
        [0, 1] of what has a `build`.

    Raises:
        StudyError: a bad id, an attack, which needs a network, or images that are read, not made.
        ValueError: images and indices are not as above.
    """
    modification, _ = parse(id)
    _refuse(id, modification.kind)
    _check(images, indices)
    own = () if trial is None else (trial,)
    keys = [key(seed, "modify", dataset, modification.name, int(index), *own) for index in indices]
    if min(workers, len(keys)) <= 1:
        return _modified(images, id, keys)
    count = max(workers, len(keys) // _PART)
    parts = (np.array_split(images, count), repeat(id), np.array_split(keys, count))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(_modified, *parts)))


def _refuse(id: str, kind: Kind) -> None:
    """Raise a StudyError if images of this kind are not made from images."""
    reasons: dict[Kind, str] = {
        "attack": "is an attack: its images are made on a network, by attacks.py",
        "official": "is published: its images are read from the corrupted set, by corrupted_sets.py",
        "paired": "is of your own: its images are read from your folder, by corrupted_sets.py",
    }
    if kind in reasons:
        raise StudyError(f"{id!r} {reasons[kind]}")


def _check(images: NDArray[np.uint8], indices: Sequence[int]) -> None:
    """Raise a ValueError unless the arguments of `modify` fit each other."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be uint8 (n, 1 or 3, H, W): {images.dtype} {images.shape}")
    if len(indices) != len(images):
        raise ValueError(f"{len(images)} images have {len(indices)} indices")


def _modified(images: NDArray[np.uint8], id: str, keys: Sequence[int]) -> Pixels:
    """Modify images (n, C, H, W), one key each, in this process."""
    modification, strength = parse(id)
    if modification.build is not None:
        return _transformed(images, modification.build(strength), keys)
    if modification.kind == "corruption":
        return _corrupted(images, modification.name, int(strength), keys)
    return images.copy()


def _corrupted(
    images: NDArray[np.uint8], name: str, severity: int, keys: Sequence[int]
) -> NDArray[np.uint8]:
    """Corrupt images (n, C, H, W), at least 32 × 32 and in colour meanwhile.

    Colour images of 32 × 32 are corrupted as CIFAR-10-C is, all others as ImageNet-C.
    """
    channels, height, width = images.shape[1:]
    rows, columns = _margins(height), _margins(width)
    padded = np.moveaxis(np.pad(images, ((0, 0), (0, 0), rows, columns)), 1, -1)
    colour = np.broadcast_to(padded, (*padded.shape[:-1], 3))
    inside = np.s_[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    corrupted = cifar_corruptions.corrupt if images.shape[1:] == _CIFAR else corrupt
    result = np.empty_like(images)
    for position, (image, seed) in enumerate(zip(colour, keys, strict=True)):
        found = corrupted(image, name, severity, int(seed))
        result[position] = _channels(found[inside], channels)
    return result


def _margins(size: int) -> tuple[int, int]:
    """Return the zeros to put before and after an axis to make it long enough."""
    missing = max(0, _SMALLEST - size)
    return missing // 2, missing - missing // 2


def _channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as (C, H, W); one channel is the luma.

    Of a grey result the luma is any of its channels, exactly. The noises, frost, spatter, and
    saturate from severity 4 return colour even for a grey image.
    """
    if channels == 3:
        return np.moveaxis(image, -1, 0)
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L"))[np.newaxis]


def _transformed(
    images: NDArray[np.uint8], transform: Transform, keys: Sequence[int]
) -> NDArray[np.float32]:
    """Transform images (n, C, H, W) one by one."""
    import torch

    pixels = torch.from_numpy(images / np.float32(255))
    result = torch.empty_like(pixels)
    with _one_thread(), torch.random.fork_rng(devices=[]), torch.inference_mode():
        for position, seed in enumerate(keys):
            torch.default_generator.manual_seed(int(seed))  # of the CPU, and no other device
            result[position] = transform(pixels[position])
    return result.clamp_(0, 1).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: small images gain nothing from more, and workers share cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
