"""What several stages read alike: the noise of a job, and the networks it belongs to."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from noisetransfer.arms import NO_NOISE, NO_SOURCE, rows
from noisetransfer.artifacts import read_tensors
from noisetransfer.covariance import Covariance, from_tensors
from noisetransfer.errors import StudyError
from noisetransfer.noise import NoiseSampler

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch


def sampler_of(
    args: argparse.Namespace, d: int, device: torch.device, places: Sequence[int] | None = None
) -> NoiseSampler:
    """Build the noise that `commandline.add_noise` and `add_keys` describe, rows as `row_names`.

    Args:
        args: of the command line.
        d: length of the flattened activation.
        device: where the noise is drawn.
        places: of the wanted trials in the block; default: all.

    Raises:
        StudyError: if the file of covariances is damaged or lacks a source.
    """
    chosen = range(len(args.trials)) if places is None else places
    trials = [args.trials[place] for place in chosen]
    covariances = {
        # a pretrained network has one covariance in all trials
        source: [fitted[place if len(fitted) > 1 else 0] for place in chosen]
        for source, fitted in _covariances(args).items()
    }
    stack = rows(args.arms, args.tau, d, covariances, seed=args.seed, trials=trials)
    return NoiseSampler.of(stack, device, seed=args.seed, trials=trials)


def row_names(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return (source, arm) of each row of the noise."""
    return [(source, arm) for source in args.sources or [NO_SOURCE] for arm in args.arms]


def noise_spec(args: argparse.Namespace) -> dict[str, object]:
    """Return what identifies the noise of a job in its file."""
    return {"sources": args.sources, "arms": args.arms, "tau": args.tau, "trials": args.trials}


def silence_spec(args: argparse.Namespace) -> dict[str, object]:
    """Return what identifies arm none of the same trials."""
    return {"sources": [], "arms": ["none"], "tau": NO_NOISE, "trials": args.trials}


def _covariances(args: argparse.Namespace) -> Mapping[str, Sequence[Covariance | None]]:
    if not args.sources or not args.covariance:
        return {source: [None] for source in args.sources}
    return _read_covariances(args.covariance, tuple(args.sources))


@lru_cache(maxsize=1)  # for each trial anew, it would be read and hashed as often
def _read_covariances(path: Path, sources: Sequence[str]) -> dict[str, list[Covariance]]:
    tensors = read_tensors(path, producer="fit_covariance", framework="pt")
    parts = ("mean", "factor", "remainder", "diagonal")
    missing = [source for source in sources if f"{source}/factor" not in tensors]
    if missing:
        raise StudyError(f"{path}: has no covariance of {', '.join(missing)}")
    return {
        source: from_tensors({part: tensors[f"{source}/{part}"] for part in parts})
        for source in sources
    }
