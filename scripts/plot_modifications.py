"""Show an image of each class under every modification on one contact sheet.

Attacks are shown on the training images that they were crafted on, against the first base network.
"""

import argparse
from pathlib import Path

import numpy as np

from noisetransfer.artifacts import read_spec, read_tensors, write_figure
from noisetransfer.commandline import parser, run
from noisetransfer.datasets import DATASETS
from noisetransfer.figures import contact_sheet


def main(args: argparse.Namespace) -> None:
    classes = DATASETS[read_spec(args.data)["dataset"]].classes
    test, shown = examples(args.data, len(classes))
    rows = {"clean@0": pictures(test["images"][shown])}
    for path in args.modified:
        images = read_tensors(path, producer="modify_images")["images"]
        rows[read_spec(path)["modification"]] = pictures(images[shown])
    train, shown = examples(args.train, len(classes))
    if args.attacked:
        rows["clean@0, training"] = pictures(train["images"][shown])
    for path in args.attacked:
        images = read_tensors(path, producer="attack_images")["images"]
        rows[f"{read_spec(path)['modification']}, training"] = pictures(images[0][shown])
    figure = contact_sheet(rows, list(classes))
    for path in args.output:
        write_figure(path, figure)


def examples(path: Path, classes: int) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return a split and the position of the first image of each class."""
    data = read_tensors(path, producer="prepare_dataset")
    return data, [int(np.argmax(data["labels"] == label)) for label in range(classes)]


def pictures(images: np.ndarray) -> np.ndarray:
    return images / 255 if images.dtype == np.uint8 else images


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="test split")
    options.add_argument("--train", type=Path, required=True, help="training split")
    options.add_argument("--modified", type=Path, nargs="*", default=[], help="test images")
    options.add_argument("--attacked", type=Path, nargs="*", default=[], help="training images")
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    run(main, options)
