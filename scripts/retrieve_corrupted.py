"""Download a published corrupted set, verified."""

import argparse
from pathlib import Path

from noisetransfer.commandline import parser, run
from noisetransfer.corrupted_sets import SETS, retrieve_official


def main(args: argparse.Namespace) -> None:
    retrieve_official(args.set, args.output.parent)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--set", required=True, choices=SETS)
    options.add_argument("--output", type=Path, required=True, help="its file")
    run(main, options)
