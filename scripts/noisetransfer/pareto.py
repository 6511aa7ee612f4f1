"""Clean against robust accuracy: which noises are not beaten in both by another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from noisetransfer.arms import NO_NOISE, NO_SOURCE
from noisetransfer.errors import StudyError
from noisetransfer.looks import Style, styles
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def pareto(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw robust against clean accuracy, a point per noise.

    Args:
        table: as from `corruption_error.robustness`.
        title: what study and experiment this is.

    Returns:
        a panel per threat (norm and ε); the line joins the noises that no other beats in both.

    Raises:
        StudyError: if no noise was tested both on clean images and under attacks.
    """
    known = _known(table)
    panels = list(known.groupby("threat", sort=True))
    figure = Figure(figsize=(4.2 * len(panels) + 2.2, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    looks = styles(sorted(known["arm"].unique()))
    for axis, (threat, own) in zip(axes, panels, strict=True):
        _panel(axis, own, looks)
        axis.set(title=str(threat), xlabel="accuracy on clean images")
    axes[0].set_ylabel("accuracy under the worst of the attacks")
    points = [{**look, "linestyle": "none"} for look in looks.values()]
    handles = [Line2D([], [], **p, label=arm) for p, arm in zip(points, looks, strict=True)]
    figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    figure.suptitle(title, fontsize=13)
    note = (
        "Worst case on each image, of the attacks that all noises met; bars: 95% interval. The line joins "
        "noises that no other beats in both."
    )
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8)
    return figure


def _known(table: pd.DataFrame) -> pd.DataFrame:
    """Return the noises that were tested both on clean images and under attacks."""
    wanted = ["clean_accuracy", "robust_accuracy", "threat"]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise StudyError(f"the table lacks the columns {', '.join(missing)}")
    known = table.dropna(subset=wanted)
    if known.empty:
        raise StudyError(
            "nothing to draw: no row of a noise that was tested on clean images and under an attack; targets "
            "of figure pareto are clean@0 and attacks, of which all noises meet one"
        )
    return known


def front(clean: NDArray[np.floating], robust: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which points no other beats: none is as good in one and better in the other, (n,)."""
    no_worse = (clean >= clean[:, None]) & (robust >= robust[:, None])
    better = (clean > clean[:, None]) | (robust > robust[:, None])
    beaten: NDArray[np.bool_] = np.asarray((no_worse & better).any(axis=1))
    return ~beaten


def _panel(axis: Axes, own: pd.DataFrame, looks: Mapping[str, Style]) -> None:
    differing = _differing(own)
    for row in own.to_dict("records"):
        x, y = row["clean_accuracy"], row["robust_accuracy"]
        reach = [
            [max(0, y - row["robust_accuracy_low"])],
            [max(0, row["robust_accuracy_high"] - y)],
        ]
        mark: Style = {**looks[row["arm"]], "linestyle": "none", "markersize": 6}
        axis.errorbar([x], [y], yerr=reach, elinewidth=0.8, **mark)
        axis.annotate(
            _name(row, differing), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7
        )
    best = own[front(own["clean_accuracy"].to_numpy(), own["robust_accuracy"].to_numpy())]
    best = best.sort_values("clean_accuracy")
    axis.plot(best["clean_accuracy"], best["robust_accuracy"], color="0.6", linewidth=1, zorder=0)
    axis.grid(color="0.92")


def _differing(own: pd.DataFrame) -> set[str]:
    """Return in which columns, beside those that every name has, the noises of a panel differ."""
    base = own["network"].map(lambda id: variant(id).base)
    several = {
        "network": base.nunique(),
        "site": own["site"].nunique(),
        "regime": own.groupby("network")["regime"].nunique().max(),
        "tau": own["tau"].mask(own["tau"] == NO_NOISE).nunique(),
    }
    return {name for name, number in several.items() if number > 1}


def _name(row: Mapping[Any, Any], differing: Container[str]) -> str:
    """Name a point, whose look tells its arm: the change of its network, its source, and what differs."""
    network, tau = row["network"], row["tau"]
    parts = [
        network if "network" in differing else network.removeprefix(variant(network).base),
        row["source"] if row["source"] != NO_SOURCE else "",
        *(row[name] for name in ("site", "regime") if name in differing),
        f"τ {tau}" if "tau" in differing and tau != NO_NOISE else "",
    ]
    return " ".join(filter(None, parts))
