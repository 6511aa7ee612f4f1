"""Several GPUs in one machine: each job takes one that no other job of this user holds, until it ends."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
JOBS_PER_GPU = "NOISETRANSFER_JOBS_PER_GPU"
CLUSTER_JOBS = "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "_CONDOR_JOB_AD"
PAUSE = 1.0  # seconds between two looks for a free GPU

_held: list[int] = []  # open files; the system frees their locks when the process ends


def take_one() -> None:
    """Make one of the visible GPUs the only one that this process sees, before CUDA starts.

    A GPU takes one job at a time, or as many as the environment variable NOISETRANSFER_JOBS_PER_GPU says. In
    each job of a cluster the numbers are its own: they may be other devices. A second call does nothing.

    Raises:
        StudyError: if NOISETRANSFER_JOBS_PER_GPU is not a whole number above 0.
    """
    gpus = _visible()
    if gpus and not _held:
        os.environ[VISIBLE] = claim(gpus, _jobs_per_gpu())
        print(f"GPU {os.environ[VISIBLE]} of {', '.join(gpus)}", file=sys.stderr)


def claim(gpus: Sequence[str], jobs: int = 1) -> str:
    """Wait for a GPU that fewer than `jobs` processes of this user hold, and hold it until the process ends.

    Args:
        gpus: ids to choose from, the first free one is taken.
        jobs: processes a GPU; they spread over the GPUs first.
    """
    told = False
    while True:
        for place in range(jobs):
            for gpu in gpus:
                if _hold(f"{gpu}-{place}"):
                    return gpu
        if not told:
            print(f"waiting for one of the GPUs {', '.join(gpus)}", file=sys.stderr)
            told = True
        time.sleep(PAUSE)


def _visible() -> list[str]:
    """Return the ids of the GPUs that this process may use."""
    listed = os.environ.get(VISIBLE)
    if listed is None:
        import torch  # counts without starting CUDA, which would fix its choice

        return [str(number) for number in range(torch.cuda.device_count())]
    names = [name.strip() for name in listed.split(",")]
    return [name for name in names if name not in ("", "-1")]


def _jobs_per_gpu() -> int:
    text = os.environ.get(JOBS_PER_GPU, "1")
    if not (text.isascii() and text.isdigit() and int(text)):
        raise StudyError(
            f"environment variable {JOBS_PER_GPU}: {text!r}, allowed: a whole number above 0"
        )
    return int(text)


def _hold(name: str) -> bool:
    folder = Path(tempfile.gettempdir()) / f"noisetransfer-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StudyError(f"{folder} belongs to somebody else: set TMPDIR to a folder of yours")
    job = next(filter(None, map(os.environ.get, CLUSTER_JOBS)), "")
    path = folder / f"{job}-{name}".replace(os.sep, "_")
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.append(file)
    return True
