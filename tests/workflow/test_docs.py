"""What the documents promise: links, commands, columns."""

import re
import shlex
import shutil

import pandas as pd
import pytest
import yaml

from noisetransfer.arms import ARMS
from noisetransfer.config import AUDIT, CURVES, HEATMAP, load
from noisetransfer.errors import StudyError
from project import ROOT, Project, copy_of_project, counts

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_somewhere(document):
    for path, heading in re.findall(r"\]\(((?!http)[^)#]*)#([^)]+)\)", document.read_text()):
        page = (document.parent / path if path else document).read_text()
        titles = [line.lstrip("# ") for line in page.splitlines() if line.startswith("#")]
        assert heading in [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles]


def test_make_targets_of_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    texts = [document.read_text() for document in DOCUMENTS]
    named = {n for t in texts for n in re.findall(r"(?:^|`)make ([a-z-]+)", t, re.MULTILINE)}
    assert {"run", "test", "paper-quick", "clean", "plan", "schema", "docs"} <= named
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def code(text):
    """Return the code of a document: lines of its blocks, without comments, and what stands inline."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line.split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [*lines, *(" ".join(words.split()) for words in inline)]


GUIDE = (ROOT / "docs/first-study.md").read_text()
COMMANDS = [shlex.split(line) for line in code(README) if line.startswith(".venv/bin/snakemake")]
WHOLE = [command for command in COMMANDS if "…" not in command]  # else a pattern


def test_the_readme_shows_how_to_run_a_study():
    assert [".venv/bin/snakemake", "--configfile", "studies/mine.yaml"] in WHOLE
    assert any(command[1] == "transfer" for command in WHOLE)


@pytest.mark.parametrize("command", WHOLE, ids=" ".join)
def test_commands_of_the_readme_make_a_plan(fresh, command):
    shutil.copy(ROOT / "config.yaml", fresh.folder / "studies/mine.yaml")
    run = fresh.snakemake("--dry-run", *command[1:], configfile=None)
    assert run.returncode == 0, run.stdout
    assert counts(run.stdout)


@pytest.fixture(scope="module")
def guided(tmp_path_factory) -> Project:
    """A copy of the project with the study of the guide."""
    project = copy_of_project(tmp_path_factory.mktemp("guided"))
    (study,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.M | re.S)
    (project.folder / "studies/mine.yaml").write_text(study)
    return project


GUIDED = [shlex.split(line) for line in code(GUIDE) if line.startswith(".venv/bin/snakemake")]


@pytest.mark.parametrize(
    "command", [c for c in GUIDED if "--workflow-profile" not in c], ids=" ".join
)
def test_commands_of_the_guide_make_a_plan(guided, command):
    run = guided.snakemake("--dry-run", *command[1:], configfile=None)
    assert run.returncode == 0, run.stdout
    assert counts(run.stdout)


def test_the_guide_names_files_that_its_study_writes(guided):
    """A diagnosis and a log go by the name of what their job writes."""
    run = guided.snakemake("--dry-run", configfile="studies/mine.yaml")
    files = re.findall(r"^\| `([a-z]+/[^`]+)`", GUIDE, re.M)
    (log,) = re.findall(r"results/mine/logs/retrain_suffix/(\S+)\.log", GUIDE)
    written = [*files, f"noisy/{log}.safetensors"]
    assert len(written) == 5
    stems = [f"results/mine/{name}".replace(".json", ".safetensors") for name in written]
    assert [name for name in stems if name not in run.stdout] == []


def test_the_guide_shows_an_error_as_it_is(guided):
    (shown,) = re.findall(r"^```\n(networks\..*?)\n```", GUIDE, re.M | re.S)
    study = yaml.safe_load((guided.folder / "studies/mine.yaml").read_text())
    study["networks"]["v2"]["activation"] = "gelu"
    with pytest.raises(StudyError) as caught:
        load(study)
    assert shown in str(caught.value)


def test_every_kind_of_figure_is_explained():
    page = (ROOT / "docs/figures.md").read_text()
    explained = {name for line in re.findall(r"^## (.*)$", page, re.M) for name in line.split(", ")}
    drawn = {HEATMAP, AUDIT, *CURVES, "published_heatmap", "published_cells", "modifications"}
    assert explained == drawn


def test_experiments_of_the_readme_are_those_of_the_paper():
    paper = yaml.safe_load((ROOT / "studies/paper.yaml").read_text())["experiments"]
    (pattern,) = (command for command in COMMANDS if "…" in command)
    table = README.split(" ".join(pattern))[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(paper)


def test_number_of_jobs_in_the_readme_is_that_of_the_paper(fresh):
    told = re.findall(r"([\d,]+) jobs", README)
    planned = fresh.planned(configfile="studies/paper.yaml")
    planned.pop("retrieve_dataset")  # done with any earlier study
    assert {int(number.replace(",", "")) for number in told} <= {sum(planned.values())}


def documented(heading):
    section = (ROOT / "docs/tables.md").read_text().split(heading)[1].split("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_every_column_of_the_tables_is_documented(finished):
    table = pd.read_parquet(finished[0].results / "tables/transfer.parquet")
    assert documented("| column |") == list(table.columns)


def test_every_arm_is_documented():
    assert documented("| arm | covariance") == list(ARMS)


def test_every_column_of_the_records_is_documented(finished):
    path = finished[0].results / "evaluation/retrain/v2/L3/tau0.5/any/all/0-1.parquet"
    page = (ROOT / "docs/tables.md").read_text()
    assert [c for c in pd.read_parquet(path).columns if f"`{c}`" not in page] == []
