"""Compare two finished studies: the differences of their cells, as one HTML file that needs nothing else."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import atomic
from noisetransfer.commandline import parser, run
from noisetransfer.comparison import of_studies
from noisetransfer.report import render


def main(args: argparse.Namespace) -> None:
    page = render(of_studies(args.a, args.b))
    with atomic(args.output) as path:
        path.write_text(page, encoding="utf-8")
    print(args.output)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--a", type=Path, required=True, help="folder, results/{study}")
    options.add_argument("--b", type=Path, required=True, help="folder, results/{study}")
    options.add_argument("--output", type=Path, required=True, help=".html")
    run(main, options)
