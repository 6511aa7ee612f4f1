"""Measure the clean accuracy of a pretrained network, and refuse one that is not as good as published."""

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noisetransfer import zoo
from noisetransfer.artifacts import read_spec, read_tensors, write_json, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.devices import device, halving, images_at_once
from noisetransfer.errors import StudyError
from noisetransfer.networks import accuracy, footprint

LEAST_TOLERANCE = 0.01
SUBSETS = {"foolbox_imagenet": "imagenet"}
"""Datasets of images of another, on which its published accuracies hold."""


def main(args: argparse.Namespace) -> None:
    target = device()
    weights = read_tensors(args.weights, producer="retrieve_network", framework="pt")
    data = read_tensors(args.held_out, producer="prepare_dataset", framework="pt")
    origin, stored = read_spec(args.held_out), read_spec(args.weights)
    spec = stored["network"] | {"image_shape": list(data["images"].shape[1:])}
    network = zoo.skeleton(spec)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    require_fit(network, spec, data, args.held_out)
    tell_preprocessing(spec, origin)
    size = images_at_once(target, 4 * footprint(network, spec["image_shape"]))
    measured = halving(
        partial(accuracy, network.to(target), data["images"], data["labels"], target),
        size,
        "images a batch",
    )
    report = {"clean_accuracy": [measured], "measured_on": origin["split"]}
    report |= expected_of(args, stored["published"], origin["id"], len(data["labels"]))
    write_json(args.report, report)
    require(report, zoo.classes(spec), len(data["labels"]), args.held_out)
    stacked = {name: values[None] for name, values in weights.items()}
    write_tensors(args.output, stacked, producer="prepare_network", spec={"network": spec})


def require_fit(
    network: torch.nn.Module, spec: dict[str, Any], data: dict[str, torch.Tensor], held_out: Path
) -> None:
    """Refuse images and labels that the network was not made for."""
    classes, largest = zoo.classes(spec), int(data["labels"].max())
    if largest >= classes:
        raise StudyError(
            f"{held_out}: has label {largest}, but the network has {classes} classes, numbered from 0"
        )
    size = " × ".join(map(str, spec["image_shape"]))
    if spec["image_shape"][0] != 3:
        raise StudyError(
            f"{held_out}: images of {size}, but pretrained networks take three colours"
        )
    try:
        network(torch.zeros(1, *spec["image_shape"]))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise StudyError(f"{held_out}: the network takes no images of {size}: {error}") from error


def tell_preprocessing(spec: dict[str, Any], origin: dict[str, Any]) -> None:
    """Warn where photographs were not made into images as the weights want it."""
    wanted = zoo.preprocessing(spec)
    made = origin.get("preprocessing")
    if wanted and made and made != (own := {"resize": wanted.resize, "crop": wanted.crop}):
        print(f"warning: these weights want {own}, the dataset has {made}", file=sys.stderr)
    if wanted and made and wanted.interpolation != "bilinear":
        print(
            f"warning: these weights want {wanted.interpolation} interpolation, photographs are resized "
            "bilinearly",
            file=sys.stderr,
        )


def expected_of(
    args: argparse.Namespace, published: dict[str, Any] | None, dataset: str, images: int
) -> dict[str, Any]:
    """Return the accuracy that the network should have, how far it may be from it, and who says so."""
    if args.expected:
        return {"expected": args.expected, "from": "the study file"}
    if published is None or published["dataset"] != SUBSETS.get(dataset, dataset):
        print(f"warning: no published accuracy on {dataset} to compare with", file=sys.stderr)
        return {"expected": None, "from": f"nobody: none is known on {dataset}"}
    tolerance = max(LEAST_TOLERANCE, 3 * standard_error(published["accuracy"], images))
    expected = {"value": published["accuracy"], "within": tolerance}
    return {"expected": expected, "from": published["source"]}


def standard_error(share: float, images: int) -> float:
    return math.sqrt(share * (1 - share) / images)


def require(report: dict[str, Any], classes: int, images: int, held_out: Path) -> None:
    """Refuse a network that is not what it should be, or that guesses."""
    expected, measured = report["expected"], report["clean_accuracy"][0]
    causes = (
        "the images are not what the network was trained on (size, crop, names or order of the classes), "
        "or the weights or their normalisation are wrong"
    )
    if expected and abs(measured - expected["value"]) > expected["within"]:
        raise StudyError(
            f"clean accuracy {measured:.4f} on {held_out}, but {report['from']} says "
            f"{expected['value']:.4f} ± {expected['within']:.4f}: {causes}; if the number is right for "
            "your images, write it as networks: NAME: clean_accuracy: {value: …, within: …} in the study "
            "file"
        )
    guessing = 1 / classes + 3 * standard_error(1 / classes, images)
    if not expected and measured <= guessing:
        raise StudyError(
            f"clean accuracy {measured:.4f} on {held_out} is that of guessing among {classes} classes: "
            f"{causes}"
        )


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--weights", type=Path, required=True, help="of retrieve_network")
    options.add_argument(
        "--held-out", type=Path, required=True, help="split to measure accuracy on"
    )
    options.add_argument(
        "--expected", type=json.loads, help='{"value": 0.91, "within": 0.01}; default: as published'
    )
    options.add_argument("--output", type=Path, required=True, help="the network, checked")
    options.add_argument("--report", type=Path, required=True, help="clean accuracy, JSON")
    run(main, options)
