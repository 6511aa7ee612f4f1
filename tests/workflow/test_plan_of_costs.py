"""`make plan`: what a study will cost, without results, beside finished ones, and against what they took."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from project import STUDY, Project, clean_environment


def plan(project: Project, *arguments: str, configfile: str | Path = STUDY) -> str:
    command = [sys.executable, "benchmarks/plan.py", "--configfile", str(configfile), *arguments]
    done = subprocess.run(
        command, cwd=project.folder, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(printed: str) -> dict[str, dict[str, str]]:
    """Read the rows of a plan: rule → column → cell."""
    lines = printed.split("\n\n")[1].splitlines()
    columns = ("jobs", "CPU-hours", "GPU-hours", "disk GB", "peak GB")
    cells = {line.split()[0]: line.split() for line in lines[1:]}
    return {
        rule: dict(zip(columns, [part for part in own[1:] if "×" not in part], strict=False))
        for rule, own in cells.items()
    }


def jobs(printed: str) -> dict[str, int]:
    return {rule: int(row["jobs"]) for rule, row in table(printed).items()}


@pytest.fixture
def with_a_source(finished, tmp_path) -> Path:
    """A study as the tiny one, with one more source."""
    study = yaml.safe_load(finished[0].study.read_text())
    study["experiments"]["transfer"]["sources"].append("snow@5")
    path = tmp_path / "more.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_without_results_everything_is_unknown(fresh):
    printed = plan(fresh)
    assert "No benchmark files of a finished study were found" in printed
    assert table(printed)["retrain_suffix"] == {
        "jobs": "4",
        **dict.fromkeys(["CPU-hours", "GPU-hours", "disk GB", "peak GB"], "unknown"),
    }


def test_of_a_finished_study_nothing_is_to_be_done(finished):
    assert plan(finished[0]) == "Study tiny: nothing is to be done.\n"


def test_one_more_source_costs_its_own_jobs(finished, with_a_source):
    project, _ = finished
    printed = plan(project, configfile=with_a_source)
    planned = project.planned(configfile=str(with_a_source))
    assert jobs(printed) == {
        **{rule: number for rule, number in planned.items() if rule not in ("all", "transfer")},
        "all": sum(number for rule, number in planned.items() if rule not in ("all", "transfer")),
    }
    assert planned["retrain_suffix"] == planned["modify_images"] == 1
    assert "Extrapolated" in printed
    assert "modify_images (1 of 1)" in printed  # never measured: snow
    assert f"{project.results.relative_to(project.folder)} (" in printed


def test_of_pretrained_networks_nothing_comparable_was_measured(finished):
    project, _ = finished
    printed = plan(project, configfile="studies/cifar10.yaml")
    planned = project.planned(configfile="studies/cifar10.yaml")
    rules = ("retrieve_network", "prepare_network", "retrieve_corrupted", "read_modified")
    left_out = printed.split("left out of the sums: ")[1].splitlines()[0]
    for rule in (*rules, "fit_covariance", "retrain_suffix", "evaluate"):
        assert table(printed)[rule]["CPU-hours"] == "unknown"
        assert f"{rule} ({planned[rule]} of {planned[rule]})" in left_out


def test_arguments_go_on_to_snakemake(finished):
    printed = plan(finished[0], "--forcerun", "retrain_suffix", "--until", "retrain_suffix")
    assert jobs(printed) == {"retrain_suffix": 4, "all": 4}


def test_another_exact_noise_is_not_measured(finished):
    printed = plan(finished[0], "--config", 'noise={"rank": "full"}')
    assert "left out of the sums: fit_covariance (2 of 2)" in printed
    assert table(printed)["all"]["CPU-hours"].startswith("≥")


def test_the_same_study_anew_takes_what_it_took(finished):
    project, _ = finished
    printed = plan(project, "--forceall")
    found = table(printed)["all"]
    assert float(found["CPU-hours"]) * 3600 == pytest.approx(seconds(project), rel=0.25)
    assert float(found["disk GB"]) * 1e9 == pytest.approx(size(project), rel=0.25)
    assert "measured without a GPU" in printed
    assert "xtrapolated" not in printed


def seconds(project: Project) -> float:
    """Return the sum of the times in the benchmark files."""
    paths = (project.results / "benchmarks").rglob("*.tsv")
    return sum(float(path.read_text().splitlines()[1].split("\t")[0]) for path in paths)


def size(project: Project) -> int:
    """Return the bytes of the results and of the data that they were made from."""
    left_out = {project.results / "benchmarks", project.results / "logs"}
    results = [path for path in project.results.rglob("*") if not left_out & {*path.parents}]
    files = [*results, *(project.folder / "resources").rglob("*")]
    return sum(path.stat().st_size for path in files if path.is_file())
