"""Fail unless every check of an experiment holds."""

import argparse
from pathlib import Path
from typing import Any

from noisetransfer.artifacts import atomic, read_json
from noisetransfer.commandline import parser, run
from noisetransfer.errors import StudyError

HELD = "pass", "differs"  # what differs is not required


def main(args: argparse.Namespace) -> None:
    failed = [check for check in read_json(args.report) if check.get("verdict") not in HELD]
    if failed:
        log = "their worst cells below, all in logs/check_results/ of this study"
        raise StudyError("\n".join([f"checks failed, {log}:", *map(told, failed)]))
    with atomic(args.output) as temporary:
        temporary.write_text("every check holds\n")


def told(check: dict[str, Any]) -> str:
    """Return a failed check in words, a line for each of its worst cells."""
    lines = [f"FAIL  {check['check']} = {number(check['value'])} (must be {check['bound']})"]
    for cell in check["cells"]:
        names = ", ".join(f"{key} {name}" for key, name in cell.items() if key != "value")
        lines.append(f"      {check['by']} {number(cell['value'])}: {names}")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Return a value in few digits."""
    return "unknown" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--report", type=Path, required=True, help="of check_results")
    options.add_argument("--output", type=Path, required=True, help="written if none fails")
    run(main, options)
