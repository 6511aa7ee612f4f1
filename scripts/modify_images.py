"""Apply one corruption or transform to every image of a split: once, or anew for each trial."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.modifications import modify


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset")
    origin = read_spec(args.data)
    drawn = partial(
        modify,
        data["images"],
        args.modification,
        seed=args.seed,
        dataset=origin["dataset"],
        indices=data["indices"].tolist(),
        workers=args.workers,
    )
    images = np.stack([drawn(trial=t) for t in args.trials]) if args.trials else drawn()
    spec = {"modification": args.modification, "seed": args.seed, "data": origin}
    spec |= {"trials": args.trials} if args.trials else {}
    tensors = {"images": images, "indices": data["indices"]}
    write_tensors(args.output, tensors, producer="modify_images", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--modification", required=True, help="such as motion_blur@5")
    options.add_argument("--seed", type=int, required=True, help="seed of the study")
    options.add_argument(
        "--trials",
        type=int,
        nargs="+",
        default=[],
        help="images of their own; default: one for all",
    )
    options.add_argument(
        "--workers", type=int, default=1, help="processes; no influence on results"
    )
    options.add_argument("--output", type=Path, required=True)
    run(main, options)
