"""Draw the splits of a dataset: images, labels and original indices, one file a split."""

import argparse
import json
from pathlib import Path

import numpy as np

from noisetransfer.artifacts import write_tensors
from noisetransfer.commandline import add_images, parser, run
from noisetransfer.datasets import find, names_of_classes, require_disjoint, splits


def main(args: argparse.Namespace) -> None:
    drawn = splits(args.id, args.folder, args.splits, resize=args.resize, crop=args.crop)
    require_disjoint(drawn)
    names = names_of_classes(args.id, args.folder)
    made = find(args.id, resize=args.resize, crop=args.crop).preprocessing
    for name, split in drawn.items():
        spec = {"dataset": args.dataset, "id": args.id, "splits": args.splits, "split": name}
        labels = np.unique(split.labels).tolist()
        spec |= {"preprocessing": vars(made) if made else None}
        spec |= {"classes": len(names), "names": {str(label): names[label] for label in labels}}
        path = args.output / f"{name}.safetensors"
        write_tensors(path, vars(split), producer="prepare_dataset", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--dataset", required=True, help="its name in the study")
    add_images(options)
    options.add_argument("--splits", type=json.loads, required=True, help='{"train": n, …}')
    options.add_argument("--output", type=Path, required=True, help="folder for the splits")
    run(main, options)
