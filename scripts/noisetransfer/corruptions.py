"""The 19 corruptions of `imagecorruptions` 1.1.2, working today and drawn from a seed alone.

The library (Michaelis et al. 2019, after Hendrycks and Dietterich 2019) was last released in 2020.
Nothing of it is edited or copied: its module gets its own view of the packages that have changed
since then, with a generator of its own in the place of numpy's global one.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


def corrupt(image: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """Corrupt one image. The result depends on the arguments alone; no global state is touched.

    Args:
        image: uint8, shape (H, W, 3), H and W at least 32.
        name: a corruption of `imagecorruptions`, e.g. "motion_blur".
        severity: 1 (weak) to 5 (strong); all severities share the draws of a seed.
        seed: 0 to 2**32 - 1.

    Returns:
        uint8, shape (H, W, 3).

    Raises:
        AttributeError: the image or the severity is not as above.
        KeyError: no such corruption.
    """
    library = _library()
    library.corruptions.np.random.seed(seed)
    result: NDArray[np.uint8] = library.corrupt(image, severity, name)
    return result


@cache
def _library() -> Any:
    """Return the adapted package; the first call imports it and sets OpenCV to one thread."""
    with _pkg_resources(), warnings.catch_warnings():
        # scipy.ndimage.interpolation still works, with a warning
        warnings.simplefilter("ignore", DeprecationWarning)
        import imagecorruptions
    _adapt(imagecorruptions.corruptions)
    functions = imagecorruptions.corruption_dict
    functions["spatter"] = partial(_spatter, functions["spatter"])
    return imagecorruptions


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """Offer, during the import, the one function of pkg_resources (gone from setuptools 81)."""
    original = sys.modules.get("pkg_resources")
    stub = ModuleType("pkg_resources")
    vars(stub)["resource_filename"] = _beside
    sys.modules["pkg_resources"] = stub
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]
        if original is not None:
            sys.modules["pkg_resources"] = original


def _beside(module: str, resource: str) -> str:
    """Return the path of a file given relative to that of a module."""
    return str(Path(str(sys.modules[module].__file__)).parent / resource)


def _adapt(module: Any) -> None:
    """Replace, in the library's module only, what has changed elsewhere and what is slow."""
    import cv2
    from skimage import color

    cv2.setNumThreads(1)
    draws = np.random.RandomState()
    noise = partial(_random_noise, draws)
    module.np = _view(np, float_=np.float64, random=draws)
    module.sk = SimpleNamespace(color=color, util=SimpleNamespace(random_noise=noise))
    module.cv2 = _view(cv2, imread=cache(cv2.imread))  # frost reads its pictures at every call
    module.gaussian = _gaussian
    module.shift = _shift


def _view(module: ModuleType, **replaced: Any) -> SimpleNamespace:
    """Return what a module holds, with some names replaced; the module itself stays as it is."""
    return SimpleNamespace(**{**vars(module), **replaced})


def _random_noise(draws: np.random.RandomState, image: Any, **options: Any) -> Any:
    """Seed skimage's `random_noise`, which has a generator of its own, from our draws."""
    from skimage.util import random_noise

    return random_noise(image, rng=int(draws.randint(2**31)), **options)


def _gaussian(image: Any, sigma: Any, multichannel: bool = False, **options: Any) -> Any:
    """Call skimage's `gaussian`, which now has `channel_axis` in the place of `multichannel`."""
    from skimage.filters import gaussian

    axis = -1 if multichannel else None
    return gaussian(image, sigma, channel_axis=axis, **options)


def _shift(image: Any, dx: int, dy: int) -> Any:
    """Shift an image, repeating its border: the library's `shift`, but faster."""
    import cv2

    height, width = image.shape[:2]
    rows = slice(max(-dy, 0), height - max(dy, 0))
    columns = slice(max(-dx, 0), width - max(dx, 0))
    borders = max(dy, 0), max(-dy, 0), max(dx, 0), max(-dx, 0)
    return cv2.copyMakeBorder(image[rows, columns], *borders, cv2.BORDER_REPLICATE)


def _spatter(spatter: Callable[[Any, int], Any], image: Any, severity: int) -> Any:
    """Return the image as it is where its layer of liquid is empty (0/0), not black."""
    with np.errstate(invalid="ignore"):
        result = spatter(image, severity)
    return np.where(np.isnan(result), np.asarray(image), result)
