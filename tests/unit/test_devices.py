from contextlib import contextmanager

import pytest
import torch

from noisetransfer import gpus
from noisetransfer.devices import LARGEST_STACK, Replayed, device, halving, stack_size
from noisetransfer.errors import StudyError
from structures import CPU, OnGpu

GPU = torch.device("cuda")


@pytest.mark.parametrize("there", [False, True])
def test_the_device_is_the_gpu_if_there_is_one(monkeypatch, there):
    for setting in ("allow_tf32", "deterministic", "benchmark"):  # to be set back
        monkeypatch.setattr(torch.backends.cudnn, setting, setting != "deterministic")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(gpus, "take_one", lambda: None)
    assert device() == (GPU if there else CPU)
    assert torch.get_num_threads() == 1
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)


def memory(monkeypatch, free):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))


@pytest.mark.parametrize("each", [1, 1 << 50])
def test_on_a_cpu_a_stack_has_a_fixed_size(each):
    assert stack_size(CPU, each) == LARGEST_STACK["cpu"] == 8


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (1, 44),
        (18 << 20, 44),  # 45 fit
        (80 << 20, 10),  # 10.0
        (90 << 20, 8),  # 8.9
        (410 << 20, 1),
        (800 << 20, 1),
        (900 << 20, 1),  # does not even fit
    ],
)
def test_on_a_gpu_a_stack_fits_in_four_fifths_of_the_free_memory(monkeypatch, each, expected):
    memory(monkeypatch, 1000 << 20)
    assert stack_size(GPU, each) == expected


def test_a_gpu_without_free_memory_runs_one_network_at_once(monkeypatch):
    memory(monkeypatch, 0)
    assert stack_size(GPU, 1000) == 1


class Machine:
    """A GPU of pretence, and a step with a state: what happens on it, in order.

    As on a real one, recording computes nothing, and a replay repeats the step on the tensors it was
    recorded with. `log` holds "step" (run as it is), "record", "replay".
    """

    def __init__(self, monkeypatch):
        self.log, self.streams, self.total, self.mode = [], ["main"], 0.0, "step"
        machine = self

        class Stream:
            def wait_stream(self, other):
                machine.log.append(f"wait for {other.name}")

            name = "side"

        class Main(Stream):
            name = "main"

        class Graph:
            def replay(self):
                machine.log.append("replay")
                machine.output.copy_(machine.compute(*machine.inputs))

        @contextmanager
        def stream(chosen):
            machine.streams.append(chosen.name)
            yield
            machine.streams.pop()

        @contextmanager
        def graph(chosen):
            assert isinstance(chosen, Graph)
            machine.mode = "record"
            yield
            machine.mode = "step"

        fakes = {"Stream": Stream, "current_stream": Main, "stream": stream}
        for name, fake in {**fakes, "CUDAGraph": Graph, "graph": graph}.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def compute(self, values, shift):
        self.total += float(values.sum() + shift)
        return values * 2 + shift + self.total

    def step(self, values, shift):
        self.log.append(f"{self.mode} on {self.streams[-1]}")
        if self.mode == "record":
            self.inputs = (values, shift)
            self.output = torch.full_like(values, float("nan"))  # not computed yet
            return self.output
        return self.compute(values, shift)


class Plain(Machine):
    """The same step on its own, without any of it."""

    def __init__(self):
        self.log, self.streams, self.total, self.mode = [], ["main"], 0.0, "step"


def inputs(lengths):
    return [
        (
            torch.arange(length).float().add(i).as_subclass(OnGpu),
            torch.tensor(float(i)).as_subclass(OnGpu),
        )
        for i, length in enumerate(lengths)
    ]


def happened(machine):
    """What ran, without the waiting."""
    return [line.split()[0] for line in machine.log if not line.startswith("wait")]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([3] * 2, ["step"] * 2),
        ([3] * 6, [*["step"] * 3, "record", "replay", "replay", "replay"]),
        ([3, 3, 3, 3, 2, 3], [*["step"] * 3, "record", "replay", "step", "replay"]),
        ([3, 2, 3, 2, 3, 3, 2], [*["step"] * 3, "record", "replay", "step", "step", "replay"]),
    ],
    ids=["few", "many", "a short batch at the end", "short batches in between"],
)
def test_a_step_runs_thrice_then_is_recorded_once_and_replayed(monkeypatch, lengths, expected):
    machine, plain = Machine(monkeypatch), Plain()
    run = Replayed(machine.step)
    given = inputs(lengths)
    kept = [values.clone() for values, _ in given]
    found = [run(*own) for own in given]
    assert happened(machine) == expected
    wanted = [plain.step(*own) for own in given]
    assert all(map(torch.equal, found, wanted))  # at the end: no result was written over
    assert all(torch.equal(values, own) for (values, _), own in zip(given, kept, strict=True))


def test_the_first_runs_wait_for_the_others_streams(monkeypatch):
    machine = Machine(monkeypatch)
    Replayed(machine.step)(*inputs([3])[0])
    assert machine.log == ["wait for main", "step on side", "wait for side"]


def test_on_a_cpu_every_step_goes_as_it_is(monkeypatch):
    machine = Machine(monkeypatch)
    run = Replayed(machine.step)
    results = [run(torch.ones(3), torch.tensor(1.0)) for _ in range(6)]
    assert machine.log == ["step on main"] * 6
    assert [float(own[0]) for own in results] == [2 + 1 + 4.0 * i for i in range(1, 7)]


def runs_out_above(largest):
    """A computation whose memory runs out with parts of more than `largest`; it logs what it tried."""
    tried = []

    def compute(size):
        tried.append(size)
        if size > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "result"

    return compute, tried


def test_parts_are_halved_until_memory_suffices_and_the_log_says_so(capsys):
    compute, tried = runs_out_above(11)
    assert halving(compute, 44, "networks a stack") == "result"
    assert tried == [44, 22, 11]
    told = capsys.readouterr().err
    assert "ran out with 44 networks a stack: going on with 22" in told
    assert "ran out with 22 networks a stack: going on with 11" in told


def test_memory_that_does_not_hold_one_part_is_an_error_that_says_what_to_do():
    compute, tried = runs_out_above(0)
    with pytest.raises(StudyError, match=r"GPU memory runs out with 1 images a batch.*nvidia-smi"):
        halving(compute, 5, "images a batch")
    assert tried == [5, 2, 1]


def test_other_errors_pass():
    def compute(size):
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        halving(compute, 4, "networks a stack")
