"""Provenance: times are summed by rule, the code is named by its commit, versions are real."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

import pytest

from noisetransfer import provenance
from noisetransfer.provenance import git_state, hardware, times, versions, wall_seconds

NOON = 1_800_000_000


@pytest.fixture
def benchmarks(tmp_path):
    """Three jobs of two rules; `any` began first, at noon, and `snow@5` ended last, 100 s later."""

    def job(name: str, seconds: float, memory: str, ended: float) -> None:
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tmax_vms\n{seconds}\t0:00:00\t{memory}\t9999.9\n")
        os.utime(path, (NOON + ended, NOON + ended))

    job("evaluate/v2/L2/any/0-1", 30.25, "800.5", 30.25)
    job("evaluate/v2/L2/snow@5/0-1", 40.0, "900.25", 100)
    job("write_provenance", 0.04, "-", 90)
    return tmp_path


def test_jobs_seconds_and_greatest_memory_are_summed_by_rule(benchmarks):
    assert times(benchmarks) == {
        "evaluate": {"jobs": 2, "seconds": 70.2, "max_mb": 900.25},
        "write_provenance": {"jobs": 1, "seconds": 0.0, "max_mb": 0.0},
    }


@pytest.mark.parametrize("unmeasured", ["-", "NA", ""])
def test_job_too_short_to_be_measured_has_no_memory(tmp_path, unmeasured):
    (tmp_path / "plot_transfer.tsv").write_text(f"s\tmax_rss\n0.01\t{unmeasured}\n")
    assert times(tmp_path)["plot_transfer"]["max_mb"] == 0


def test_wall_time_runs_from_the_first_start_to_the_last_end(benchmarks):
    assert wall_seconds(benchmarks) == 100


def test_without_benchmarks_there_are_no_times(tmp_path):
    assert times(tmp_path) == {}
    assert wall_seconds(tmp_path) == 0
    assert times(tmp_path / "missing") == {}


def test_versions_are_those_installed():
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found) - {"python"} == set(provenance.PACKAGES)
    assert all(
        found[name] == importlib.metadata.version(name) for name in ("numpy", "torch", "snakemake")
    )


def test_hardware_is_described_in_plain_values():
    found = hardware()
    assert list(found) == ["processor", "cores", "memory_gib", "gpu", "system"]
    assert json.loads(json.dumps(found)) == found
    assert found["processor"]
    assert found["cores"] == os.cpu_count()
    assert found["memory_gib"] > 0


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder, the current one, in no repository."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def repository(folder):
    """A repository with one commit of one file."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    (folder / "Snakefile").write_text("rule all:\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "--no-gpg-sign", "-m", "First"]):
        subprocess.run(["git", *identity, *command], check=True)
    return folder


def test_code_as_committed_is_named_by_its_commit(repository):
    found = git_state()
    assert len(found["commit"]) == 40
    assert found["edited"] is False


def test_edit_of_the_code_is_recorded(repository):
    commit = git_state()["commit"]
    (repository / "Snakefile").write_text("rule other:\n")
    assert git_state() == {"commit": commit, "edited": True}


def test_results_beside_the_code_are_no_edit(repository):
    (repository / "results.csv").write_text("accuracy\n")
    assert git_state()["edited"] is False


def test_code_outside_a_repository_has_no_commit(folder):
    assert git_state() == {"commit": None, "edited": None}


def test_machine_without_git_has_no_commit(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    assert git_state() == {"commit": None, "edited": None}
