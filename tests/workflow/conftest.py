"""The tiny study, run once for all tests in a copy of the project."""

import shutil

import pytest

from project import Project, copy_of_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Project, str]:
    """The tiny study, done, and what the run printed. Not to be changed: see `done`."""
    project = copy_of_project(tmp_path_factory.mktemp("finished"))
    run = project.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout
    return project, run.stdout


@pytest.fixture
def fresh(tmp_path) -> Project:
    """A copy of the project without results."""
    return copy_of_project(tmp_path)


@pytest.fixture
def done(finished, tmp_path) -> Project:
    """A copy of the finished tiny study that a test may change."""
    shutil.copytree(finished[0].folder, tmp_path / "done", symlinks=True)
    return Project(tmp_path / "done")
