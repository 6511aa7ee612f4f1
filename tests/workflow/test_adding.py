"""The page on adding, done: its code goes where it says, in a copy of the project, and all runs there."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from project import ROOT, Project, copy_of_project

PAGE = (ROOT / "docs/adding.md").read_text()
STEPS = re.compile(r"^In `(.+?)`, (above|below) `(.+?)`:\n\n```python\n(.*?)^```$", re.M | re.S)
SECTIONS = {
    name: STEPS.findall(text)
    for name, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}
KINDS = {name: steps for name, steps in SECTIONS.items() if steps}
STUDY = "studies/added.yaml"
TABLES = ["modifications", "attacks", "arms", "noise", "networks", "datasets", "study_schema"]
ENTRIES = ["pinholes", "random_fgm", "flat", "mlp", "digits"]


def insert(path: Path, where: str, anchor: str, code: str) -> None:
    """Put code above or below the one line that starts with an anchor."""
    lines = path.read_text().splitlines(keepends=True)
    (at,) = (i for i, line in enumerate(lines) if line.strip().startswith(anchor))
    lines.insert(at + (where == "below"), code + ("\n\n" if where == "above" else ""))
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Project:
    """A copy of the project with all that the page adds, and the page's study."""
    project = copy_of_project(tmp_path_factory.mktemp("extended"))
    for steps in KINDS.values():
        for path, *step in steps:
            insert(project.folder / path, *step)
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    (project.folder / STUDY).write_text(yaml)
    return project


def run(project: Project, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project.folder,
        env={"PYTHONPATH": "scripts", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_kind_has_its_section():
    assert list(KINDS) == ["A corruption", "An attack", "An arm", "A network", "A dataset"]


@pytest.mark.parametrize("steps", KINDS.values(), ids=KINDS)
def test_an_addition_takes_at_most_20_lines_of_one_file(steps):
    code = "".join(code for *_, code in steps)
    assert 0 < len([line for line in code.splitlines() if line.strip()]) <= 20
    assert len({path for path, *_ in steps}) == 1


def test_the_code_is_in_the_style_of_the_house(extended):
    changed = sorted({path for steps in KINDS.values() for path, *_ in steps})
    run(extended, "-m", "ruff", "check", *changed)


def test_the_tables_of_tests_hold_the_additions(extended):
    """With the hashes of the new ids stored, as the page says."""
    run(extended, "tests/unit/test_modifications.py")
    files = [f"tests/unit/test_{name}.py" for name in TABLES]
    found = run(extended, "-m", "pytest", "-vv", *files, "-k", " or ".join([*ENTRIES, "registry"]))
    for entry in ENTRIES[:-1]:
        assert re.search(rf"\[.*{entry}.*\] PASSED", found)


def test_editors_learn_the_additions(extended):
    run(extended, "-m", "noisetransfer.study_schema", "studies/study.schema.json")
    known = (extended.folder / "studies/study.schema.json").read_text()
    assert [entry for entry in ENTRIES[:-1] if entry not in known] == []


def test_a_study_of_the_additions_runs(extended):
    done = extended.snakemake("--cores", "2", "results/added/tables/first.csv", configfile=STUDY)
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(extended.folder / "results/added/tables/first.csv")
    assert set(table["arm"]) == {"flat"}
    assert set(table["source"]) == {"pinholes@3"}
    accuracy = table.set_index("target")["accuracy"]
    assert set(accuracy.index) == {"clean@0", "pinholes@3", "random_fgm@0.1"}
    assert accuracy["clean@0"] > 0.7
    assert accuracy.drop("clean@0").max() < accuracy["clean@0"]
