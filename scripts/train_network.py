"""Train one base network per trial, all as one stack, and measure its accuracy on held-out clean images."""

import argparse
import json
from pathlib import Path

from noisetransfer.artifacts import read_spec, read_tensors, write_json, write_tensors
from noisetransfer.base import Images, train_networks
from noisetransfer.commandline import add_input_noise, add_keys, add_schedule, parser, run
from noisetransfer.devices import device
from noisetransfer.networks import accuracy, build, members
from noisetransfer.randomness import key
from noisetransfer.training import Schedule


def main(args: argparse.Namespace) -> None:
    target = device()
    train, held_out = (
        read_tensors(path, producer="prepare_dataset", framework="pt")
        for path in (args.train, args.held_out)
    )
    shape = {
        "architecture": args.architecture,
        "activation": args.activation,
        "image_shape": list(train["images"].shape[1:]),
        "classes": read_spec(args.train)["classes"],
    }
    plan = Schedule(args.learning_rate, args.batch_size, args.epochs, args.seed, tuple(args.trials))
    fresh = [build(**shape, seed=key(args.seed, "initialise", trial)) for trial in plan.trials]
    seen = Images(train["images"], train["labels"], train["indices"], args.input_noise, args.attack)
    parameters, losses = train_networks(fresh, seen, plan, target)
    trained = [network.to(target) for network in members(shape, parameters)]
    report = {
        "trials": plan.trials,
        "clean_accuracy": [
            accuracy(network, held_out["images"], held_out["labels"], target) for network in trained
        ],
        "measured_on": read_spec(args.held_out)["split"],
        "final_loss": losses[-1].tolist(),
    }
    spec = {"network": shape, "schedule": vars(plan)}
    write_tensors(args.output, parameters, producer="train_network", spec=spec)
    write_json(args.report, report)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--train", type=Path, required=True, help="training split")
    options.add_argument(
        "--held-out", type=Path, required=True, help="split to measure accuracy on"
    )
    options.add_argument("--architecture", required=True)
    options.add_argument("--activation", required=True)
    add_input_noise(options)
    options.add_argument(
        "--attack",
        type=json.loads,
        help='adversarial training: {"attack": "pgd", "epsilon": 0.1, "ratio": 0.5, …}',
    )
    add_schedule(options)
    add_keys(options)
    options.add_argument(
        "--output", type=Path, required=True, help="parameters, stacked over trials"
    )
    options.add_argument("--report", type=Path, required=True, help="clean accuracy, JSON")
    run(main, options)
