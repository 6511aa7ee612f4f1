"""Curves of the experiments: each a function from a table to a matplotlib Figure. No files.

A kind of figure chooses *points* from its table: rows with the columns column and row (numbers that order the
panels), panel (its title), xlabel, x, line, trial and value. One renderer draws points: the mean over trials,
with its interval. To add a kind, write the function that chooses its points and add it to `CURVES`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from noisetransfer.arms import ARMS, NO_NOISE, NO_SOURCE, UNSCALED
from noisetransfer.errors import StudyError
from noisetransfer.figures import CELL_INCHES, annotated
from noisetransfer.intervals import FEWEST, intervals
from noisetransfer.looks import Style, kin, shades, styles
from noisetransfer.modifications import MODIFICATIONS, parse
from noisetransfer.pareto import pareto
from noisetransfer.regimes import REGIMES
from noisetransfer.statistics import CELL
from noisetransfer.variants import variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    Place = tuple[int, int]

_LARGE, _SMALL = (3.2, 2.8), (1.9, 1.7)  # panels of many lines, of many columns, in inches
ACROSS = 5
"""Panels side by side before a figure goes on below."""

AXES = {
    "corruption": "severity",
    "transform": "scale",
    "attack": "ε",
    "official": "severity",
    "paired": "strength",
}
"""What the strength of a kind of modification is."""

_ON = {
    "retrain": "training + test",
    "trained_only": "training only",
    "tested_only": "test only",
    "inference": "test, as it is",
}

_PANEL = ["column", "row", "panel", "xlabel", "x"]
_SINGLE: Style = {"markersize": 2.5, "alpha": 0.6, "label": "_single trials"}
_WHERE = ["study", "network", "site"]


class Curve(Protocol):
    """A kind of figure: from its table, and what to write above, to the figure."""

    def __call__(self, table: pd.DataFrame, *, title: str) -> Figure:
        """Draw; a StudyError says what the table lacks."""
        ...


@dataclass(frozen=True)
class _Frame:
    """What a kind of figure says beside its points.

    Attributes:
        title: of the whole figure.
        ylabel: what the values are.
        log: whether values are on a logarithmic axis, not one from 0 to 1.
        ticks: names of the x positions 0, 1, …, where x is a category.
        across: panels side by side, None: all.
        inches: width and height of a panel.
        note: added to the footnote.
        names: lines whose name in the legend is another.
        styles: lines whose look is not that of `looks.styles`.
    """

    title: str
    ylabel: str = "accuracy"
    log: bool = False
    ticks: Sequence[str] = ()
    across: int | None = ACROSS
    inches: tuple[float, float] = (2.3, 2.0)
    note: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)


# the kinds


def strength(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the strength of a modification that is source and target, a line per arm.

    Args:
        table: as from `statistics.transfer_table`.
        title: what study and experiment this is.

    Returns:
        a panel per modification, of several τ one below the other; x: severity, scale or ε.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    shaped = _matched(rows).pipe(_by_tau, "name")
    shaped = shaped.assign(xlabel=shaped["kind"].map(AXES), x=shaped["strength"])
    return _draw(_with_plain(shaped, rows), _Frame(title))


def attack_transfer(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the ε of an attack, a line per source of the full arm, and the arms without a source.

    Args:
        table: as from `statistics.transfer_table`. Of an attack that is a source at several ε, each
            target is compared with the source of its own ε; any other source has a line of its own.
        title: what study and experiment this is.

    Returns:
        a panel per attack as target.

    Raises:
        StudyError: if arm full was not tested under an attack, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    shaped = _strength_matched(_shaped(rows, "full").query("kind == 'attack'"))
    _demand(shaped, "no row of arm full has a source and an attack as target")
    shaped = shaped.pipe(_by_tau, "name", "target ").assign(xlabel="ε", x=shaped["strength"])
    return _draw(_with_plain(shaped, rows), _Frame(title, inches=_LARGE, across=2))


def fixed_strength(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the strength of the target, a line per arm and source, whose strength stays.

    Args:
        table: as from `statistics.transfer_table`.
        title: what study and experiment this is.

    Returns:
        a panel per modification as target, of several τ one below the other; x: severity, scale or ε. The
        sources of an arm are shades of its colour, in the order of the registry, then by strength.

    Raises:
        StudyError: if no source was tested under modified images, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    shaped = _by_arm_and_source(_shaped(rows).query("kind != 'clean'"))
    _demand(shaped, "no row has a source and modified images as target")
    shaped = shaped.pipe(_by_tau, "name", "target ")
    shaped = shaped.assign(xlabel=shaped["kind"].map(AXES), x=shaped["strength"])
    note = "The noise of a line is the same at every strength of the target."
    frame = _Frame(title, inches=_LARGE, across=3, note=note, styles=_shaded(shaped))
    return _draw(_with_plain(shaped, rows), frame)


def layer_sweep(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the site of the noise, source = target, a line per arm.

    Args:
        table: as from `statistics.transfer_table`.
        title: what study and experiment this is.

    Returns:
        modifications in columns, strengths in rows, the lowest above; x: site, a category.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    shaped = _by_strength(_matched(rows))
    shaped = shaped.assign(xlabel="site", x=_ranked(shaped["site"], _natural))
    ticks = sorted(shaped["site"].unique(), key=_natural)
    frame = _Frame(title, ticks=ticks, across=None, inches=_SMALL)
    return _draw(_with_plain(shaped, rows), frame)


def trace_sweep(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by trace scale τ, source = target, a line per arm; in the last row on clean images.

    Args:
        table: as from `statistics.transfer_table`.
        title: what study and experiment this is.

    Returns:
        modifications in columns; strengths in rows, the lowest above, then clean images (the mean over
        the strengths of the source); x: τ, a category, `unscaled` first.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    matched = _by_strength(_matched(rows))
    shaped = pd.concat([matched, _clean_below(rows)])
    shaped = shaped.assign(xlabel="trace scale τ", x=_ranked(shaped["tau"], _scale))
    ticks = sorted(shaped["tau"].unique(), key=_scale)
    note = "Clean images: mean over the strengths of the source."
    frame = _Frame(title, ticks=ticks, across=None, inches=_SMALL, note=note)
    return _draw(_with_plain(shaped, rows), frame)


def adversarial_training(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the ε of an attack: networks trained on it, structured noise, and neither.

    Args:
        table: as from `statistics.transfer_table`; networks are ids of `variants`.
        title: what study and experiment this is.

    Returns:
        a panel per attack trained on, a line per share of adversarial images; x: ε of the target,
        0 for clean images, on which structured noise is the mean over the sources of that attack.

    Raises:
        StudyError: if no network was trained adversarially, or a trial has several rows for a point.
    """
    rows = _with_variants(_parsed(table))
    attacks = sorted(rows["attack"].dropna().unique(), key=_position)
    panels = [_trained_on(rows, attack).assign(column=i) for i, attack in enumerate(attacks)]
    _demand(panels, "no network was trained adversarially")
    points = pd.concat(panels).assign(row=0, xlabel="ε of the target")
    frame = _Frame(
        title,
        across=3,
        inches=_LARGE,
        note="Structured noise on clean images (ε = 0): mean over its sources.",
        names={"none": "undefended", "full": "structured noise (full)"},
        styles=shades(sorted(set(points["line"]) - set(ARMS))),
    )
    return _draw(points.assign(x=points["strength"]), frame)


def input_noise(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by the σ of noise on the input, alone and with noise at the site (source = target).

    Args:
        table: as from `statistics.transfer_table`; networks are ids of `variants`.
        title: what study and experiment this is.

    Returns:
        a panel per target, of several τ side by side; x: σ in pixel units of [0, 1]. On clean
        images the arms with a source are the mean over sources.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    rows = _with_variants(_parsed(table))
    rows = rows[rows["attack"].isna()]
    shaped = pd.concat([_matched(rows), _clean(rows, by=[])]).pipe(_by_tau, "target")
    shaped = shaped.assign(
        column=shaped["column"] + shaped["row"] / (shaped["row"].max() + 1),
        row=0,
        xlabel="σ of the input noise",
        x=shaped["input_noise"],
    )
    names = {"none": "input noise alone"} | {
        arm: f"with {arm} noise" for arm in ARMS if arm != "none"
    }
    frame = _Frame(title, note="Clean images: mean over sources.", names=names)
    return _draw(_with_plain(shaped, rows), frame)


def regimes(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by where the noise is on, source = target, a line per arm; in the last row clean images.

    Args:
        table: as from `statistics.transfer_table`.
        title: what study and experiment this is.

    Returns:
        modifications in columns; strengths in rows, the lowest above, then clean images (the mean over
        the strengths of the source); x: regime, a category. Arm none, never on, is drawn at every
        regime as the level to compare with.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    rows = _parsed(table)
    matched = _by_strength(_matched(rows))
    shaped = pd.concat([matched, _clean_below(rows)])
    place = list(REGIMES).index
    shaped = shaped.assign(xlabel="noise", x=_ranked(shaped["regime"], place))
    ticks = [_ON[name] for name in sorted(shaped["regime"].unique(), key=place)]
    note = "Clean images: mean over the strengths of the source."
    frame = _Frame(title, ticks=ticks, across=None, inches=_SMALL, note=note)
    return _draw(_with_plain(shaped, rows, "regime"), frame)


def learning_curve(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw the training loss of the suffixes by epoch, a line per arm.

    Args:
        table: columns study, network, site, source, tau, arm, trial, epoch (position in epochs),
            loss (cross-entropy in nats). A few hundred positions are drawn well; average before.
        title: what study and experiment this is.

    Returns:
        a panel per source, of several τ one below the other; the arms without a source in each.

    Raises:
        StudyError: if no row has a source, or a trial has several rows for a point.
    """
    _need(table, [*_WHERE, "source", "tau", "arm", "trial", "epoch", "loss"])
    rows = _at_every_tau(table)
    rows = rows.assign(line=rows["arm"], value=rows["loss"], x=rows["epoch"], regime="retrain")
    shaped = _shaped(rows)
    _demand(shaped, "no row has a source")
    shaped = shaped.pipe(_by_tau, "source").assign(xlabel="epoch")
    frame = _Frame(title, ylabel="training loss (cross-entropy, nats)", log=True)
    return _draw(_with_plain(shaped, rows), frame)


def matched_accuracy(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw accuracy by clean accuracy on validation images, source = target, a line per arm.

    Args:
        table: as from `matching.matched`.
        title: what study and experiment this is.

    Returns:
        a panel per modification; x: clean accuracies of arm full at each of its τ, the same for all
        arms, so that what stands above each other costs the same; a gap where an arm does not have it.

    Raises:
        StudyError: if no row has source = target, or a trial has several rows for a point.
    """
    _need(table, [*_WHERE, "source", "target", "arm", "clean_accuracy", "trial", "accuracy"])
    rows = _matched(table.assign(line=table["arm"], value=table["accuracy"]))
    # several τ of arm full may have one clean accuracy: then every arm has one accuracy there
    points = rows.dropna(subset="value").drop_duplicates(
        [*_WHERE, "regime", "target", "line", "clean_accuracy", "trial"]
    )
    shaped = points.assign(
        column=_ranked(points["target"], _position),
        row=0,
        panel=points["target"],
        xlabel="clean accuracy (validation)",
        x=points["clean_accuracy"],
    )
    note = "Every arm at the τ of its own at which it is as accurate on clean validation images."
    return _draw(shaped, _Frame(title, inches=_LARGE, across=3, note=note))


def published_cells(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw measured against published accuracies, with their confidence intervals, coloured by arm.

    Args:
        table: columns modification, strength, tau, arm, published, published_low, published_high,
            measured, measured_low, measured_high (limits may be missing), agrees (bool).
        title: what study and experiment this is.

    Returns:
        one panel; on the diagonal the two are equal; open markers do not agree.

    Raises:
        StudyError: if the table has no row.
    """
    ends = "", "_low", "_high"
    _need(table, ["arm", "agrees", *(v + end for v in ("published", "measured") for end in ends)])
    figure = Figure(figsize=(6.2, 5.4), layout="constrained")
    axis = figure.subplots()
    marks = {arm: {**s, "linestyle": "none"} for arm, s in styles(table["arm"]).items()}
    for arm, style in marks.items():
        _cells(axis, table[table["arm"] == arm], {**style, "label": arm})
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=0)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axis.set(xlabel="published accuracy", ylabel="measured accuracy")
    note = f"{int(table['agrees'].sum())} of {len(table)} cells agree; open markers do not."
    _legend(figure, marks, {}, f"{note} Bars: confidence intervals.")
    figure.suptitle(title, fontsize=13)
    return figure


def published_heatmap(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw a published heatmap, the measured one and their difference, cell by cell.

    Args:
        table: columns target, source, published, measured, difference (accuracies); the order of
            the rows is that of targets and sources. As `Agreement.cells` of `statistics`.
        title: what study and experiment this is.

    Returns:
        three panels, targets in rows, sources in columns; the difference on a map centred on 0.

    Raises:
        StudyError: if the table has no row.
    """
    _need(table, ["target", "source", "published", "measured", "difference"])
    rows, columns = table["target"].nunique(), table["source"].nunique()
    size = CELL_INCHES * 3 * columns + 4.0, CELL_INCHES * rows + 2.0
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    bound = float(table["difference"].abs().max()) or 1.0
    _heatmap(axes[0], table, "published", (0, 1))
    measured = _heatmap(axes[1], table, "measured", (0, 1))
    difference = _heatmap(axes[2], table, "difference", (-bound, bound))
    figure.colorbar(measured, ax=axes[1], fraction=0.05, pad=0.02, label="accuracy")
    figure.colorbar(difference, ax=axes[2], fraction=0.05, pad=0.02, label="measured − published")
    axes[0].set_ylabel("target (tested under)")
    figure.suptitle(title, fontsize=13)
    return figure


CURVES: dict[str, Curve] = {
    "strength": strength,
    "attack_transfer": attack_transfer,
    "fixed_strength": fixed_strength,
    "layer_sweep": layer_sweep,
    "trace_sweep": trace_sweep,
    "adversarial_training": adversarial_training,
    "input_noise": input_noise,
    "regimes": regimes,
    "pareto": pareto,
    "learning_curve": learning_curve,
    "matched_accuracy": matched_accuracy,
    "published_cells": published_cells,
    "published_heatmap": published_heatmap,
}
"""Kind → function; the first eight take a transfer table, the others what their docstrings say."""


# choosing points


def _need(table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise StudyError(f"the table lacks the columns {', '.join(missing)}")
    _demand(table, "the table has no row")


def _demand(found: Sequence[Any] | pd.DataFrame, message: str) -> None:
    if len(found) == 0:
        raise StudyError(f"nothing to draw: {message}")


def _parsed(table: pd.DataFrame) -> pd.DataFrame:
    """Add line, value, and name, kind and strength of the target and (prefix source_) of the source."""
    _need(table, [*CELL, "accuracy"])
    table = _at_every_tau(table)
    result = table.assign(line=table["arm"], value=table["accuracy"])
    for column, prefix in (("target", ""), ("source", "source_")):
        parts = {id: _parts(id) for id in table[column].unique()}
        for i, part in enumerate(("name", "kind", "strength")):
            result[prefix + part] = table[column].map({id: read[i] for id, read in parts.items()})
    return result


def _at_every_tau(table: pd.DataFrame) -> pd.DataFrame:
    """Show the arms that have a source but no noise, τ = 0, at every τ of their source."""
    shaped = table["source"] != NO_SOURCE
    still = shaped & (table["tau"] == NO_NOISE)
    place = [*_WHERE, "source"]
    taus = table.loc[shaped & ~still, [*place, "tau"]].drop_duplicates()
    spread = table[still].drop(columns="tau").merge(taus, on=place, how="left")
    return pd.concat([table[~still], spread.fillna({"tau": NO_NOISE})], ignore_index=True)


def _parts(id: str) -> tuple[str, str, float]:
    if id == NO_SOURCE:
        return NO_SOURCE, NO_SOURCE, float("nan")
    modification, strength = parse(id)
    return modification.name, modification.kind, strength


def _with_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Add input_noise, attack (missing: none) and ratio of the network."""
    read = {id: variant(id) for id in rows["network"].unique()}
    fields = {
        name: rows["network"].map({id: getattr(one, name) for id, one in read.items()})
        for name in ("input_noise", "attack", "ratio")
    }
    return rows.assign(**fields)


def _shaped(rows: pd.DataFrame, *arms: str) -> pd.DataFrame:
    """Return the rows that have a source, of some arms or of all."""
    kept = rows["source"] != NO_SOURCE
    return rows[kept & rows["arm"].isin(arms or rows["arm"])]


def _matched(rows: pd.DataFrame) -> pd.DataFrame:
    matched = rows[rows["source"] == rows["target"]]
    _demand(matched, "no row has source = target")
    return matched


def _strength_matched(shaped: pd.DataFrame) -> pd.DataFrame:
    """Keep, of an attack that is a source at several ε, the ε of the target; name the lines."""
    attacks = shaped[shaped["source_kind"] == "attack"]
    several = attacks.groupby("source_name")["source_strength"].nunique() > 1
    swept = shaped["source_name"].isin(several.index[several])
    name = shaped["source_name"].where(swept, shaped["source"])
    kept = ~swept | (shaped["source_strength"] == shaped["strength"])
    named = shaped.assign(line="source " + name)[kept]
    return named.sort_values("source", key=lambda ids: _ranked(ids, _position))


def _by_arm_and_source(shaped: pd.DataFrame) -> pd.DataFrame:
    """Name the lines by arm and source, and bring them into order."""
    named = shaped.assign(line=shaped["arm"] + ", " + shaped["source"])
    order: dict[str, Callable[[Any], Any]] = {"arm": list(ARMS).index, "source": _position}
    return named.sort_values(list(order), key=lambda names: _ranked(names, order[str(names.name)]))


def _shaded(shaped: pd.DataFrame) -> dict[str, Style]:
    """Return the looks of lines by arm and source: those of the arms, shaded by source, in their order."""
    lines = shaped.groupby("arm")["line"].unique()
    arms = styles(shaped["arm"]).items()
    return {line: own for arm, look in arms for line, own in kin(look, list(lines[arm])).items()}


def _clean(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the arms with a source on clean images: the mean over sources, within columns `by`."""
    clean = _shaped(rows).query("kind == 'clean'")
    key = [*by, *(name for name in CELL if name != "source")]
    mean = clean.groupby(key, observed=True)["value"].transform("mean")
    return clean.assign(value=mean).drop_duplicates(key)


def _with_plain(shaped: pd.DataFrame, rows: pd.DataFrame, *shared: str) -> pd.DataFrame:
    """Add to the panels of `shaped` the arms without a source: of the same τ, and none (τ = 0) of any.

    They also share the columns `shared` with what they are added to; none has one value for all.
    """
    plain = rows[rows["source"] == NO_SOURCE]
    if not shared:
        plain = _of_regime(plain, shaped["regime"].unique())
    place = [name for name in (*_WHERE, "target") if name in rows]
    panel = [name for name in _PANEL if name not in rows]
    spots = shaped[[*place, "tau", *shared, *panel]].drop_duplicates()
    none = plain["arm"] == "none"
    others = plain[~none].merge(spots, on=[*place, "tau", *shared])
    level = plain[none].drop(columns=["tau", *shared]).merge(spots, on=place)
    return pd.concat([shaped, others, level])


def _of_regime(rows: pd.DataFrame, regimes: Iterable[str]) -> pd.DataFrame:
    """Drop the rows of other regimes where the same was run in one of `regimes`."""
    wanted = rows["regime"].isin(list(regimes))
    key = [rows[name] for name in CELL if name in rows and name != "regime"]
    return rows[wanted | ~wanted.groupby(key, observed=True).transform("any")]


def _trained_on(rows: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Return the panel of the networks trained on an attack, its lines on targets of that attack."""
    name, epsilon = parse(attack)[0].name, parse(attack)[1]
    seen = rows[rows["name"].isin([name, "clean"])]
    trained = seen[(seen["attack"] == attack) & (seen["arm"] == "none")]
    trained = _of_regime(trained, ["inference"])
    other = seen[seen["attack"].isna() & (seen["input_noise"] == 0)]
    none = _of_regime(other[other["arm"] == "none"], ["retrain"])
    own = other[(other["arm"] == "full") & (other["source_name"] == name)]
    full = [own[own["source"] == own["target"]], _clean(own, by=[])]
    shares = trained.assign(line="ratio " + trained["ratio"].astype(str))
    return pd.concat([none, *full, shares]).assign(panel=f"trained on {name}, ε = {epsilon:g}")


# panels


def _by_tau(shaped: pd.DataFrame, column: str, prefix: str = "") -> pd.DataFrame:
    """Give every value of a column a column of panels, with its τ one below the other."""
    return shaped.assign(
        column=_ranked(shaped[column], _position),
        row=_ranked(shaped["tau"], _scale).groupby(shaped[column]).rank(method="dense"),
        panel=prefix + shaped[column] + ", τ = " + shaped["tau"],
    )


def _by_strength(matched: pd.DataFrame) -> pd.DataFrame:
    """Give every modification a column of panels, with its strengths one below the other."""
    return matched.assign(
        column=_ranked(matched["name"], _position),
        row=matched.groupby("name")["strength"].rank(method="dense"),
        panel=matched["target"],
    )


def _clean_below(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, below the strengths of every modification, what its noise does on clean images."""
    matched = _matched(rows)["source_name"].unique()
    clean = _clean(rows[rows["source_name"].isin(matched)], by=["source_name"])
    return clean.assign(
        column=_ranked(clean["source_name"], _position),
        row=np.inf,
        panel="clean, " + clean["source_name"],
    )


def _ranked(values: pd.Series[Any], key: Callable[[Any], Any]) -> pd.Series[Any]:
    order = {value: i for i, value in enumerate(sorted(values.unique(), key=key))}
    return values.map(order)


def _position(id: str) -> tuple[int, float]:
    """Return the place of a modification, by name or id, in the registry, which keeps families together."""
    name, at = (parse(id)[0].name, parse(id)[1]) if "@" in id else (id, 0.0)
    registered = list(MODIFICATIONS)
    return registered.index(name) if name in registered else len(registered), at


def _scale(tau: str) -> float:
    return -1.0 if tau == UNSCALED else float(tau)


def _natural(site: str) -> tuple[int, str]:
    return len(site), site  # L2 before L10


# drawing


def _draw(points: pd.DataFrame, frame: _Frame) -> Figure:
    """Draw points in panels: the mean over trials, with its interval."""
    placed = _placed(points, frame.across)
    means = intervals(placed, ["down", "right", "line", "x"], "value")
    looks = {**styles(placed["line"]), **frame.styles}
    figure, axes = _grid(placed, frame)
    for place, axis in axes.items():
        _panel(axis, _at(placed, place), _at(means, place), looks)
    _name_axes(axes, placed, frame)
    _legend(figure, looks, frame.names, f"{_told(means['trials'])} {frame.note}")
    return figure


def _placed(points: pd.DataFrame, across: int | None) -> pd.DataFrame:
    """Add the place of every panel, down and right from 0; columns beyond `across` go on below."""
    column, row = (points[name].rank(method="dense").astype(int) - 1 for name in ("column", "row"))
    blocks = np.ceil((column.max() + 1) / (across or np.inf))
    wide = int(np.ceil((column.max() + 1) / max(blocks, 1)))  # blocks of about equal width
    down = (column // wide) * (row.max() + 1) + row
    return points.assign(down=down.rank(method="dense").astype(int) - 1, right=column % wide)


def _at(table: pd.DataFrame, place: Place) -> pd.DataFrame:
    return table[(table["down"] == place[0]) & (table["right"] == place[1])]


def _grid(placed: pd.DataFrame, frame: _Frame) -> tuple[Figure, dict[Place, Axes]]:
    """Return a figure with an empty panel at every place that is used."""
    rows, columns = placed["down"].max() + 1, placed["right"].max() + 1
    size = frame.inches[0] * columns + 2.4, max(frame.inches[1] * rows + 0.8, 3.2)
    figure = Figure(figsize=size, layout="constrained")
    spec = figure.add_gridspec(rows, columns)
    axes: dict[Place, Axes] = {}
    for place in sorted(set(zip(placed["down"], placed["right"], strict=True))):
        first = next(iter(axes.values()), None)
        axes[place] = figure.add_subplot(spec[place], sharey=first)
    _scale_values(axes[0, 0], frame.log)
    figure.suptitle(frame.title, fontsize=13, x=0.01, ha="left")  # the legend is on the right
    figure.supylabel(frame.ylabel, fontsize=10)
    return figure, axes


def _scale_values(axis: Axes, log: bool) -> None:
    """Scale the y axis that all panels share."""
    if not log:
        axis.set_ylim(-0.02, 1.02)
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())


def _panel(
    axis: Axes, part: pd.DataFrame, means: pd.DataFrame, styles: Mapping[str, Style]
) -> None:
    places = np.sort(part["x"].unique())
    for line in (line for line in styles if line in set(part["line"])):
        own = means[means["line"] == line].set_index("x").reindex(places)  # NaN: a gap
        _line(axis, own, {**styles[line], "label": line})
        few = own.index[own["trials"] < FEWEST]
        single = part[(part["line"] == line) & part["x"].isin(few)]
        axis.plot(single["x"], single["value"], ".", color=styles[line]["color"], **_SINGLE)
    if len(places) == 1:
        axis.set_xticks(places)
    axis.set_title(part["panel"].iloc[0], fontsize=9)
    axis.grid(color="0.92")
    axis.tick_params(labelsize=8)


def _line(axis: Axes, means: pd.DataFrame, style: Style) -> None:
    often = max(1, len(means) // 8) if len(means) > 20 else 1
    axis.plot(means.index, means["mean"], markevery=often, **style)
    band: Style = {"color": style["color"], "linewidth": 0, "alpha": 0.2}
    axis.fill_between(means.index, means["low"], means["high"], **band)
    known = means["low"].notna()
    alone = means[known & ~known.shift(1, fill_value=False) & ~known.shift(-1, fill_value=False)]
    if len(alone):  # a band of no width
        axis.vlines(alone.index, alone["low"], alone["high"], colors=style["color"], linewidth=1.0)


def _name_axes(axes: dict[Place, Axes], placed: pd.DataFrame, frame: _Frame) -> None:
    """Write what x is below a panel, unless the panel below says the same; name categories."""
    names = {place: _at(placed, place)["xlabel"].iloc[0] for place in axes}
    for (down, right), axis in axes.items():
        lowest = names.get((down + 1, right)) != names[down, right]
        if frame.ticks:
            turn = 40 if max(map(len, frame.ticks)) > 4 else 0
            axis.set_xticks(range(len(frame.ticks)), frame.ticks, rotation=turn)
            axis.set_xlim(-0.4, len(frame.ticks) - 0.6)
        else:
            axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel(names[down, right] if lowest else "", fontsize=9)
        axis.tick_params(
            labelleft=(down, right - 1) not in axes, labelbottom=lowest or not frame.ticks
        )


def _told(trials: pd.Series[int]) -> str:
    """Say what lines, bands and points are."""
    least, most = trials.min(), trials.max()
    if most == 1:
        return "One trial: no interval."
    count = f"{least}" if least == most else f"{least}–{most}"
    bands = "; bands: 95% confidence interval (Student's t)" if most >= FEWEST else ""
    points = f"; points: single trials, where fewer than {FEWEST}" if least < FEWEST else ""
    return f"Lines: mean over {count} trials{bands}{points}."


def _legend(
    figure: Figure, styles: Mapping[str, Style], names: Mapping[str, str], note: str
) -> None:
    """Name the lines on the right, and write the footnote."""
    handles = [Line2D([], [], **s, label=names.get(line, line)) for line, s in styles.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, handlelength=3.2)
    wrapped = textwrap.fill(note.strip(), int(14 * figure.get_figwidth()))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=8)


def _cells(axis: Axes, cells: pd.DataFrame, style: Style) -> None:
    """Draw published and measured accuracies of an arm, hollow where they do not agree."""
    for agrees, own in cells.groupby("agrees"):
        fill = style["color"] if agrees else "white"
        across, up = (_reach(own, value) for value in ("published", "measured"))
        bars: Style = {"xerr": across, "yerr": up, "elinewidth": 0.6, "markerfacecolor": fill}
        axis.errorbar(own["published"], own["measured"], **bars, **style)


def _reach(cells: pd.DataFrame, value: str) -> NDArray[np.float64]:
    """Return how far the interval of a value reaches below and above it, (2, cells)."""
    below, above = cells[value] - cells[f"{value}_low"], cells[f"{value}_high"] - cells[value]
    return np.stack([below, above]).clip(min=0)  # rounded limits may lie on the other side


def _heatmap(axis: Axes, table: pd.DataFrame, value: str, limits: tuple[float, float]) -> AxesImage:
    cells = table.pivot(index="target", columns="source", values=value)
    cells = cells.loc[table["target"].unique(), table["source"].unique()]
    axis.set(title=value, xlabel="source")
    return annotated(axis, cells, limits, "cividis" if limits == (0, 1) else "PuOr")
