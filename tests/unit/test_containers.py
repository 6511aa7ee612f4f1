"""Dockerfile and apptainer.def, which nothing here can build, fit the lock file and the repository."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = (ROOT / "Dockerfile").read_text()
APPTAINER = (ROOT / "apptainer.def").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
RECIPES = pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=["docker", "apptainer"])
NEEDLESS = {".ci", "docs", "results", "tests"}


def tracked_folders() -> set[str]:
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    return {name.partition("/")[0] for name in listed if "/" in name}


def copied(recipe: str) -> set[str]:
    """Return what a recipe copies to the place of the same name in the folder of the project."""
    lines = [line.split() for line in recipe.splitlines()]
    docker = [line[1:] for line in lines if line[:1] == ["COPY"]]
    files = {name for *names, to in docker for name in names if to in ("./", f"./{name}")}
    section = sections(recipe).get("files", "")
    return files | {
        a for a, b in map(str.split, section.splitlines()) if b == f"/noisetransfer/{a}"
    }


def sections(definition: str) -> dict[str, str]:
    return {
        name: text.strip("\n")
        for name, text in re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", definition.strip(), re.M | re.S)
    }


@RECIPES
def test_the_recipe_says_that_it_was_never_built(recipe):
    assert "# UNBUILT" in recipe


@RECIPES
def test_the_base_is_the_python_of_the_lock_file(recipe):
    version = re.search(r"--python-version ([\d.]+)", LOCK)[1]
    assert re.findall(r"^(?:FROM|From:) (\S+)$", recipe, re.M) == [
        f"python:{version}-slim-bookworm"
    ]


@RECIPES
def test_exactly_the_lock_file_is_installed(recipe):
    needed = re.findall(r"pip install --no-cache-dir --requirement (\S+)", recipe)
    assert [Path(path).name for path in needed] == ["requirements.lock"]
    assert "requirements.lock" in copied(recipe)


@RECIPES
def test_everything_that_the_workflow_needs_is_copied(recipe):
    files = {
        "Snakefile",
        "config.yaml",
        "requirements.lock",
        "LICENSE",
        "README.md",
        "CITATION.cff",
    }
    assert copied(recipe) == files | (tracked_folders() - NEEDLESS)


@RECIPES
def test_labels_are_those_of_the_project(recipe):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, value in {
        "title": project["name"],
        "version": project["version"],
        "licenses": project["license"],
    }.items():
        assert re.findall(rf"image\.{name}[= ]\"?([^\"\s]+)", recipe) == [value]


@RECIPES
def test_the_recipe_runs_snakemake(recipe):
    assert 'ENTRYPOINT ["snakemake"]' in recipe or 'exec snakemake "$@"' in recipe


def test_docker_does_not_run_as_root():
    users = re.findall(r"^USER (\S+)", DOCKER, re.M)
    assert users
    assert users[-1] not in ("root", "0")


def test_the_build_context_is_free_of_what_is_large_or_private():
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert {"results", "resources", ".venv", ".snakemake", ".git"} <= set(ignored)
    assert copied(DOCKER) & set(ignored) == set()


def test_apptainer_has_its_header_and_sections():
    header = dict(re.findall(r"^(\w+): (\S+)$", APPTAINER.split("%")[0], re.M))
    assert header["Bootstrap"] == "docker"
    assert list(sections(APPTAINER)) == ["labels", "files", "post", "runscript", "help"]
