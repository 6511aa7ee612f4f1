"""Corruptions and transforms on real colour photographs: CIFAR-10, where the test data are there."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisetransfer.modifications import MODIFICATIONS, modify

FOLDER = os.environ.get("NOISETRANSFER_TEST_DATA", "")
SHEET = Path(FOLDER) / "cifar10_png/cifar10_batch_50.png"
pytestmark = pytest.mark.skipif(
    not (FOLDER and SHEET.is_file()),
    reason="NOISETRANSFER_TEST_DATA does not name a folder with cifar10_png",
)

CORRUPTIONS = [m.name for m in MODIFICATIONS.values() if m.kind == "corruption" and not m.build]


@pytest.fixture(scope="module")
def photographs():
    """The first 12 test images: in the sheet, one row of 1,024 pixels is one image."""
    rows = np.asarray(Image.open(SHEET))[:12]
    return rows.reshape(12, 32, 32, 3).transpose(0, 3, 1, 2).copy()


def change(photographs, id):
    indices = range(len(photographs))
    found = modify(photographs, id, seed=1, dataset="cifar10", indices=indices)
    pixels = found / 255 if found.dtype == np.uint8 else found
    assert pixels.shape == photographs.shape
    assert 0 <= pixels.min() <= pixels.max() <= 1
    return np.abs(pixels - photographs / 255).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_severity(photographs, name):
    """But for CIFAR-10-C's elastic_transform: its constants move pixels less and less far, more unevenly."""
    changes = [change(photographs, f"{name}@{severity}") for severity in (1, 5)]
    weak, strong = sorted(changes)
    assert 0 < weak < strong < 0.6
    assert (changes == [weak, strong]) == (name != "elastic_transform")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_of_larger_photographs_grow_with_severity(photographs, name):
    """All of them, with the constants of ImageNet-C."""
    enlarged = np.kron(photographs[:3], np.ones((1, 1, 2, 2), np.uint8))
    weak, strong = (change(enlarged, f"{name}@{severity}") for severity in (1, 5))
    assert 0 < weak < strong < 0.6


@pytest.mark.parametrize("name", ["elastic", "perspective", "rotate", "obstruction"])
def test_transforms_grow_with_scale(photographs, name):
    assert change(photographs, f"{name}@0.4") < change(photographs, f"{name}@2.0") < 0.6


def test_colours_stay_colours(photographs):
    found = modify(photographs, "brightness@3", seed=1, dataset="cifar10", indices=range(12))
    assert np.ptp(found.astype(int), axis=1).max() > 20
