"""Turn the records of an experiment into its table: accuracy and gains per source, target, arm and trial."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.commandline import parser, run
from noisetransfer.statistics import accuracies, transfer_table


def main(args: argparse.Namespace) -> None:
    table = transfer_table(accuracies(read_table(path)) for path in args.records)
    for path in args.output:
        write_table(path, table)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--records", type=Path, nargs="+", required=True, help="of evaluate")
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".parquet and .csv")
    run(main, options)
