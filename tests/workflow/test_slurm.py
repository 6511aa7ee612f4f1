"""The tiny study on a real Slurm, with a job and a node that die on the way."""

import os
import subprocess

import pytest
from slurm import Slurm, missing, wait_for

from project import STUDY, Project, clean_environment, copy_of_project, gpu_rules

# asked more often than a shared cluster should be
CLUSTER = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
REQUIRED = "NOISETRANSFER_TEST_SLURM"  # set: no Slurm is a failure, not a skip
# the tiny study has no pretrained network, and too few sources to compare
ON_GPU = gpu_rules() - {"prepare_network", "average_classes", "show_noise", "probe_noise"}
ON_CPU = {
    "modify_images",
    "tabulate_results",
    "summarise_results",
    "check_results",
    "plot_modifications",
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := missing():
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(reason)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def ended(slurm, tmp_path_factory) -> tuple[Project, str]:
    """The tiny study, done through Slurm although a job and the node were killed, and what was printed."""
    project = copy_of_project(tmp_path_factory.mktemp("on_slurm"))
    printed = project.folder / "printed"
    with printed.open("w") as output:
        run = subprocess.Popen(
            [*project.command, *CLUSTER, "--configfile", STUDY],
            cwd=project.folder,
            env=clean_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            kill_a_job(slurm, "train_network")
            wait_for(lambda: "evaluate" in rules(slurm.running()), "an evaluation starts", 300)
            slurm.kill_node()
            slurm.start_node()
            slurm.hurry()
            status = run.wait(timeout=600)
        finally:
            run.kill()
    assert status == 0, printed.read_text()
    return project, printed.read_text()


def kill_a_job(slurm, rule):
    wait_for(lambda: rule in rules(slurm.running()), f"a job of {rule} runs")
    (job,) = (job for job in slurm.running() if job["rule"] == rule)
    subprocess.run(["scancel", "--full", "--signal=KILL", job["JobId"]], check=True)


def rules(jobs):
    return {job["rule"] for job in jobs}


def test_tables_are_those_of_a_local_run(ended, finished):
    assert ended[0].tables() == finished[0].tables()


def test_the_killed_job_was_submitted_again_with_more_memory(ended, slurm):
    first, second = (job for job in slurm.jobs() if job["rule"] == "train_network")
    assert first["JobState"] == "CANCELLED"  # what Slurm calls it
    assert second["JobState"] == "COMPLETED"
    assert memory(second) == 2 * memory(first)


def test_jobs_of_the_dead_node_were_run_again(ended, slurm):
    again = [
        job for job in slurm.jobs() if job["Restarts"] != "0" or job["JobState"] == "NODE_FAIL"
    ]
    assert "evaluate" in rules(again)


def test_gpu_rules_ask_for_a_gpu_and_no_other(ended, slurm):
    asked = {job["rule"]: job.get("TresPerJob") for job in slurm.jobs()}
    assert asked == {**dict.fromkeys(ON_GPU, "gres:gpu:1"), **dict.fromkeys(ON_CPU)}


def test_a_second_run_submits_nothing(ended, slurm):
    before = len(slurm.jobs())
    run = ended[0].snakemake("--workflow-profile", "profiles/slurm")
    assert "Nothing to be done" in run.stdout
    assert len(slurm.jobs()) == before


def memory(job):
    return int(job["MinMemoryNode"].removesuffix("M"))
