"""Fit the covariance of (modified − clean) activations of each source, or of the clean ones, by network."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from noisetransfer.artifacts import of_trial, read_tensors, write_json, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.covariance import Covariance, Diagnostics, fit, to_tensors, total_variance
from noisetransfer.cuts import Cut
from noisetransfer.devices import device, images_at_once
from noisetransfer.errors import StudyError
from noisetransfer.halves import HALVES, in_half
from noisetransfer.loading import Bases, read_bases, read_modified
from noisetransfer.networks import BATCH, batched, footprint
from noisetransfer.ranks import parse_rank


@dataclass(frozen=True)
class Clean:
    """The clean images of a base network: as recorded activations, or to be run again for every source.

    Attributes:
        cut: of the base network; its prefix is on the device.
        values: recorded h(x), (n, d) on the device, or images (n, C, H, W).
        batch_size: images that run at once.
        device: where they run.
        recorded: which of the two `values` are.
    """

    cut: Cut
    values: Tensor
    batch_size: int
    device: torch.device
    recorded: bool

    def activations(self) -> Iterator[Tensor]:
        """Yield h(x) in chunks (m, d)."""
        if self.recorded:
            yield from self.values.split(self.batch_size)
        else:
            yield from self.of(self.values)

    def of(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the activations of other images in the same chunks."""
        d = self.cut.shape.numel()
        for states in batched(self.cut.prefix, images, self.device, self.batch_size):
            yield states.flatten(1)[:, :d]


def main(args: argparse.Namespace) -> None:
    bases = read_bases(args.network)
    clean, indices = clean_of(args, bases, device())
    signals = [total_variance(own.activations(), len(own.values)) for own in clean]
    tensors, report = {}, {}
    for name, images in sources_of(args, indices, len(clean)):
        fits = [
            fit_one(own, modified, signal, args, name, chosen_of(args, name, i, len(indices)))
            for i, (own, modified, signal) in enumerate(zip(clean, images, signals, strict=True))
        ]
        stacked = to_tensors([covariance for covariance, _ in fits])
        tensors |= {f"{name}/{part}": values for part, values in stacked.items()}
        report[name] = [vars(diagnostics) for _, diagnostics in fits]
        if any(diagnostics.degenerate for _, diagnostics in fits):
            print(f"warning: {name} is degenerate, too weak to have a structure", file=sys.stderr)
    spec = {"site": args.site, "rank": args.rank, "ridge": args.ridge, "sources": list(report)}
    spec |= {"half": args.half} if args.half else {}
    write_tensors(args.output, tensors, producer="fit_covariance", spec=spec)
    write_json(args.diagnostics, report)


def clean_of(
    args: argparse.Namespace, bases: Bases, target: torch.device
) -> tuple[list[Clean], Tensor]:
    """Return the clean images of each base network, and their original indices."""
    cuts = bases.cut(args.site, target)
    if args.activations:
        stored = read_tensors(args.activations, producer="record_activations", framework="pt")
        hidden = [own.flatten(1).to(target) for own in stored["activations"]]
        recorded = [
            Clean(*pair, BATCH, target, recorded=True) for pair in zip(cuts, hidden, strict=True)
        ]
        return recorded, stored["indices"]
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    size = images_at_once(target, 4 * footprint(bases.networks[0], bases.image_shape))
    images = [Clean(cut, data["images"], size, target, recorded=False) for cut in cuts]
    return images, data["indices"]


def sources_of(
    args: argparse.Namespace, indices: Tensor, trials: int
) -> Iterator[tuple[str, Sequence[Tensor | None]]]:
    """Yield each source and its images for each trial; of the clean activations themselves, no images."""
    if args.signal:
        yield args.signal, [None] * trials
    for path in args.modified:
        yield modified_images(path, indices, trials)


def chosen_of(args: argparse.Namespace, source: str, place: int, n: int) -> Tensor:
    """Return which of the n calibration images a fit uses, (n,): all, or a random half of its own."""
    if not args.half:
        return torch.ones(n, dtype=torch.bool)
    return in_half(args.half, n, seed=args.seed, source=source, trial=args.trials[place])


def modified_images(path: Path, indices: Tensor, trials: int) -> tuple[str, list[Tensor]]:
    """Return the source and its images for each trial: its own, or those that all share."""
    source, images, own = read_modified(path)
    if not torch.equal(own, indices):
        raise StudyError(f"{path}: not the images whose activations were recorded")
    return source, [of_trial(images, place) for place in range(trials)]


def fit_one(
    clean: Clean,
    images: Tensor | None,
    signal: float,
    args: argparse.Namespace,
    name: str,
    chosen: Tensor,
) -> tuple[Covariance, Diagnostics]:
    """Fit to the chosen ones, (n,), of the differences or, without modified images, of clean activations."""
    if images is None:
        rows = clean.activations()
    else:
        rows = (a - b for a, b in zip(clean.of(images), clean.activations(), strict=True))
    places = chosen.to(clean.device).split(clean.batch_size)
    return fit(
        (chunk[place] for chunk, place in zip(rows, places, strict=True)),
        n=int(chosen.sum()),
        d=clean.cut.shape.numel(),
        rank=parse_rank(args.rank),
        ridge=args.ridge,
        signal_trace=signal,
        name=name,
    )


if __name__ == "__main__":
    options = parser(__doc__)
    rows = options.add_mutually_exclusive_group(required=True)
    rows.add_argument("--modified", type=Path, nargs="+", default=[], help="images of each source")
    rows.add_argument("--signal", help="name of the covariance of the clean activations themselves")
    clean = options.add_mutually_exclusive_group(required=True)
    clean.add_argument("--activations", type=Path, help="of the clean images, recorded")
    clean.add_argument("--data", type=Path, help="the clean images: a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument("--site", required=True, help="such as L2 or layer3")
    options.add_argument(
        "--rank", required=True, help="eigenpairs kept; or full, explained@SHARE, held_out"
    )
    options.add_argument("--half", choices=HALVES, help="of the images, by source and trial")
    options.add_argument("--seed", type=int, help="of the study, for a half")
    options.add_argument("--trials", type=int, nargs="+", default=[], help="for a half")
    options.add_argument("--ridge", type=json.loads, required=True, help='{"relative": 0.001}')
    options.add_argument(
        "--output", type=Path, required=True, help="by source, stacked over trials"
    )
    options.add_argument(
        "--diagnostics", type=Path, required=True, help="JSON, by source and trial"
    )
    run(main, options)
