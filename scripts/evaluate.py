"""Test the noisy networks of some sources under every target of a suite: one record per image."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from noisetransfer.artifacts import of_trial, read_spec, read_tensors, write_table
from noisetransfer.commandline import (
    add_input_noise,
    add_keys,
    add_noise,
    add_tested,
    parser,
    run,
)
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.evaluation import NoisyNetworks, Test, evaluate
from noisetransfer.fast import Faster, Ways, check
from noisetransfer.nearest import spread
from noisetransfer.networks import pixels
from noisetransfer.stages import row_names
from noisetransfer.tested import noisy_networks

CHECKED = 200
"""Clean images on which faster ways are checked."""


def main(args: argparse.Namespace) -> None:
    target = device()
    test = test_of(args)
    frames = [
        evaluate(faster(networks, args), own_test(test, place), args.batch_size).assign(trial=trial)
        for place, (trial, networks) in enumerate(
            zip(args.trials, noisy_networks(args, target), strict=True)
        )
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


def own_test(test: Test, place: int) -> Test:
    """Return what the trial at a place is tested on."""
    return replace(test, modified={t: of_trial(own, place) for t, own in test.modified.items()})


def faster(networks: NoisyNetworks, args: argparse.Namespace) -> NoisyNetworks:
    """Return the networks run in the ways that were asked for, after a check against float32."""
    ways = Ways(args.bfloat16, args.channels_last, args.compile)
    if ways.plain:
        return networks
    prefix = Faster(networks.prefix, ways)
    # a stack of retrained suffixes has its own way to run
    suffix = Faster(networks.suffix, ways) if networks.parameters is None else networks.suffix
    images = read_tensors(args.data, producer="prepare_dataset", framework="pt")["images"]
    some = images[spread(len(images), min(CHECKED, len(images)))]
    plain = nn.Sequential(networks.prefix, networks.suffix)
    alike = check(nn.Sequential(prefix, suffix), plain, pixels(some).to(networks.device))
    print(f"agrees with float32 on {alike:.3f} of {len(some)} clean images", file=sys.stderr)
    return replace(networks, prefix=prefix, suffix=suffix)


if __name__ == "__main__":
    options = parser(__doc__)
    add_tested(options)
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
