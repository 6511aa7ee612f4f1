"""What stages hand to each other comes back exactly, or not at all."""

import json
import os
import pickle
import resource
import stat
import struct
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from matplotlib.figure import Figure
from pyarrow import parquet

from noisetransfer.artifacts import (
    atomic,
    read_json,
    read_spec,
    read_table,
    read_tensors,
    write_figure,
    write_json,
    write_table,
    write_tensors,
)
from noisetransfer.errors import StudyError

SCRIPTS = Path(__file__).parents[2] / "scripts"
SPEC = {"site": "L2", "trials": [0, 1], "ridge": {"relative": 1e-3}, "rank": None}
ARRAYS = {
    "float32": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "float64": np.array([np.nan, np.inf, -0.0, 1e-300]),
    "int64": np.array([[-(2**62)], [2**62]]),
    "uint8": np.arange(256, dtype=np.uint8),
    "bool": np.array([True, False]),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(24, dtype=np.int64).reshape(4, 6)[::2, 1::2],
    "reversed": np.arange(5, dtype=np.uint8)[::-1],
    "0-d": np.array(2.5),
    "no rows": np.zeros((0, 1, 28, 28), dtype=np.uint8),
}
TENSORS = {
    "float32": torch.linspace(0, 1, 6).reshape(2, 3),
    "int64": torch.tensor([[-(2**62)], [2**62]]),
    "uint8": torch.arange(256, dtype=torch.uint8),
    "transposed": torch.arange(12.0).reshape(3, 4).T,
    "expanded": torch.arange(3).expand(2, 3),
    "with gradient": torch.ones(2, requires_grad=True),
    "0-d": torch.tensor(2.5),
    "no rows": torch.zeros((0, 3), dtype=torch.uint8),
}
TABLE = pd.DataFrame(
    {"target": ["snow@5", "rotate@2.0"] * 20, "accuracy": np.linspace(0, 1, 40), "n": range(40)}
)


def same(found, expected) -> bool:
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and np.array_equal(np.asarray(found), np.asarray(expected), equal_nan=found.ndim == 1)
    )


def write_some_tensors(path: Path) -> None:
    tensors = {"images": np.arange(9000, dtype=np.uint8), "indices": np.arange(40)}
    write_tensors(path, tensors, producer="prepare_dataset", spec=SPEC)


def drawn() -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis in axes:
        image = axis.imshow(np.arange(12).reshape(3, 4))
    axes[0].set_ylabel("τ")
    figure.colorbar(image, ax=axes)
    return figure


WRITERS = {
    "x.safetensors": write_some_tensors,
    "x.parquet": lambda path: write_table(path, pd.concat([TABLE] * 100, ignore_index=True)),
    "x.csv": lambda path: write_table(path, pd.concat([TABLE] * 100)),
    "x.json": lambda path: write_json(path, list(range(3000))),
    "x.pdf": lambda path: write_figure(path, drawn()),
    "x.svg": lambda path: write_figure(path, drawn()),
    "x.png": lambda path: write_figure(path, drawn()),
}
READERS = {
    "x.safetensors": lambda path: read_tensors(path, producer="prepare_dataset"),
    "x.parquet": read_table,
}


# tensors


@pytest.mark.parametrize("name", ARRAYS)
def test_array_comes_back_as_it_was(tmp_path, name):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {name: ARRAYS[name]}, producer="evaluate", spec=SPEC)
    assert same(read_tensors(path, producer="evaluate")[name], ARRAYS[name])


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_comes_back_as_it_was(tmp_path, name):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {name: TENSORS[name]}, producer="evaluate", spec=SPEC)
    found = read_tensors(path, producer="evaluate", framework="pt")[name]
    assert isinstance(found, torch.Tensor)
    assert found.dtype == TENSORS[name].dtype
    assert torch.equal(found, TENSORS[name])


def test_arrays_and_tensors_share_a_file_that_either_framework_reads(tmp_path):
    path = tmp_path / "x.safetensors"
    both = {"array": ARRAYS["transposed"], "tensor": TENSORS["transposed"]}
    write_tensors(path, both, producer="evaluate", spec=SPEC)
    for framework in ("np", "pt"):
        found = read_tensors(path, producer="evaluate", framework=framework)
        assert sorted(found) == ["array", "tensor"]
        assert np.array_equal(found["array"], both["array"])
        assert np.array_equal(found["tensor"], both["tensor"])


def test_specification_comes_back(tmp_path):
    write_some_tensors(tmp_path / "x.safetensors")
    assert read_spec(tmp_path / "x.safetensors") == SPEC


def test_file_of_another_producer_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_some_tensors(path)
    with pytest.raises(StudyError, match=r"of modify_images, found .* of prepare_dataset$"):
        read_tensors(path, producer="modify_images")


def test_safetensors_file_of_another_program_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(StudyError, match="expected format"):
        read_tensors(path, producer="evaluate")
    with pytest.raises(StudyError, match=r"x\.safetensors: damaged"):
        read_spec(path)


def test_flipped_bit_anywhere_in_a_tensor_file_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": np.arange(6.0), "b": np.arange(4, dtype=np.uint8)}
    write_tensors(path, tensors, producer="evaluate", spec={"rank": 256})
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(flipped(content, position))
        with pytest.raises(StudyError, match=r"x\.safetensors: "):
            read_spec(path), read_tensors(path, producer="evaluate")


@pytest.mark.parametrize(("was", "becomes"), [(b"F64", b"I64"), (b"[2,3]", b"[3,2]")])
def test_other_type_or_shape_of_the_same_bytes_is_found(tmp_path, was, becomes):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": np.ones((2, 3))}, producer="evaluate", spec={})
    path.write_bytes(path.read_bytes().replace(was, becomes))
    with pytest.raises(StudyError, match="does not match its checksum"):
        read_tensors(path, producer="evaluate")


# tables


def test_parquet_table_comes_back_as_it_was(tmp_path):
    write_table(tmp_path / "x.parquet", TABLE)
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.parquet"), TABLE, check_exact=True)


def test_index_of_a_table_is_not_written(tmp_path):
    write_table(tmp_path / "x.parquet", TABLE[TABLE["n"] > 30])
    assert read_table(tmp_path / "x.parquet").index.tolist() == list(range(9))


def test_csv_table_holds_the_same_numbers(tmp_path):
    write_table(tmp_path / "x.csv", TABLE)
    found = pd.read_csv(tmp_path / "x.csv")
    pd.testing.assert_frame_equal(found, TABLE, check_exact=True)
    assert b"\r" not in (tmp_path / "x.csv").read_bytes()


def test_flipped_bit_never_changes_a_parquet_table_unnoticed(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, TABLE)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(flipped(content, position))
        with suppress(StudyError):
            assert read_table(path).equals(TABLE), f"byte {position} of {len(content)}"


# JSON


def test_json_comes_back_as_it_was(tmp_path):
    content = {"τ": [0.1, 1e-300, None, True], "name": "snow@5"}
    write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text()) == content


def test_json_is_sorted_and_readable(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


# damage, of whatever kind of file


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("name", READERS)
def test_missing_file_is_named(tmp_path, name):
    with pytest.raises(StudyError, match=f"{name}: no such file"):
        READERS[name](tmp_path / name)


def test_missing_file_has_no_specification(tmp_path):
    with pytest.raises(StudyError, match=r"x\.safetensors: no such file"):
        read_spec(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-2],
        lambda content: b"<html>not the file</html>",
        lambda content: bytes(range(128, 256)) * 8,
    ],
    ids=["empty", "half", "end missing", "HTML page", "binary rubbish"],
)
def test_damaged_file_is_named_with_a_remedy(tmp_path, name, damage):
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StudyError, match="delete it and run again") as caught:
        READERS[name](path)
    assert str(caught.value).startswith(f"{path}: ")


# files that attack


class Attack:
    """Unpickled, it makes the file `executed` in the working directory."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def torch_saved(path: Path) -> None:
    torch.save({"x": Attack()}, path)


def pickled(protocol: int):
    return lambda path: path.write_bytes(pickle.dumps(Attack(), protocol))


def between_magic_bytes(path: Path) -> None:
    content = pickle.dumps(Attack())
    path.write_bytes(b"PAR1" + content + struct.pack("<I", len(content)) + b"PAR1")


def safetensors(header: object, content: bytes = b"", *, told: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(text) if told is None else told)
    return lambda path: path.write_bytes(size + text + content)


def tensor(type: str, size: int, shape: list[int] | None = None):
    layout = {"dtype": type, "shape": shape or [size], "data_offsets": [0, size]}
    return safetensors({"x": layout}, b"0")


def header(text: str):
    return safetensors({"__metadata__": {"noisetransfer": text}})


TENSOR_ATTACKS = {
    "torch.save": torch_saved,
    "pickle": pickled(5),
    "pickle as text": pickled(0),
    "header of 10 GB": safetensors({}, told=10**10),
    "tensor of 10 GB": tensor("U8", 10**10),
    "tensor of 10 GB in a byte": tensor("U8", 1, [10**10]),
    "more than 2**64 bytes": tensor("F64", 1, [2**62, 2**62]),
    "type that numpy lacks": tensor("F8_E4M3", 1),
    "nested header": safetensors(b"[" * 10**6),
    "nested specification": header("[" * 10**5),
    "number for a header": header("5"),
    "list for a header": header("[1]"),
}


@pytest.fixture
def inert(tmp_path, monkeypatch):
    """Nothing is executed, and it takes neither long nor much memory."""
    monkeypatch.chdir(tmp_path)
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert not (tmp_path / "executed").exists()


def refusal(read, path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("attack", TENSOR_ATTACKS.values(), ids=TENSOR_ATTACKS)
def test_file_that_attacks_is_no_tensor_file(tmp_path, inert, attack):
    path = tmp_path / "x.safetensors"
    attack(path)
    assert "damaged" in refusal(READERS[path.name], path)
    assert "damaged" in refusal(read_spec, path)
    for_torch = partial(read_tensors, producer="evaluate", framework="pt")
    assert refusal(for_torch, path)


def test_specification_that_is_none_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    header('{"spec": 5}')(path)
    assert "damaged" in refusal(read_spec, path)


@pytest.mark.parametrize(
    "attack",
    [torch_saved, pickled(5), pickled(0), between_magic_bytes],
    ids=["torch.save", "pickle", "pickle as text", "pickle between magic bytes"],
)
def test_pickle_is_no_table(tmp_path, inert, attack):
    attack(tmp_path / "x.parquet")
    assert "damaged" in refusal(read_table, tmp_path / "x.parquet")


def test_pickle_inside_a_table_is_not_executed(tmp_path, inert):
    """Arrow once unpickled the type of a column that its metadata gave."""
    extension = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Attack()),
    }
    schema = pyarrow.schema([pyarrow.field("x", pyarrow.int64(), metadata=extension)])
    parquet.write_table(pyarrow.table({"x": [1]}, schema), tmp_path / "x.parquet")
    assert "has no checksum of this workflow" in refusal(read_table, tmp_path / "x.parquet")


@pytest.mark.parametrize("content", ["[" * 10**6, '{"a":' * 10**5, "", "<html>", "9" * 5000])
def test_file_that_is_no_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    assert "delete it and run again" in refusal(read_json, tmp_path / "x.json")


# writing


@pytest.mark.parametrize("name", WRITERS)
def test_same_content_gives_the_same_bytes(tmp_path, name):
    contents = set()
    for _ in range(6):
        WRITERS[name](tmp_path / name)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["x.pdf", "x.svg", "x.png"])
def test_same_figure_written_twice_gives_the_same_bytes(tmp_path, name):
    figure = drawn()
    write_figure(tmp_path / name, figure)
    first = (tmp_path / name).read_bytes()
    write_figure(tmp_path / name, figure)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", WRITERS)
def test_file_appears_alone_in_a_new_folder_and_others_may_read_it(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    WRITERS[name](path)
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_interrupted_writing_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, "earlier")

    def interrupted() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert json.loads(path.read_text()) == "earlier"
    assert list(tmp_path.iterdir()) == [path]


LIMITED = """
import resource, signal, sys
sys.path[:0] = sys.argv[1:3]
from test_artifacts import WRITERS, Path, StudyError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
for name, write in WRITERS.items():
    try:
        write(Path(sys.argv[3]) / name)
    except StudyError as error:
        print(error)
"""


def test_file_that_the_system_cannot_write_leaves_the_earlier_one_and_nothing_else(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert min(map(len, before.values())) > 1024
    folders = [str(SCRIPTS), str(Path(__file__).parent), str(tmp_path)]
    command = [sys.executable, "-c", LIMITED, *folders]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"cannot write {tmp_path / name}" for name in WRITERS
    ]
    assert all("File too large" in line for line in lines)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_that_cannot_be_made_is_named(tmp_path):
    path = tmp_path / "taken" / "x.json"
    path.parent.write_text("a file, not a folder")
    with pytest.raises(StudyError, match=f"cannot write {path}: "):
        write_json(path, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StudyError, match=f"cannot write {tmp_path / 'x.json'}"):
            write_json(tmp_path / "x.json", 1)
    finally:
        tmp_path.chmod(0o755)
