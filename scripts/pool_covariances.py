"""Average the trace-normalised covariances of named sources, for each base network."""

import argparse
from pathlib import Path

from torch import Tensor

from noisetransfer.arms import NO_SOURCE
from noisetransfer.artifacts import read_tensors, write_json, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.covariance import Covariance, from_tensors, to_tensors
from noisetransfer.errors import StudyError
from noisetransfer.pooling import pool
from noisetransfer.ranks import parse_rank


def main(args: argparse.Namespace) -> None:
    fits = sources_of(args)
    # a rank that was chosen for each source: the greatest of them
    exact = parse_rank(args.rank) == "full"
    trials = list(zip(*fits, strict=True))
    pooled = [
        pool(fitted, None if exact else max(c.factor.shape[1] for c in fitted)) for fitted in trials
    ]
    tensors = {f"{NO_SOURCE}/{part}": values for part, values in to_tensors(pooled).items()}
    spec = {"sources": args.sources, "rank": args.rank}
    write_tensors(args.output, tensors, producer="fit_covariance", spec=spec)
    write_json(args.diagnostics, {NO_SOURCE: [diagnosed(c, args.sources) for c in pooled]})


def sources_of(args: argparse.Namespace) -> list[list[Covariance]]:
    """Return the covariances [source][trial]."""
    tensors: dict[str, Tensor] = {}
    for path in args.covariances:
        tensors |= read_tensors(path, producer="fit_covariance", framework="pt")
    missing = [source for source in args.sources if f"{source}/factor" not in tensors]
    if missing:
        raise StudyError(f"no file of covariances has {', '.join(missing)}")
    parts = ("mean", "factor", "remainder", "diagonal")
    return [from_tensors({p: tensors[f"{source}/{p}"] for p in parts}) for source in args.sources]


def diagnosed(covariance: Covariance, sources: list[str]) -> dict[str, object]:
    """Return what the pooled covariance tells of itself, ridges of the sources included."""
    d, rank = covariance.factor.shape
    explained = 1 - covariance.remainder * (d - rank) / covariance.trace
    return {"sources": sources, "d": d, "rank": rank, "explained": explained}


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--covariances", type=Path, nargs="+", required=True, help="files of fit_covariance"
    )
    options.add_argument("--sources", nargs="+", required=True, help="in them, to be averaged")
    options.add_argument("--rank", required=True, help="of the fits; full: all eigenpairs are kept")
    options.add_argument("--output", type=Path, required=True, help="stacked over trials")
    options.add_argument("--diagnostics", type=Path, required=True, help="JSON, by trial")
    run(main, options)
