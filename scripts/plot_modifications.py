"""Show the same test images under every modification on one contact sheet."""

import argparse
from pathlib import Path

import numpy as np

from noisetransfer.artifacts import read_spec, read_tensors, write_figure
from noisetransfer.commandline import parser, run
from noisetransfer.datasets import DATASETS
from noisetransfer.figures import contact_sheet


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset")
    names = DATASETS[read_spec(args.data)["dataset"]].classes
    _, first = np.unique(data["labels"], return_index=True)
    shown = {"clean@0": pictures(data["images"][first])}
    for path in args.modified:
        origin = read_spec(path)
        attacked = "attack" in origin
        producer = "attack_images" if attacked else "modify_images"
        images = read_tensors(path, producer=producer)["images"]
        shown[origin["modification"]] = pictures((images[0] if attacked else images)[first])
    figure = contact_sheet(shown, [names[label] for label in data["labels"][first]])
    for path in args.output:
        write_figure(path, figure)


def pictures(images: np.ndarray) -> np.ndarray:
    return images / 255 if images.dtype == np.uint8 else images


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the split that was modified")
    options.add_argument("--modified", type=Path, nargs="+", required=True)
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    run(main, options)
