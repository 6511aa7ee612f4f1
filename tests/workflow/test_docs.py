"""What the documents promise: links, commands, columns."""

import re
import shutil

import pandas as pd
import pytest

from noisetransfer.arms import ARMS
from project import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"run", "test", "paper-quick", "clean"} <= named
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_commands_of_the_readme_make_a_plan(fresh):
    shutil.copy(ROOT / "config.yaml", fresh.folder / "studies/mine.yaml")
    commands = re.findall(r"\.venv/bin/snakemake ([^`#\n]+)", README)
    assert len(commands) >= 2
    for command in commands:
        *arguments, _, configfile = command.split()
        run = fresh.snakemake("--dry-run", *arguments, configfile=configfile)
        assert run.returncode == 0, run.stdout


def documented(heading):
    section = (ROOT / "docs/tables.md").read_text().split(heading)[1].split("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_every_column_of_the_tables_is_documented(finished):
    table = pd.read_parquet(finished[0].results / "tables/transfer.parquet")
    assert documented("| column |") == list(table.columns)


def test_every_arm_is_documented():
    assert documented("| arm | covariance") == list(ARMS)


def test_every_column_of_the_records_is_documented(finished):
    path = finished[0].results / "evaluation/v2/L3/tau0.5/any/all/0-1.parquet"
    page = (ROOT / "docs/tables.md").read_text()
    assert [c for c in pd.read_parquet(path).columns if f"`{c}`" not in page] == []
