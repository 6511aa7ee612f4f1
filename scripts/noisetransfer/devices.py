"""Where the numbers are computed: a GPU if there is one, else one CPU thread."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """Choose the device and make this process deterministic on it.

    One thread a process: sums keep their order whatever number of cores the workflow has, and two processes
    of one thread beat one of two.
    """
    torch.set_num_threads(1)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
