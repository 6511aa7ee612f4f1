"""Curves show the numbers of their tables: means over trials, intervals, every panel and line."""

import inspect
import logging
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from noisetransfer.curves import CURVES
from noisetransfer.errors import StudyError
from noisetransfer.modifications import MODIFICATIONS, Modification

ARMS = ["none", "identity", "diagonal", "full"]
PLAIN = ["none", "identity"]
QUANTILE = {5: 2.776445, 10: 2.262157}  # of Student's t, 97.5%, trials - 1 degrees of freedom


@pytest.fixture(autouse=True)
def attacks(monkeypatch):
    """Register two more attacks, which these tests only name."""
    for name in ("fgm", "square"):
        entry = Modification(name, "attack", "adversarial")
        monkeypatch.setitem(MODIFICATIONS, name, MODIFICATIONS.get(name, entry))


def tau_of(arm: str, tau: str) -> str:
    return "0" if arm == "none" else tau


def cell(arm: str, target: str, *, tau: str = "0.5", trials: int = 1, **changes) -> list[dict]:
    """Return the rows of a cell, source = target or any; the accuracies of its trials all differ."""
    source = "any" if arm in PLAIN else target
    keys = {"study": "s", "network": "v2", "site": "L2", "source": source, "target": target}
    keys |= {"arm": arm, "tau": tau_of(arm, tau), "regime": "retrain", "n": 50} | changes
    draws = np.random.default_rng([ord(letter) for letter in "".join(map(str, keys.values()))])
    return [{**keys, "trial": k, "accuracy": draws.uniform(0.1, 0.9)} for k in range(trials)]


def table_of(*cells: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in cells for row in rows])


def crossed(targets, trials: int = 1, arms=ARMS, taus=("0.5",), **changes) -> pd.DataFrame:
    """Return every arm under every target at every τ (none once)."""
    cells = [
        cell(arm, target, tau=tau, trials=trials, **changes)
        for arm, target, tau in product(arms, targets, taus)
    ]
    return table_of(*cells).drop_duplicates()


def draw(kind: str, table: pd.DataFrame) -> Figure:
    return CURVES[kind](table, title="a title")


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def panel(figure: Figure, title: str):
    (found,) = (axis for axis in figure.axes if axis.get_title() == title)
    return found


def lines(axis) -> dict:
    return {x.get_label(): x for x in axis.lines if not x.get_label().startswith("_")}


def drawn(axis, line: str) -> dict[float, float]:
    """Return the points of a line, gaps left out."""
    x, y = lines(axis)[line].get_data()
    return {float(a): float(b) for a, b in zip(x, y, strict=True) if not np.isnan(b)}


def means(table: pd.DataFrame, by: str, **where) -> dict[float, float]:
    """Return the mean accuracy of the rows that are as told, by strength of the target or a column."""
    for column, value in where.items():
        table = table[table[column] == value]
    key = table["target"].str.partition("@")[2].astype(float) if by == "strength" else table[by]
    return table.groupby(key)["accuracy"].mean().to_dict()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def footnote(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_xticklabels()]


def inches(figure: Figure) -> float:
    return float(np.prod(figure.get_size_inches()))


# trials and intervals

SNOW = [f"snow@{i}" for i in (1, 3, 5)]


@pytest.mark.parametrize("n", [5, 10])
def test_band_is_the_interval_of_student(n):
    table = crossed(SNOW, n)
    axis = panel(draw("strength", table), "snow, τ = 0.5")
    names = list(lines(axis))
    for arm in ARMS:
        corners = axis.collections[names.index(arm)].get_paths()[0].vertices
        for target, x in zip(SNOW, (1, 3, 5), strict=True):
            own = table[(table["arm"] == arm) & (table["target"] == target)]["accuracy"]
            half = QUANTILE[n] * own.std(ddof=1) / np.sqrt(n)
            edges = corners[corners[:, 0] == x, 1]
            ends = edges.min(), edges.max()
            assert ends == pytest.approx((own.mean() - half, own.mean() + half), abs=1e-6)


def test_interval_of_a_single_strength_is_a_bar():
    table = crossed(["snow@5"], 5, ["full"])
    (axis,) = draw("strength", table).axes
    _, bars = axis.collections
    (bar,) = bars.get_segments()
    own = table["accuracy"]
    half = QUANTILE[5] * own.std(ddof=1) / np.sqrt(5)
    assert bar[:, 0].tolist() == [5, 5]
    assert bar[:, 1] == pytest.approx([own.mean() - half, own.mean() + half], abs=1e-6)
    assert ticks(axis) == ["5"]


def test_few_trials_are_points_and_have_no_band():
    table = crossed(SNOW, 3)
    axis = panel(draw("strength", table), "snow, τ = 0.5")
    assert sum(len(path) for band in axis.collections for path in band.get_paths()) == 0
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    shown = sorted(y for line in points for y in line.get_ydata())
    assert shown == pytest.approx(sorted(table["accuracy"]))


def test_many_trials_are_no_points():
    axis = panel(draw("strength", crossed(SNOW, 5)), "snow, τ = 0.5")
    assert not [
        y for line in axis.lines if line.get_linestyle() == "None" for y in line.get_ydata()
    ]


@pytest.mark.parametrize(
    ("trials", "words", "others"),
    [
        (1, ["One trial"], ["band", "mean"]),
        (3, ["mean over 3 trials", "points: single trials"], ["band"]),
        (10, ["mean over 10 trials", "95% confidence interval"], ["points"]),
    ],
)
def test_footnote_says_what_is_drawn(trials, words, others):
    note = footnote(draw("strength", crossed(SNOW, trials)))
    assert all(word in note for word in words)
    assert not any(word in note for word in others)


def test_footnote_of_unequal_trials_gives_the_range():
    table = pd.concat([crossed(SNOW[:1], 3), crossed(SNOW[1:], 6)])
    note = footnote(draw("strength", table))
    assert "3–6 trials" in note
    assert "bands" in note
    assert "points" in note


# every kind on one page


def losses(sources, trials: int = 1) -> pd.DataFrame:
    keys = {"study": "s", "network": "v2", "site": "L2"}
    rows = [
        {**keys, "source": source, "tau": tau_of(arm, "0.5"), "arm": arm, "trial": k, "epoch": e}
        for source, arms in [("any", PLAIN), *((source, ARMS[2:]) for source in sources)]
        for arm, k, e in product(arms, range(trials), (0.5, 1.5, 2.5))
    ]
    loss = np.random.default_rng(0).uniform(0.2, 2.0, len(rows))
    return pd.DataFrame(rows).assign(loss=loss)


def published(trials: int = 1) -> pd.DataFrame:
    """Return cells as the check of published cells compares them."""
    rows = list(product(["snow", "pgd"], ARMS))
    table = pd.DataFrame(rows, columns=["modification", "arm"]).assign(strength=1.0, tau="0.5")
    values = np.linspace(0.1, 0.8, len(rows))
    table = table.assign(published=values, measured=values + 0.05, agrees=[True, False] * 4)
    for name in ("published", "measured"):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 0.02, table[name] + 0.03
    return table


def heatmap(trials: int = 1) -> pd.DataFrame:
    names = ["snow", "rotate", "contrast"]
    table = pd.DataFrame(list(product(names, names)), columns=["target", "source"])
    table = table.assign(published=np.linspace(0.1, 0.9, 9), measured=np.linspace(0.8, 0.2, 9))
    return table.assign(difference=table["measured"] - table["published"])


def attack_transfer(trials: int = 1) -> pd.DataFrame:
    """Return two attacks, at two ε each, by both at every ε and by gaussian noise of two severities."""
    targets = [f"{name}@{e}" for name, e in product(["pgd", "fgm"], (0.02, 0.1))]
    sources = [*targets, "gaussian_noise@1", "gaussian_noise@5"]
    shaped = [
        cell("full", target, source=source, tau="2.0", trials=trials)
        for target, source in product(targets, sources)
    ]
    plain = [cell(arm, target, tau="2.0", trials=trials) for arm in PLAIN for target in targets]
    return table_of(*shaped, *plain)


FIXED = ["snow@1", "snow@5", "fgm@0.1"]


def fixed_strength(trials: int = 1) -> pd.DataFrame:
    """Return two sources of snow and one attack, each under snow, an attack and clean images."""
    targets = [*SNOW, "pgd@0.02", "pgd@0.1", "clean@0"]
    shaped = [
        cell(arm, target, source=source, trials=trials)
        for arm, target, source in product(ARMS[2:], targets, FIXED)
    ]
    plain = [cell(arm, target, trials=trials) for arm, target in product(PLAIN, targets)]
    return table_of(*shaped, *plain)


def layer_sweep(trials: int = 1) -> pd.DataFrame:
    sites = ["L1", "L10", "L2"]
    return pd.concat([crossed([*SNOW, "pgd@0.1"], trials, site=site) for site in sites])


TAUS = ["2.0", "unscaled", "0.5", "0.25"]


def trace_sweep(trials: int = 1) -> pd.DataFrame:
    targets = ["snow@1", "snow@5", "pgd@0.1"]
    clean = [
        cell(arm, "clean@0", source=source, tau=tau, trials=trials)
        for arm, source, tau in product(ARMS[2:], targets, TAUS)
    ]
    plain = crossed(["clean@0"], trials, PLAIN, TAUS)
    table = pd.concat([crossed(targets, trials, ARMS, TAUS), table_of(*clean), plain])
    return table[(table["arm"] != "identity") | (table["tau"] != "unscaled")]


def adversarial_training(trials: int = 1) -> pd.DataFrame:
    targets = ["clean@0", "pgd@0.05", "pgd@0.1"]
    trained = [
        cell("none", target, network=f"v2+pgd@{e}x{ratio}", regime="inference", trials=trials)
        for target, e, ratio in product(targets, (0.05, 0.2), (0.1, 0.5))
    ]
    clean = [
        cell("full", "clean@0", source=source, tau="2.0", trials=trials) for source in targets[1:]
    ]
    matched = [cell("full", target, tau="2.0", trials=trials) for target in targets[1:]]
    none = [cell("none", target, trials=trials) for target in targets]
    return table_of(*trained, *clean, *matched, *none)


def regimes(trials: int = 1) -> pd.DataFrame:
    targets = ["snow@1", "snow@5", "pgd@0.1"]
    noisy = [
        table_of(
            *(cell(arm, t, regime=r, trials=trials) for arm in ARMS[1:] for t in targets),
            *(cell("full", "clean@0", source=t, regime=r, trials=trials) for t in targets),
            cell("identity", "clean@0", regime=r, trials=trials),
        )
        for r in ("retrain", "trained_only", "tested_only")
    ]
    none = crossed([*targets, "clean@0"], trials, ["none"])
    return pd.concat([*noisy, none])


NETWORKS = {0.0: "v2", 0.05: "v2+input_noise@0.05", 0.25: "v2+input_noise@0.25"}


def input_noise(trials: int = 1) -> pd.DataFrame:
    targets = ["snow@5", "rotate@2.0"]
    parts = [crossed(targets, trials, network=network) for network in NETWORKS.values()]
    for network, arm in product(NETWORKS.values(), ARMS):
        for source in targets if arm in ARMS[2:] else ["any"]:
            own = cell(arm, "clean@0", source=source, network=network, trials=trials)
            parts.append(table_of(own))
    return pd.concat(parts)


def strength(trials: int = 1) -> pd.DataFrame:
    return crossed([*SNOW, "rotate@0.5", "rotate@2.0", "pgd@0.1"], trials)


def robustness(trials: int = 1) -> pd.DataFrame:
    names = ["source", "arm", "tau", "clean_accuracy", "robust_accuracy"]
    noises = [("any", "none", "0", 0.9, 0.1), ("pgd@0.1", "full", "0.5", 0.8, 0.4)]
    place = {"network": "v2", "site": "L2", "regime": "retrain", "threat": "Linf@0.1"}
    found = pd.DataFrame(noises, columns=names).assign(trials=trials, **place)
    found["robust_accuracy_low"] = found["robust_accuracy"] - 0.1
    return found.assign(robust_accuracy_high=found["robust_accuracy"] + 0.1)


def matched(trials: int = 1) -> pd.DataFrame:
    """Return accuracies at the clean accuracies of three τ of arm full; identity does not reach the last."""
    cells = [
        cell(arm, target, trials=trials, source=source, reference_tau=tau, clean_accuracy=level)
        for tau, level in (("0.25", 0.9), ("0.5", 0.85), ("1.0", 0.7))
        for arm, source in product(ARMS[1:], ["snow@5", "pgd@0.1"])
        for target in (source, "clean@0")
    ]
    table = table_of(*cells)
    missing = (table["arm"] == "identity") & (table["reference_tau"] == "1.0")
    return table.assign(accuracy=table["accuracy"].mask(missing))


EXAMPLES = {
    "strength": strength,
    "attack_transfer": attack_transfer,
    "fixed_strength": fixed_strength,
    "layer_sweep": layer_sweep,
    "trace_sweep": trace_sweep,
    "adversarial_training": adversarial_training,
    "input_noise": input_noise,
    "regimes": regimes,
    "pareto": robustness,
    "learning_curve": lambda trials=1: losses(["snow@5", "pgd@0.1"], trials),
    "matched_accuracy": matched,
    "published_cells": published,
    "published_heatmap": heatmap,
}
TRANSFER = [kind for kind in CURVES if "table`" in (inspect.getdoc(CURVES[kind]) or "")]
MEANS = [kind for kind in CURVES if not kind.startswith("published")]


def test_every_kind_has_an_example_here():
    assert list(CURVES) == list(EXAMPLES)


@pytest.mark.parametrize("trials", [1, 3, 10])
@pytest.mark.parametrize("kind", CURVES)
def test_every_kind_is_drawn_quietly_and_leaves_its_table_alone(kind, trials, tmp_path, caplog):
    table = EXAMPLES[kind](trials)
    before = table.copy()
    with caplog.at_level(logging.DEBUG, "matplotlib.category"):
        figure = draw(kind, table)
        assert figure.get_layout_engine() is not None
        if trials == 3 or kind == "strength":  # slow
            figure.savefig(tmp_path / "x.png", dpi=30)
            assert (tmp_path / "x.png").stat().st_size > 0
    pd.testing.assert_frame_equal(table, before)
    assert figure.get_suptitle() == "a title"
    assert not [record for record in caplog.records if "categor" in record.name]


@pytest.mark.parametrize("kind", MEANS)
def test_order_of_the_rows_makes_no_difference(kind):
    table = EXAMPLES[kind](3)
    figures = [draw(kind, table), draw(kind, table.sample(frac=1, random_state=0))]
    assert titles(figures[0]) == titles(figures[1])
    for one, other in zip(*(figure.axes for figure in figures), strict=True):
        for line in lines(one):
            assert drawn(one, line) == pytest.approx(drawn(other, line))


@pytest.mark.parametrize("kind", CURVES)
def test_empty_table_and_missing_columns_are_errors(kind):
    table = EXAMPLES[kind]()
    with pytest.raises(StudyError, match="no row"):
        draw(kind, table.iloc[:0])
    with pytest.raises(StudyError, match="lacks the columns"):
        draw(kind, table.iloc[:, :1])


@pytest.mark.parametrize("kind", MEANS)
def test_lines_differ_in_colour_and_in_black_and_white(kind):
    figure = draw(kind, EXAMPLES[kind]())
    handles = figure.legends[0].get_lines()
    assert len({to_rgba(line.get_color()) for line in handles}) == len(handles)
    looks = {(line.get_linestyle(), str(line._dash_pattern), line.get_marker()) for line in handles}
    assert len(looks) == len(handles)


@pytest.mark.parametrize("kind", [*TRANSFER, "learning_curve", "matched_accuracy"])
def test_two_networks_in_one_line_are_an_error(kind):
    table = EXAMPLES[kind]()
    other = table.assign(network=table["network"].str.replace("v2", "v3"))
    with pytest.raises(StudyError, match="differ in network"):
        draw(kind, pd.concat([table, other]))


@pytest.mark.parametrize(
    "kind", ["strength", "layer_sweep", "trace_sweep", "input_noise", "matched_accuracy"]
)
def test_table_without_source_equal_to_target_is_an_error(kind):
    table = EXAMPLES[kind]()
    with pytest.raises(StudyError, match="no row has source = target"):
        draw(kind, table[table["source"] != table["target"]])


def test_other_errors_say_what_is_missing():
    with pytest.raises(StudyError, match="no row of arm full has a source and an attack"):
        draw("attack_transfer", crossed(SNOW))
    with pytest.raises(StudyError, match="no row has a source and modified images"):
        draw("fixed_strength", table_of(cell("full", "clean@0", source="snow@5")))
    with pytest.raises(StudyError, match="no network was trained adversarially"):
        draw("adversarial_training", crossed(["pgd@0.1"]))
    with pytest.raises(StudyError, match="no row has a source"):
        draw("learning_curve", losses([]))


# strength


def test_strength_has_a_panel_per_modification_with_a_line_per_arm():
    table = strength(3)
    figure = draw("strength", table)
    assert sorted(titles(figure)) == ["pgd, τ = 0.5", "rotate, τ = 0.5", "snow, τ = 0.5"]
    assert legend(figure) == ARMS
    for name, arm in product(["snow", "rotate", "pgd"], ARMS):
        own = table[table["target"].str.startswith(name)]
        found = drawn(panel(figure, f"{name}, τ = 0.5"), arm)
        assert found == pytest.approx(means(own, "strength", arm=arm))


def test_strength_is_named_by_its_kind():
    found = {axis.get_title(): axis.get_xlabel() for axis in draw("strength", strength()).axes}
    names = {"snow": "severity", "rotate": "scale", "pgd": "ε"}
    assert found == {f"{name}, τ = 0.5": label for name, label in names.items()}


def test_sources_other_than_the_target_are_not_drawn():
    table = strength()
    others = table_of(cell("full", "snow@3", source="rotate@2.0"))
    figures = [draw("strength", t) for t in (table, pd.concat([table, others]))]
    assert len({str(drawn(panel(f, "snow, τ = 0.5"), "full")) for f in figures}) == 1


def test_every_tau_has_a_row_and_none_belongs_to_all():
    table = crossed([*SNOW, "rotate@2.0"], taus=["2.0", "0.5"])
    table = table[(table["tau"] != "2.0") | table["target"].str.startswith("snow")]
    figure = draw("strength", table)
    assert sorted(titles(figure)) == ["rotate, τ = 0.5", "snow, τ = 0.5", "snow, τ = 2.0"]
    above, below = (panel(figure, f"snow, τ = {tau}") for tau in ("0.5", "2.0"))
    assert above.get_subplotspec().colspan == below.get_subplotspec().colspan
    assert above.get_subplotspec().rowspan.start < below.get_subplotspec().rowspan.start
    for axis, tau in ((above, "0.5"), (below, "2.0")):
        snow = table[table["target"].str.startswith("snow")]
        assert drawn(axis, "none") == pytest.approx(means(snow, "strength", arm="none"))
        for arm in ARMS[1:]:
            assert drawn(axis, arm) == pytest.approx(means(snow, "strength", arm=arm, tau=tau))


def test_tau_of_identity_alone_has_no_panel():
    table = pd.concat([crossed(SNOW), crossed(SNOW, arms=["identity"], taus=["2.0"])])
    assert titles(draw("strength", table)) == ["snow, τ = 0.5"]


def test_missing_strength_is_a_gap():
    table = strength()
    lost = (table["arm"] == "full") & (table["target"] == "snow@3")
    x, y = lines(panel(draw("strength", table[~lost]), "snow, τ = 0.5"))["full"].get_data()
    assert list(x) == [1, 3, 5]
    assert np.isnan(y).tolist() == [False, True, False]


def test_arm_that_was_not_run_is_left_out():
    table = strength()
    figure = draw("strength", table[table["arm"] != "identity"])
    assert legend(figure) == ["none", "diagonal", "full"]
    assert "identity" not in lines(figure.axes[0])


def test_retrained_none_stands_beside_retrained_noise():
    table = strength()
    raw = table_of(*(cell("none", target, regime="inference") for target in SNOW))
    axis = panel(draw("strength", pd.concat([raw, table])), "snow, τ = 0.5")
    own = table[table["target"].isin(SNOW)]
    assert drawn(axis, "none") == pytest.approx(means(own, "strength", arm="none"))


def test_none_of_another_regime_is_drawn_where_there_is_no_other():
    table = strength()
    table.loc[table["arm"] == "none", "regime"] = "inference"
    axis = panel(draw("strength", table), "snow, τ = 0.5")
    own = table[table["target"].isin(SNOW)]
    assert drawn(axis, "none") == pytest.approx(means(own, "strength", arm="none"))


def test_fourteen_modifications_fill_three_rows_of_five():
    names = [n for n, entry in MODIFICATIONS.items() if entry.kind == "corruption"][:14]
    small = draw("strength", crossed(["snow@5"]))
    figure = draw("strength", crossed([f"{name}@5" for name in names]))
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols, len(figure.axes)) == (3, 5, 14)
    assert inches(figure) > 3 * inches(small)
    assert figure.get_figwidth() < 16


# attack transfer


def test_attack_is_compared_with_the_source_of_its_own_strength():
    table = attack_transfer(2)
    figure = draw("attack_transfer", table)
    assert sorted(titles(figure)) == ["target fgm, τ = 2.0", "target pgd, τ = 2.0"]
    for target, source in product(["fgm", "pgd"], ["fgm", "pgd"]):
        pairs = [(f"{target}@{e}", f"{source}@{e}") for e in (0.02, 0.1)]
        own = table[[pair in pairs for pair in zip(table["target"], table["source"], strict=True)]]
        found = drawn(panel(figure, f"target {target}, τ = 2.0"), f"source {source}")
        assert found == pytest.approx(means(own, "strength"))


def test_corruption_has_a_line_for_each_of_its_strengths_as_a_source():
    table = attack_transfer()
    axis = panel(draw("attack_transfer", table), "target pgd, τ = 2.0")
    own = table[table["target"].str.startswith("pgd")]
    for severity in (1, 5):
        source = f"gaussian_noise@{severity}"
        found = drawn(axis, f"source {source}")
        assert found == pytest.approx(means(own, "strength", source=source))
    for arm in PLAIN:
        assert drawn(axis, arm) == pytest.approx(means(own, "strength", arm=arm))
    assert len(lines(axis)) == 6


def test_attack_of_one_strength_is_a_source_for_every_target():
    targets = ["pgd@0.02", "pgd@0.1"]
    table = table_of(*(cell("full", target, source="fgm@0.1") for target in targets))
    (axis,) = draw("attack_transfer", table).axes
    assert drawn(axis, "source fgm@0.1") == pytest.approx(means(table, "strength"))


# fixed strength


def test_every_source_has_a_line_over_all_strengths_of_the_target():
    table = fixed_strength(3)
    figure = draw("fixed_strength", table)
    assert titles(figure) == ["target snow, τ = 0.5", "target pgd, τ = 0.5"]
    for name, arm, source in product(["snow", "pgd"], ARMS[2:], FIXED):
        own = table[table["target"].str.startswith(name)]
        found = drawn(panel(figure, f"target {name}, τ = 0.5"), f"{arm}, {source}")
        assert found == pytest.approx(means(own, "strength", arm=arm, source=source))


def test_arms_without_a_source_have_one_line_beside_fixed_sources():
    table = fixed_strength()
    figure = draw("fixed_strength", table)
    shaped = [f"{arm}, {source}" for arm, source in product(ARMS[2:], FIXED)]
    assert legend(figure) == [*PLAIN, *shaped]
    for name, arm in product(["snow", "pgd"], PLAIN):
        own = table[table["target"].str.startswith(name)]
        found = drawn(panel(figure, f"target {name}, τ = 0.5"), arm)
        assert found == pytest.approx(means(own, "strength", arm=arm))


def test_sources_of_an_arm_have_its_dashes_and_shades_of_its_colour():
    strongest = draw("strength", crossed(SNOW)).legends[0].get_lines()[-1]
    handles = draw("fixed_strength", fixed_strength()).legends[0].get_lines()[-len(FIXED) :]
    assert {line.get_linestyle() for line in handles} == {strongest.get_linestyle()}
    lightness = [sum(to_rgba(line.get_color())) for line in handles]
    assert lightness == sorted(lightness, reverse=True)
    assert to_rgba(handles[-1].get_color()) == pytest.approx(to_rgba(strongest.get_color()))


@pytest.mark.parametrize(
    ("target", "label"), [("cifar10_c.fog@3", "severity"), ("paired.rain@1", "strength")]
)
def test_images_that_are_read_are_targets_of_a_fixed_source(target, label):
    (axis,) = draw("fixed_strength", table_of(cell("full", target, source="fog@3"))).axes
    assert axis.get_xlabel() == label
    assert list(lines(axis)) == ["full, fog@3"]


# sweeps


def test_layer_sweep_has_modifications_across_and_strengths_down():
    table = layer_sweep(2)
    figure = draw("layer_sweep", table)
    places = {
        axis.get_title(): (spec.rowspan.start, spec.colspan.start)
        for axis in figure.axes
        if (spec := axis.get_subplotspec())
    }
    assert places == {"snow@1": (0, 0), "snow@3": (1, 0), "snow@5": (2, 0), "pgd@0.1": (0, 1)}


def test_layer_sweep_is_by_site_in_order():
    table = layer_sweep(2)
    figure = draw("layer_sweep", table)
    axis = panel(figure, "snow@3")
    assert ticks(panel(figure, "snow@5")) == ["L1", "L2", "L10"]  # the lowest names them
    own = table[table["target"] == "snow@3"].assign(
        place=lambda rows: rows["site"].map({"L1": 0, "L2": 1, "L10": 2})
    )
    for arm in ARMS:
        assert drawn(axis, arm) == pytest.approx(means(own, "place", arm=arm))


def test_trace_sweep_is_in_order_of_tau_unscaled_first():
    table = trace_sweep(2)
    figure = draw("trace_sweep", table)
    axis = panel(figure, "snow@5")
    named = ticks(panel(figure, "clean, snow"))  # the lowest names them
    assert named == ["unscaled", "0.25", "0.5", "2.0"]
    place = {tau: i for i, tau in enumerate(named)}
    own = table[table["target"] == "snow@5"].assign(
        place=lambda rows: rows["tau"].map(place).fillna(-1)
    )
    for arm in ARMS[1:]:
        assert drawn(axis, arm) == pytest.approx(means(own, "place", arm=arm))
    (none,) = means(own, "place", arm="none").values()
    assert drawn(axis, "none") == pytest.approx(dict.fromkeys(range(4), none))


def test_regimes_are_side_by_side_with_none_as_their_level():
    table = regimes(2)
    figure = draw("regimes", table)
    axis = panel(figure, "snow@5")
    named = ticks(panel(figure, "clean, snow"))
    assert named == ["training + test", "training only", "test only"]
    place = {"retrain": 0, "trained_only": 1, "tested_only": 2}
    own = table[table["target"] == "snow@5"].assign(place=lambda rows: rows["regime"].map(place))
    for arm in ARMS[1:]:
        assert drawn(axis, arm) == pytest.approx(means(own, "place", arm=arm))
    (none,) = means(own, "place", arm="none").values()
    assert drawn(axis, "none") == pytest.approx(dict.fromkeys(range(3), none))


def test_trace_sweep_ends_with_clean_images_and_the_mean_over_strengths():
    table = trace_sweep(2)
    figure = draw("trace_sweep", table)
    axis = panel(figure, "clean, snow")
    assert axis.get_subplotspec().rowspan.start == 2
    assert panel(figure, "clean, pgd").get_subplotspec().rowspan.start == 2
    clean = table[(table["target"] == "clean@0") & (table["tau"] == "0.25")]
    own = clean[clean["source"].str.startswith("snow")]
    assert drawn(axis, "full")[1] == pytest.approx(own[own["arm"] == "full"]["accuracy"].mean())
    identity = clean[clean["arm"] == "identity"]["accuracy"].mean()
    assert drawn(axis, "identity")[1] == pytest.approx(identity)
    assert 0 not in drawn(axis, "identity")
    assert "mean over the strengths" in footnote(figure)


def test_trace_sweep_without_clean_images_has_no_such_row():
    table = trace_sweep()
    figure = draw("trace_sweep", table[table["target"] != "clean@0"])
    assert titles(figure) == ["snow@1", "pgd@0.1", "snow@5"]


# variants of networks


@pytest.mark.parametrize("epsilon", [0.05, 0.2])
def test_adversarial_networks_stand_beside_structured_noise_and_none(epsilon):
    table = adversarial_training(2)
    figure = draw("adversarial_training", table)
    assert legend(figure) == ["undefended", "structured noise (full)", "ratio 0.1", "ratio 0.5"]
    axis = panel(figure, f"trained on pgd, ε = {epsilon}")
    for ratio in (0.1, 0.5):
        network = f"v2+pgd@{epsilon}x{ratio}"
        assert drawn(axis, f"ratio {ratio}") == pytest.approx(
            means(table, "strength", network=network)
        )
    base = table[table["network"] == "v2"]
    assert drawn(axis, "none") == pytest.approx(means(base, "strength", arm="none"))
    assert drawn(axis, "full") == pytest.approx(means(base, "strength", arm="full"))


def test_targets_of_another_attack_are_not_mixed_in():
    table = adversarial_training()
    others = table.assign(
        **{end: table[end].str.replace("pgd", "fgm") for end in ("source", "target")}
    )
    figures = [
        draw("adversarial_training", t)
        for t in (table, pd.concat([table, others[others.target != "clean@0"]]))
    ]
    first, second = (panel(figure, "trained on pgd, ε = 0.2") for figure in figures)
    for line in lines(first):
        assert drawn(first, line) == drawn(second, line)


def test_input_noise_is_by_sigma_of_the_network():
    table = input_noise(2)
    figure = draw("input_noise", table)
    assert titles(figure) == ["snow@5, τ = 0.5", "rotate@2.0, τ = 0.5", "clean@0, τ = 0.5"]
    assert legend(figure)[0] == "input noise alone"
    sigma = {network: value for value, network in NETWORKS.items()}
    table = table.assign(sigma=table["network"].map(sigma))
    for target, arm in product(["snow@5", "clean@0"], ARMS):  # clean: the mean over sources
        found = drawn(panel(figure, f"{target}, τ = 0.5"), arm)
        assert found == pytest.approx(means(table, "sigma", target=target, arm=arm))


# learning curves


def test_learning_curve_shows_the_arms_without_a_source_in_every_panel():
    table = losses(["snow@5", "pgd@0.1"], 2)
    figure = draw("learning_curve", table)
    assert titles(figure) == ["snow@5, τ = 0.5", "pgd@0.1, τ = 0.5"]
    assert "nats" in figure.get_supylabel()
    for source, arm in product(["snow@5", "pgd@0.1"], ARMS):
        own = table.rename(columns={"loss": "accuracy"})
        expected = means(own, "epoch", arm=arm, source="any" if arm in PLAIN else source)
        assert drawn(panel(figure, f"{source}, τ = 0.5"), arm) == pytest.approx(expected)


def test_learning_curve_holds_every_loss():
    table = losses(["snow@5"], 2)
    low, high = draw("learning_curve", table).axes[0].get_ylim()
    assert low < table["loss"].min()
    assert table["loss"].max() < high


def test_long_curves_have_few_markers():
    table = losses(["snow@5"])
    later = [table.assign(epoch=table["epoch"] + 3 * i) for i in range(20)]
    axis = draw("learning_curve", pd.concat(later)).axes[0]
    assert lines(axis)["full"].get_markevery() == 7


# published numbers


def test_published_cells_are_at_their_two_accuracies_coloured_by_arm():
    table = published()
    figure = draw("published_cells", table)
    (axis,) = figure.axes
    handles = {line.get_label(): line.get_color() for line in figure.legends[0].get_lines()}
    assert list(handles) == ARMS
    for arm, colour in handles.items():
        own = table[table["arm"] == arm]
        points = [
            line
            for line in axis.lines
            if line.get_marker() in "s^Do" and line.get_color() == colour
        ]
        xy = {tuple(pair) for line in points for pair in line.get_xydata()}
        assert xy == set(zip(own["published"], own["measured"], strict=True))


def test_cells_that_disagree_are_hollow():
    table = published()
    (axis,) = draw("published_cells", table).axes
    points = [line for line in axis.lines if line.get_marker() in "s^Do"]
    hollow = {
        x
        for p in points
        if to_rgba(p.get_markerfacecolor()) == to_rgba("white")
        for x in p.get_xdata()
    }
    assert hollow == set(table[~table["agrees"]]["published"])
    assert "4 of 8 cells agree" in footnote(draw("published_cells", table))


def test_bars_of_published_cells_are_their_intervals():
    table = published().iloc[:1]
    (axis,) = draw("published_cells", table).axes
    across, up = (bar.get_segments()[0] for bar in axis.containers[0][2])
    (row,) = table.itertuples()
    assert across[:, 0] == pytest.approx([row.published_low, row.published_high])
    assert up[:, 1] == pytest.approx([row.measured_low, row.measured_high])


def test_cells_without_interval_are_drawn(tmp_path):
    table = published().assign(measured_low=np.nan, measured_high=np.nan)
    draw("published_cells", table).savefig(tmp_path / "x.png", dpi=30)
    assert (tmp_path / "x.png").stat().st_size > 0


@pytest.mark.parametrize("value", ["published", "measured", "difference"])
def test_published_heatmap_shows_every_cell_in_the_order_of_the_table(value):
    table = heatmap()
    axis = panel(draw("published_heatmap", table), value)
    assert np.asarray(axis.images[0].get_array()).ravel() == pytest.approx(table[value])
    assert ticks(axis) == ["snow", "rotate", "contrast"]
    assert len(axis.texts) == 9


def test_published_and_measured_have_one_scale_and_differences_one_about_0():
    figure = draw("published_heatmap", heatmap())
    limits = [
        panel(figure, v).images[0].get_clim() for v in ("published", "measured", "difference")
    ]
    assert limits[0] == limits[1] == (0, 1)
    assert limits[2] == pytest.approx((-0.7, 0.7))


def test_equal_heatmaps_are_drawn(tmp_path):
    table = heatmap().assign(measured=lambda t: t["published"], difference=0.0)
    draw("published_heatmap", table).savefig(tmp_path / "x.png", dpi=30)
    assert (tmp_path / "x.png").stat().st_size > 0


# fine-tuning, which has a source and no noise


def with_fine_tuning(taus) -> pd.DataFrame:
    own = [cell("fine_tuned", target, tau="0", trials=3) for target in SNOW]
    return pd.concat([crossed(SNOW, 3, taus=taus), table_of(*own)], ignore_index=True)


def test_fine_tuning_stands_at_every_tau_of_its_source():
    table = with_fine_tuning(["0.5", "2.0"])
    figure = draw("strength", table)
    assert titles(figure) == ["snow, τ = 0.5", "snow, τ = 2.0"]
    for axis in figure.axes:
        found = drawn(axis, "fine_tuned")
        assert found == pytest.approx(means(table, "strength", arm="fine_tuned"))
    swept = draw("trace_sweep", table)
    axis = panel(swept, "snow@5")
    (level,) = means(table[table["target"] == "snow@5"], "arm", arm="fine_tuned").values()
    assert drawn(axis, "fine_tuned") == pytest.approx({0: level, 1: level})
    assert ticks(axis) == ["0.5", "2.0"]


def test_fine_tuning_alone_is_drawn_at_no_tau():
    alone = table_of(*(cell("fine_tuned", target, tau="0") for target in SNOW))
    assert titles(draw("strength", alone)) == ["snow, τ = 0"]


def test_fine_tuning_is_drawn_where_it_was_run_among_regimes():
    off = crossed(SNOW, 3, ["full"], regime="trained_only")
    table = pd.concat([with_fine_tuning(["0.5"]), off], ignore_index=True)
    axis = panel(draw("regimes", table), "snow@3")
    (level,) = means(table[table["target"] == "snow@3"], "arm", arm="fine_tuned").values()
    assert drawn(axis, "fine_tuned") == pytest.approx({0: level})


def test_learning_curves_have_fine_tuning_beside_the_noises_of_its_source():
    noisy = losses(["snow@5"], 3)
    own = noisy[noisy["arm"] == "full"].assign(arm="fine_tuned", tau="0")
    figure = draw("learning_curve", pd.concat([noisy, own], ignore_index=True))
    assert titles(figure) == titles(draw("learning_curve", noisy))
    assert all("fine_tuned" in lines(axis) for axis in figure.axes)


# matched_accuracy


def test_matched_accuracy_stands_over_the_clean_accuracy_that_arms_share():
    table = matched(5)
    figure = draw("matched_accuracy", table)
    assert titles(figure) == ["snow@5", "pgd@0.1"]
    for target, arm in product(titles(figure), ARMS[1:]):
        own = table[(table["target"] == target) & (table["arm"] == arm)].dropna()
        known = own.groupby("clean_accuracy")["accuracy"].mean().to_dict()
        assert drawn(panel(figure, target), arm) == pytest.approx(known)
    assert set(drawn(panel(figure, "snow@5"), "identity")) == {0.85, 0.9}
    assert set(drawn(panel(figure, "snow@5"), "full")) == {0.7, 0.85, 0.9}


def test_matched_accuracy_draws_two_tau_of_one_clean_accuracy_once():
    table = matched(5)
    again = table[table["reference_tau"] == "1.0"].assign(reference_tau="2.0")
    both = draw("matched_accuracy", pd.concat([table, again], ignore_index=True))
    for axis, other in zip(draw("matched_accuracy", table).axes, both.axes, strict=True):
        assert drawn(axis, "full") == drawn(other, "full")
