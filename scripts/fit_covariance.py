"""Fit the covariance of (modified − clean) activations of one source, for each base network."""

import argparse
import json
import sys
from pathlib import Path

import torch

from noisetransfer.artifacts import read_spec, read_tensors, write_json, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.covariance import Covariance, Diagnostics, fit, to_tensors, total_variance
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.networks import BATCH, batched, members, split


def main(args: argparse.Namespace) -> None:
    origin = read_spec(args.modified)
    attacked = "attack" in origin
    producer = "attack_images" if attacked else "modify_images"
    modified = read_tensors(args.modified, producer=producer, framework="pt")
    clean = read_tensors(args.activations, producer="record_activations", framework="pt")
    if not torch.equal(modified["indices"], clean["indices"]):
        raise StudyError(f"{args.modified}: not the images of {args.activations}")
    images = modified["images"]
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    fits = [
        fit_one(split(network, args.site)[0], images[i] if attacked else images, h, args)
        for i, (network, h) in enumerate(
            zip(
                members(read_spec(args.network)["network"], parameters),
                clean["activations"],
                strict=True,
            )
        )
    ]
    spec = {"site": args.site, "rank": args.rank, "ridge": args.ridge, "modified": origin}
    tensors = to_tensors([covariance for covariance, _ in fits])
    write_tensors(args.output, tensors, producer="fit_covariance", spec=spec)
    write_json(args.diagnostics, [vars(diagnostics) for _, diagnostics in fits])
    if any(diagnostics.degenerate for _, diagnostics in fits):
        name = origin["modification"]
        print(
            f"warning: source {name} is degenerate, too weak to have a structure", file=sys.stderr
        )


def fit_one(
    prefix: torch.nn.Module, images: torch.Tensor, clean: torch.Tensor, args: argparse.Namespace
) -> tuple[Covariance, Diagnostics]:
    target = device()
    h = clean.flatten(1)
    modified = batched(prefix.to(target), images, target)
    chunks = zip(modified, h.split(BATCH), strict=True)
    return fit(
        (m.flatten(1) - c.to(target) for m, c in chunks),
        n=len(h),
        d=h.shape[1],
        rank=args.rank,
        ridge=args.ridge,
        signal_trace=total_variance(h.split(BATCH), len(h)),
        name=read_spec(args.modified)["modification"],
    )


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--modified", type=Path, required=True, help="images of the source")
    options.add_argument("--activations", type=Path, required=True, help="of record_activations")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument(
        "--rank", type=json.loads, required=True, help="eigenpairs kept; null: all"
    )
    options.add_argument("--ridge", type=json.loads, required=True, help='{"relative": 0.001}')
    options.add_argument("--output", type=Path, required=True, help="stacked over trials")
    options.add_argument("--diagnostics", type=Path, required=True, help="JSON, one entry a trial")
    run(main, options)
