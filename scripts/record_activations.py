"""Record the activations at a site for the clean training images, once per base network."""

import argparse
from pathlib import Path

import torch

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.devices import device
from noisetransfer.networks import BATCH, activation_shape, batched, members, split


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    shape = read_spec(args.network)["network"]
    prefixes = [split(n, args.site)[0] for n in members(shape, parameters)]
    activations = torch.empty(
        len(prefixes), len(data["labels"]), *activation_shape(prefixes[0], shape["image_shape"])
    )
    for own, prefix in zip(activations, prefixes, strict=True):
        batches = batched(prefix.to(target), data["images"], target)
        for place, h in zip(own.split(BATCH), batches, strict=True):
            place.copy_(h)
    spec = {"site": args.site, "network": shape}
    tensors = {"activations": activations, "indices": data["indices"]}
    write_tensors(args.output, tensors, producer="record_activations", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument("--output", type=Path, required=True, help="h(x), stacked over trials")
    run(main, options)
