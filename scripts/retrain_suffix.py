"""Retrain the suffix under the noise of every arm of one source, all arms and trials as one stack."""

import argparse
from pathlib import Path

from noisetransfer.arms import stacked
from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import add_keys, add_noise, add_schedule, parser, run
from noisetransfer.covariance import from_tensors
from noisetransfer.devices import device
from noisetransfer.networks import build, split
from noisetransfer.noise import NoiseSampler
from noisetransfer.randomness import key
from noisetransfer.retraining import train_suffixes
from noisetransfer.training import Schedule


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    recorded = read_tensors(args.activations, producer="record_activations", framework="pt")
    activations = recorded["activations"]
    shape = read_spec(args.activations)["network"]
    plan = Schedule(args.learning_rate, args.batch_size, args.epochs, args.seed, tuple(args.trials))
    seeds = [key(args.seed, "initialise suffix", args.site, trial) for trial in plan.trials]
    fresh = [split(build(**shape, seed=seed), args.site)[1] for seed in seeds]
    noise = stacked(
        args.arms,
        args.tau,
        activations[0, 0].numel(),
        from_tensors(
            *(read_tensors(p, producer="fit_covariance", framework="pt") for p in args.covariance)
        ),
        seed=args.seed,
        source=args.source,
        trials=plan.trials,
    )
    parameters, losses = train_suffixes(
        fresh,
        [own.to(target) for own in activations],
        data["labels"],
        data["indices"],
        NoiseSampler.of(noise, target),
        plan,
    )
    noise_spec = {"source": args.source, "arms": args.arms, "tau": args.tau}
    spec = {"site": args.site, "noise": noise_spec, "schedule": vars(plan)}
    write_tensors(args.output, parameters, producer="retrain_suffix", spec=spec)
    write_tensors(args.losses, {"losses": losses}, producer="retrain_suffix", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="training split")
    options.add_argument("--activations", type=Path, required=True, help="of record_activations")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    add_noise(options)
    add_schedule(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="suffixes [arm, trial, …]")
    options.add_argument("--losses", type=Path, required=True, help="losses [step, arm, trial]")
    run(main, options)
