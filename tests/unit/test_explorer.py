"""The data of the interactive heatmap: every cell of the table where the page will look for it."""

import numpy as np
import pandas as pd
import pytest

from noisetransfer.explorer import OWN, clustered, explorer, ordered
from noisetransfer.report import without_intervals
from small_study import table

SUMMARY = without_intervals(table())


def views(summary=SUMMARY) -> dict:
    (setting,) = explorer(summary)["settings"]
    return {view["name"]: view for view in setting["views"]}


def test_a_heatmap_an_arm_one_of_all_arms_and_one_a_target_with_several_sources():
    assert list(views()) == ["full", "identity", "none", OWN, "clean@0", "contrast@5"]


def test_without_transfers_only_that_of_all_arms_and_clean_images():
    assert list(views(without_intervals(table(other=None)))) == [OWN, "clean@0"]


@pytest.mark.parametrize("name", ["full", "identity", "none", OWN, "clean@0", "contrast@5"])
def test_a_cell_of_a_heatmap_is_that_of_its_row_and_column(name):
    cells, view = explorer(SUMMARY)["cells"], views()[name]
    seen = 0
    for row, numbers in zip(view["rows"], view["cells"], strict=True):
        for column, cell in zip(view["columns"], numbers, strict=True):
            if cell < 0:
                continue
            for key, value in ((view["down"], row), (view["across"], column)):
                assert cells[key][cell] in ({value, "any"} if key == "source" else {value})
            seen += 1
    assert seen


def test_an_arm_without_source_stands_under_every_source_of_a_target():
    view, cells = views()["contrast@5"], explorer(SUMMARY)["cells"]
    line = view["cells"][view["rows"].index("identity")]
    assert len(line) == 2
    assert [cells["accuracy"][cell] for cell in line] == [0.5, 0.5]


def test_what_is_not_known_is_none():
    found = explorer(SUMMARY)["cells"]
    assert set(found["accuracy_low"]) == {None}
    assert found["accuracy"] == pytest.approx(SUMMARY["accuracy"].tolist(), abs=1e-5)
    assert set(found["n"]) == {50}


def test_a_measure_that_no_cell_has_is_not_offered():
    keys = [m["key"] for m in explorer(without_intervals(table(identity=False)))["measures"]]
    assert keys == ["accuracy", "gain_over_none"]


def test_arm_none_belongs_to_every_trace_scale():
    summary = without_intervals(table())
    stronger = summary[summary["tau"] != "0"].assign(tau="2.0")
    two = explorer(pd.concat([summary, stronger], ignore_index=True))
    assert [setting["label"] for setting in two["settings"]] == [
        "v2, L2, τ 0.5, retrain",
        "v2, L2, τ 2.0, retrain",
    ]
    assert all("none" in [v["name"] for v in setting["views"]] for setting in two["settings"])


def test_fine_tuning_belongs_to_every_trace_scale_of_its_source():
    summary = without_intervals(table())
    own = summary[summary["arm"] == "full"].assign(arm="fine_tuned", tau="0")
    stronger = summary[(summary["tau"] != "0") & (summary["source"] != "snow@5")]
    two = explorer(pd.concat([summary, stronger.assign(tau="2.0"), own], ignore_index=True))
    arms, sources = (two["cells"][name] for name in ("arm", "source"))
    shown = [
        {cell for view in setting["views"] for row in view["cells"] for cell in row if cell >= 0}
        for setting in two["settings"]
    ]
    found = [{sources[cell] for cell in cells if arms[cell] == "fine_tuned"} for cells in shown]
    assert found == [{"snow@5", "contrast@5"}, {"contrast@5"}]


def test_orders_by_mean_and_by_likeness_are_permutations():
    for view in views().values():
        for order in view["orders"].values():
            for rows, columns in order.values():
                assert sorted(rows) == list(range(len(view["rows"])))
                assert sorted(columns) == list(range(len(view["columns"])))


def test_alike_rows_stand_together():
    order = clustered(np.array([[0.0, 0.0], [1.0, 1.0], [0.1, 0.0], [0.9, 1.0]])).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}


def test_modifications_are_ordered_by_kind_then_strength():
    names = ["pgd@0.1", "rotate@2.0", "snow@5", "a list", "snow@3", "clean@0"]
    assert ordered(names) == ["clean@0", "snow@3", "snow@5", "rotate@2.0", "pgd@0.1", "a list"]
