"""A small but real study of a pretrained ResNet-20 on CIFAR-10, where weights and images are there."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from project import ROOT, copy_of_project

FOLDER = os.environ.get("NOISETRANSFER_TEST_DATA", "")
IMAGES = Path(FOLDER) / "cifar10_png"
WEIGHTS = Path(FOLDER) / "akamaster_weights/resnet20-12fca82f.th"
pytestmark = pytest.mark.skipif(
    not (FOLDER and IMAGES.is_dir() and WEIGHTS.is_file()),
    reason="NOISETRANSFER_TEST_DATA does not name a folder with cifar10_png and akamaster_weights",
)
PUBLISHED = 0.9173  # on all 10,000 test images


def write_images(folder):
    """Write training and test images as class folders: in a sheet, one row of pixels is one image."""
    labels = json.loads((IMAGES / "cifar10_labels.json").read_text())["labels"]
    for split, sheet, start in (("train", 0, 0), ("train", 1, 1000), ("val", 50, 50_000)):
        rows = np.asarray(Image.open(IMAGES / f"cifar10_batch_{sheet}.png")).reshape(-1, 32, 32, 3)
        for i, image in enumerate(rows, start):
            path = folder / split / str(labels[i]) / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    project = copy_of_project(tmp_path_factory.mktemp("pretrained"))
    write_images(project.folder / "images")
    study = (ROOT / "tests/acceptance/resnet20.yaml").read_text()
    study = study.replace("DATA", "images").replace("WEIGHTS", str(WEIGHTS))
    (project.folder / "studies/resnet20.yaml").write_text(study)
    run = project.snakemake("--cores", "2", configfile="studies/resnet20.yaml")
    assert run.returncode == 0, run.stdout
    return project.folder / "results/resnet20"


def table(results, experiment):
    return pd.read_parquet(results / f"tables/{experiment}.parquet")


def accuracy(rows, **where):
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows["accuracy"].mean()


def test_clean_accuracy_is_the_published(results):
    report = json.loads((results / "networks/resnet20/pretrained.json").read_text())
    assert report["clean_accuracy"][0] == pytest.approx(PUBLISHED, abs=0.01)
    assert report["expected"]["value"] == PUBLISHED


@pytest.mark.parametrize("experiment", ["inference", "retrain"])
def test_every_source_is_tested_under_every_target(results, experiment):
    found = table(results, experiment)
    assert set(found["n"]) == {1000}
    assert set(found["regime"]) == {experiment}
    shaped = found[found["source"] != "any"]
    assert len(shaped) == 4 * 6 * 2  # sources, targets, arms
    assert len(found) - len(shaped) == 6 * 2  # identity, none


def test_without_noise_the_network_is_as_it_was(results):
    report = json.loads((results / "networks/resnet20/pretrained.json").read_text())
    clean = accuracy(table(results, "inference"), arm="none", target="clean@0")
    assert clean == pytest.approx(report["clean_accuracy"][0])


def test_modified_images_are_harder(results):
    found = table(results, "inference")
    clean = accuracy(found, arm="none", target="clean@0")
    for target in set(found["target"]) - {"clean@0"}:
        assert accuracy(found, arm="none", target=target) < clean - 0.02, target


def test_the_retrained_suffix_has_learnt(results):
    found = table(results, "retrain")
    for arm in ("none", "identity", "diagonal", "full"):
        assert accuracy(found, arm=arm, target="clean@0") > 0.7, arm


def test_retraining_under_noise_helps_against_what_shaped_it(results):
    """Of noises of one energy, that of gaussian noise helps most against gaussian noise."""
    found = table(results, "retrain")
    under = found[found["target"] == "gaussian_noise@3"]
    own = accuracy(under, arm="full", source="gaussian_noise@3")
    assert own > accuracy(under, arm="none") + 0.02
    assert own > accuracy(under, arm="identity")
