"""Show an image of each class under every modification on one contact sheet.

Attacks are shown on the training images that they were crafted on, against the first base network.
"""

import argparse
from pathlib import Path

import numpy as np

from noisetransfer.artifacts import of_trial, read_spec, read_tensors, write_figure, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.figures import contact_sheet

MOST_COLUMNS = 10
LARGEST = 112
"""Pixels of a side of an example."""
TRAINING = ", training"


def main(args: argparse.Namespace) -> None:
    names = read_spec(args.data)["names"]
    test, train = (read_tensors(p, producer="prepare_dataset") for p in (args.data, args.train))
    labels = columns(test["labels"], train["labels"] if args.attacked else test["labels"])
    shown = firsts(test["labels"], labels)
    rows = {"clean@0": pictures(test["images"][shown])}
    for path in args.modified:
        images = read_tensors(path, producer="modify_images")["images"]
        rows[read_spec(path)["modification"]] = pictures(of_trial(images, 0)[shown])
    shown = firsts(train["labels"], labels)
    if args.attacked:
        rows[f"clean@0{TRAINING}"] = pictures(train["images"][shown])
    for path in args.attacked:
        images = read_tensors(path, producer="attack_images")["images"]
        rows[f"{read_spec(path)['modification']}{TRAINING}"] = pictures(of_trial(images, 0)[shown])
    titles = [names[str(label)] for label in labels] or [""] * len(shown)
    figure = contact_sheet(rows, titles)
    for path in args.output:
        write_figure(path, figure)
    write_tensors(args.examples, examples(rows), producer="plot_modifications", spec={})


def examples(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return of every modification its first image, clean and modified: (2, C, H, W) bytes, H, W ≤ 112."""
    found = {}
    for name, images in rows.items():
        modification, comma, part = name.partition(TRAINING)
        pair = np.stack([rows[f"clean@0{comma}{part}"][0], images[0]])
        step = -(-max(pair.shape[2:]) // LARGEST)
        small = pair[:, :, ::step, ::step]
        found.setdefault(modification, np.round(small.clip(0, 1) * 255).astype(np.uint8))
    return found


def columns(test: np.ndarray, train: np.ndarray) -> list[int]:
    """Return the labels that head the columns: of both splits; none where no class is in both."""
    return [int(label) for label in np.intersect1d(test, train)[:MOST_COLUMNS]]


def firsts(of_images: np.ndarray, labels: list[int]) -> list[int]:
    """Return the position of the first image of each label; without labels, that of the first image."""
    return [int(np.argmax(of_images == label)) for label in labels] or [0]


def pictures(images: np.ndarray) -> np.ndarray:
    return images / 255 if images.dtype == np.uint8 else images


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="test split")
    options.add_argument("--train", type=Path, required=True, help="training split")
    options.add_argument("--modified", type=Path, nargs="*", default=[], help="test images")
    options.add_argument("--attacked", type=Path, nargs="*", default=[], help="training images")
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    options.add_argument("--examples", type=Path, required=True, help=".safetensors, an image each")
    run(main, options)
