"""Compare the covariances of an experiment's sources with each other, and list their spectra."""

import argparse
from pathlib import Path

import pandas as pd

from noisetransfer.artifacts import read_spec, read_tensors, write_table
from noisetransfer.classes import ClassMeans
from noisetransfer.commandline import parser, run
from noisetransfer.covariance import Covariance, from_tensors
from noisetransfer.geometry import pair_rows, spectrum_rows, structure


def main(args: argparse.Namespace) -> None:
    pairs, spectra = [], []
    for path in dict.fromkeys(args.classes):
        fits = [f for f, own in zip(args.covariance, args.classes, strict=True) if own == path]
        for place, compared, listed in measured(path, fits):
            pairs += [{"study": args.study, **place, **row} for row in compared]
            spectra += [{"study": args.study, **place, **row} for row in listed]
    for output, rows in ((args.geometry, pairs), (args.spectra, spectra)):
        for path in output:
            write_table(path, pd.DataFrame(rows))


def measured(classes: Path, fits: list[Path]):
    """Yield, for each trial of a network and site, its place, the rows of pairs and those of spectra."""
    spec, stored = (
        read_spec(classes),
        read_tensors(classes, producer="average_classes", framework="pt"),
    )
    sources = {name: own for path in fits for name, own in covariances(path).items()}
    for number, (trial, means) in enumerate(zip(spec["trials"], stored["means"], strict=True)):
        own = ClassMeans(means, stored["counts"])
        structures = {name: structure(fitted[number]) for name, fitted in sources.items()}
        listed = [row for name, one in structures.items() for row in spectrum_rows(name, one, own)]
        place = {"network": spec["network"], "site": spec["site"], "trial": trial}
        yield place, pair_rows(structures), listed


def covariances(path: Path) -> dict[str, list[Covariance]]:
    """Return the covariances of each source of a file, one per trial."""
    tensors = read_tensors(path, producer="fit_covariance", framework="pt")
    return {
        name: from_tensors({part: tensors[f"{name}/{part}"] for part in PARTS})
        for name in read_spec(path)["sources"]
    }


PARTS = "mean", "factor", "remainder", "diagonal"


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--covariance", type=Path, nargs="+", required=True, help="of fit_covariance"
    )
    options.add_argument(
        "--classes",
        type=Path,
        nargs="+",
        required=True,
        help="of average_classes, for each of them",
    )
    options.add_argument("--study", required=True, help="its id")
    options.add_argument(
        "--geometry", type=Path, nargs="+", required=True, help="pairs, .parquet and .csv"
    )
    options.add_argument(
        "--spectra", type=Path, nargs="+", required=True, help="eigenvalues, .parquet and .csv"
    )
    run(main, options)
