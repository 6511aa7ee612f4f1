"""Where the numbers are computed: a GPU if there is one, else one CPU thread."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """Choose the device, and settings that keep results the same from run to run.

    One thread a process: sums keep their order whatever number of cores the workflow has, and two processes
    of one thread beat one of two. On a GPU: float32 instead of TF32, and cuDNN's deterministic kernels.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
