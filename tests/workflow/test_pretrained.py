"""A study of a pretrained network from Python packages alone, and what goes wrong with such networks."""

import json

import pandas as pd
import pytest
import yaml

from project import copy_of_project

STUDY = "studies/pretrained_smoke.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The study, done; tests may change the study file, not the results."""
    project = copy_of_project(tmp_path_factory.mktemp("smoke"))
    run = project.snakemake("--cores", "2", configfile=STUDY)
    assert run.returncode == 0, run.stdout
    return project


def results(project):
    return project.folder / "results/pretrained_smoke"


def changed(project, change):
    """Write another study: `change` alters the content of this one."""
    content = yaml.safe_load((project.folder / STUDY).read_text())
    change(content)
    (project.folder / "studies/changed.yaml").write_text(yaml.safe_dump(content))
    return "studies/changed.yaml"


def failure(project, change):
    """What a run of a changed study prints when it fails."""
    run = project.snakemake("--cores", "1", configfile=changed(project, change))
    assert run.returncode != 0, run.stdout
    return run.stdout


def test_the_network_recognises_photographs(project):
    report = json.loads((results(project) / "networks/lite0/pretrained.json").read_text())
    assert report["clean_accuracy"][0] >= 0.8  # of 10; the published .751 is of 50,000
    assert report["expected"]["value"] == 0.751


@pytest.mark.parametrize("experiment", ["middle", "last"])
def test_every_source_is_tested_under_every_target(project, experiment):
    found = pd.read_parquet(results(project) / f"tables/{experiment}.parquet")
    assert set(found["n"]) == {10}
    assert (
        len(found) == 3 * 5 * 2 + 5 * 2
    )  # sources × targets × arms, and the arms without a source


def test_the_second_run_does_nothing(project):
    assert project.planned(configfile=STUDY) == {}


def test_another_target_reruns_no_fit(project):
    def change(study):
        study["suites"]["more"] = ["snow@3"]
        study["experiments"]["middle"]["targets"].append("more")

    planned = project.planned(configfile=changed(project, change))
    assert planned["evaluate"] == 3
    assert not {"fit_covariance", "prepare_network", "attack_images"} & set(planned)


def test_a_wrong_site_lists_those_there_are(project):
    def change(study):
        study["experiments"] = {"middle": study["experiments"]["middle"] | {"site": "blocks.9"}}

    told = failure(project, change)
    assert "unknown site 'blocks.9'; the network has: " in told
    assert "blocks.6.0" in told


def test_a_network_that_is_not_as_good_as_it_should_be_is_refused(project):
    def change(study):
        study["study"] = "refused"
        study["networks"]["lite0"]["clean_accuracy"] = {"value": 0.5, "within": 0.1}

    told = failure(project, change)
    assert "clean accuracy 1.0000" in told
    assert "the study file says 0.5000 ± 0.1000" in told
    assert not (project.folder / "results/refused/networks/lite0/pretrained.safetensors").exists()


def test_too_many_images_are_named_with_the_number_there_are(project):
    def change(study):
        study["datasets"]["foolbox_imagenet"]["splits"] = {"train": 15, "test": 10}

    told = failure(project, change)
    assert "train + validation + test = 25 images, but foolbox_imagenet has 20" in told
