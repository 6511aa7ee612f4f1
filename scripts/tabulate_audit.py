"""Turn the records of an experiment into its audit: accuracy by attacker, and verdicts on the gains."""

import argparse
import json
from pathlib import Path

import pandas as pd

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.auditing import attacked, audit_table, verdicts, worst_cases
from noisetransfer.commandline import parser, run


def main(args: argparse.Namespace) -> None:
    parts = [attacked(read_table(path), args.budgets) for path in args.records]
    found = pd.concat(parts, ignore_index=True)
    worst = worst_cases(found, args.budgets)
    tables = {
        "audit": audit_table(pd.concat([found, worst], ignore_index=True), args.budgets),
        "verdicts": verdicts(found, args.budgets, args.seed),
        "probes": pd.concat(map(read_table, args.probed), ignore_index=True),
    }
    for name, table in tables.items():
        for path in vars(args)[name]:
            write_table(path, table)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--records", type=Path, nargs="+", required=True, help="of evaluate")
    options.add_argument(
        "--budgets",
        type=json.loads,
        required=True,
        help='of the attacks: {"pgd.weak": {"attack": "pgd", "steps": 5, …}}',
    )
    options.add_argument("--seed", type=int, required=True, help="seed of the study")
    options.add_argument("--probed", type=Path, nargs="+", required=True, help="of probe_noise")
    for table in ("audit", "verdicts", "probes"):
        options.add_argument(
            f"--{table}", type=Path, nargs="+", required=True, help=".parquet and .csv"
        )
    run(main, options)
