"""Draw the transfer heatmap of one value: targets in rows, sources in columns, a panel per arm."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_figure
from noisetransfer.commandline import parser, run
from noisetransfer.figures import TITLES, transfer_heatmap


def main(args: argparse.Namespace) -> None:
    table = read_table(args.table)
    figure = transfer_heatmap(table, args.value, title=args.title, order=args.order)
    for path in args.output:
        write_figure(path, figure)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="of tabulate_results")
    options.add_argument("--value", required=True, choices=TITLES)
    options.add_argument("--title", required=True)
    options.add_argument("--order", nargs="+", required=True, help="modifications, rows and columns")
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    run(main, options)
