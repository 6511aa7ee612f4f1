"""Measure the gradients that noisy networks give an attacker, and the noise that they see."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from noisetransfer.arms import UNSCALED
from noisetransfer.artifacts import read_tensors, write_table
from noisetransfer.commandline import (
    add_input_noise,
    add_keys,
    add_noise,
    add_tested,
    parser,
    run,
)
from noisetransfer.cuts import Cut
from noisetransfer.devices import device
from noisetransfer.evaluation import NoisyNetworks
from noisetransfer.linear import linear_map
from noisetransfer.loading import read_bases
from noisetransfer.nearest import spread
from noisetransfer.networks import pixels
from noisetransfer.probing import Asked, gradients, moments, probe_rows
from noisetransfer.stages import row_names
from noisetransfer.tested import noise_of, noisy_networks


def main(args: argparse.Namespace) -> None:
    target = device()
    every = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    # images of class folders lie class by class
    chosen = spread(len(every["labels"]), min(args.images, len(every["labels"])))
    data = {name: every[name][chosen].to(target) for name in ("images", "labels", "indices")}
    found = []
    networks = noisy_networks(args, target)
    cuts = read_bases(args.network, len(args.trials)).cut(args.site, torch.device("cpu"))
    for place, (trial, own, cut) in enumerate(zip(args.trials, networks, cuts, strict=True)):
        asked = asked_for(args, place, own, cut)
        more = {"trial": trial, "noise_at": "logits" if asked.linear else "site"}
        found += [row | more for row in probed(own, asked, data, args)]
    keys = {"study": args.study, "network": args.name, "site": args.site, "tau": args.tau}
    write_table(args.output, pd.DataFrame(found).assign(**keys, regime=args.regime))


def asked_for(args: argparse.Namespace, place: int, networks: NoisyNetworks, cut: Cut) -> Asked:
    """Return the covariance that the noise of a trial must have where it enters the networks."""
    d = cut.shape.numel()
    noise = noise_of(args, d, torch.device("cpu"), place)
    trace = None if args.tau == UNSCALED else float(args.tau) * d
    at_logits = isinstance(networks.suffix, nn.Identity)  # the suffix became a part of the prefix
    return Asked(noise, trace, linear_map(cut.suffix, cut.shape) if at_logits else None)


def probed(
    networks: NoisyNetworks, asked: Asked, data: dict[str, torch.Tensor], args: argparse.Namespace
) -> list[dict[str, Any]]:
    images, indices = pixels(data["images"]), data["indices"]
    seen = gradients(networks, images, data["labels"], indices, draws=args.draws)
    drawn = moments(networks, asked, images, indices, draws=args.draws)
    return probe_rows(row_names(args), seen, drawn)


if __name__ == "__main__":
    options = parser(__doc__)
    add_tested(options)
    options.add_argument("--images", type=int, default=200, help="test images, evenly spread")
    options.add_argument("--draws", type=int, default=50, help="of the noise, for each image")
    add_noise(options)
    add_input_noise(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="Parquet")
    run(main, options)
