"""Every form of the three sentences: there is a gain, there is none, it is open, it was not measured."""

import numpy as np
import pytest

from noisetransfer.findings import decimal, gain, headline, sentences
from small_study import table

OWN, OTHER, COST = range(3)


@pytest.mark.parametrize(
    ("which", "changes", "expected"),
    [
        (
            OWN,
            {},
            "In experiment e, noise with the covariance of a modification protects against that "
            "modification: where source = target, accuracy is .10 higher than under identity noise of the "
            "same energy (mean of 2 cells and 2 trials; no interval below 5 trials).",
        ),
        (OWN, {"own": 0.3}, "does not protect against that modification: where source = target, "),
        (OWN, {"own": 0.3}, "accuracy is .20 lower than"),
        (OWN, {"own": 0.5}, "does not protect"),
        (OWN, {"own": None}, "whether noise with the covariance of a modification protects"),
        (OWN, {"own": None}, "was not measured (arm full, source = target)."),
        (OWN, {"identity": False}, "accuracy is .10 higher than without noise"),
        (OWN, {"trials": 6}, "2 cells and 6 trials, 95% interval over trials .10 to .10)"),
        (OWN, {"trials": 6, "spread": 0.3}, "it is not shown that noise with the covariance"),
        (OWN, {"trials": 6, "own": 0.3, "spread": 0.01}, "does not protect"),
        (OWN, {"trials": 1, "own": 0.501}, "accuracy is less than .01 higher"),
        (
            OTHER,
            {},
            "The noise of one modification does not protect against another: where source ≠ target, "
            "accuracy is .10 lower than under identity noise of the same energy (mean of 1 cell and 2 "
            "trials; no interval below 5 trials).",
        ),
        (OTHER, {"other": 0.7}, "The noise of one modification protects against another"),
        (
            OTHER,
            {"other": None},
            "Whether the noise of one modification protects against another was",
        ),
        (
            OTHER,
            {"other": 0.5, "trials": 6, "spread": 0.1},
            "It is not shown that the noise of one",
        ),
        (
            COST,
            {},
            "The noise costs accuracy on clean images: accuracy is .80 under it, .90 without (difference "
            "−.10; mean of 2 cells and 2 trials; no interval below 5 trials).",
        ),
        (COST, {"clean": 0.9}, "The noise costs nothing on clean images"),
        (COST, {"clean": 0.95}, "The noise costs nothing on clean images"),
        (COST, {"clean": 0.9, "trials": 6, "spread": 0.05}, "It is not shown that the noise costs"),
        (COST, {"clean": None}, "What the noise costs on clean images was not measured."),
    ],
)
def test_sentence(which, changes, expected):
    assert expected in sentences("e", table(**changes))[which]


@pytest.mark.parametrize(("trials", "known"), [(4, False), (5, True)])
def test_no_interval_over_fewer_than_five_trials(trials, known):
    found = gain(table(trials, spread=0.01), "gain_over_none")
    assert np.isfinite([found.low, found.high]).all() == known
    assert ("no interval" in str(found)) != known


def test_several_strengths_of_one_modification_are_no_transfer():
    weaker = {"contrast@5": "snow@3"}
    found = sentences("e", table().replace({"source": weaker, "target": weaker}))
    assert "was not measured" in found[OTHER]


def test_the_headline_is_the_experiment_that_answers_most():
    tables = {
        "matched": table(other=None, clean=None),
        "transfer": table(),
        "sweep": table(own=None),
    }
    assert headline(tables) == "transfer"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.713, ".71"), (-0.05, "−.05"), (1.0, "1.00"), (-0.001, ".00"), (0, ".00")],
)
def test_decimal(number, text):
    assert decimal(number) == text
