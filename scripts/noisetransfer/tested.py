"""The noisy networks that a job tests, as its command line names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisetransfer.artifacts import read_spec, read_tensors
from noisetransfer.errors import StudyError
from noisetransfer.evaluation import NoisyNetworks
from noisetransfer.loading import read_bases
from noisetransfer.networks import footprint
from noisetransfer.noise import NoiseSampler
from noisetransfer.regimes import REGIMES
from noisetransfer.stages import noise_spec, row_names, sampler_of, silence_spec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import torch

    from noisetransfer.networks import Stack


def noisy_networks(
    args: argparse.Namespace, target: torch.device, *, at_logits: bool = True
) -> Iterator[NoisyNetworks]:
    """Yield those of each trial: one trial's noise at a time is in memory.

    Args:
        args: of a command line with `commandline.add_tested`, `add_noise`, `add_input_noise`, `add_keys`.
        target: where they run.
        at_logits: whether noise behind which all is affine is drawn in the logits.

    Raises:
        StudyError: if the suffixes were trained under other noise, or a file is damaged.
    """
    bases = read_bases(args.network, len(args.trials))
    cuts = bases.cut(args.site, target)
    units = footprint(bases.networks[0], bases.image_shape)
    suffixes = suffixes_of(args, target)
    for trial, cut, own in zip(range(len(args.trials)), cuts, suffixes, strict=True):
        sampler = noise_of(args, cut.shape.numel(), target, trial)
        networks = NoisyNetworks(cut.prefix, cut.suffix, own, sampler, args.input_noise, units)
        yield networks.at_logits(cut.shape) if at_logits and cut.clean else networks


def noise_of(args: argparse.Namespace, d: int, target: torch.device, trial: int) -> NoiseSampler:
    """Return the noise of a trial that is on at test."""
    if not REGIMES[args.regime].tested:
        rows = len(row_names(args))
        return NoiseSampler.silence(rows, d, target, seed=args.seed, trial=args.trials[trial])
    return sampler_of(args, d, target, [trial])


def suffixes_of(args: argparse.Namespace, target: torch.device) -> list[Stack | None]:
    """Return the retrained suffixes of each trial, [row, …]; None where the network's own serves all rows."""
    if not args.noisy:
        return [None] * len(args.trials)
    retrained = read_tensors(args.noisy, producer="retrain_suffix", framework="pt")
    trained_under = noise_spec(args) if REGIMES[args.regime].suffix == "arm" else silence_spec(args)
    if read_spec(args.noisy)["noise"] != trained_under:
        raise StudyError(f"{args.noisy}: trained under other noise than {trained_under}")
    rows = len(row_names(args))
    return [
        # the one suffix of arm none serves all rows
        {name: values[:, i].to(target).expand(rows, *values.shape[2:]) for name, values in own}
        for i, own in enumerate([list(retrained.items())] * len(args.trials))
    ]
