"""Put an original, verified file of a dataset into a folder: from a local folder, or downloaded."""

import argparse
from pathlib import Path

from noisetransfer.commandline import parser, run
from noisetransfer.datasets import DATASETS, retrieve


def main(args: argparse.Namespace) -> None:
    retrieve(args.dataset, args.output.name, args.output.parent, args.folder)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--dataset", required=True, choices=DATASETS)
    options.add_argument("--folder", type=Path, help="local folder with the original files")
    options.add_argument("--output", type=Path, required=True, help="where the original file goes")
    run(main, options)
