"""Average the clean activations at a site by class, for each base network, on the images of the fits."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from noisetransfer.artifacts import read_tensors, write_tensors
from noisetransfer.classes import class_means
from noisetransfer.commandline import parser, run
from noisetransfer.devices import device, images_at_once
from noisetransfer.errors import StudyError
from noisetransfer.loading import read_bases
from noisetransfer.networks import BATCH, batched, footprint


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    hidden = recorded(args, data["indices"]) if args.activations else computed(args, data["images"])
    found = [class_means(chunks, data["labels"]) for chunks in hidden]
    spec = {"network": args.name, "site": args.site, "trials": args.trials}
    tensors = {"means": torch.stack([own.means for own in found]), "counts": found[0].counts}
    write_tensors(args.output, tensors, producer="average_classes", spec=spec)


def recorded(args: argparse.Namespace, indices: Tensor) -> Iterator[Iterator[Tensor]]:
    """Yield the recorded activations of each base network in chunks (m, d)."""
    stored = read_tensors(args.activations, producer="record_activations", framework="pt")
    if not torch.equal(stored["indices"], indices):
        raise StudyError(f"{args.activations}: not the activations of the images of {args.data}")
    for own in stored["activations"]:
        yield (chunk.flatten(1) for chunk in own.split(BATCH))


def computed(args: argparse.Namespace, images: Tensor) -> Iterator[Iterator[Tensor]]:
    """Yield the activations of each base network in chunks (m, d), as its prefix gives them."""
    bases, target = read_bases(args.network), device()
    size = images_at_once(target, 4 * footprint(bases.networks[0], bases.image_shape))
    for cut in bases.cut(args.site, target):
        d = cut.shape.numel()
        states = batched(cut.prefix, images, target, size)
        yield (chunk.flatten(1)[:, :d] for chunk in states)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument("--activations", type=Path, help="of the images, where they are recorded")
    options.add_argument("--name", required=True, help="of the network in the study")
    options.add_argument("--site", required=True, help="such as L2 or layer3")
    options.add_argument("--trials", type=int, nargs="+", required=True)
    options.add_argument("--output", type=Path, required=True, help="stacked over trials")
    run(main, options)
