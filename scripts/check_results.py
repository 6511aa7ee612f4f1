"""Check a finished experiment against its bounds, and report every verdict and every cell behind it."""

import argparse
import json
import sys
from itertools import chain
from pathlib import Path

from noisetransfer.artifacts import (
    read_published,
    read_published_cells,
    read_table,
    write_json,
    write_table,
)
from noisetransfer.checks import Check, evaluate
from noisetransfer.commandline import parser, run
from noisetransfer.errors import StudyError
from noisetransfer.gates import COLUMNS, as_asked, counts, gates
from noisetransfer.record_parts import parts


def main(args: argparse.Namespace) -> None:
    readers = {"published": read_published, "published_cells": read_published_cells}
    given = {name: vars(args)[name] for name in readers if vars(args)[name]}
    published = {name: readers[name](path) for name, path in given.items()}
    found = evaluate(read_table(args.table), args.checks, published)
    checks = [*found.checks, *gates_of(args)]
    for check in checks:
        print(check, check.cells.to_string(index=False), sep="\n", end="\n\n", file=sys.stderr)
    write_json(args.report, [check.report() for check in checks])
    if args.cells:
        write_table(args.cells, found.cells)


def gates_of(args: argparse.Namespace) -> list[Check]:
    if not args.records:
        return []
    # in parts, and of some columns alone: the table was made of the same records and verified them whole
    read = chain.from_iterable(parts(path, COLUMNS) for path in args.records)
    found = gates(counts(read, args.budgets), args.budgets)
    found += as_asked(read_table(args.probes)) if args.probes else []
    if not found:
        raise StudyError(
            "gates: no two attacks met in a cell, and no network was noisy; set gates: false"
        )
    return found


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="of tabulate_results")
    options.add_argument(
        "--checks", type=json.loads, required=True, help="bounds, as in the study file"
    )
    options.add_argument("--published", type=Path, help="published heatmap to compare with")
    options.add_argument("--published-cells", type=Path, help="published cells to compare with")
    options.add_argument(
        "--records",
        type=Path,
        nargs="*",
        default=[],
        help="of evaluate: check the order of attacks",
    )
    options.add_argument(
        "--budgets",
        type=json.loads,
        default={},
        help='of the attacks: {"pgd.weak": {"attack": "pgd", "steps": 5, …}}',
    )
    options.add_argument("--probes", type=Path, help="of tabulate_audit: check the noise itself")
    options.add_argument("--report", type=Path, required=True, help="verdicts, JSON")
    options.add_argument("--cells", type=Path, help="Parquet of the compared cells")
    run(main, options)
