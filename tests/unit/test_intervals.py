"""Means over trials, and Student's interval."""

import numpy as np
import pandas as pd
import pytest

from noisetransfer.errors import StudyError
from noisetransfer.intervals import FEWEST, intervals


def trials(*values: float, **keys) -> pd.DataFrame:
    table = pd.DataFrame({"arm": "full", "accuracy": values, "trial": range(len(values))})
    return table.assign(**keys)


def test_interval_of_five_trials_is_that_of_the_textbook():
    (found,) = intervals(trials(1, 2, 3, 4, 5), ["arm"], "accuracy").itertuples()
    half = 2.776445 * np.sqrt(2.5) / np.sqrt(5)  # t(0.975, 4) s / √n
    assert (found.mean, found.trials) == (3, 5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_more_trials_take_another_quantile():
    (found,) = intervals(trials(*range(10)), ["arm"], "accuracy").itertuples()
    half = 2.262157 * np.std(range(10), ddof=1) / np.sqrt(10)  # t(0.975, 9)
    assert (found.low, found.high) == pytest.approx((4.5 - half, 4.5 + half))


@pytest.mark.parametrize("n", range(1, FEWEST))
def test_too_few_trials_have_a_mean_and_no_interval(n):
    (found,) = intervals(trials(*range(n)), ["arm"], "accuracy").itertuples()
    assert (found.mean, found.trials) == ((n - 1) / 2, n)
    assert np.isnan([found.low, found.high]).all()


def test_equal_trials_have_an_interval_of_no_width():
    (found,) = intervals(trials(*[0.25] * 5), ["arm"], "accuracy").itertuples()
    assert found.low == found.mean == found.high == 0.25


def test_groups_are_apart_and_sorted():
    parts = [trials(0.5, arm="none"), trials(*[0.125] * 5, arm="full")]
    found = intervals(pd.concat(parts), ["arm"], "accuracy")
    assert list(found.columns) == ["arm", "mean", "low", "high", "trials"]
    assert found["arm"].tolist() == ["full", "none"]
    assert found["mean"].tolist() == [0.125, 0.5]
    assert found["trials"].tolist() == [5, 1]


def test_missing_values_do_not_count():
    (found,) = intervals(trials(1, 2, 3, 4, np.nan), ["arm"], "accuracy").itertuples()
    assert (found.mean, found.trials) == (2.5, 4)
    assert np.isnan(found.low)


def test_rows_that_would_pass_for_trials_are_an_error_that_names_what_is_mixed():
    parts = [trials(0.1, 0.2, tau="0.5", site="L2"), trials(0.1, 0.2, tau="2.0", site="L2")]
    with pytest.raises(StudyError, match="differ in tau: choose one"):
        intervals(pd.concat(parts), ["arm"], "accuracy")
    assert len(intervals(pd.concat(parts), ["arm", "tau"], "accuracy")) == 2


def test_a_row_twice_is_an_error():
    with pytest.raises(StudyError, match="differ in nothing"):
        intervals(pd.concat([trials(0.1), trials(0.1)]), ["arm"], "accuracy")
