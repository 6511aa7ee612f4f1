"""Draw the transfer heatmaps: targets in rows, sources in columns, a panel per arm; a figure per value.

And one arm with like modifications side by side.
"""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_figure
from noisetransfer.clusters import clustered_heatmap
from noisetransfer.commandline import parser, run
from noisetransfer.figures import TITLES, transfer_heatmap


def main(args: argparse.Namespace) -> None:
    table = read_table(args.table)
    figures = {
        value: transfer_heatmap(table, value, title=args.title, order=args.order)
        for value in args.values
    }
    figures["clustered"] = clustered_heatmap(table, title=args.title)
    for kind, figure in figures.items():
        for suffix in args.formats:
            write_figure(args.output / f"{args.name}_{kind}.{suffix}", figure)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="summary of the experiment")
    options.add_argument("--name", required=True, help="of the experiment: figures are NAME_VALUE")
    options.add_argument("--values", nargs="+", choices=TITLES, default=list(TITLES))
    options.add_argument("--formats", nargs="+", default=["pdf", "svg", "png"])
    options.add_argument("--title", required=True)
    options.add_argument(
        "--order", nargs="+", required=True, help="modifications, rows and columns"
    )
    options.add_argument("--output", type=Path, required=True, help="folder")
    run(main, options)
