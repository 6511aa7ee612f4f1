"""What the command lines of all stages share: a parser, and errors as one message."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError
from noisetransfer.regimes import REGIMES

if TYPE_CHECKING:
    from collections.abc import Callable


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a stage's docstring and its defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=_Help)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not those that are None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def add_images(options: argparse.ArgumentParser) -> None:
    """Add what names the images of a dataset."""
    options.add_argument(
        "--id", required=True, help="of the dataset, such as cifar10 or folder:PATH"
    )
    options.add_argument("--folder", type=Path, required=True, help="folder of the original files")
    options.add_argument("--resize", type=int, help="photographs: pixels of the shorter side")
    options.add_argument("--crop", type=int, help="photographs: side of the middle, in pixels")


def add_schedule(options: argparse.ArgumentParser) -> None:
    """Add the hyperparameters of a training."""
    options.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    options.add_argument("--batch-size", type=int, default=64, help="images a step and network")
    options.add_argument("--epochs", type=int, default=10)


def add_keys(options: argparse.ArgumentParser) -> None:
    """Add what keys every draw of a job: the study seed and the trials."""
    options.add_argument("--seed", type=int, required=True, help="seed of the study")
    options.add_argument("--trials", type=int, nargs="+", required=True)


def add_noise(options: argparse.ArgumentParser) -> None:
    """Add what defines the noise of a job: sources, arms, trace scale, covariances."""
    options.add_argument(
        "--sources", nargs="*", default=[], help="such as snow@5; none: the arms without a source"
    )
    options.add_argument("--arms", nargs="+", required=True)
    options.add_argument("--tau", required=True, help="trace scale, tr Σ = τ·d; or unscaled")
    options.add_argument(
        "--covariance", type=Path, help="of fit_covariance; holds every one of the sources"
    )


def add_tested(options: argparse.ArgumentParser) -> None:
    """Add what names noisy networks and the images that they are tested on."""
    options.add_argument(
        "--data", type=Path, required=True, help="test split; of validation@0 the validation split"
    )
    options.add_argument("--network", type=Path, required=True, help="base networks")
    options.add_argument("--noisy", type=Path, help="of retrain_suffix; none: the base network")
    options.add_argument("--regime", choices=REGIMES, required=True, help="where the noise is on")
    options.add_argument("--site", required=True, help="hidden layer, such as L2")
    options.add_argument("--study", required=True, help="id, for the table")
    options.add_argument("--name", required=True, help="id of the network, for the table")


def add_input_noise(options: argparse.ArgumentParser) -> None:
    """Add the noise that a base network sees on its images."""
    options.add_argument(
        "--input-noise", type=float, default=0.0, help="σ of Gaussian noise on the pixels"
    )


def run(main: Callable[[argparse.Namespace], None], options: argparse.ArgumentParser) -> None:
    """Run a stage; a mistake that a user can mend is one message and exit code 1, not a traceback."""
    try:
        main(options.parse_args())
    except StudyError as error:
        _tell(f"error: {error}")
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # of torch, which not every stage loads
            raise
        _tell(
            f"error: GPU memory ran out; end what else uses the GPU (nvidia-smi lists it)\n{error}"
        )
        sys.exit(1)


def _tell(message: str) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:  # the log lies on the disk that is full
        print(message)
