"""Differences of two studies: cell by cell, with intervals as of independent ones, and what is refused."""

import numpy as np
import pytest

from noisetransfer.artifacts import write_json, write_table
from noisetransfer.comparison import differences, of_studies, sentence
from noisetransfer.errors import StudyError
from noisetransfer.report import render, without_intervals
from small_study import table


def summary(half: float, **changes):
    found = without_intervals(table(**changes))
    for key in ("accuracy", "gain_over_none", "gain_over_identity"):
        found = found.assign(**{f"{key}_low": found[key] - half, f"{key}_high": found[key] + half})
    return found


def test_a_difference_is_that_of_the_cells_with_the_root_of_the_summed_squares():
    found = differences(summary(0.03, own=0.6), summary(0.04, own=0.4))
    own = found[(found["arm"] == "full") & (found["source"] == found["target"])]
    assert len(own) == 2
    assert np.allclose(own["accuracy"], 0.2)
    assert np.allclose(own["accuracy_low"], 0.15)
    assert np.allclose(own["accuracy_high"], 0.25)
    assert np.allclose(own["gain_over_none"], 0.2)
    assert np.allclose(own[["accuracy_a", "accuracy_b"]], [0.6, 0.4])


def test_cells_of_one_study_alone_are_left_out():
    assert len(differences(summary(0.1, other=None), summary(0.1))) == len(table(1, other=None))


def test_what_each_study_has_only_one_of_is_compared_whatever_its_name():
    b = summary(0.1).replace({"network": {"v2": "v3"}, "tau": {"0.5": "2.0"}})
    found = differences(summary(0.1), b)
    assert set(found["network"]) == {"v2 | v3"}
    assert set(found["tau"]) == {"0", "0.5 | 2.0"}
    assert len(found) == len(b)


def test_numbers_of_trials_that_differ_are_both_told():
    assert set(differences(summary(0.1), summary(0.1, trials=3))["trials"]) == {"2 in A, 3 in B"}


@pytest.mark.parametrize(
    ("half", "told"),
    [
        (0.01, "in 2 of 11 the 95% interval leaves out 0."),
        (np.nan, "no intervals were computed."),
    ],
)
def test_sentence(half, told):
    found = sentence("e", differences(summary(half, own=0.6), summary(half, own=0.5)))
    assert found.startswith(
        "Experiment e: accuracy in A minus that in B is .02 on average over 11 cells"
    )
    assert found.endswith(told)


@pytest.fixture
def folders(tmp_path):
    """Two folders of results."""
    for name, own in (("a", 0.6), ("b", 0.4)):
        study = {"study": name, "experiments": {"transfer": {}}}
        told = {"study": study, "git": {"commit": None}, "seed": 1, "study_sha256": "f"}
        write_json(tmp_path / name / "provenance.json", told)
        write_table(tmp_path / name / "tables/transfer.parquet", table(own=own))
    return tmp_path / "a", tmp_path / "b"


def test_the_page_of_two_studies(folders):
    page = of_studies(*folders)
    assert page.title == "A: a, B: b"
    assert "taken as independent" in page.summary[-1]
    assert list(page.files) == ["transfer_differences.csv"]
    titles = [measure["title"] for measure in page.sections[0].explorer["measures"]]
    assert titles[0] == "difference in accuracy, A − B"
    assert "<h1>A: a, B: b</h1>" in render(page)


def rename(folder):
    told = {"study": {"study": "b", "experiments": {"other": {}}}}
    write_json(folder / "provenance.json", told)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda b: b.rename(b.with_name("c")),
            "b: no such folder; give results/{study} of a finished",
        ),
        (
            lambda b: (b / "provenance.json").unlink(),
            "provenance.json: not there; finish the study: .*snake",
        ),
        (
            lambda b: (b / "tables/transfer.parquet").unlink(),
            "not there; make it with .*snakemake transfer",
        ),
        (rename, "no experiment in common: A has transfer; B has other"),
        (
            lambda b: write_table(
                b / "tables/transfer.parquet", table().assign(target="fog@1", source="x")
            ),
            "no cell in common",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_run(folders, fault, message):
    fault(folders[1])
    with pytest.raises(StudyError, match=message):
        of_studies(*folders)
