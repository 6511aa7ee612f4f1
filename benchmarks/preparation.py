"""Time how corruptions scale with the processes of a job: command lines of `modify_images`.

    python benchmarks/preparation.py [MODIFICATION ...] > preparation.md

Random images of 224 × 224, one process up to one a core. Reading and writing the files and starting the
processes count. Compare `processor` with `wall`: where they are alike with several processes, other work had
the cores.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import numpy as np

from noisetransfer.artifacts import write_tensors
from noisetransfer.environment import VARIABLES

IMAGES = 4000
MODIFICATIONS = ("motion_blur@3", "brightness@3")


def main(modifications: list[str]) -> None:
    print(
        "| corruption | processes | wall (s) | processor (s) | images a second | times one process |"
    )
    print("| --- | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.safetensors"
        write(data)
        for modification in modifications or MODIFICATIONS:
            for cells in table(data, modification):
                print("| " + " | ".join(cells) + " |", flush=True)


def write(data: Path) -> None:
    shape = (IMAGES, 3, 224, 224)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tensors = {"images": images, "indices": np.arange(IMAGES)}
    write_tensors(data, tensors, producer="prepare_dataset", spec={"dataset": "none"})


def table(data: Path, modification: str) -> Iterable[tuple[str, ...]]:
    alone = None
    for workers in range(1, (os.cpu_count() or 1) + 1):
        wall, processor = job(data, modification, workers)
        alone = alone or wall
        rates = f"{IMAGES / wall:.0f}", f"{alone / wall:.2f}"
        yield modification, str(workers), f"{wall:.1f}", f"{processor:.1f}", *rates


def job(data: Path, modification: str, workers: int) -> tuple[float, float]:
    """Return the seconds of wall clock and of all processes of a job."""
    line = [sys.executable, str(SCRIPTS / "modify_images.py"), "--data", str(data), "--seed", "0"]
    line += ["--modification", modification, "--workers", str(workers)]
    line += ["--output", str(data.with_name("modified.safetensors"))]
    before, start = children(), time.perf_counter()
    subprocess.run(line, check=True, env={**os.environ, **VARIABLES}, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start, children() - before


def children() -> float:
    """Return the processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
