"""Typed, atomic reading and writing of what the stages hand to each other. No pickle anywhere.

Tensors are safetensors files whose metadata carry the producer (the stage), the format, the specification
of the job that wrote them and a SHA-256 of the content; reading checks them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from noisetransfer import __version__
from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    import pyarrow as pa
    import torch
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Images = TypeVar("Images", "torch.Tensor", "NDArray[Any]")

FORMAT = "noisetransfer/1"
PARTIAL = ".partial"
DAY = 24 * 3600.0  # seconds


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what stands there is renamed to `path` on success, deleted on failure.

    It lies in a hidden folder beside `path`. Those that killed processes left are deleted.
    """
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        owner = f".{path.name}.{platform.node()}.{os.getpid()}."
        made = tempfile.mkdtemp(PARTIAL, owner, path.parent)
        folder = Path(made)
        yield folder / path.name
        (folder / path.name).chmod(0o644)  # else a colleague may not read it
        (folder / path.name).replace(path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Delete the folders of a file whose process is dead: on another machine, those of another day."""
    owner = re.compile(rf"\.{re.escape(path.name)}\.(.*)\.(\d+)\.\w+{re.escape(PARTIAL)}")
    for folder in path.parent.iterdir():
        if found := owner.fullmatch(folder.name):
            here = found[1] == platform.node()
            if not _runs(int(found[2])) if here else time.time() - folder.stat().st_mtime > DAY:
                shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_tensors(
    path: Path, tensors: Mapping[str, Any], *, producer: str, spec: Mapping[str, Any]
) -> None:
    """Write named arrays (numpy or torch) to a safetensors file.

    Args:
        path: the file; it appears only when it is whole.
        tensors: name → numpy array or torch tensor.
        producer: the stage that writes.
        spec: what the stage was asked to do; kept as JSON in the metadata.

    Raises:
        StudyError: if the file cannot be written (disk full, read-only folder).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {name: _as_array(tensor) for name, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "producer": producer,
        "version": __version__,
        "spec": spec,
    }
    header["sha256"] = _digest(header, arrays)
    # one key: safetensors writes several in random order
    metadata = {"noisetransfer": json.dumps(header, sort_keys=True)}
    with atomic(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:
            raise StudyError(f"cannot write {path}: {error}") from error


def read_tensors(
    path: Path, *, producer: str, framework: Literal["np", "pt"] = "np"
) -> dict[str, Any]:
    """Read a file of `write_tensors` and check it.

    Args:
        path: the file.
        producer: the stage that must have written it.
        framework: "np" for numpy arrays, "pt" for torch tensors (mapped from disk, not copied).

    Raises:
        StudyError: if the file is missing, damaged, or of another producer or format.
    """
    with _opened(path, framework) as file:
        header = _header(file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check(path, header, producer, tensors)
    return tensors


def of_trial(images: Images, place: int) -> Images:
    """Take what a trial sees of modified images.

    Args:
        images: (n, C, H, W) that all trials share, or (T, n, C, H, W), of each trial its own.
        place: of the trial among the T.

    Returns:
        (n, C, H, W).
    """
    return images[place] if images.ndim == 5 else images


def read_spec(path: Path) -> dict[str, Any]:
    """Read the specification of the job that wrote a safetensors file.

    Raises:
        StudyError: if the file is missing or damaged.
    """
    with _opened(path, "np") as file:
        return dict(_header(file)["spec"])


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, with a checksum of its content, or CSV, by the suffix of `path`."""
    with atomic(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            _write_parquet(temporary, table)


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table of `write_table`.

    Raises:
        StudyError: if the file is missing or damaged.
    """
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path, page_checksum_verification=True)
        told = (content.schema.metadata or {}).get(CHECKSUM)
        intact = told == _digest_of_table(content)
        table: pd.DataFrame = content.to_pandas(ignore_metadata=True)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except Exception as error:  # what pyarrow raises depends on where the damage is
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error
    if not intact:
        fault = (
            "content does not match its checksum" if told else "has no checksum of this workflow"
        )
        raise StudyError(f"{path}: {fault}; {_REMEDY}")
    return table


CHECKSUM = b"noisetransfer.sha256"


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(table, preserve_index=False)
    told = {CHECKSUM: _digest_of_table(content)}
    content = content.replace_schema_metadata(told)  # not those of pandas: no checksum covers them
    pq.write_table(content, path, compression="zstd", write_page_checksum=True)


def _digest_of_table(table: pa.Table) -> bytes:
    """Return the SHA-256 of names, types and values of the columns, as text."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_numpy()
        digest.update(repr((name, values.dtype.str, values.shape)).encode())
        text = "\0".join(map(str, values)).encode() if values.dtype == object else values.tobytes()
        digest.update(text)
    return digest.hexdigest().encode()


def read_published(path: Path) -> pd.DataFrame:
    """Read a published heatmap: rows are targets, columns sources, both by name without strength.

    Raises:
        StudyError: if the file is missing or no table of numbers.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, index_col=0, comment="#").astype(float)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a table of published accuracies ({error})") from error


def read_published_cells(path: Path) -> pd.DataFrame:
    """Read a published table of cells: a mean over trials and its 95% confidence interval a row.

    Returns:
        columns modification, strength, tau (a string, such as "2.0"), arm, accuracy, ci_low, ci_high.

    Raises:
        StudyError: if the file is missing, lacks a column, names a cell twice, or if in a row
            0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1 does not hold.
    """
    import pandas as pd

    names, numbers = ["modification", "arm"], ["strength", "tau", "accuracy", "ci_low", "ci_high"]
    types = {**dict.fromkeys(names, str), **dict.fromkeys(numbers, float)}
    try:
        cells = pd.read_csv(path, usecols=list(types), dtype=types, comment="#")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a table of published cells ({error})") from error
    for fault, wrong in _faults(cells).items():
        if wrong.any():
            raise StudyError(f"{path}: {fault}:\n{cells[wrong].to_string(index=False)}")
    return cells.astype({"tau": str})


def _faults(cells: pd.DataFrame) -> dict[str, pd.Series[bool]]:
    """Return the rows of a table of published cells that have a fault, by the fault."""
    low, mean, high = (cells[name] for name in ("ci_low", "accuracy", "ci_high"))
    ordered = (low >= 0) & (low <= mean) & (mean <= high) & (high <= 1)
    keys = cells[["modification", "strength", "tau", "arm"]]
    return {
        "a cell has no name": keys.isna().any(axis=1),
        "not 0 ≤ ci_low ≤ accuracy ≤ ci_high ≤ 1": ~ordered,
        "the same cell twice": keys.duplicated(keep=False),
    }


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the format of the suffix; the same figure gives the same bytes."""
    from matplotlib import rc_context

    metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # else every drawing shifts the layout a little
    drawn = io.BytesIO()  # in memory: matplotlib hides a full disk behind errors of its own
    with rc_context({"svg.hashsalt": path.name}):
        figure.savefig(
            drawn, format=path.suffix[1:], dpi=200, metadata=metadata, bbox_inches="tight"
        )
    with atomic(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write JSON, sorted and indented."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StudyError: if the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: damaged or missing ({error}); {_REMEDY}") from error


_REMEDY = "delete it and run again, the workflow makes it anew"
# what a header raises that is not ours: other keys or types, numbers that numpy lacks, nesting without end
_MISREAD = (KeyError, ValueError, TypeError, AttributeError, RecursionError)


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (SafetensorError, OSError, *_MISREAD) as error:
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error


def _header(file: Any) -> dict[str, Any]:
    return dict(json.loads((file.metadata() or {}).get("noisetransfer", "{}")))


def _as_array(tensor: Any) -> Any:
    array = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor
    return array if array.flags.c_contiguous else array.copy(order="C")


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    told = {name: value for name, value in header.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        array = _as_array(tensors[name])
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _check(
    path: Path, header: Mapping[str, Any], producer: str, tensors: Mapping[str, Any]
) -> None:
    found = header.get("format"), header.get("producer")
    if found != (FORMAT, producer):
        wanted = f"format {FORMAT} of {producer}"
        raise StudyError(f"{path}: expected {wanted}, found format {found[0]} of {found[1]}")
    if header.get("sha256") != _digest(header, tensors):
        raise StudyError(f"{path}: content does not match its checksum; {_REMEDY}")
