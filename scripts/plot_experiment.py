"""Draw a figure of an experiment, of one of the kinds of `noisetransfer.curves`."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_figure
from noisetransfer.commandline import parser, run
from noisetransfer.curves import CURVES


def main(args: argparse.Namespace) -> None:
    figure = CURVES[args.kind](read_table(args.table), title=args.title)
    for path in args.output:
        write_figure(path, figure)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="Parquet, as the kind takes it")
    options.add_argument("--kind", choices=CURVES, required=True)
    options.add_argument("--title", required=True)
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    run(main, options)
