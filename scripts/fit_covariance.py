"""Fit the covariance of (modified − clean) activations of each source, for each base network."""

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
    target = device()
    clean = read_tensors(args.activations, producer="record_activations", framework="pt")
    activations = [own.flatten(1).to(target) for own in clean["activations"]]
    parameters = read_tensors(args.network, producer="train_network", framework="pt")
    networks = members(read_spec(args.network)["network"], parameters)
    prefixes = [split(network, args.site)[0].to(target) for network in networks]
    signals = [total_variance(h.split(BATCH), len(h)) for h in activations]
    tensors, report = {}, {}
    for path in args.modified:
        name, images = modified_images(path, clean["indices"], len(prefixes))
        fits = [
            fit_one(prefix, own, h, signal, args, name)
            for prefix, own, h, signal in zip(prefixes, images, activations, signals, strict=True)
        ]
        stacked = to_tensors([covariance for covariance, _ in fits])
        tensors |= {f"{name}/{part}": values for part, values in stacked.items()}
        report[name] = [vars(diagnostics) for _, diagnostics in fits]
        if any(diagnostics.degenerate for _, diagnostics in fits):
            print(f"warning: {name} is degenerate, too weak to have a structure", file=sys.stderr)
    spec = {"site": args.site, "rank": args.rank, "ridge": args.ridge, "sources": list(report)}
    write_tensors(args.output, tensors, producer="fit_covariance", spec=spec)
    write_json(args.diagnostics, report)


def modified_images(
    path: Path, indices: torch.Tensor, trials: int
) -> tuple[str, list[torch.Tensor]]:
    """Return the source and its images for each trial: attacks have their own, others share them."""
    origin = read_spec(path)
    producer = "attack_images" if "attack" in origin else "modify_images"
    modified = read_tensors(path, producer=producer, framework="pt")
    if not torch.equal(modified["indices"], indices):
        raise StudyError(f"{path}: not the images whose activations were recorded")
    images = modified["images"]
    return origin["modification"], list(images) if "attack" in origin else [images] * trials


def fit_one(
    prefix: torch.nn.Module,
    images: torch.Tensor,
    clean: torch.Tensor,
    signal: float,
    args: argparse.Namespace,
    name: str,
) -> tuple[Covariance, Diagnostics]:
    chunks = zip(batched(prefix, images, clean.device), clean.split(BATCH), strict=True)
    return fit(
        (modified.flatten(1) - own for modified, own in chunks),
        n=len(clean),
        d=clean.shape[1],
        rank=args.rank,
        ridge=args.ridge,
        signal_trace=signal,
        name=name,
    )


def rank(text: str) -> int | str:
    return text if text == "full" else int(text)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--modified", type=Path, nargs="+", required=True, help="images of each source"
    )
    options.add_argument("--activations", type=Path, required=True, help="of record_activations")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument("--rank", type=rank, required=True, help="eigenpairs kept, or full")
    options.add_argument("--ridge", type=json.loads, required=True, help='{"relative": 0.001}')
    options.add_argument(
        "--output", type=Path, required=True, help="by source, stacked over trials"
    )
    options.add_argument(
        "--diagnostics", type=Path, required=True, help="JSON, by source and trial"
    )
    run(main, options)
