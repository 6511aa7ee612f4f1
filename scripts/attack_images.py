"""Craft adversarial training images against each base network: the source of an attack's covariance."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.attacks import ATTACKS
from noisetransfer.commandline import parser, run
from noisetransfer.devices import device
from noisetransfer.networks import members, pixels
from noisetransfer.progress import progress


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    crafted = [
        craft(network.to(target), data, target, **args.attack)
        for network in members(read_spec(args.network)["network"], parameters)
    ]
    spec = {
        "modification": args.modification,
        "attack": args.attack,
        "data": read_spec(args.data),
    }
    tensors = {"images": torch.stack(crafted), "indices": data["indices"]}
    write_tensors(args.output, tensors, producer="attack_images", spec=spec)


def craft(
    network: torch.nn.Module,
    data: dict[str, torch.Tensor],
    target: torch.device,
    *,
    attack: str,
    batch_size: int = 500,
    **budget: Any,
) -> torch.Tensor:
    starts = progress(range(0, len(data["labels"]), batch_size), attack)
    batches = (slice(start, start + batch_size) for start in starts)
    return torch.cat(
        [
            ATTACKS[attack](
                lambda images, _: network(images[0])[None],
                pixels(data["images"][batch].to(target))[None],
                data["labels"][batch].to(target),
                **budget,
            )[0].cpu()
            for batch in batches
        ]
    )


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--modification", required=True, help="such as pgd@0.1")
    options.add_argument(
        "--attack", type=json.loads, required=True, help='{"attack": "pgd", "epsilon": 0.1, …}'
    )
    options.add_argument("--output", type=Path, required=True, help="images, stacked over trials")
    run(main, options)
