"""Apply one corruption or transform to every image of a split."""

import argparse
from pathlib import Path

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import parser, run
from noisetransfer.modifications import modify


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset")
    origin = read_spec(args.data)
    images = modify(
        data["images"],
        args.modification,
        seed=args.seed,
        dataset=origin["dataset"],
        indices=data["indices"].tolist(),
        workers=args.workers,
    )
    spec = {"modification": args.modification, "seed": args.seed, "data": origin}
    tensors = {"images": images, "indices": data["indices"]}
    write_tensors(args.output, tensors, producer="modify_images", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--modification", required=True, help="such as motion_blur@5")
    options.add_argument("--seed", type=int, required=True, help="seed of the study")
    options.add_argument(
        "--workers", type=int, default=1, help="processes; no influence on results"
    )
    options.add_argument("--output", type=Path, required=True)
    run(main, options)
