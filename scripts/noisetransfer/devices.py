"""Where the numbers are computed: a GPU if there is one, else one CPU thread."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, TypeVar

import torch

from noisetransfer import gpus
from noisetransfer.errors import StudyError
from noisetransfer.logs import tell_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

T = TypeVar("T")

LARGEST_STACK = {"cuda": 44, "cpu": 8}
"""Networks that run as one: on a GPU a prototype's choice, not measured with this code."""

BATCH = {"cuda": 2000, "cpu": 250}
"""Images that a stack is tested on at once, if they are small; draws do not depend on it."""

COPIES = 4
"""Times the outputs of all layers of a network that an attack on it takes: they, their gradients, copies."""

ROOM = {"cuda": 16 * 2**30, "cpu": 2 * 2**30}
"""Bytes that the values of one batch may take."""


def device() -> torch.device:
    """Choose the device (of several GPUs a free one), and settings that keep results the same in every run.

    One thread a process: sums keep their order whatever number of cores the workflow has, and two processes
    of one thread beat one of two. On a GPU: float32 instead of TF32, and cuDNN's deterministic kernels.
    """
    gpus.take_one()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    there = torch.cuda.is_available()
    tell_device(torch.cuda.get_device_name() if there else "CPU")
    return torch.device("cuda" if there else "cpu")


def stack_size(device: torch.device, bytes_each: int) -> int:
    """Return how many networks to run as one: the largest stack, or fewer if the GPU's free memory is small.

    Args:
        device: where they run.
        bytes_each: what one network takes, its data included.
    """
    largest = LARGEST_STACK[device.type]
    if device.type != "cuda":
        return largest
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(largest, int(0.8 * free) // bytes_each))


def images_at_once(device: torch.device, bytes_each: int) -> int:
    """Return how many images to test at once.

    Args:
        device: where.
        bytes_each: what one image takes, in all networks of a stack.
    """
    return max(1, min(BATCH[device.type], ROOM[device.type] // max(1, bytes_each)))


def halving(compute: Callable[[int], T], size: int, of: str) -> T:
    """Compute in parts of a size; where GPU memory runs out, begin anew with parts of half the size.

    Args:
        compute: size → result, which depends on the size by no more than rounding.
        size: the size to begin with.
        of: what the size counts, for the log, such as "networks a stack".

    Raises:
        StudyError: if memory runs out with parts of one.
    """
    while True:
        try:
            return compute(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise StudyError(
                    f"GPU memory runs out with 1 {of}: end what else uses the GPU (nvidia-smi lists it)"
                ) from None
        print(f"GPU memory ran out with {size} {of}: going on with {size // 2}", file=sys.stderr)
        size //= 2
        gc.collect()  # the step that failed holds its tensors in cycles
        torch.cuda.empty_cache()


class Replayed:
    """A step that is repeated on tensors of one shape: a GPU records it as a CUDA graph and replays it.

    The first runs go as they are, since libraries set themselves up in them; then the step is recorded.
    Inputs of another shape (the last batch of an epoch) go as they are, too. On a CPU all do.
    """

    FIRST = 3

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._runs = 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the step on inputs that lie on the device; the result is the caller's to keep."""
        if not inputs[0].is_cuda:
            return self._step(*inputs)
        if self._graph is None:
            if self._runs < self.FIRST:
                self._runs += 1
                return self._aside(*inputs)
            self._record(inputs)
        if any(i.shape != own.shape for i, own in zip(inputs, self._inputs, strict=True)):
            return self._step(*inputs)
        return self._replay(inputs)

    def _aside(self, *inputs: Tensor) -> Tensor:
        """Run on a stream of its own, as recording asks for."""
        self._stream = stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return output

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(value.clone() for value in inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records only: nothing is computed yet
            self._output = self._step(*self._inputs)

    def _replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        assert self._graph is not None
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        self._graph.replay()
        return self._output.clone()
