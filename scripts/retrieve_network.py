"""Get the weights of a pretrained network: from its zoo, a package or a local file."""

import argparse
import json
from pathlib import Path

from noisetransfer import zoo
from noisetransfer.artifacts import write_tensors
from noisetransfer.commandline import parser, run


def main(args: argparse.Namespace) -> None:
    network = zoo.load(args.network, args.folder)
    known = zoo.published(args.network)
    spec = {
        "network": args.network | {"pretrained": zoo.resolve(args.network)},
        "published": vars(known) if known else None,
    }
    write_tensors(args.output, zoo.state(network), producer="retrieve_network", spec=spec)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--network",
        type=json.loads,
        required=True,
        help='{"pretrained": "torchvision:resnet50/IMAGENET1K_V2"}',
    )
    options.add_argument("--folder", type=Path, required=True, help="where downloads are kept")
    options.add_argument("--output", type=Path, required=True, help="weights, .safetensors")
    run(main, options)
