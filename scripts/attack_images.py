"""Craft adversarial images of a split against each base network: the source of an attack's covariance."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.attacks import ATTACKS
from noisetransfer.commandline import add_keys, parser, run
from noisetransfer.devices import COPIES, device, halving, images_at_once
from noisetransfer.loading import read_bases
from noisetransfer.networks import footprint, pixels
from noisetransfer.progress import progress
from noisetransfer.randomness import Uniforms, key


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    bases = read_bases(args.network)
    units = footprint(bases.networks[0], bases.image_shape)
    size = images_at_once(target, 4 * COPIES * units)
    keys = [key(args.seed, "attack on training images", trial) for trial in args.trials]
    crafted = [
        halving(
            partial(
                craft, network.to(target), data, torch.tensor([own], device=target), args.attack
            ),
            size,
            "images a batch",
        )
        for network, own in zip(bases.networks, keys, strict=True)
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
    keys: torch.Tensor,
    attack: dict[str, Any],
    size: int,
) -> torch.Tensor:
    target, budget = keys.device, dict(attack)
    name, epsilon = budget.pop("attack"), budget.pop("epsilon")
    starts = progress(range(0, len(data["labels"]), size), name)
    batches = (slice(start, start + size) for start in starts)
    return torch.cat(
        [
            ATTACKS[name]
            .without_noise(
                lambda images, _: network(images[0])[None],
                pixels(data["images"][batch].to(target))[None],
                data["labels"][batch].to(target),
                epsilon=torch.full((1,), epsilon, device=target),
                draws=Uniforms(keys, data["indices"][batch].to(target), torch.zeros_like(keys[0])),
                **budget,
            )[0]
            .cpu()
            for batch in batches
        ]
    )


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument("--modification", required=True, help="such as pgd@0.1")
    options.add_argument(
        "--attack", type=json.loads, required=True, help='{"attack": "pgd", "epsilon": 0.1, …}'
    )
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="images, stacked over trials")
    run(main, options)
