"""Read the modified versions of a split's images: of a published corrupted set, or the user's own."""

import argparse
from pathlib import Path
from typing import Any

from noisetransfer.artifacts import read_spec, read_tensors, write_tensors
from noisetransfer.commandline import add_images, parser, run
from noisetransfer.corrupted_sets import Chosen, read_official, read_paired
from noisetransfer.datasets import find, names_of
from noisetransfer.modifications import parse


def main(args: argparse.Namespace) -> None:
    data = read_tensors(args.data, producer="prepare_dataset")
    spec = {"modification": args.modification, "data": read_spec(args.data)}
    tensors = {"images": images_of(args, data), "indices": data["indices"]}
    write_tensors(args.output, tensors, producer="modify_images", spec=spec)


def images_of(args: argparse.Namespace, data: dict[str, Any]) -> Any:
    modification, strength = parse(args.modification)
    preprocessing = find(args.id, resize=args.resize, crop=args.crop).preprocessing
    indices = data["indices"].tolist()
    names = names_of(args.id, args.folder, indices) if preprocessing else []
    if modification.kind == "official":
        published, _, corruption = modification.name.partition(".")
        chosen = Chosen(indices, data["labels"].tolist(), names)
        return read_official(published, corruption, int(strength), args.modified, chosen)
    return read_paired(args.modified, names, preprocessing, args.folder)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a split of prepare_dataset")
    options.add_argument("--modification", required=True, help="cifar10_c.fog@3 or paired.rain@1")
    add_images(options)
    options.add_argument(
        "--modified", type=Path, required=True, help="folder of the modified images"
    )
    options.add_argument("--output", type=Path, required=True)
    run(main, options)
