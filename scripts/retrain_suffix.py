"""Retrain the suffix under the noise of every arm of each source, all of them and all trials as stacks."""

import argparse
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from noisetransfer.artifacts import read_tensors, write_tensors
from noisetransfer.commandline import (
    add_input_noise,
    add_keys,
    add_noise,
    add_schedule,
    parser,
    run,
)
from noisetransfer.cuts import Cut
from noisetransfer.devices import device
from noisetransfer.errors import StudyError
from noisetransfer.fine_tuning import mixed, recording, train_each
from noisetransfer.loading import Bases, read_bases, read_modified
from noisetransfer.networks import build, split
from noisetransfer.randomness import key
from noisetransfer.retraining import (
    Hidden,
    computed,
    recorded,
    train_suffixes,
    under_input_noise,
)
from noisetransfer.stages import noise_spec, row_names, sampler_of
from noisetransfer.suffixes import check_batches, reinitialise, training_mode
from noisetransfer.training import Schedule


def main(args: argparse.Namespace) -> None:
    target = device()
    data = read_tensors(args.data, producer="prepare_dataset", framework="pt")
    plan = Schedule(args.learning_rate, args.batch_size, args.epochs, args.seed, tuple(args.trials))
    bases = read_bases(args.network, len(args.trials))
    cuts = bases.cut(args.site, torch.device("cpu"))
    fresh = fresh_suffixes(args, bases, cuts, len(data["labels"]))
    sampler = sampler_of(args, cuts[0].shape.numel(), target)
    known = data["labels"], data["indices"], sampler, plan
    if args.modified:
        own = hidden_of_each(args, bases, cuts, data, plan, target)
        suffixes, losses = train_each(fresh, own, *known)
    else:
        suffixes, losses = train_suffixes(fresh, hidden_of(args, cuts, data, plan, target), *known)
    spec = {"network": args.name, "site": args.site, "noise": noise_spec(args)}
    spec |= {"schedule": vars(plan)}
    write_tensors(args.output, suffixes, producer="retrain_suffix", spec=spec)
    spec |= {"rows": row_names(args), "steps_per_epoch": len(losses) // plan.epochs}
    write_tensors(args.losses, {"losses": losses}, producer="retrain_suffix", spec=spec)


def fresh_suffixes(
    args: argparse.Namespace, bases: Bases, cuts: list[Cut], images: int
) -> list[nn.Module]:
    """Return the suffixes to train, one per trial: of its shape, initialised anew."""
    seeds = [key(args.seed, "initialise suffix", args.site, trial) for trial in args.trials]
    if not bases.pretrained:
        return [split(build(**bases.spec, seed=seed), args.site)[1] for seed in seeds]
    check_batches(cuts[0].suffix, images, args.batch_size)
    fresh: list[nn.Module] = [training_mode(copy.deepcopy(cut.suffix)) for cut in cuts]
    for suffix, seed in zip(fresh, seeds, strict=True):
        reinitialise(suffix, seed)
    return fresh


def hidden_of(
    args: argparse.Namespace,
    cuts: list[Cut],
    data: dict[str, Tensor],
    plan: Schedule,
    target: torch.device,
) -> Callable[[slice], Hidden]:
    """Return what gives the activations of a step: recorded, computed once, or anew in every step."""
    if args.input_noise:
        prefixes = [cut.prefix for cut in cuts]
        images, sigma = data["images"], args.input_noise
        return under_input_noise(prefixes, images, data["indices"], sigma, plan, target)
    if args.activations:
        stored = read_tensors(args.activations, producer="record_activations", framework="pt")
        return recorded(stored["activations"], target)
    return computed(cuts[0].prefix, data["images"], target)


def hidden_of_each(
    args: argparse.Namespace,
    bases: Bases,
    cuts: list[Cut],
    data: dict[str, Tensor],
    plan: Schedule,
    target: torch.device,
) -> Iterator[Callable[[slice], Hidden]]:
    """Yield, for each source, what gives the activations of its modified images; one's are in memory at once.

    Raises:
        StudyError: if the files of modified images are not those of the sources, in their order.
    """
    prefixes = [cut.prefix for cut in cuts]
    if len(args.modified) != len(args.sources):
        raise StudyError(f"--modified: {len(args.modified)} files of {len(args.sources)} sources")
    for path, source in zip(args.modified, args.sources, strict=True):
        name, modified, indices = read_modified(path)
        if name != source:
            raise StudyError(f"{path}: holds images of {name}, not of {source}")
        images = mixed(data["images"], data["indices"], modified, indices)
        if args.input_noise:
            sigma = args.input_noise
            yield under_input_noise(prefixes, images, data["indices"], sigma, plan, target)
        elif bases.pretrained:  # one network: attacks, too, have one set of images
            yield computed(prefixes[0], images.flatten(0, -4), target)
        else:
            yield recorded(recording(prefixes, images, target), target)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="training split")
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument(
        "--activations", type=Path, help="of record_activations; default: computed here"
    )
    options.add_argument(
        "--modified",
        type=Path,
        nargs="+",
        default=[],
        help="of arm fine_tuned: images of each source, to train on in place of the clean ones",
    )
    options.add_argument("--name", required=True, help="id of the network, for its curves")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    add_noise(options)
    add_input_noise(options)
    add_schedule(options)
    add_keys(options)
    options.add_argument("--output", type=Path, required=True, help="suffixes [row, trial, …]")
    options.add_argument("--losses", type=Path, required=True, help="losses [step, row, trial]")
    run(main, options)
