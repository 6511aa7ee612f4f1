"""Records are read in parts, by some of their columns, and damage is told."""

import numpy as np
import pandas as pd
import pytest

from noisetransfer.artifacts import write_table
from noisetransfer.errors import StudyError
from noisetransfer.record_parts import parts

TABLE = pd.DataFrame(
    {"target": ["fog@5", "pgd@0.1"] * 5000, "image": np.arange(10000), "K": np.full(10000, 10)}
)


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "records.parquet", TABLE)
    return tmp_path / "records.parquet"


@pytest.mark.parametrize(("rows", "count"), [(10000, 1), (4000, 3)])
def test_parts_together_are_the_columns_that_were_asked_for(path, rows, count):
    found = list(parts(path, ["image", "target"], rows))
    assert len(found) == count
    assert all(isinstance(part["target"].dtype, pd.CategoricalDtype) for part in found)
    whole = pd.concat(part.astype({"target": str}) for part in found)
    pd.testing.assert_frame_equal(whole.reset_index(drop=True), TABLE[["image", "target"]])


def test_a_file_that_is_not_there_or_lacks_a_column(path):
    with pytest.raises(StudyError, match=r"gone\.parquet: no such file"):
        next(parts(path.with_name("gone.parquet"), ["image"]))
    with pytest.raises(StudyError, match=r"records\.parquet: damaged .* delete it and run again"):
        next(parts(path, ["image", "label"]))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_is_told(path, damage):
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[200] ^= 1  # in a page of the first column
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"records\.parquet: damaged"):
        list(parts(path, ["target", "image"]))
