import subprocess
import sys

import pytest
import torch

from noisetransfer import gpus
from noisetransfer.errors import StudyError
from project import ROOT

JOB = """
import sys
from noisetransfer import gpus
gpus.PAUSE = 0.02
print(gpus.claim(["a", "b"], int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    """Start a process that takes GPU a or b and holds it until its input is closed."""
    started = []

    def start(jobs_per_gpu=1):
        command = [sys.executable, "-u", "-c", JOB, str(jobs_per_gpu)]
        own = {"PYTHONPATH": str(ROOT / "scripts"), "TMPDIR": str(tmp_path)}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, env=own, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.communicate()


def taken(process):
    return process.stdout.readline().strip()


def test_a_job_takes_a_free_gpu_and_waits_where_there_is_none(job):
    assert taken(job()) == "a"
    second = job()
    assert taken(second) == "b"
    third = job()
    assert third.stderr.readline() == "waiting for one of the GPUs a, b\n"
    second.kill()  # whatever ends a job frees its GPU
    assert taken(third) == "b"


def test_jobs_share_a_gpu_if_asked_and_spread_first(job):
    assert [taken(job(2)) for _ in range(4)] == ["a", "b", "a", "b"]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Locks in a folder of the test's own, freed at its end; returns the environment."""
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpus, "_held", [])
    for name in (gpus.JOBS_PER_GPU, *gpus.CLUSTER_JOBS):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    for file in gpus._held:
        gpus.os.close(file)


@pytest.mark.parametrize("listed", ["3, 5", "GPU-8a, GPU-8b"])
def test_the_process_sees_the_gpu_it_took_and_no_other(alone, listed, capsys):
    alone.setenv(gpus.VISIBLE, listed)
    gpus.take_one()
    assert gpus.os.environ[gpus.VISIBLE] == listed.split(",")[0]
    assert f"of {listed}" in capsys.readouterr().err


@pytest.mark.parametrize("listed", ["", "-1"])
def test_without_a_gpu_nothing_is_taken(alone, listed):
    alone.setenv(gpus.VISIBLE, listed)
    gpus.take_one()
    assert gpus.os.environ[gpus.VISIBLE] == listed
    assert not gpus._held


def test_all_gpus_of_the_machine_are_candidates_where_none_are_listed(alone):
    alone.delenv(gpus.VISIBLE, raising=False)
    alone.setattr(torch.cuda, "device_count", lambda: 2)
    gpus.take_one()
    assert gpus.os.environ[gpus.VISIBLE] == "0"
    assert gpus.claim(["0", "1"]) == "1"


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "²"])
def test_a_wrong_number_of_jobs_a_gpu_is_named(alone, value):
    alone.setenv(gpus.VISIBLE, "0,1")
    alone.setenv(gpus.JOBS_PER_GPU, value)
    with pytest.raises(StudyError, match=r"NOISETRANSFER_JOBS_PER_GPU.*whole number above 0"):
        gpus.take_one()


def test_a_single_gpu_is_held_too(alone):
    alone.setenv(gpus.VISIBLE, "2")
    gpus.take_one()
    gpus.take_one()  # has it already
    assert not gpus._hold("2-0")


def test_each_job_of_a_cluster_has_gpus_of_its_own(alone):
    """Where the system hides the others, every job's device is number 0."""
    for job in ("17", "18"):
        alone.setenv("SLURM_JOB_ID", job)
        assert gpus._hold("0-0")
        assert not gpus._hold("0-0")


def test_a_folder_of_somebody_else_is_not_trusted(alone, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    name = f"noisetransfer-gpus-{gpus.os.getuid()}"
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="belongs to somebody else: set TMPDIR"):
        gpus.claim(["0"])
