"""Fail unless every check of an experiment holds."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import atomic, read_json
from noisetransfer.commandline import parser, run
from noisetransfer.errors import StudyError

HELD = "pass", "differs"  # what differs is not required


def main(args: argparse.Namespace) -> None:
    failed = [check for check in read_json(args.report) if check.get("verdict") not in HELD]
    if failed:
        told = [f"FAIL  {c['check']} = {c['value']} (must be {c['bound']})" for c in failed]
        log = "logs/check_results/ of this study holds the cells behind them"
        raise StudyError("\n".join([f"checks failed, {log}:", *told]))
    with atomic(args.output) as temporary:
        temporary.write_text("every check holds\n")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--report", type=Path, required=True, help="of check_results")
    options.add_argument("--output", type=Path, required=True, help="written if none fails")
    run(main, options)
