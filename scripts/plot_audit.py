"""Draw the audit of an experiment."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_table, write_figure
from noisetransfer.audit_figures import audit
from noisetransfer.commandline import parser, run


def main(args: argparse.Namespace) -> None:
    tables = [read_table(path) for path in (args.audit, args.verdicts, args.probes)]
    figure = audit(*tables, title=args.title)
    for path in args.output:
        write_figure(path, figure)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--audit", type=Path, required=True, help="Parquet of tabulate_audit")
    options.add_argument("--verdicts", type=Path, required=True, help="Parquet of tabulate_audit")
    options.add_argument("--probes", type=Path, required=True, help="Parquet of tabulate_audit")
    options.add_argument("--title", required=True)
    options.add_argument("--output", type=Path, nargs="+", required=True, help=".pdf, .svg, .png")
    run(main, options)
