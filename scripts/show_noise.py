"""Show what a modification and noise do to images: their change at the site, and the nearest clean images.

The images are those that the covariances are fitted on, the network is that of the first trial.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from noisetransfer.artifacts import of_trial, read_tensors, write_figure
from noisetransfer.commandline import add_keys, add_noise, parser, run
from noisetransfer.cuts import Cut
from noisetransfer.devices import device
from noisetransfer.loading import read_bases, read_modified
from noisetransfer.nearest import change_map, nearest_others, searched, spread
from noisetransfer.networks import batched, pixels
from noisetransfer.noise import NoiseSampler
from noisetransfer.sample_figures import Sample, noise_sheet
from noisetransfer.stages import row_names, sampler_of

BATCH = 50
SHOWN = 2  # images of each source


def main(args: argparse.Namespace) -> None:
    target = device()
    cut = read_bases(args.network).cut(args.site, target)[0]
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    d = cut.shape.numel()
    chosen = searched(len(data["labels"]), d)
    images, labels, indices = (data[name][chosen] for name in ("images", "labels", "indices"))
    clean, sampler = hidden(cut, images, target), sampler_of(args, d, target, [0])
    samples = []
    for path in args.modified:
        source, modified = modified_images(path, chosen)
        points = {"clean": clean, "modified": hidden(cut, modified, target)}
        for arm, noise in draws(sampler, row_names(args), source, indices.to(target)):
            points[arm] = clean + noise
        samples += shown(source, images, modified, labels, points, cut)
    figure = noise_sheet(samples, title=args.title, among=len(chosen))
    for path in args.output:
        write_figure(path, figure)


def draws(
    sampler: NoiseSampler, rows: list[tuple[str, str]], source: str, images: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield each arm of a source and its noise for the images, (n, d): the same draw under all."""
    number = torch.tensor(0, device=sampler.device)
    for place, (name, arm) in enumerate(rows):
        if name == source:
            keys = sampler.keys("show noise")
            yield arm, sampler.rows([place]).draw(keys, number, images)[0, 0]


def shown(
    source: str,
    images: Tensor,
    modified: Tensor,
    labels: Tensor,
    points: dict[str, Tensor],
    cut: Cut,
) -> list[Sample]:
    """Return a few images under a source, and what is nearest to them."""
    clean = points["clean"]
    places = {name: nearest_others(own, clean).cpu() for name, own in points.items()}
    same = {name: labels[own] == labels for name, own in places.items()}
    return [
        Sample(
            source=source,
            clean=pixels(images[i]).numpy(),
            modified=pixels(modified[i]).numpy(),
            change=change_map((points["modified"][i] - clean[i]).cpu(), cut.shape).numpy(),
            nearest={name: pixels(images[own[i]]).numpy() for name, own in places.items()},
            same={name: bool(own[i]) for name, own in same.items()},
            share={name: float(own.float().mean()) for name, own in same.items()},
        )
        for i in spread(len(images), min(SHOWN, len(images))).tolist()
    ]


def hidden(cut: Cut, images: Tensor, target: torch.device) -> Tensor:
    """Return h(x) of images, (n, d), on the device."""
    states = batched(cut.prefix, images, target, BATCH)
    return torch.cat([own.flatten(1)[:, : cut.shape.numel()] for own in states])


def modified_images(path: Path, chosen: Tensor) -> tuple[str, Tensor]:
    """Return the source and chosen images of it: those of the first trial."""
    source, images, _ = read_modified(path)
    return source, of_trial(images, 0)[chosen]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument("--modified", type=Path, nargs="+", required=True, help="of each source")
    options.add_argument("--site", required=True, help="such as L2 or layer3")
    options.add_argument("--title", required=True)
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    add_noise(options)
    add_keys(options)
    run(main, options)
