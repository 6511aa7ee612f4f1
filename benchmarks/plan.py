"""Say what a study will cost before it runs: jobs, hours, disk and memory by rule.

    python benchmarks/plan.py --configfile studies/paper.yaml

All arguments but `--from` are Snakemake's. A dry run lists the jobs to do; what they take is estimated from
the benchmark files of finished studies: results/*/ with a provenance.json, and the folders named by `--from`.
How, stands in scripts/noisetransfer/cost.py and cost_stages.py.
"""

import argparse
import contextlib
import csv
import glob
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from snakemake.cli import parse_args, parse_config
from snakemake.settings.types import ConfigSettings

from noisetransfer import config, cost
from noisetransfer.cost import CPU, Cost, Observation
from noisetransfer.cost_stages import STAGES, Job
from noisetransfer.errors import StudyError
from noisetransfer.logs import device_of

NO_MODEL = (
    "No benchmark files of a finished study were found: hours, disk and memory are unknown."
    " Run the default study first (make run)."
)
HEADER = "rule", "jobs", "CPU-hours", "one job", "GPU-hours", "disk GB", "peak GB", "from"


@dataclass(frozen=True)
class Finished:
    """A finished study: its folder, its machine, and what its jobs took."""

    folder: Path
    hardware: dict[str, Any]
    observations: list[Observation]

    def __str__(self) -> str:
        """Return where it lies and what it ran on."""
        machine, own = self.hardware, {seen.device for seen in self.observations} - {CPU}
        gpus = ", ".join(sorted(own)) or "no GPU"
        return f"{self.folder} ({machine['processor']}, {machine['cores']} cores, {gpus})"


def main(arguments: list[str]) -> None:
    options = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument(
        "--from", dest="folders", type=Path, nargs=1, action="extend", default=[], metavar="FOLDER",
        help="results of another finished study, with its provenance.json; may be repeated",
    )  # fmt: skip
    given, rest = options.parse_known_args(arguments)
    printed = dry_run(rest)
    study = study_of(rest)
    planned = jobs_of(study, printed)
    if not planned:
        print(f"Study {study.study}: nothing is to be done.")
        return
    folders = [path.parent for path in sorted(Path("results").glob("*/provenance.json"))]
    print(report(study.study, planned, read([*folders, *given.folders])))


def dry_run(arguments: Sequence[str]) -> str:
    """Return what a dry run of Snakemake prints; leave with its message if it fails."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def study_of(arguments: Sequence[str]) -> config.Study:
    """Return the study that Snakemake reads, given these arguments."""
    with contextlib.redirect_stderr(io.StringIO()):  # it names its profile a second time
        _, given = parse_args(list(arguments))
    settings = ConfigSettings(
        config=parse_config(given.config), configfiles=given.configfile or [Path("config.yaml")]
    )
    return config.load(settings.overwrite_config)


def jobs_of(study: config.Study, printed: str) -> list[Job]:
    """Read the jobs from their command lines: each ends with the log file, which names it."""
    log = rf"^Shell command: python scripts/.* 2> results/{re.escape(study.study)}/logs/(\S+)\.log$"
    return [Job.named(study, name) for name in dict.fromkeys(re.findall(log, printed, re.M))]


def read(folders: Sequence[Path]) -> list[Finished]:
    """Read finished studies; those of another version of the schema are left out, with a word."""
    found = []
    for folder in folders:
        try:
            found.append(read_finished(folder))
        except OSError as error:
            sys.exit(f"{folder} is no folder of a finished study: {error}")
        except (KeyError, StudyError):
            print(f"{folder} is left out: made by another version of the workflow", file=sys.stderr)
    return [study for study in found if study.observations]


def read_finished(folder: Path) -> Finished:
    provenance = json.loads((folder / "provenance.json").read_text())
    study, benchmarks = config.load(provenance["study"]), folder / "benchmarks"
    observations = []
    for path in sorted(benchmarks.rglob("*.tsv")):
        name = str(path.relative_to(benchmarks)).removesuffix(".tsv")
        with contextlib.suppress(StudyError):  # of an earlier state of the study
            job = Job.named(study, name)
            # logs of before they told it are of runs without a GPU
            device = device_of(folder / "logs" / f"{name}.log") or CPU
            observations.append(Observation(job, device, measured(folder, job, name, path)))
    return Finished(folder, provenance["hardware"], observations)


def measured(folder: Path, job: Job, name: str, benchmark: Path) -> dict[str, float]:
    """Return seconds, and bytes of memory and disk where they are known."""
    with benchmark.open() as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    values = {"seconds": float(row["s"])}
    with contextlib.suppress(ValueError):  # a job too short to be measured reads "-"
        values["memory"] = float(row["max_rss"]) * 2**20
    stem = glob.escape(name.partition("/")[2])
    files = [p for found in STAGES[job.rule].files for p in folder.glob(found.format(stem))]
    if files:
        values["disk"] = float(sum(path.stat().st_size for path in files))
    return values


def report(name: str, planned: Sequence[Job], finished: Sequence[Finished]) -> str:
    """Return the table of costs by rule, and what is to be said of it."""
    seen = [observation for study in finished for observation in study.observations]
    model = cost.fit(seen)
    on_cpu = cost.estimate(model, planned, CPU)
    gpus = Counter(observation.device for observation in seen if observation.device != CPU)
    gpu = gpus.most_common(1)[0][0] if gpus else None
    on_gpu = cost.estimate(model, planned, gpu) if gpu else [None] * len(on_cpu)
    pairs = list(zip(on_cpu, on_gpu, strict=True))
    title = f"Study {name}: what is to be done, estimated before anything runs."
    notes = remarks(pairs, gpu) if seen else [NO_MODEL]
    if finished:
        notes.append(f"Fitted to: {'; '.join(map(str, finished))}.")
    return "\n".join([title, "", *table(pairs), "", *notes])


Pair = tuple[Cost, Cost | None]
"""What a rule costs without a GPU, and with one, if anything was measured on one."""


def main_of(pair: Pair) -> Cost:
    """Return what the remarks are about: the cost on the GPU, if that is known."""
    cpu, gpu = pair
    known = gpu and STAGES[cpu.rule].gpu and gpu.unknown < gpu.jobs
    return gpu if gpu and known else cpu


def table(pairs: Sequence[Pair]) -> list[str]:
    """Return aligned lines: a row a rule, and their sum."""
    rows = [HEADER, *map(row, pairs), total(pairs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in rows
    ]


def row(pair: Pair) -> list[str]:
    cpu, gpu = pair
    own = main_of(pair)
    least, most = own.spread or (1, 1)
    return [
        cpu.rule,
        str(cpu.jobs),
        hours([cpu]),
        f"×{least:.2g}-{most:.2g}" if own.spread and own.unknown < own.jobs else "",
        hours([gpu]) if STAGES[cpu.rule].gpu else "-",
        gigabytes(sum, [pair], "disk"),
        gigabytes(max, [pair], "memory"),
        jobs(own.measured),
    ]


def total(pairs: Sequence[Pair]) -> list[str]:
    on_gpu = [gpu for cpu, gpu in pairs if STAGES[cpu.rule].gpu]
    return [
        "all",
        str(sum(cpu.jobs for cpu, _ in pairs)),
        hours([cpu for cpu, _ in pairs]),
        "",
        hours(on_gpu),
        gigabytes(sum, pairs, "disk"),
        gigabytes(max, pairs, "memory"),
        jobs(sum(main_of(pair).measured for pair in pairs)),
    ]


def hours(costs: Sequence[Cost | None]) -> str:
    """Return hours; ≥ where jobs are left out that nothing is known of, * where some are extrapolated."""
    known = [own for own in costs if own and own.unknown < own.jobs]
    if not known:
        return "unknown" if costs else "-"
    partly = len(known) < len(costs) or any(own.unknown for own in known)
    mark = "*" if any(own.extrapolated for own in known) else ""
    return short(seconds(known) / 3600, partly) + mark


def seconds(costs: Sequence[Cost]) -> float:
    return sum(own.seconds for own in costs)


def gigabytes(
    together: Callable[[Iterable[float]], float], pairs: Sequence[Pair], name: str
) -> str:
    """Return the sum or maximum of bytes; ≥ where those of a rule are not known."""
    found = [next(filter(None, [getattr(main_of(p), name), getattr(p[0], name)]), 0) for p in pairs]
    return short(together(found) / 1e9, not all(found)) if any(found) else "unknown"


def short(number: float, partly: bool) -> str:
    if partly:
        return f"≥{number:,.3f}"
    return f"{number:,.3f}" if number >= 0.001 else "<0.001"


def jobs(number: int) -> str:
    return f"{number} job{'' if number == 1 else 's'}"


def remarks(pairs: Sequence[Pair], gpu: str | None) -> list[str]:
    """Return what the numbers mean, and what they leave out."""
    costs = [main_of(pair) for pair in pairs]
    unknown = "Nothing comparable was measured, or only far smaller jobs: left out of the sums"
    rough = "* Extrapolated from jobs that are all smaller, all larger, or of other settings"
    found = [
        listed(costs, "unknown", unknown),
        listed(costs, "extrapolated", rough),
        about_gpu(costs, gpu),
        about_time(pairs, gpu),
    ]
    return [text for text in found if text]


def listed(costs: Sequence[Cost], name: str, what: str) -> str:
    """Return the rules some jobs of which are unknown or extrapolated."""
    counts = {own: getattr(own, name) for own in costs}
    rules = [f"{own.rule} ({n} of {own.jobs})" for own, n in counts.items() if n]
    return f"{what}: {', '.join(rules)}." if rules else ""


def about_gpu(costs: Sequence[Cost], gpu: str | None) -> str:
    if not any(STAGES[own.rule].gpu for own in costs):
        return ""
    if gpu:
        return f"Rules with GPU-hours take these on a {gpu}, or their CPU-hours without a GPU."
    return (
        "Rules that ask for a GPU were measured without a GPU: their hours are CPU-hours,"
        " GPU-hours are unknown."
    )


def about_time(pairs: Sequence[Pair], gpu: str | None) -> str:
    """Return the wall clock and its range: all cores, or one job at a time on a GPU."""
    cores = os.cpu_count() or 1
    spent, low, high = 0.0, 0.0, 0.0
    costs = [on_gpu if on_gpu and STAGES[cpu.rule].gpu else cpu for cpu, on_gpu in pairs]
    for own in costs:
        share = own.seconds / (1 if gpu and STAGES[own.rule].gpu else cores)
        least, most = own.spread or (1, 1)
        spent, low, high = spent + share, low + least * share, high + most * share
    where = f"one {gpu}" if gpu else "without a GPU"
    about = "at least" if any(own.unknown for own in costs) else "about"
    return (
        f"On the {cores} cores of this machine, {where}: {about} {clock(spent)};"
        f" {clock(low)} to {clock(high)} if every job were as far off as the worst measured one of its"
        " rule (× of one job)."
    )


def clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


if __name__ == "__main__":
    main(sys.argv[1:])
