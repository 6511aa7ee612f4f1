"""Check a finished experiment against its bounds; print every cell behind a verdict, fail if one fails."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from noisetransfer.artifacts import read_published, read_table, write_json
from noisetransfer.checks import Check, clean_accuracy, own_gain, published_heatmap
from noisetransfer.commandline import parser, run
from noisetransfer.errors import StudyError


def main(args: argparse.Namespace) -> None:
    checks = evaluate(read_table(args.table), args.checks, args.published)
    for check in checks:
        print(check, check.cells.to_string(index=False), sep="\n", end="\n\n", file=sys.stderr)
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise StudyError("\n".join(["checks failed (the cells stand above):", *failed]))
    write_json(args.report, [report(check) for check in checks])


def evaluate(table: pd.DataFrame, bounds: dict[str, Any], published: Path | None) -> list[Check]:
    checks = []
    if bounds.get("clean_accuracy") is not None:
        checks.append(clean_accuracy(table, bounds["clean_accuracy"]))
    if bounds.get("own_gain") is not None:
        checks.append(own_gain(table, bounds["own_gain"]))
    if published:
        wanted = {key: value for key, value in bounds["published"].items() if key != "table"}
        checks += published_heatmap(table, read_published(published), **wanted)
    return checks


def report(check: Check) -> dict[str, Any]:
    return {"check": check.name, "passed": check.passed, "value": check.value, "bound": check.bound}


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="of tabulate_results")
    options.add_argument(
        "--checks", type=json.loads, required=True, help="bounds, as in the study file"
    )
    options.add_argument("--published", type=Path, help="published heatmap to compare with")
    options.add_argument("--report", type=Path, required=True, help="JSON, written if all pass")
    run(main, options)
