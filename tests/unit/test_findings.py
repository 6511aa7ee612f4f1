"""Every form of the sentences: there is a gain, there is none, it is open, was not measured, was audited."""

import numpy as np
import pytest

from noisetransfer.findings import decimal, gain, headline, remainders, sentences, warning
from small_study import judged, table

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


def renamed(snow, contrast):
    """A table whose sources and targets have other names."""
    names = {"snow@5": snow, "contrast@5": contrast}
    return table().replace({"source": names, "target": names})


@pytest.mark.parametrize(
    ("source", "target", "measured"),
    [
        ("auto_pgd_eot@0.1", "auto_pgd_eot.m5@0.1", False),
        ("auto_pgd_eot.m5@0.1", "auto_pgd_eot.m50@0.2", False),
        ("pgd@0.1", "random_noise@0.1", False),
        ("random_noise@0.1", "pgd@0.1", True),
        ("pgd@0.1", "auto_pgd@0.1", True),
        ("cifar10_c.fog@3", "cifar10_c.snow@3", True),
        ("paired.rain@1", "paired.dusk@1", True),
    ],
)
def test_attacks_are_modifications_but_neither_their_budgets_nor_the_floor(
    source, target, measured
):
    transfer = sentences("e", renamed(source, target))[OTHER]
    assert ("was not measured" not in transfer) == measured


def test_against_the_floor_there_is_nothing_to_gain():
    floor = renamed("random_noise@0.1", "random_noise@0.2")
    assert "was not measured" in sentences("e", floor)[OWN]
    assert "(mean of 1 cell " in sentences("e", renamed("pgd@0.1", "random_noise@0.1"))[OWN]


def test_no_noise_of_arm_full_is_no_measurement():
    told = sentences("e", table().query("arm == 'identity'"))
    assert all("not measured" in sentence for sentence in told)


FULL = ("full", "pgd@0.1", "Linf", 0.1)
AUDIT = judged(
    ("full", "pgd@0.1", "L2", 0.05, "none", 0.3, 0.28, "holds"),
    ("full", "pgd@0.2", "Linf", 0.2, "none", 0.08, 0.03, "open"),
    (*FULL, "none", 0.47, 0.35, "shrinks"),
    ("full", "pgd@0.3", "Linf", 0.3, "none", 0.1, 0.05, "shrinks"),
    (*FULL, "identity", 0.2, 0.21, "holds"),
    ("full", "pgd@0.04", "Linf", 0.04, "identity", -0.03, 0.01, "absent"),
    ("diagonal", "pgd@0.1", "Linf", 0.1, "none", 0.26, 0.0, "vanishes"),
)


def test_an_audited_experiment_says_what_is_left_of_its_gains():
    assert sentences("e", renamed("pgd@0.1", "auto_pgd_eot@0.1"), AUDIT) == [
        "In experiment e, when a competent attacker takes the place of attacks through one draw of the "
        "noise, the gain of arm full over no noise shrinks at ε = 0.1 (.47 → .35) and 0.3 (.10 → .05); "
        "is open at ε = 0.2 (.08 → .03); holds at ε = 0.05 in L2 (.30 → .28).",
        "Its gain over identity noise is absent at ε = 0.04 (−.03 → .01); holds at ε = 0.1 (.20 → .21).",
        *sentences("e", table())[COST:],
    ]


@pytest.mark.parametrize(
    ("snow", "contrast", "own", "other"),
    [
        ("pgd@0.1", "auto_pgd_eot@0.1", False, False),
        ("snow@5", "pgd@0.1", True, False),  # noise of snow under PGD is not told
        ("snow@5", "contrast@5", True, True),
    ],
)
def test_of_an_audit_the_other_sentences_are_about_what_is_no_attack(snow, contrast, own, other):
    told = " ".join(sentences("e", renamed(snow, contrast), AUDIT))
    assert ("covariance of a modification protects" in told) == own
    assert ("The noise of one modification" in told) == other
    assert "not measured" not in told


def test_several_noises_in_a_ball_are_counted():
    rows = [
        (*FULL, "none", 0.4, 0.3, "shrinks"),
        ("full", "fgm@0.1", *FULL[2:], "none", 0.4, 0.4, "holds"),
        ("full", "square@0.1", *FULL[2:], "none", 0.4, 0.4, "holds"),
    ]
    over_none, over_identity, _ = sentences("e", renamed("pgd@0.1", "fgm@0.1"), judged(*rows))
    assert "shrinks at ε = 0.1 (1 of 3 noises); holds at ε = 0.1 (2 of 3 noises)." in over_none
    assert over_identity == "Its gain over identity noise was not measured."


def test_what_is_left_is_a_row_for_every_noise_and_ball():
    found = remainders(AUDIT)
    assert list(found) == [
        "arm",
        "source",
        "norm",
        "ε",
        "gain over no noise",
        "gain over identity noise",
    ]
    assert found[["arm", "norm", "ε"]].to_numpy().tolist() == [
        ["full", "Linf", "0.04"],
        ["full", "Linf", "0.1"],
        ["full", "Linf", "0.2"],
        ["full", "Linf", "0.3"],
        ["full", "L2", "0.05"],
        ["diagonal", "Linf", "0.1"],
    ]
    assert found.iloc[1].tolist()[-2:] == [
        ".47 → .35 [.33, .38], shrinks",
        ".20 → .21 [.19, .24], holds",
    ]
    assert found["gain over identity noise"].isna().tolist() == [False, False, *[True] * 4]


def test_what_all_noises_share_is_not_told():
    found = remainders(AUDIT.query("over == 'none' and source == 'pgd@0.1' and norm == 'Linf'"))
    assert list(found) == ["arm", "ε", "gain over no noise"]


@pytest.mark.parametrize(
    ("snow", "contrast", "warned"),
    [
        ("pgd@0.1", "fgm@0.1", True),
        ("snow@5", "pgd.weak@0.1", True),
        ("snow@5", "contrast@5", False),
        ("snow@5", "random_noise@0.1", False),
        ("pgd@0.1", "auto_pgd_eot.m5@0.1", False),
        ("pgd@0.1", "auto_attack@0.1", False),
    ],
)
def test_attacks_through_one_draw_alone_are_warned_of(snow, contrast, warned):
    assert len(warning({"e": renamed(snow, contrast)})) == warned


def test_one_warning_names_every_such_experiment():
    hasty = renamed("pgd@0.1", "fgm@0.1")
    tables = {"a": hasty, "b": table(), "c": hasty, "d": hasty.query("arm == 'none'")}
    assert warning(tables) == [
        "The attacks of experiments a and c look at one draw of the noise a gradient: gains against them "
        "may be the attacker's failure (docs/audit.md)."
    ]
    assert warning({"a": hasty})[0].startswith("The attacks of experiment a look")


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
