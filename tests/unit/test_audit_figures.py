from typing import get_args

import numpy as np
import pandas as pd
import pytest

from noisetransfer.attacks import ATTACKS
from noisetransfer.audit_figures import audit
from noisetransfer.auditing import (
    COMPETENT,
    ONE_DRAW,
    Verdict,
    attacked,
    audit_table,
    verdicts,
    worst_cases,
)
from noisetransfer.errors import StudyError

N, K = 60, 32
WORDS = get_args(Verdict)
EOT = {"": {}, ".m1": {"passes": 1}, ".m50": {"passes": 50}, ".s20": {"steps": 20}}
OTHERS = {
    ".base": {"against": "base"},
    ".known": {"against": "known_seed"},
    ".logits": {"mean": "logits"},
}


def budget(attack, **own):
    return {"attack": attack, **ATTACKS[attack].budget.model_validate(own).model_dump()}


BUDGETS = {
    "pgd": budget("pgd"),
    "random_noise": budget("random_noise"),
    **{
        f"auto_pgd_eot{name}": budget("auto_pgd_eot", **own) for name, own in (EOT | OTHERS).items()
    },
}
WRONG = {  # of N images under each attack, for arms none and full
    "random_noise": (10, 5),
    "pgd": (50, 20),
    "auto_pgd_eot.m1": (51, 24),
    "auto_pgd_eot": (51, 34),
    "auto_pgd_eot.m50": (51, 34),
    "auto_pgd_eot.s20": (51, 30),
    "auto_pgd_eot.base": (40, 10),
    "auto_pgd_eot.known": (52, 40),
    "auto_pgd_eot.logits": (45, 12),
}
PROBES = pd.DataFrame(
    {
        "source": ["any", "pgd@0.1"],
        "arm": ["none", "full"],
        "network": "v2",
        "trial": 0,
        "zero_gradients": [0.125, 0.0],
        "gradient_ratio": [np.nan, 0.5],
        "gradient_ratio_low": [np.nan, 0.25],
        "gradient_ratio_high": [np.nan, 0.75],
    }
)
ARMS = {"none": ("any", "0"), "full": ("pgd@0.1", "2.0")}


def records(attack, place, epsilon=0.1, as_target=None):
    arm, (source, tau) = list(ARMS.items())[place]
    right = np.arange(N) >= WRONG[attack][place]
    frame = pd.DataFrame({"image": range(N), "label": 1, "prediction": right.astype(int)})
    keys = {"study": "s", "network": "v2", "site": "L2", "regime": "retrain", "trial": 0}
    own = {"source": source, "arm": arm, "tau": tau, "target": f"{as_target or attack}@{epsilon}"}
    return frame.assign(draws_correct=np.where(right, K, 0), K=K, **keys, **own)


@pytest.fixture(scope="module")
def tables():
    frames = [records(attack, place) for attack in WRONG for place in (0, 1)]
    frames += [records(a, place, 0.2) for a in ("pgd", "auto_pgd_eot") for place in (0, 1)]
    found = attacked(pd.concat(frames), BUDGETS)
    worst = worst_cases(found, BUDGETS)
    return audit_table(pd.concat([found, worst]), BUDGETS), verdicts(found, BUDGETS, 0), PROBES


@pytest.fixture(scope="module")
def figure(tables):
    return audit(*tables, title="study, audit")


def titled(figure, text):
    (axis,) = [axis for axis in figure.axes if text in axis.get_title() + axis.get_xlabel()]
    return axis


def points(axis, label):
    """The points of the lines of a style, by their colour: of those with a label in the legend."""
    (colour,) = [
        h.get_color()
        for h in axis.figure.figure.legends[0].legend_handles
        if h.get_label() == label
    ]
    lines = [
        line for line in axis.lines if line.get_color() == colour and len(line.get_xdata()) > 1
    ]
    return [tuple(np.round(pair, 6)) for line in lines for pair in line.get_xydata()]


def test_effort_is_swept_alone(figure):
    draws, steps = titled(figure, "draws a gradient, M"), titled(figure, "gradient steps")
    right = {1: N - 24, 20: N - 34, 50: N - 34}
    assert points(draws, "full") == [(m, round(r / N, 6)) for m, r in right.items()]
    assert points(steps, "full") == [(20, 0.5), (100, round((N - 34) / N, 6))]
    assert not [axis for axis in figure.axes if axis.get_xlabel() == "restarts"]


def test_of_two_sweeps_alike_that_of_the_plain_attack_is_drawn(tables):
    budgets = BUDGETS | {"auto_pgd_eot.logits_m1": budget("auto_pgd_eot", passes=1, mean="logits")}
    names = ["pgd", "auto_pgd_eot", "auto_pgd_eot.m1", "auto_pgd_eot.logits"]
    frames = [records(name, 1) for name in names]
    frames.append(records("auto_pgd_eot.logits", 1, as_target="auto_pgd_eot.logits_m1"))
    table = audit_table(attacked(pd.concat(frames), budgets), budgets)
    axis = titled(audit(table, *tables[1:], title="study, audit"), "draws a gradient, M")
    assert points(axis, "full") == [(1, 0.6), (20, round((N - 34) / N, 6))]


@pytest.mark.parametrize("read", [False, True])
def test_a_search_has_no_restarts(tables, tmp_path, read):
    budgets = {f"square_eot.m{m}": budget("square_eot", passes=m) for m in (1, 5)}
    frames = [records("pgd", place, as_target=name) for name in budgets for place in (0, 1)]
    table = audit_table(attacked(pd.concat(frames), budgets), budgets)
    if read:
        table.to_csv(tmp_path / "audit.csv", index=False)
        table = pd.read_csv(tmp_path / "audit.csv", dtype={"tau": str})
    axis = titled(audit(table, *tables[1:], title="study, audit"), "draws a gradient, M")
    assert axis.get_title() == "square_eot, ε = 0.1, steps = 5000"


def test_the_plateau_is_marked_where_it_begins(figure):
    rings = [
        line.get_xdata()[0]
        for line in titled(figure, "draws a gradient, M").lines
        if line.get_fillstyle() == "none"
    ]
    assert rings == [1, 20]  # of none, of full


def test_attackers_are_ordered_from_weak_to_strong(figure):
    axis = titled(figure, "by attacker")
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[0] == "random_noise"
    assert names[-2:] == ["worst of one draw a gradient", "worst of all but known seed"]
    assert names.index("auto_pgd_eot.base") < names.index("pgd") < names.index("auto_pgd_eot")
    shown = dict(zip(names, (x for x, _ in points(axis, "full")), strict=True))
    assert shown["pgd"] == round((N - 20) / N, 6)
    assert shown["worst of all but known seed"] == round((N - 34) / N, 6)


def test_a_bar_goes_from_the_accuracy_of_ten_draws_to_that_of_one(figure, tables):
    axis = titled(figure, "by attacker")
    ends = {
        tuple(np.round(part[:, 0], 6)) for bars in axis.collections for part in bars.get_segments()
    }
    own = tables[0].query("attack == 'pgd' and arm == 'full' and epsilon == 0.1").iloc[0]
    assert (round(1 - own["error_in_10"], 6), round(own["single_draw"], 6)) in ends


def test_a_network_trained_on_other_images_has_a_line_of_its_own(tables):
    def trained(table):
        own = table[table["arm"] == "none"].assign(network="v2+pgd@0.1x0.5")
        return pd.concat([table, own], ignore_index=True)

    figure = audit(trained(tables[0]), tables[1], trained(tables[2]), title="study, audit")
    lines = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(lines) == ["+pgd@0.1x0.5", "full", "none"]


def test_sources_of_one_arm_that_met_in_a_ball_have_lines_of_their_own(tables):
    def shifted(table, values):
        other = table[table["arm"] == "full"].assign(source="fog@5")
        other[values] -= 0.1
        return pd.concat([table, other], ignore_index=True)

    gains = [f"gain_{name}{end}" for name in (ONE_DRAW, COMPETENT) for end in ("", "_low", "_high")]
    values = ["accuracy"], gains, ["gradient_ratio"]
    figure = audit(*map(shifted, tables, values), title="study, audit")
    lines = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(lines) == ["full fog@5", "full pgd@0.1", "none"]
    draws, gained = titled(figure, "draws a gradient, M"), titled(figure, "what is left")
    right = {1: N - 24, 20: N - 34, 50: N - 34}
    for line, less in (("full pgd@0.1", 0), ("full fog@5", 0.1)):
        assert points(draws, line) == [(m, round(r / N - less, 6)) for m, r in right.items()]
    places = [line.get_xdata()[0] for line in gained.lines if len(line.get_xdata()) == 1]
    assert len(set(np.round(places, 6))) == 8  # two sources, two ε, before and after
    names = [label.get_text() for label in titled(figure, "zero gradients").get_xticklabels()]
    assert names == ["full pgd@0.1", "full fog@5"]


def test_gains_of_many_lines_do_not_mix(tables):
    def repeated(table):
        own = table[table["arm"] == "full"]
        return pd.concat([own.assign(source=f"paired.{i}@1") for i in range(8)], ignore_index=True)

    axis = titled(audit(*map(repeated, tables), title="study, audit"), "what is left")
    markers = [line for line in axis.lines if len(line.get_xdata()) == 1]
    places = [line.get_xdata()[0] for line in markers if line.get_xdata()[0] < 0.5]  # of one ε
    assert len(places) == 16
    assert places == sorted(places)


def test_sources_that_met_in_no_ball_share_the_line_of_their_arm(tables):
    own = (tables[0]["arm"] == "full") & (tables[0]["epsilon"] == 0.2)
    table = tables[0].assign(source=tables[0]["source"].mask(own, "pgd@0.2"))
    figure = audit(table, *tables[1:], title="study, audit")
    lines = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(lines) == ["full", "none"]


def test_gains_stand_with_their_verdicts(figure, tables):
    axis = titled(figure, "what is left")
    assert [text.get_text() for text in axis.texts] == ["shrinks", "shrinks"]
    heights = sorted(
        round(float(line.get_ydata()[0]), 6) for line in axis.lines if len(line.get_xdata()) == 1
    )
    gains = tables[1][[f"gain_{ONE_DRAW}", f"gain_{COMPETENT}"]].to_numpy().ravel()
    assert heights == sorted(round(float(gain), 6) for gain in gains)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.1", "0.2"]


def test_every_verdict_is_shown(tables):
    table, judged, probes = tables
    words = [judged.iloc[:1].assign(verdict=word, epsilon=i) for i, word in enumerate(WORDS)]
    figure = audit(table, pd.concat(words), probes, title="study, audit")
    shown = [text.get_text() for text in titled(figure, "what is left").texts]
    assert shown == ["no gain" if word == "absent" else word for word in WORDS]


def test_gains_in_l2_stand_apart_and_those_over_identity_have_a_panel(tables):
    """An ε in L2 is no greater ε in L∞."""
    table, judged, probes = tables
    other = judged.assign(norm="L2", epsilon=0.1)
    both = pd.concat([judged, other, judged.assign(over="identity")], ignore_index=True)
    figure = audit(table, both, probes, title="study, audit")
    none, identity = (titled(figure, f"left over {name} noise") for name in ("no", "identity"))
    assert [label.get_text() for label in none.get_xticklabels()] == ["0.1", "0.2", "0.1 (L2)"]
    assert [label.get_text() for label in identity.get_xticklabels()] == ["0.1", "0.2"]


def test_agreement_of_gradients_is_that_of_noisy_networks(figure):
    axis = titled(figure, "zero gradients: 12.5%")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["full pgd@0.1"]
    assert [tuple(line.get_xydata()[0]) for line in axis.lines[:1]] == [(0, 0.5)]


def test_nothing_to_draw_is_said(tables):
    with pytest.raises(StudyError, match="nothing to draw"):
        audit(tables[0].iloc[:0], *tables[1:], title="empty")
