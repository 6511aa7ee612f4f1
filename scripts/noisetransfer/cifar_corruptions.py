"""The 19 corruptions of CIFAR-10-C for any 32 × 32 colour image, drawn from a seed alone.

Constants and order of the steps are those of `make_cifar_c.py` in hendrycks/robustness (Hendrycks
and Dietterich 2019, Apache-2.0): milder than ImageNet-C's (`corruptions.py`), in part other steps.
The published images were drawn without a seed: ours are drawn alike, and are not the same images.
Given equal draws, the published steps run with today's libraries give the same bytes, except that

- of zoom_blur, fog and spatter up to 3 values in 1,000 differ by one grey level (rounding);
- spatter without any liquid (none in 3,000 draws) leaves the image; they give 0/0, black.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisetransfer.corruptions import _library

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Array = NDArray[Any]

_SIDE = 32


def corrupt(image: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """Corrupt one image. The result depends on the arguments alone; no global state is touched.

    Args:
        image: uint8, shape (32, 32, 3), RGB.
        name: a corruption of CIFAR-10-C, e.g. "motion_blur".
        severity: 1 to 5, as published: not every step changes an image more (3 and 4 of motion_blur
            are the same; elastic_transform moves pixels less, but less evenly). All severities
            share the draws of a seed.
        seed: 0 to 2**32 - 1.

    Returns:
        uint8, shape (32, 32, 3).

    Raises:
        AttributeError: the image or the severity is not as above.
        KeyError: no such corruption.
    """
    if image.dtype != np.uint8 or image.shape != (_SIDE, _SIDE, 3):
        raise AttributeError(f"image must be uint8 (32, 32, 3): {image.dtype} {image.shape}")
    if severity not in (1, 2, 3, 4, 5):
        raise AttributeError(f"severity must be 1, 2, 3, 4 or 5: {severity}")
    function, constants = _CORRUPTIONS[name]
    result = function(image, constants[severity - 1], _seeded(seed))
    return np.clip(result, 0, 255).astype(np.uint8)  # cut off, not rounded, as published


def _helpers() -> Any:
    """Return the adapted module of `imagecorruptions`, whose helper functions are ours too."""
    return _library().corruptions


def _seeded(seed: int) -> RandomState:
    """Return the generator of the helpers, seeded."""
    draws: RandomState = _helpers().np.random
    draws.seed(seed)
    return draws


# Each corruption takes an image, its constants and a generator; it returns (32, 32, 3), 0 to 255.


def _gaussian_noise(image: Image, std: float, draws: RandomState) -> Array:
    return 255 * (image / 255 + draws.normal(scale=std, size=image.shape))


def _shot_noise(image: Image, photons: float, draws: RandomState) -> Array:
    return 255 * (draws.poisson(image / 255 * photons) / photons)


def _impulse_noise(image: Image, share: float, draws: RandomState) -> Array:
    from skimage.util import random_noise

    seed = int(draws.randint(2**31))
    noisy: Array = random_noise(image / 255, mode="s&p", amount=share, rng=seed)
    return 255 * noisy


def _speckle_noise(image: Image, std: float, draws: RandomState) -> Array:
    return 255 * (image / 255 * (1 + draws.normal(scale=std, size=image.shape)))


def _gaussian_blur(image: Image, sigma: float, _: RandomState) -> Array:
    return 255 * _smooth(image / 255, sigma)


def _smooth(pixels: Array, sigma: float) -> Array:
    """Blur an image, shape (H, W, C), channel by channel."""
    from skimage.filters import gaussian

    result: Array = gaussian(pixels, sigma, channel_axis=-1)
    return result


def _glass_blur(image: Image, c: tuple[float, int], draws: RandomState) -> Array:
    sigma, passes = c
    result = (255 * _smooth(image / 255, sigma)).astype(np.uint8)
    for _ in range(passes):
        result = _jittered(result, draws)
    return 255 * _smooth(result / 255, sigma)


def _jittered(image: Image, draws: RandomState) -> Image:
    """Let each pixel, from row and column 2 on, take that of zero or one step up and left.

    The published loop swaps by `a[i], a[j] = a[j], a[i]`. Rows of numpy arrays are views, so that
    it copies instead, from pixels that it has yet to reach: one indexing does exactly the same.
    """
    inner = _SIDE - 2
    left, up = -np.moveaxis(draws.randint(-1, 1, (inner, inner, 2))[::-1, ::-1], -1, 0)
    rows, columns = np.indices((inner, inner)) + 2
    result = image.copy()
    result[2:, 2:] = image[rows - up, columns - left]
    return result


def _defocus_blur(image: Image, c: tuple[float, float], _: RandomState) -> Array:
    import cv2

    radius, softness = c
    kernel = _helpers().disk(radius, softness)
    return 255 * cv2.filter2D(image / 255, -1, kernel)


def _motion_blur(image: Image, c: tuple[int, float], draws: RandomState) -> Array:
    return _moved(image, *c, angle=draws.uniform(-45, 45))


def _moved(image: Image, radius: int, sigma: float, angle: float) -> Array:
    """Blur an image, (H, W) or (H, W, C), along a line.

    ImageMagick computes in 16 bits and cuts off to 8 (measured: 6.9.11 gives the same pixels).
    """
    result: Array = _helpers()._motion_blur(image, radius, sigma, angle)
    return np.round(257 * result) // 257


def _zoom_blur(image: Image, end: float, _: RandomState) -> Array:
    planes = np.moveaxis(image / 255, -1, 0)
    layers = [planes, *(_enlarged(planes, factor) for factor in np.arange(1, end, 0.01))]
    mean: Array = np.stack(layers, axis=-1).mean(axis=-1, dtype=np.float32)
    return 255 * np.moveaxis(mean, 0, -1)


def _enlarged(planes: Array, factor: float) -> Array:
    """Enlarge images (…, 32, 32) about their middle and crop them to their size."""
    matrix = _enlargement(factor)
    result: Array = matrix @ planes @ matrix.T
    return result


@cache
def _enlargement(factor: float) -> NDArray[np.float64]:
    """Return the matrix (32, 32) that enlarges the 32 pixels of a line."""
    from scipy.ndimage import zoom

    kept = int(np.ceil(_SIDE / factor))
    first = (_SIDE - kept) // 2
    enlarged = zoom(np.eye(_SIDE)[first : first + kept], (factor, 1), order=1)
    surplus = (len(enlarged) - _SIDE) // 2
    result: NDArray[np.float64] = enlarged[surplus : surplus + _SIDE]
    return result


def _snow(image: Image, c: tuple[float, ...], draws: RandomState) -> Array:
    import cv2

    mean, std, factor, threshold, radius, sigma, kept = c
    x = image.astype(np.float32) / 255
    whitened = np.maximum(x, 1.5 * cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., np.newaxis] + 0.5)
    flakes = _enlarged(draws.normal(mean, std, (_SIDE, _SIDE)), factor)
    flakes[flakes < threshold] = 0
    visible = (255 * np.clip(flakes, 0, 1)).astype(np.uint8)
    falling = _moved(visible, int(radius), sigma, draws.uniform(-135, -45))[..., np.newaxis]
    result: Array = 255 * (kept * x + (1 - kept) * whitened) + falling + np.rot90(falling, 2)
    return result


def _frost(image: Image, c: tuple[float, float], draws: RandomState) -> Array:
    kept, added = c
    picture = _frost_pictures()[draws.randint(5)]
    top, left = (draws.randint(0, size - _SIDE) for size in picture.shape[:2])
    return kept * image + added * picture[top : top + _SIDE, left : left + _SIDE]


@cache
def _frost_pictures() -> list[Array]:
    """Return the first five pictures of frost, RGB, at a fifth of their size."""
    import cv2

    paths = sorted((Path(_library().__file__).parent / "frost").glob("frost[1-5].*"))
    pictures = (_helpers().cv2.imread(str(path)) for path in paths)
    return [cv2.resize(picture, None, fx=0.2, fy=0.2)[..., ::-1] for picture in pictures]


def _fog(image: Image, c: tuple[float, float], _: RandomState) -> Array:
    thickness, decay = c
    x, brightest = image / 255, float(image.max()) / 255
    fog: Array = _helpers().plasma_fractal(_SIDE, decay)  # draws from our generator
    return 255 * (x + thickness * fog[..., np.newaxis]) * brightest / (brightest + thickness)


def _spatter(image: Image, c: tuple[float, ...], draws: RandomState) -> Array:
    from skimage.filters import gaussian

    mean, std, sigma, threshold, strength, mud = c
    liquid = gaussian(draws.normal(mean, std, (_SIDE, _SIDE)), sigma)
    liquid[liquid < threshold] = 0
    result: Array
    if mud:
        cover = gaussian((liquid > threshold).astype(np.float32), strength)[..., np.newaxis]
        cover[cover < 0.8] = 0
        result = (1 - cover) * image + cover * np.array([63, 42, 20])  # brown
    else:
        wet = _wetness((255 * liquid).astype(int).astype(np.uint8))[..., np.newaxis]
        result = image + strength * wet * np.array([175, 238, 238])  # pale turquoise
    return result


def _wetness(liquid: Image) -> Array:
    """Return how much light drops of liquid (32, 32) add, 0 to 1: most where they lie inside."""
    import cv2

    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    levels = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    embossed = cv2.blur(cv2.filter2D(levels, cv2.CV_8U, emboss), (3, 3))
    light: Array = liquid * embossed.astype(np.float32)
    return light / max(1, float(light.max()))


def _contrast(image: Image, factor: float, _: RandomState) -> Array:
    x = image / 255
    mean: Array = x.mean(axis=(0, 1))
    return 255 * (factor * (x - mean) + mean)


def _brightness(image: Image, shift: float, _: RandomState) -> Array:
    return _recoloured(image, channel=2, factor=1, shift=shift)


def _saturate(image: Image, c: tuple[float, float], _: RandomState) -> Array:
    return _recoloured(image, 1, *c)


def _recoloured(image: Image, channel: int, factor: float, shift: float) -> Array:
    """Scale and shift one channel of hue, saturation, value."""
    from skimage.color import hsv2rgb, rgb2hsv

    hsv = rgb2hsv(image / 255)
    hsv[..., channel] = np.clip(factor * hsv[..., channel] + shift, 0, 1)
    result: Array = hsv2rgb(hsv)
    return 255 * result


def _jpeg_compression(image: Image, quality: int, _: RandomState) -> Array:
    from io import BytesIO

    from PIL import Image as Picture

    file = BytesIO()
    Picture.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Picture.open(file))


def _pixelate(image: Image, share: float, _: RandomState) -> Array:
    from PIL import Image as Picture

    small, full = (int(_SIDE * share),) * 2, (_SIDE, _SIDE)
    box = Picture.Resampling.BOX
    return np.asarray(Picture.fromarray(image).resize(small, box).resize(full, box))


def _elastic_transform(image: Image, c: tuple[float, ...], draws: RandomState) -> Array:
    import cv2
    from scipy.ndimage import map_coordinates
    from skimage.filters import gaussian

    length, sigma, jitter = (_SIDE * constant for constant in c)
    corners = np.array([[26, 26], [26, 6], [6, 6]], dtype=np.float32)
    moved = corners + draws.uniform(-jitter, jitter, corners.shape).astype(np.float32)
    affine, size = cv2.getAffineTransform(corners, moved), (_SIDE, _SIDE)
    x = image.astype(np.float32) / 255
    warped = cv2.warpAffine(x, affine, size, borderMode=cv2.BORDER_REFLECT_101)
    right, down = (
        length * gaussian(draws.uniform(-1, 1, size), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    )
    places = np.indices(size) + np.array([down, right], dtype=np.float32)
    planes = [map_coordinates(p, places, order=1, mode="reflect") for p in cv2.split(warped)]
    return 255 * np.stack(planes, axis=-1)


# What the five constants (or tuples of them) are, the function above says by their names.
_CORRUPTIONS: dict[str, tuple[Callable[..., Array], tuple[Any, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (_speckle_noise, (0.06, 0.10, 0.12, 0.16, 0.20)),
    "defocus_blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (_glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "gaussian_blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "snow": (
        _snow,
        (
            (0.10, 0.2, 1.00, 0.60, 8, 3, 0.95),
            (0.10, 0.2, 1.00, 0.50, 10, 4, 0.90),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.90),
            (0.25, 0.3, 2.25, 0.60, 12, 6, 0.85),
            (0.30, 0.3, 1.25, 0.65, 14, 12, 0.80),
        ),
    ),
    "frost": (_frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
    "spatter": (
        _spatter,
        (
            (0.62, 0.1, 0.7, 0.70, 0.5, False),
            (0.65, 0.1, 0.8, 0.70, 0.5, False),
            (0.65, 0.3, 1.0, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
    "contrast": (_contrast, (0.75, 0.50, 0.40, 0.30, 0.15)),
    "elastic_transform": (  # in sides of the image
        _elastic_transform,
        (
            (0.00, 0.00, 0.08),
            (0.05, 0.20, 0.07),
            (0.08, 0.06, 0.06),
            (0.10, 0.04, 0.05),
            (0.10, 0.03, 0.03),
        ),
    ),
    "pixelate": (_pixelate, (0.95, 0.90, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
    "saturate": (_saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
}
