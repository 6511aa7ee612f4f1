"""Time an experiment stage by stage: its command lines one after another, as a cluster would run them.

    python benchmarks/stages.py list transfer --configfile studies/paper.yaml > commands.sh
    python benchmarks/stages.py run commands.sh --table stages.md

`list` asks Snakemake for the command lines (nothing runs); `run` needs no Snakemake, so that it also works
on a machine that has a GPU and PyTorch alone. What a job takes to start (Python, PyTorch, the device) is
measured on its own and taken off: what remains is computing. `--against 40` compares with the authors'
scripts (ten trials of `transfer` on an H100: about 40 GPU-hours, measured by phase, extrapolated).
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from noisetransfer.environment import VARIABLES

START = (
    "import torch, noisetransfer.evaluation;"
    "torch.zeros(1, device='cuda' if torch.cuda.is_available() else 'cpu')"
)
PREPARING = "retrieve_dataset", "prepare_dataset", "modify_images", "redraw_images"
"""Stages that run but are not counted: their files are made once for all studies of a dataset."""


def list_commands(arguments: list[str]) -> None:
    """Print the command lines of the jobs that Snakemake would run, in an order that works."""
    dry = [
        sys.executable,
        "-m",
        "snakemake",
        "--dry-run",
        "--printshellcmds",
        "--forceall",
        *arguments,
    ]
    done = subprocess.run(dry, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found = re.findall(r"^Shell command: (python scripts/.*)$", done.stdout + done.stderr, re.M)
    print("\n".join(dict.fromkeys(found)))


def run_commands(commands: Path, table: Path | None, against: float | None) -> None:
    """Run command lines one after another, and print what each stage takes."""
    start = _start_up()
    seconds: dict[str, list[float]] = defaultdict(list)
    for line in commands.read_text().splitlines():
        stage = line.split()[1].removeprefix("scripts/").removesuffix(".py")
        folders = {str(Path(word).parent) for word in line.split() if word.startswith("results/")}
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        line = line.replace("python ", f"{sys.executable} ", 1)
        subprocess.run(line, shell=True, check=True, env={**os.environ, **VARIABLES})
        seconds[stage].append(time.perf_counter() - began)
        print(f"{stage}: {seconds[stage][-1]:.1f} s", file=sys.stderr)
    text = _table({s: took for s, took in seconds.items() if s not in PREPARING}, start, against)
    print(text)
    if table:
        table.write_text(text + "\n")


def _start_up() -> float:
    """Return the seconds that a stage takes before it computes, the least of three."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", START], cwd="scripts", check=True)
        took.append(time.perf_counter() - began)
    return min(took)


def _table(seconds: dict[str, list[float]], start: float, against: float | None) -> str:
    computing = {stage: sum(max(s - start, 0) for s in took) for stage, took in seconds.items()}
    whole, wall = sum(computing.values()), sum(map(sum, seconds.values()))
    lines = ["| stage | jobs | seconds of computing | share |", "| --- | --: | --: | --: |"]
    for stage, took in seconds.items():
        share = computing[stage] / whole
        lines.append(f"| {stage} | {len(took)} | {computing[stage]:.1f} | {share:.0%} |")
    lines.append(f"| all | {sum(map(len, seconds.values()))} | {whole:.1f} | 100% |")
    lines += [
        "",
        f"Wall clock, one job after another: {wall:.0f} s; start of a job: {start:.1f} s.",
    ]
    if against:
        lines.append(f"{against:g} hours are {against * 3600 / whole:.0f} times the computing.")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", choices=["list", "run"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.action == "list":
        list_commands(options.arguments)
    else:
        of_run = argparse.ArgumentParser()
        of_run.add_argument("commands", type=Path)
        of_run.add_argument("--table", type=Path, help="also written here, as Markdown")
        of_run.add_argument("--against", type=float, help="hours to compare with")
        given = of_run.parse_args(options.arguments)
        run_commands(given.commands, given.table, given.against)
