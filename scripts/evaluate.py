"""Test the noisy networks of some sources under every target of a suite: one record per image."""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch

from noisetransfer.artifacts import read_spec, read_tensors, write_table
from noisetransfer.commandline import add_input_noise, add_keys, add_noise, parser, run
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.evaluation import NoisyNetworks, Test, evaluate
from noisetransfer.networks import Stack, activation_shape, footprint, members, split
from noisetransfer.stages import noise_spec, row_names, sampler_of


def main(args: argparse.Namespace) -> None:
    target = device()
    test = test_of(args)
    frames = [
        evaluate(networks, test, args.batch_size).assign(trial=trial)
        for trial, networks in zip(args.trials, noisy_networks(args, target), strict=True)
    ]
    regime = "retrain" if args.noisy else "inference"
    keys = {"study": args.study, "network": args.name, "site": args.site, "tau": args.tau}
    records = pd.concat(frames, ignore_index=True).assign(**keys, regime=regime)
    write_table(args.output, records)


def test_of(args: argparse.Namespace) -> Test:
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    images = {"clean@0": data["images"]}
    for path in args.modified:
        tensors = read_tensors(path, producer="modify_images", framework="pt")
        if not torch.equal(tensors["indices"], data["indices"]):
            raise StudyError(f"{path}: not the images of {args.data}")
        images[read_spec(path)["modification"]] = tensors["images"]
    rows = row_names(args)
    targets = dict.fromkeys(target for listed in args.pairs.values() for target in listed)
    return Test(
        rows=rows,
        targets={
            target: [i for i, (source, _) in enumerate(rows) if target in args.pairs[source]]
            for target in targets
        },
        clean=data["images"],
        modified={target: images[target] for target in targets if target not in args.attacks},
        attacks=args.attacks,
        labels=data["labels"],
        indices=data["indices"],
        passes=args.passes,
    )


def noisy_networks(args: argparse.Namespace, target: torch.device) -> list[NoisyNetworks]:
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    shape = read_spec(args.network)["network"]
    networks = members(shape, parameters)
    units = footprint(networks[0], shape["image_shape"])
    halves = [split(network, args.site) for network in networks]
    d = activation_shape(halves[0][0], shape["image_shape"]).numel()
    sampler = sampler_of(args, d, target)
    return [
        NoisyNetworks(
            prefix.to(target),
            suffix,
            {name: values.to(target) for name, values in suffixes.items()},
            sampler.part(slice(None), slice(i, i + 1)),
            args.input_noise,
            units,
        )
        for i, ((prefix, suffix), suffixes) in enumerate(
            zip(halves, suffixes_of(args, [suffix for _, suffix in halves]), strict=True)
        )
    ]


def suffixes_of(args: argparse.Namespace, own: list[torch.nn.Sequential]) -> list[Stack]:
    """Return the suffixes of each trial, [row, …]: those retrained, else the networks' own."""
    if not args.noisy:
        rows = len(row_names(args))
        return [
            {n: p.expand(rows, *p.shape) for n, p in suffix.state_dict().items()} for suffix in own
        ]
    retrained = read_tensors(args.noisy, producer="retrain_suffix", framework="pt")
    if read_spec(args.noisy)["noise"] != noise_spec(args):
        raise StudyError(f"{args.noisy}: trained under other noise than {noise_spec(args)}")
    return [{n: p[:, i] for n, p in retrained.items()} for i in range(len(own))]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="test split")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument(
        "--noisy",
        type=Path,
        help="of retrain_suffix; none: the network as it is, noise at test only",
    )
    options.add_argument(
        "--pairs", type=json.loads, required=True, help='{"snow@5": ["clean@0", "pgd@0.1"]}'
    )
    options.add_argument(
        "--modified", type=Path, nargs="*", default=[], help="images of the targets"
    )
    options.add_argument(
        "--attacks",
        type=json.loads,
        default={},
        help='{"pgd@0.1": {"attack": "pgd", "epsilon": 0.1, …}}',
    )
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument("--study", required=True, help="id, for the records")
    options.add_argument("--name", required=True, help="id of the network, for the records")
    options.add_argument("--passes", type=int, default=10, help="noise draws K a prediction")
    options.add_argument("--batch-size", type=int, help="no influence on the draws")
    add_noise(options)
    add_input_noise(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="Parquet")
    run(main, options)
