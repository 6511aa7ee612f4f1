"""Write down where the results come from: study, versions, code, seed, hardware, time."""

import argparse
import hashlib
import json
from pathlib import Path

from noisetransfer.artifacts import write_json
from noisetransfer.commandline import parser, run
from noisetransfer.logs import devices
from noisetransfer.provenance import git_state, hardware, times, versions, wall_seconds


def main(args: argparse.Namespace) -> None:
    study = json.dumps(args.study, sort_keys=True)
    provenance = {
        "study": args.study,
        "study_sha256": hashlib.sha256(study.encode()).hexdigest(),
        "seed": args.study["seed"],
        "versions": versions(),
        "git": git_state(),
        "hardware": hardware(),
        "devices": devices(args.logs),
        "rules": times(args.benchmarks),
        "wall_seconds": wall_seconds(args.benchmarks),
    }
    write_json(args.output, provenance)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--study", type=json.loads, required=True, help="the whole study as JSON")
    options.add_argument("--benchmarks", type=Path, required=True, help="folder")
    options.add_argument("--logs", type=Path, required=True, help="folder")
    options.add_argument("--output", type=Path, required=True)
    run(main, options)
