"""Draw the spectra of an experiment's covariances and their geometry against the gain of their noise."""

import argparse
from pathlib import Path

from noisetransfer.alignment import aligned_cells, alignment
from noisetransfer.artifacts import read_table, write_figure, write_table
from noisetransfer.commandline import parser, run
from noisetransfer.geometry_figures import gain_against_geometry, spectra


def main(args: argparse.Namespace) -> None:
    cells = aligned_cells(read_table(args.geometry), read_table(args.table))
    tests = alignment(cells, args.seed)
    for path in args.tests:
        write_table(path, tests)
    figures = {
        "spectra": spectra(read_table(args.spectra), title=args.title),
        "geometry": gain_against_geometry(cells, tests, title=args.title),
    }
    for kind, figure in figures.items():
        for suffix in args.formats:
            write_figure(args.output / f"{args.name}_{kind}.{suffix}", figure)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--table", type=Path, required=True, help="of tabulate_results")
    options.add_argument("--geometry", type=Path, required=True, help="of compare_covariances")
    options.add_argument("--spectra", type=Path, required=True, help="of compare_covariances")
    options.add_argument("--name", required=True, help="of the experiment: figures are NAME_KIND")
    options.add_argument("--formats", nargs="+", default=["pdf", "svg", "png"])
    options.add_argument("--title", required=True)
    options.add_argument("--seed", type=int, required=True, help="seed of the study")
    options.add_argument("--output", type=Path, required=True, help="folder")
    options.add_argument(
        "--tests", type=Path, nargs="+", required=True, help="Mantel's, .parquet and .csv"
    )
    run(main, options)
