"""A copy of the project in a folder of its own, and how to run the tiny study there."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STUDY = "tests/workflow/study.yaml"


@dataclass(frozen=True)
class Project:
    """A copy of the project; `results` is where the tiny study's results go."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    @property
    def study(self) -> Path:
        return self.folder / STUDY

    def snakemake(
        self, *arguments: str, configfile: str | None = STUDY
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on a study; None: on that which the arguments name."""
        study = ["--configfile", configfile] if configfile else []
        return subprocess.run(
            [*self.command, *arguments, *study],
            cwd=self.folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "snakemake"]

    def planned(self, *arguments: str, configfile: str = STUDY) -> dict[str, int]:
        """Number of jobs by rule that a run would do."""
        done = self.snakemake("--dry-run", *arguments, configfile=configfile)
        assert done.returncode == 0, done.stdout
        return counts(done.stdout)

    def edit(self, change) -> None:
        """Change the tiny study: `change` takes and alters its parsed content."""
        content = yaml.safe_load(self.study.read_text())
        change(content)
        self.study.write_text(yaml.safe_dump(content, sort_keys=False))

    def tables(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.results / "tables").iterdir()}


def counts(output: str) -> dict[str, int]:
    """Read the table of jobs that Snakemake prints."""
    if "Nothing to be done" in output:
        return {}
    lines = output.split("Job stats:")[1].split("total")[0].splitlines()[3:]
    return {name: int(number) for name, number in (line.split() for line in lines if line.strip())}


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}


def copy_of_project(folder: Path) -> Project:
    """Copy what git would clone, edits included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Project(folder)


def gpu_rules() -> set[str]:
    """Return the rules whose resources say gpu=1."""
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    rules = re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
    return {name for name, body in rules if re.search(r"^        gpu=1,$", body, re.M)}
