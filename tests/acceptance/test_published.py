"""The published heatmap, reproduced with one trial: about 20 minutes on two cores."""

import json
from pathlib import Path

import pytest

from project import copy_of_project

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_one_trial_of_the_transfer_heatmap_agrees_with_the_paper(tmp_path):
    project = copy_of_project(tmp_path)
    run = project.snakemake("--cores", "all", configfile="studies/paper_quick.yaml")
    assert run.returncode == 0, run.stdout
    verdicts = json.loads((tmp_path / "results/paper_quick/checks/transfer.json").read_text())
    assert len(verdicts) == 4
    assert all(verdict["passed"] for verdict in verdicts)
