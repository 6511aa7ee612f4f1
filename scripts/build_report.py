"""Make the report of a study from its folder of results: one HTML file that needs nothing else."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import atomic
from noisetransfer.commandline import parser, run
from noisetransfer.report import of_study, render


def main(args: argparse.Namespace) -> None:
    page = render(of_study(args.results, args.diagnostics))
    with atomic(args.output) as path:
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--results", type=Path, required=True, help="folder, results/{study}")
    options.add_argument(
        "--diagnostics", type=Path, nargs="*", default=[], help="of the fits of covariances, JSON"
    )
    options.add_argument("--output", type=Path, required=True, help=".html")
    run(main, options)
