"""Retrain the suffix under the noise of every arm of each source, all of them and all trials as stacks."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import (
    add_input_noise,
    add_keys,
    add_noise,
    add_schedule,
    parser,
    run,
)
from noisetransfer.devices import device
from noisetransfer.networks import build, members, split
from noisetransfer.randomness import key
from noisetransfer.retraining import recorded, train_suffixes, under_input_noise
from noisetransfer.stages import noise_spec, row_names, sampler_of
from noisetransfer.training import Schedule


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    stored = read_tensors(args.activations, producer="record_activations", framework="pt")
    activations = stored["activations"]
    shape = read_spec(args.network)["network"]
    plan = Schedule(args.learning_rate, args.batch_size, args.epochs, args.seed, tuple(args.trials))
    seeds = [key(args.seed, "initialise suffix", args.site, trial) for trial in plan.trials]
    fresh = [split(build(**shape, seed=seed), args.site)[1] for seed in seeds]
    hidden = recorded(activations, target)
    if args.input_noise:
        parameters = read_tensors(args.network, producer="train_network", framework="pt")
        prefixes = [split(network, args.site)[0] for network in members(shape, parameters)]
        hidden = under_input_noise(
            prefixes, data["images"], data["indices"], args.input_noise, plan, target
        )
    suffixes, losses = train_suffixes(
        fresh,
        hidden,
        data["labels"],
        data["indices"],
        sampler_of(args, activations[0, 0].numel(), target),
        plan,
    )
    spec = {"network": args.name, "site": args.site, "noise": noise_spec(args)}
    spec |= {"schedule": vars(plan)}
    write_tensors(args.output, suffixes, producer="retrain_suffix", spec=spec)
    spec |= {"rows": row_names(args), "steps_per_epoch": len(losses) // plan.epochs}
    write_tensors(args.losses, {"losses": losses}, producer="retrain_suffix", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="training split")
    options.add_argument("--network", type=Path, required=True, help="of train_network")
    options.add_argument("--activations", type=Path, required=True, help="of record_activations")
    options.add_argument("--name", required=True, help="id of the network, for its curves")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    add_noise(options)
    add_input_noise(options)
    add_schedule(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="suffixes [row, trial, …]")
    options.add_argument("--losses", type=Path, required=True, help="losses [step, row, trial]")
    run(main, options)
