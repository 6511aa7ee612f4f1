"""Measure the clean accuracy of a pretrained network, and refuse one that is not as good as published."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from noisetransfer import zoo
from noisetransfer.artifacts import read_spec, read_tensors, write_json, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.networks import accuracy

LEAST_TOLERANCE = 0.01


def main(args: argparse.Namespace) -> None:
    target = device()
    weights = read_tensors(args.weights, producer="retrieve_network", framework="pt")
    data = read_tensors(args.held_out, producer="prepare_dataset", framework="pt")
    spec = read_spec(args.weights)["network"] | {"image_shape": list(data["images"].shape[1:])}
    require_classes(int(data["labels"].max()), zoo.classes(spec), args.held_out)
    network = zoo.skeleton(spec)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False).to(target)
    measured = accuracy(network, data["images"], data["labels"], target)
    report = {"clean_accuracy": [measured], "measured_on": read_spec(args.held_out)["split"]}
    report |= expected_of(args, spec, len(data["labels"]))
    write_json(args.report, report)
    require(report, args.held_out)
    stacked = {name: values[None] for name, values in weights.items()}
    write_tensors(args.output, stacked, producer="prepare_network", spec={"network": spec})


def expected_of(args: argparse.Namespace, spec: dict[str, Any], images: int) -> dict[str, Any]:
    """Return the accuracy that the network should have, how far it may be from it, and who says so."""
    if args.expected:
        return {"expected": args.expected, "from": "the study file"}
    published = zoo.published(spec)
    if published is None:
        return {"expected": None, "from": "nobody: no published accuracy is known"}
    # three standard errors of a share of so few images
    spread = 3 * math.sqrt(published.accuracy * (1 - published.accuracy) / images)
    expected = {"value": published.accuracy, "within": max(LEAST_TOLERANCE, spread)}
    return {"expected": expected, "from": published.source}


def require_classes(largest: int, classes: int, held_out: Path) -> None:
    """Refuse labels that the network has no logit for."""
    if largest >= classes:
        raise StudyError(
            f"{held_out}: has label {largest}, but the network has {classes} classes, numbered from 0"
        )


def require(report: dict[str, Any], held_out: Path) -> None:
    """Refuse a network that is not what it should be."""
    expected, measured = report["expected"], report["clean_accuracy"][0]
    if expected and abs(measured - expected["value"]) > expected["within"]:
        raise StudyError(
            f"clean accuracy {measured:.4f} on {held_out}, but {report['from']} says "
            f"{expected['value']:.4f} ± {expected['within']:.4f}: the images are not what the network was "
            "trained on (size, crop, order of the classes), or the weights or their normalisation are "
            "wrong; if the number is right for your images, write it as networks: NAME: clean_accuracy: "
            "{value: …, within: …} in the study file"
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
