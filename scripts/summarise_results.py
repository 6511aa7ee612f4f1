"""Summarise the records of an experiment: intervals and tests, families, variance components, robustness."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.commandline import parser, run
from noisetransfer.components import variance_table
from noisetransfer.corruption_error import robustness
from noisetransfer.families import families
from noisetransfer.outcomes import outcomes
from noisetransfer.summary import summary


def main(args: argparse.Namespace) -> None:
    cells, found = outcomes(read_table(path) for path in args.records)
    tables = {
        "summary": summary(cells, found, args.seed),
        "families": families(cells, found, args.seed),
        "variance": variance_table(cells, found),
        "robustness": robustness(cells, found, args.attacks, args.seed),
    }
    for name, table in tables.items():
        for suffix in ("parquet", "csv"):
            write_table(args.output / f"{args.name}_{name}.{suffix}", table)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--records", type=Path, nargs="+", required=True, help="of evaluate")
    options.add_argument(
        "--attacks", nargs="*", default=[], help="those that someone could run; others do not count"
    )
    options.add_argument("--seed", type=int, required=True, help="of the study")
    options.add_argument("--name", required=True, help="of the experiment: NAME_summary.csv, …")
    options.add_argument("--output", type=Path, required=True, help="folder")
    run(main, options)
