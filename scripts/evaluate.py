"""Test the noisy networks of some sources under every target of a suite: one record per image."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from noisetransfer.artifacts import read_spec, read_tensors, write_table
from noisetransfer.commandline import add_input_noise, add_keys, add_noise, parser, run
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.evaluation import NoisyNetworks, Test, evaluate
from noisetransfer.fast import Faster, Ways, check
from noisetransfer.loading import read_bases
from noisetransfer.networks import Stack, footprint, pixels
from noisetransfer.noise import NoiseSampler
from noisetransfer.regimes import REGIMES
from noisetransfer.stages import noise_spec, row_names, sampler_of, silence_spec

CHECKED = 200
"""Clean images on which faster ways are checked."""


def main(args: argparse.Namespace) -> None:
    target = device()
    args.regime = args.regime or ("retrain" if args.noisy else "inference")
    test = test_of(args)
    frames = [
        evaluate(networks, test, args.batch_size).assign(trial=trial)
        for trial, networks in zip(args.trials, noisy_networks(args, target), strict=True)
    ]
    keys = {"study": args.study, "network": args.name, "site": args.site, "tau": args.tau}
    records = pd.concat(frames, ignore_index=True).assign(**keys, regime=args.regime)
    write_table(args.output, records)


def test_of(args: argparse.Namespace) -> Test:
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    validation = read_spec(args.data)["split"] == "validation"
    images = {"validation@0" if validation else "clean@0": data["images"]}
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


def noisy_networks(args: argparse.Namespace, target: torch.device) -> Iterator[NoisyNetworks]:
    """Yield those of each trial: one trial's noise at a time is in memory."""
    bases = read_bases(args.network, len(args.trials))
    cuts = bases.cut(args.site, target)
    units = footprint(bases.networks[0], bases.image_shape)
    suffixes = suffixes_of(args, target)
    for trial, cut, own in zip(range(len(args.trials)), cuts, suffixes, strict=True):
        sampler = noise_of(args, cut.shape.numel(), target, trial)
        networks = NoisyNetworks(cut.prefix, cut.suffix, own, sampler, args.input_noise, units)
        yield faster(networks.at_logits(cut.shape) if cut.clean else networks, args)


def noise_of(args: argparse.Namespace, d: int, target: torch.device, trial: int) -> NoiseSampler:
    """Return the noise of a trial that is on at test."""
    if not REGIMES[args.regime].tested:
        rows = len(row_names(args))
        return NoiseSampler.silence(rows, d, target, seed=args.seed, trial=args.trials[trial])
    return sampler_of(args, d, target, [trial])


def faster(networks: NoisyNetworks, args: argparse.Namespace) -> NoisyNetworks:
    """Return the networks run in the ways that were asked for, after a check against float32."""
    ways = Ways(args.bfloat16, args.channels_last, args.compile)
    if ways.plain:
        return networks
    prefix = Faster(networks.prefix, ways)
    # a stack of retrained suffixes has its own way to run
    suffix = Faster(networks.suffix, ways) if networks.parameters is None else networks.suffix
    first = read_tensors(args.data, producer="prepare_dataset", framework="pt")["images"][:CHECKED]
    plain = nn.Sequential(networks.prefix, networks.suffix)
    alike = check(nn.Sequential(prefix, suffix), plain, pixels(first).to(networks.device))
    print(f"agrees with float32 on {alike:.3f} of {len(first)} clean images", file=sys.stderr)
    return replace(networks, prefix=prefix, suffix=suffix)


def suffixes_of(args: argparse.Namespace, target: torch.device) -> list[Stack | None]:
    """Return the retrained suffixes of each trial, [row, …]; None where the network's own serves all rows."""
    if not args.noisy:
        return [None] * len(args.trials)
    retrained = read_tensors(args.noisy, producer="retrain_suffix", framework="pt")
    trained_under = noise_spec(args) if REGIMES[args.regime].suffix == "arm" else silence_spec(args)
    if read_spec(args.noisy)["noise"] != trained_under:
        raise StudyError(f"{args.noisy}: trained under other noise than {trained_under}")
    rows = len(row_names(args))
    return [
        # the one suffix of arm none serves all rows
        {name: values[:, i].to(target).expand(rows, *values.shape[2:]) for name, values in own}
        for i, own in enumerate([list(retrained.items())] * len(args.trials))
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--data", type=Path, required=True, help="test split; of validation@0 the validation split"
    )
    options.add_argument("--network", type=Path, required=True, help="base networks")
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
    options.add_argument(
        "--regime",
        choices=REGIMES,
        help="where the noise is on; default: retrain with --noisy, else inference",
    )
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument("--study", required=True, help="id, for the records")
    options.add_argument("--name", required=True, help="id of the network, for the records")
    options.add_argument("--passes", type=int, default=10, help="noise draws K a prediction")
    options.add_argument("--batch-size", type=int, help="no influence on the draws")
    for way in ("bfloat16", "channels-last", "compile"):
        options.add_argument(
            f"--{way}", action="store_true", help="faster, checked against float32"
        )
    add_noise(options)
    add_input_noise(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="Parquet")
    run(main, options)
