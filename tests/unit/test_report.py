"""The page is whole, needs nothing else, and no text of a study becomes HTML or a script."""

import base64
import gzip
import json
import re

import numpy as np
import pytest

from noisetransfer.artifacts import write_json, write_table, write_tensors
from noisetransfer.errors import StudyError
from noisetransfer.report import Grid, Page, Section, of_study, png, render, without_intervals
from small_study import judged, table

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def results(tmp_path):
    """A folder of results of two experiments, one of them checked against published numbers."""
    study = {
        "study": "s",
        "networks": {"v2": {"dataset": "digits"}},
        "experiments": {"matched": {}, "transfer": {}},
    }
    rules = {"evaluate": {"jobs": 4, "seconds": 1.0, "max_mb": 1.0}}
    write_json(
        tmp_path / "provenance.json",
        {
            "study": study,
            "study_sha256": "abc",
            "seed": 7,
            "versions": {"torch": "2"},
            "git": {"commit": "c0ffee", "edited": True},
            "hardware": {"processor": "P", "cores": 2, "memory_gib": 1, "gpu": None, "system": "L"},
            "rules": rules,
            "wall_seconds": 12.0,
        },
    )
    write_table(tmp_path / "tables/transfer.parquet", table())
    write_table(tmp_path / "tables/matched.parquet", table(other=None))
    check = {"passed": False, "required": True, "verdict": "FAIL", "value": None, "bound": "≥ 1"}
    write_json(tmp_path / "checks/transfer.json", [{**check, "check": "a bound", "note": "n"}])
    cells = table()[["source", "target"]].head(2)
    compared = cells.assign(published=[0.2, 0.4], measured=[0.3, 0.4], check="published")
    write_table(tmp_path / "checks/transfer_cells.parquet", compared)
    pair = np.stack([np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8)])
    examples = tmp_path / "figures/modifications/digits.safetensors"
    examples.parent.mkdir(parents=True)
    write_tensors(examples, {"snow@5": pair}, producer="plot_modifications", spec={})
    for name in ("transfer_accuracy", "transfer_published_heatmap", "modifications/digits"):
        (tmp_path / f"figures/{name}.png").write_bytes(png(pair[0]))
    return tmp_path


def data_of(html: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


def test_sources_without_a_structure_are_named(results):
    strong, weak = {"degenerate": False}, {"degenerate": True}
    covariances = results / "covariance/v2/L2"
    write_json(covariances / "light/0-1.json", {"snow@5": [strong], "snow@1": [strong, weak]})
    write_json(covariances / "any+pooled/0-1.json", {"any": [{"sources": ["snow@5"]}]})
    found = sorted(covariances.rglob("*.json"))
    (told,) = [line for line in of_study(results, found).summary if "degenerate" in line]
    assert told.endswith(": snow@1 at L2 of v2.")


def test_the_page_of_a_study(results):
    page = of_study(results)
    ids = [section.id for section in page.sections]
    assert ids == [
        "experiment-transfer",  # the headline comes first
        "checks-transfer",
        "experiment-matched",
        "images",
        "provenance",
    ]
    assert len(page.summary) == 3
    assert list(page.files) == ["matched.csv", "transfer.csv"]
    assert page.files["transfer.csv"] == table().to_csv(index=False, lineterminator="\n")
    assert set(page.examples["v2"]) == {"snow@5"}
    titles = [picture.title for section in page.sections for picture in section.pictures]
    assert titles == [
        "The published heatmap, the measured one, and their difference, experiment transfer",
        "One image of each class of digits under every modification",
    ]


def test_verdicts_and_published_cells_are_shown(results):
    html = render(of_study(results))
    assert '<td class="fail">FAIL</td><td>a bound</td><td>–</td><td>≥ 1</td>' in html
    assert "1 checks: 1 failed" not in html
    assert "1 check: 1 failed" in html
    points = data_of(html)["plots"]["checks-transfer"]["data"][1]
    assert (points["x"], points["y"]) == ([0.2, 0.4], [0.3, 0.4])
    assert "c0ffee (edited since)" in html


def test_an_audit_opens_the_page_and_stands_before_its_experiment(results):
    rows = judged(("full", "snow@5", "Linf", 0.1, "none", 0.4, 0.3, "shrinks"))
    write_table(results / "tables/matched_verdicts.parquet", rows)
    picture = results / "figures/matched_audit.png"
    picture.write_bytes((results / "figures/transfer_published_heatmap.png").read_bytes())
    page = of_study(results)
    sections = {section.id: section for section in page.sections}
    order = list(sections)
    assert order.index("audit-matched") == order.index("experiment-matched") - 1
    audit = sections["audit-matched"]
    assert audit.grids[0].rows == [["full", "0.1", ".40 → .30 [.28, .33], shrinks"]]
    assert [one.title for one in audit.pictures] == [
        "Accuracy by the attacker's effort and knowledge, and what is left of the gains, experiment matched"
    ]
    assert sections["experiment-matched"].pictures == []
    assert page.summary[0].startswith("In experiment transfer, noise")  # the headline first
    assert "gain of arm full over no noise shrinks at ε = 0.1 (.40 → .30)." in page.summary[3]
    assert ".40 → .30 [.28, .33], shrinks</td>" in render(page)


def test_the_page_warns_of_attacks_through_one_draw(results):
    names = {"snow@5": "pgd@0.1"}
    attacked = table().replace({"source": names, "target": names})
    write_table(results / "tables/matched.parquet", attacked)
    told = [line for line in of_study(results).summary if "look at one draw" in line]
    assert told[0].startswith("The attacks of experiment matched look")


def test_the_page_needs_nothing_else(results):
    html = render(of_study(results))
    own = re.sub(r'<script type="text/plain".*?</script>', "", html, flags=re.S)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", own)
    assert "http:" not in own
    assert "https:" not in own
    assert "url(" not in own
    assert "default-src 'none'" in html


def test_downloads_are_the_tables(results):
    page = of_study(results)
    html = render(page)
    (packed,) = re.findall(r'id="file-2">(.*?)</script>', html)
    assert gzip.decompress(base64.b64decode(packed)).decode() == page.files["transfer.csv"]


def test_no_text_becomes_html_or_a_script():
    section = Section(
        id="x",
        title=HOSTILE,
        text=[HOSTILE],
        explorer={"name": HOSTILE},
        grids=[Grid(HOSTILE, [HOSTILE], [[HOSTILE]])],
    )
    page = Page(HOSTILE, [HOSTILE], [section], {HOSTILE: HOSTILE}, {}, {HOSTILE: HOSTILE})
    plain = render(Page("", [], [], {"": ""}, {}, {}))
    html = render(page)
    assert "<img" not in html
    assert html.count("<script") == plain.count("<script")
    assert html.count("</script") == plain.count("</script")
    assert data_of(html)["explorers"]["x"]["name"] == HOSTILE


def test_a_summary_with_intervals_is_taken_where_there_is_one(results):
    summary = without_intervals(table()).assign(accuracy_low=0.1, accuracy_high=0.9)
    summary["resampled"] = "images and trials"
    write_table(results / "tables/transfer_summary.parquet", summary)
    page = of_study(results)
    assert set(page.sections[0].explorer["cells"]["accuracy_low"]) == {0.1}
    assert page.sections[0].text == [
        "Each cell is the mean of 2 trials on 50 test images. "
        "Intervals are 95%, from resampling images and trials."
    ]
    assert "transfer_summary.csv" in page.files


def test_the_same_results_give_the_same_bytes(results):
    assert render(of_study(results)) == render(of_study(results))


def test_a_missing_table_is_named(results):
    (results / "tables/matched.parquet").unlink()
    with pytest.raises(StudyError, match=r"matched\.parquet"):
        of_study(results)
