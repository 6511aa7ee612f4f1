"""Reading the records of evaluations in parts: those of a large experiment are more than the memory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

ROWS = 2**18
"""Rows of a part, of which ten columns take some 20 MB."""

_REMEDY = "delete it and run again, the workflow makes it anew"


def parts(path: Path, columns: Sequence[str], rows: int = ROWS) -> Iterator[pd.DataFrame]:
    """Yield some columns of a Parquet table of `artifacts.write_table`, a number of rows at a time.

    What is read is verified by the checksums of the pages: that of the content takes all columns.

    Args:
        path: the table.
        columns: to be read; text comes as categories.
        rows: of a part, at most.

    Raises:
        StudyError: if the file is missing or damaged, or lacks a column.
    """
    import pyarrow.parquet as pq

    try:
        options = {"read_dictionary": [*columns], "page_checksum_verification": True}
        with pq.ParquetFile(path, **options) as file:
            for batch in file.iter_batches(rows, columns=[*columns]):
                yield batch.to_pandas()[[*columns]]
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except Exception as error:  # what pyarrow raises depends on where the damage is
        raise StudyError(f"{path}: damaged or truncated ({error}); {_REMEDY}") from error
