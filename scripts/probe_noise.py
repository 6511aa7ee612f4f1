"""Measure the gradients that noisy networks give an attacker, and the noise that they see."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch

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
from noisetransfer.devices import device
from noisetransfer.evaluation import NoisyNetworks
from noisetransfer.nearest import spread
from noisetransfer.networks import pixels
from noisetransfer.probing import gradients, moments, probe_rows
from noisetransfer.stages import row_names
from noisetransfer.tested import noise_of, noisy_networks


def main(args: argparse.Namespace) -> None:
    target = device()
    every = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    # images of class folders lie class by class
    chosen = spread(len(every["labels"]), min(args.images, len(every["labels"])))
    data = {name: every[name][chosen].to(target) for name in ("images", "labels", "indices")}
    found = []
    networks = noisy_networks(args, target, at_logits=False)
    for place, (trial, own) in enumerate(zip(args.trials, networks, strict=True)):
        found += [row | {"trial": trial} for row in probed(own, data, args, place)]
    keys = {"study": args.study, "network": args.name, "site": args.site, "tau": args.tau}
    write_table(args.output, pd.DataFrame(found).assign(**keys, regime=args.regime))


def probed(
    networks: NoisyNetworks, data: dict[str, torch.Tensor], args: argparse.Namespace, place: int
) -> list[dict[str, Any]]:
    seen = gradients(
        networks, pixels(data["images"]), data["labels"], data["indices"], draws=args.draws
    )
    d = networks.sampler.scale.shape[-1]
    asked = noise_of(args, d, torch.device("cpu"), place)
    trace = None if args.tau == UNSCALED else float(args.tau) * d
    drawn = moments(networks.sampler, asked, data["indices"], draws=args.draws, trace=trace)
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
