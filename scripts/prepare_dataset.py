"""Draw the splits of a dataset: images, labels and original indices, one file a split."""

import argparse
import json
from pathlib import Path

from noisetransfer.artifacts import write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.datasets import DATASETS, splits


def main(args: argparse.Namespace) -> None:
    spec = {"dataset": args.dataset, "splits": args.splits}
    for name, split in splits(args.dataset, args.folder, args.splits).items():
        path = args.output / f"{name}.safetensors"
        write_tensors(path, vars(split), producer="prepare_dataset", spec=spec | {"split": name})


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--dataset", required=True, choices=DATASETS)
    options.add_argument("--folder", type=Path, required=True, help="folder of the original files")
    options.add_argument("--splits", type=json.loads, required=True, help='{"train": n, …}')
    options.add_argument("--output", type=Path, required=True, help="folder for the splits")
    run(main, options)
