"""Test the noisy networks of one source under every target of a suite: one record per image."""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch

from noisetransfer.arms import stacked
from noisetransfer.artifacts import read_spec, read_tensors, write_table
from noisetransfer.commandline import add_keys, add_noise, parser, run
from noisetransfer.covariance import from_tensors
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.evaluation import NoisyNetworks, evaluate
from noisetransfer.networks import activation_shape, members, split
from noisetransfer.noise import NoiseSampler


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    modified = [read_tensors(p, producer="modify_images", framework="pt") for p in args.modified]
    for path, tensors in zip(args.modified, modified, strict=True):
        if not torch.equal(tensors["indices"], data["indices"]):
            raise StudyError(f"{path}: not the images of {args.data}")
    names = [read_spec(path)["modification"] for path in args.modified]
    images = dict(zip(names, (tensors["images"] for tensors in modified), strict=True))
    images["clean@0"] = data["images"]
    natural = {target: images[target] for target in args.targets if target not in args.attacks}
    frames = [
        evaluate(
            networks,
            data["images"],
            natural,
            args.attacks,
            data["labels"],
            data["indices"].tolist(),
            arms=args.arms,
            passes=args.passes,
            batch_size=args.batch_size,
        ).assign(trial=networks.trial)
        for networks in noisy_networks(args)
    ]
    keys = {"study": args.study, "network": args.name, "site": args.site, "source": args.source}
    records = pd.concat(frames, ignore_index=True).assign(**keys, tau=args.tau, regime="retrain")
    write_table(args.output, records)


def noisy_networks(args: argparse.Namespace) -> list[NoisyNetworks]:
    target = device()
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    shape = read_spec(args.network)["network"]
    networks = members(shape, parameters)
    suffixes = read_tensors(args.noisy, producer="retrain_suffix", framework="pt")
    asked = {"source": args.source, "arms": args.arms, "tau": args.tau}
    if read_spec(args.noisy)["noise"] != asked:
        raise StudyError(f"{args.noisy}: trained under other noise than {asked}")
    d = activation_shape(split(networks[0], args.site)[0], shape["image_shape"]).numel()
    noise = stacked(
        args.arms,
        args.tau,
        d,
        from_tensors(
            *(read_tensors(p, producer="fit_covariance", framework="pt") for p in args.covariance)
        ),
        seed=args.seed,
        source=args.source,
        trials=args.trials,
    )
    sampler = NoiseSampler.of(noise, target)
    return [
        NoisyNetworks.at(
            network.to(target),
            args.site,
            {name: values[:, i].to(target) for name, values in suffixes.items()},
            sampler.trial(i),
            seed=args.seed,
            trial=trial,
        )
        for i, (trial, network) in enumerate(zip(args.trials, networks, strict=True))
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="test split")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--noisy", type=Path, required=True, help="of retrain_suffix")
    options.add_argument(
        "--targets", nargs="+", required=True, help="such as clean@0 snow@5 pgd@0.1"
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
    options.add_argument("--batch-size", type=int, default=250, help="no influence on the draws")
    add_noise(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="Parquet")
    run(main, options)
