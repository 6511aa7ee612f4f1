import numpy as np
import pandas as pd
import pytest

from noisetransfer.errors import StudyError
from noisetransfer.pareto import front, pareto

ROWS = [  # source, arm, tau, clean, robust
    ("any", "none", "0", 0.9, 0.1),
    ("any", "identity", "0.5", 0.8, 0.2),
    ("pgd@0.1", "full", "0.5", 0.85, 0.4),
    ("snow@5", "full", "0.5", 0.7, 0.3),
]


PLACE = {"network": "v2", "site": "L2", "regime": "retrain"}


def table(threat="Linf@0.1", **place):
    names = ["source", "arm", "tau", "clean_accuracy", "robust_accuracy"]
    found = pd.DataFrame(ROWS, columns=names).assign(threat=threat, **(PLACE | place))
    for end, shift in (("low", -0.05), ("high", 0.05)):
        found[f"robust_accuracy_{end}"] = found["robust_accuracy"] + shift
    return found


@pytest.mark.parametrize(
    ("clean", "robust", "kept"),
    [
        ([0.9, 0.8, 0.85, 0.7], [0.1, 0.2, 0.4, 0.3], [True, False, True, False]),
        ([0.5, 0.5], [0.2, 0.3], [False, True]),
        ([0.5, 0.5], [0.3, 0.3], [True, True]),  # equal points beat each other in nothing
    ],
)
def test_front(clean, robust, kept):
    assert front(np.array(clean), np.array(robust)).tolist() == kept


def test_every_noise_is_a_point_and_the_line_joins_the_best():
    (axis,) = pareto(table(), title="study").axes
    points = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axis.lines
        if len(line.get_xdata()) == 1
    }
    assert points == {(clean, robust) for *_, clean, robust in ROWS}
    (best,) = [line for line in axis.lines if len(line.get_xdata()) > 1]
    assert list(best.get_xdata()) == [0.85, 0.9]
    assert {text.get_text() for text in axis.texts} == {"", "pgd@0.1", "snow@5"}


def names(*tables):
    (axis,) = pareto(pd.concat(tables), title="study").axes
    return [text.get_text() for text in axis.texts]


def test_networks_trained_on_other_images_are_named():
    attacked = table(network="v2+pgd@0.1x0.5", regime="inference").iloc[:1]
    noisy = table(network="v2+input_noise@0.2").iloc[[0, 2]]
    assert names(table(), attacked, noisy) == [
        *("", "", "pgd@0.1", "snow@5"),
        *("+pgd@0.1x0.5", "+input_noise@0.2", "+input_noise@0.2 pgd@0.1"),
    ]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"network": "v3"}, ["v2", "v2", "v2 pgd@0.1", "v2 snow@5"]),
        ({"site": "L3"}, ["L2", "L2", "pgd@0.1 L2", "snow@5 L2"]),
        ({"regime": "tested_only"}, ["retrain", "retrain", "pgd@0.1 retrain", "snow@5 retrain"]),
        ({"tau": "2.0"}, ["", "τ 0.5", "pgd@0.1 τ 0.5", "snow@5 τ 0.5"]),
    ],
)
def test_what_noises_differ_in_is_named(other, named):
    assert names(table(), table().assign(**other).iloc[1:])[:4] == named


def test_each_threat_has_a_panel():
    both = pd.concat([table(), table("L2@2.0")])
    assert [axis.get_title() for axis in pareto(both, title="study").axes] == ["L2@2.0", "Linf@0.1"]


@pytest.mark.parametrize("missing", ["clean_accuracy", "robust_accuracy"])
def test_without_attacks_or_clean_images_there_is_nothing_to_draw(missing):
    with pytest.raises(StudyError, match=r"pareto are clean@0 and attacks"):
        pareto(table().assign(**{missing: np.nan}), title="study")
