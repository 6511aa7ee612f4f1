"""Turn the losses of retrained suffixes into a table of learning curves."""

import argparse
from pathlib import Path

import pandas as pd

from noisetransfer.artifacts import read_spec, read_tensors, write_table
from noisetransfer.commandline import parser, run
from noisetransfer.losses import learning_curves


def main(args: argparse.Namespace) -> None:
    table = pd.concat([curves(path) for path in args.losses], ignore_index=True)
    for path in args.output:
        write_table(path, table.assign(study=args.study))


def curves(path: Path) -> pd.DataFrame:
    spec = read_spec(path)
    found = learning_curves(
        read_tensors(path, producer="retrain_suffix")["losses"],
        rows=spec["rows"],
        trials=spec["noise"]["trials"],
        steps_per_epoch=spec["steps_per_epoch"],
    )
    return found.assign(network=spec["network"], site=spec["site"], tau=spec["noise"]["tau"])


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--losses", type=Path, nargs="+", required=True, help="of retrain_suffix")
    options.add_argument("--study", required=True, help="id, for the table")
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".parquet and .csv")
    run(main, options)
