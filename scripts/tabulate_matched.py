"""Turn the table of a sweep of τ into accuracies of all arms at equal clean validation accuracy."""

import argparse
from pathlib import Path

import pandas as pd

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.commandline import parser, run
from noisetransfer.matching import matched
from noisetransfer.statistics import accuracies


def main(args: argparse.Namespace) -> None:
    clean = pd.concat([accuracies(read_table(path)) for path in args.validation], ignore_index=True)
    table = matched(read_table(args.table), clean)
    for path in args.output:
        write_table(path, table)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="Parquet of tabulate_results")
    options.add_argument(
        "--validation",
        type=Path,
        nargs="+",
        required=True,
        help="of evaluate, on validation images",
    )
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".parquet and .csv")
    run(main, options)
