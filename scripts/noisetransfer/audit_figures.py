"""The figure of an audit: accuracy by the attacker's effort and knowledge, and what is left of gains."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisetransfer.arms import NO_SOURCE
from noisetransfer.auditing import COMPETENT, ONE_DRAW, TRIES, plateau
from noisetransfer.errors import StudyError
from noisetransfer.looks import Style, styles
from noisetransfer.modifications import FLOOR, attack_of
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

EFFORTS = {"passes": "noise draws a gradient, M", "steps": "gradient steps", "restarts": "restarts"}
"""Keys of a budget that are swept, and what they are."""

_WORST = {ONE_DRAW: "worst of one draw a gradient", COMPETENT: "worst of all but known seed"}
_WORDS = {"absent": "no gain"}


def audit(table: pd.DataFrame, judged: pd.DataFrame, probes: pd.DataFrame, *, title: str) -> Figure:
    """Draw an audit: above effort, below knowledge and verdicts.

    Args:
        table: as from `auditing.audit_table`.
        judged: as from `auditing.verdicts`.
        probes: as from `probing.probe_rows`, with a column trial.
        title: what study and experiment this is.

    Returns:
        above a panel per kind of effort that was swept, a mark where the plateau begins; below, accuracy by
        attacker at the ε that most attacks have, with that of one draw and of ten; by ε the gains over no
        noise, and over identity noise, before and after; and how well gradients through several draws agree.
        A line per arm, and per source where noises of several met attacks in one ball; the networks trained
        on other images have lines of their own.

    Raises:
        StudyError: if there is nothing to draw.
    """
    if table.empty or judged.empty:
        raise StudyError("nothing to draw: no noisy network was attacked, or none has a reference")
    several = _several(table)
    named, judged, probes = (
        one.assign(line=_lines(one, several)) for one in (table, judged, probes)
    )
    looks = styles(sorted(named["line"].unique()))
    shown = _most_attacked(named)
    sweeps = {key: own for key in EFFORTS if len(own := _swept(shown, key))}
    over = list(judged["over"].unique())
    figure = Figure(figsize=(9.6 + 3.4 * len(over), 8.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.25], squeeze=False)[:, 0]
    for axis, (key, own) in zip(
        above.subplots(1, max(1, len(sweeps)), squeeze=False, sharey=True)[0],
        sweeps.items(),
        strict=False,
    ):
        _effort(axis, own, key, looks)
    known, *gains, slopes = below.subplots(
        1, 2 + len(over), width_ratios=[1.1, *[1] * len(over), 0.6]
    )
    _knowledge(known, shown, looks)
    for axis, reference in zip(gains, over, strict=True):
        _gains(axis, judged[judged["over"] == reference], looks)
    _agreement(slopes, probes, looks)
    handles = [Line2D([], [], **look, label=line) for line, look in looks.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    figure.suptitle(title, fontsize=13)
    figure.supxlabel(_note(shown, judged), x=0.01, ha="left", fontsize=8)
    return figure


def _several(table: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the networks and arms of which noises of several sources met attacks in one ball."""
    sources = table.groupby(["network", "arm", "norm", "epsilon"])["source"].nunique()
    return {(network, arm) for network, arm, *_ in sources.index[sources > 1]}


def _lines(table: pd.DataFrame, several: Container[tuple[str, str]]) -> list[str]:
    noises = zip(table["network"], table["arm"], table["source"], strict=True)
    return [
        _line(network, arm, source if (network, arm) in several else NO_SOURCE)
        for network, arm, source in noises
    ]


def _line(network: str, arm: str, source: str) -> str:
    """Name a line: `full`, `full pgd@0.1`; of a network trained on other images `+pgd@0.1x0.5`, `full +…`."""
    change = network.removeprefix(variant(network).base)
    parts = ["" if change and arm == "none" else arm, "" if source == NO_SOURCE else source, change]
    return " ".join(filter(None, parts))


def _most_attacked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the ball under which most attacks were run."""
    counts = table.groupby(["norm", "epsilon"])["attack"].nunique()
    ball = counts.index[int(counts.argmax())]
    return table[[pair == ball for pair in zip(table["norm"], table["epsilon"], strict=True)]]


def _swept(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the attacks whose budgets differ in one kind of effort alone: of the largest such group."""
    adaptive = table[table["against"] == "noisy"]
    family = adaptive["attack"].map(attack_of).rename("family")
    others = [family, *(name for name in EFFORTS if name != key), "loss", "rest"]
    groups = [own for _, own in adaptive.groupby(others, dropna=False)]
    plain = adaptive["attack"] == family  # of equal groups that of the attack's own budget
    largest = max(
        groups, key=lambda own: (own[key].nunique(), plain[own.index].any()), default=adaptive
    )
    return largest if largest[key].nunique() > 1 else largest.iloc[:0]


def _effort(axis: Axes, own: pd.DataFrame, key: str, looks: Mapping[str, Style]) -> None:
    for line, look in looks.items():
        means = own[own["line"] == line].groupby(key)["accuracy"].mean()
        if means.empty:
            continue
        axis.plot(means.index, means, **look)
        flat = plateau(means.index.to_numpy(), means.to_numpy())
        if np.isfinite(flat):
            mark: Style = {"color": look["color"], "markersize": 13, "fillstyle": "none"}
            axis.plot(flat, means[flat], marker="o", **mark)
    axis.set_xscale("log")
    ticks = sorted(own[key].unique())
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set(xlabel=EFFORTS[key], ylim=(0, None), title=_fixed(own, key))
    axis.set_ylabel("accuracy")
    axis.grid(color="0.92")


def _fixed(own: pd.DataFrame, key: str) -> str:
    first = own.iloc[0].dropna()
    names = {"passes": "M", "steps": "steps", "restarts": "restarts"}
    rest = [f"{names[k]} = {first[k]:g}" for k in EFFORTS if k != key and k in first]
    radius = _radius(first["norm"], first["epsilon"])
    return ", ".join([attack_of(first["attack"]), f"ε = {radius}", *rest])


def _radius(norm: str, epsilon: float) -> str:
    return f"{epsilon:g}" if norm == "Linf" else f"{epsilon:g} ({norm})"


def _knowledge(axis: Axes, shown: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    """Draw accuracy by attacker, the weakest above; behind it a bar from that of ten draws to that of one."""
    means = shown.groupby(["attack", "line"])["accuracy"].mean().unstack()
    ten = (
        (1 - shown[f"error_in_{TRIES}"]).groupby([shown["attack"], shown["line"]]).mean().unstack()
    )
    one = shown.groupby(["attack", "line"])["single_draw"].mean().unstack()
    rank = means.mean(axis=1)
    last = [name for name in (ONE_DRAW, COMPETENT) if name in means.index]
    first = [name for name in (FLOOR,) if name in means.index]
    middle = [n for n in rank.sort_values(ascending=False).index if n not in (*first, *last)]
    order = [*first, *middle, *last]
    for shift, line in _apart([line for line in looks if line in means]):
        places, look = np.arange(len(order)) + shift, looks[line]
        mark = {**look, "linestyle": "none", "markersize": 5}
        axis.plot(means[line].reindex(order), places, **mark)
        ends = ten[line].reindex(order), one[line].reindex(order)
        axis.hlines(places, *ends, colors=look["color"], alpha=0.35, linewidth=3)
    axis.axhline(len(order) - len(last) - 0.5, color="0.6", linewidth=0.8)
    axis.set_yticks(range(len(order)), [_WORST.get(name, name) for name in order])
    axis.invert_yaxis()
    radius = _radius(shown["norm"].iloc[0], shown["epsilon"].iloc[0])
    axis.set(xlabel="accuracy", xlim=(0, 1), title=f"by attacker, ε = {radius}")
    axis.grid(color="0.92")


def _gains(axis: Axes, judged: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    """Draw the gains by ε: hollow as seen through one draw, filled under the worst of all attacks."""
    balls = sorted(set(zip(judged["norm"], judged["epsilon"], strict=True)), key=_linf_first)
    places = {ball: i for i, ball in enumerate(balls)}
    lines = [line for line in looks if line in set(judged["line"])]
    half = min(0.05, 0.125 / max(1, len(lines) - 1))  # a quarter of the way to the next line
    for shift, line in _apart(lines):
        for row in judged[judged["line"] == line].to_dict("records"):
            x = places[row["norm"], row["epsilon"]] + shift
            hollow = {**looks[line], "markerfacecolor": "white"}
            _gain(axis, x - half, row, f"gain_{ONE_DRAW}", hollow)
            _gain(axis, x + half, row, f"gain_{COMPETENT}", looks[line])
            top = max(row[f"gain_{name}_high"] for name in (ONE_DRAW, COMPETENT))
            text: Style = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 8}
            axis.text(x, top + 0.01, _WORDS.get(row["verdict"], row["verdict"]), **text)
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.set_xticks(range(len(places)), [_radius(*ball) for ball in places])
    over = {"none": "no noise", "identity": "identity noise"}[judged["over"].iloc[0]]
    axis.set(xlabel="ε", ylabel=f"gain in accuracy over {over}", title=f"what is left over {over}")
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.margins(y=0.2)
    axis.grid(color="0.92", axis="y")


def _apart(lines: Sequence[str]) -> Iterable[tuple[float, str]]:
    """Return how far from the middle of its place each line is drawn, so that none hides another."""
    reach = 0.25 if len(lines) > 1 else 0.0
    return zip(np.linspace(-reach, reach, len(lines)).tolist(), lines, strict=True)


def _linf_first(ball: tuple[str, float]) -> tuple[bool, float]:
    norm, epsilon = ball
    return norm != "Linf", epsilon


def _gain(axis: Axes, x: float, row: Mapping[Any, Any], name: str, look: Style) -> None:
    reach = [[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]]
    mark = {**look, "linestyle": "none", "markersize": 6}
    axis.errorbar([x], [row[name]], yerr=reach, elinewidth=1.0, **mark)


def _agreement(axis: Axes, probes: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    """Draw how long the mean gradient is beside the spread of single ones: quartiles of the images."""
    noisy = probes[probes["gradient_ratio"].notna()]
    groups = [group for _, group in noisy.groupby(["source", "line"], sort=False)]
    for place, own in enumerate(groups):
        mean = own[["gradient_ratio_low", "gradient_ratio", "gradient_ratio_high"]].mean()
        low, middle, high = mean
        mark: Style = {**looks[own["line"].iloc[0]], "linestyle": "none", "markersize": 6}
        reach = [[middle - low], [high - middle]]
        axis.errorbar([place], [middle], yerr=reach, elinewidth=1.0, **mark)
    names = [_line(*own[["network", "arm", "source"]].iloc[0]) for own in groups]
    axis.set_xticks(range(len(groups)), names, rotation=90, fontsize=8)
    axis.set_xlim(-0.7, len(groups) - 0.3)
    axis.set(ylim=(0, None), ylabel="‖mean gradient‖ / spread between draws")
    axis.set_title(f"zero gradients: {probes['zero_gradients'].max():.1%}", fontsize=10)
    axis.grid(color="0.92", axis="y")


def _note(shown: pd.DataFrame, judged: pd.DataFrame) -> str:
    trials, n = shown["trial"].nunique(), int(shown["n"].max())
    sources = ", ".join(sorted(set(judged["source"]) - {NO_SOURCE}))
    resampled = " or ".join(sorted(judged["resampled"].unique()))
    return textwrap.fill(
        f"Mean over {trials} trials of {n} images; noise shaped by {sources}. Rings: least effort after "
        "which more lowers the accuracy by no more than .01. Bars by attacker: from the share of images that "
        "ten draws get right, each of them, to the accuracy of one draw; worst of the attacks that all "
        "noises met there. Gains: hollow, under attacks through one draw a gradient; filled, under the "
        "worst of all attacks that a noise and its reference met, on each image; with 95% intervals, "
        f"resampled {resampled}.",
        175,
    )
