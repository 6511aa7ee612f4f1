"""Typed, atomic reading and writing of what the stages hand to each other. No pickle anywhere.

Tensors are safetensors files whose metadata carry the producer (the stage), the format, the specification
of the job that wrote them and a SHA-256 of the content; reading checks them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from matplotlib.figure import Figure

FORMAT = "noisetransfer/1"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would shut colleagues out
        temporary.replace(path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    metadata = {
        "format": FORMAT,
        "producer": producer,
        "spec": json.dumps(spec, sort_keys=True),
        "sha256": _digest(arrays),
    }
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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error
    _check(path, metadata, producer, tensors)
    return tensors


def read_spec(path: Path) -> dict[str, Any]:
    """Read the specification of the job that wrote a safetensors file.

    Raises:
        StudyError: if the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(json.loads((file.metadata() or {})["spec"]))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (SafetensorError, OSError, KeyError) as error:
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet or CSV, by the suffix of `path`."""
    with atomic(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises:
        StudyError: if the file is missing or damaged.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the format of the suffix; the same figure gives the same bytes."""
    with atomic(path) as temporary:
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
        figure.savefig(temporary, dpi=200, metadata=metadata)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, sorted and indented."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StudyError: if the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except ValueError as error:
        raise StudyError(f"{path}: not valid JSON ({error}); {_REMEDY}") from error


_REMEDY = "delete it and run again, the workflow makes it anew"


def _as_array(tensor: Any) -> Any:
    array = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor
    return array if array.flags.c_contiguous else array.copy(order="C")


def _digest(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = _as_array(tensors[name])
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _check(
    path: Path, metadata: Mapping[str, str], producer: str, tensors: Mapping[str, Any]
) -> None:
    found = metadata.get("format"), metadata.get("producer")
    if found != (FORMAT, producer):
        wanted = f"format {FORMAT} of {producer}"
        raise StudyError(f"{path}: expected {wanted}, found format {found[0]} of {found[1]}")
    if metadata.get("sha256") != _digest(tensors):
        raise StudyError(f"{path}: content does not match its checksum; {_REMEDY}")
