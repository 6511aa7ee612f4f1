"""Two GPUs in one machine, pretended: each job takes one, and the tables stay the same."""

import re

import pytest

from project import copy_of_project, gpu_rules

# the tiny study has no pretrained network, and too few sources to compare
ON_GPU = gpu_rules() - {"prepare_network", "average_classes", "show_noise", "probe_noise"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The tiny study, done by jobs that choose between the GPUs 3 and 5."""
    project = copy_of_project(tmp_path_factory.mktemp("gpus"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))
        options = "--cores", "4", "--workflow-profile", "profiles/gpu", "--resources", "gpu=2"
        run = project.snakemake(*options)
    assert run.returncode == 0, run.stdout
    return project


def test_every_job_of_a_gpu_rule_takes_one_gpu(shared):
    logs = [path for rule in ON_GPU for path in (shared.results / "logs" / rule).rglob("*.log")]
    taken = [re.findall(r"^GPU (\d) of 3, 5$", path.read_text(), re.MULTILINE) for path in logs]
    assert len(logs) >= len(ON_GPU)
    assert {len(own) for own in taken} == {1}
    assert {own[0] for own in taken} == {"3", "5"}


def test_no_other_job_takes_one(shared):
    others = [p for p in (shared.results / "logs").rglob("*.log") if not ON_GPU & set(p.parts)]
    assert others
    assert [path for path in others if "GPU " in path.read_text()] == []


def test_tables_are_those_of_a_run_without(shared, finished):
    assert shared.tables() == finished[0].tables()
