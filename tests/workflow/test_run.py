"""The tiny study from end to end: outputs, a second run, determinism."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

ROWS = (2 + 3 * 2) * 3 * 2  # arms without a source + arms × sources, × targets × trials


def test_the_run_ends_with_the_paths_of_heatmaps_and_table(finished):
    project, printed = finished
    end = printed.split("Done. Heatmaps and tables:")[1]
    named = [line.strip() for line in end.splitlines() if line.strip().startswith("results/")]
    assert len(named) == 7  # three heatmaps, clustered, the published one beside ours; two tables
    assert all((project.folder / path).stat().st_size > 1000 for path in named)
    assert "Report: results/tiny/report.html" in end


def test_every_promised_output_is_there(finished):
    results = finished[0].results
    for value in ("accuracy", "gain_over_none", "gain_over_identity"):
        for suffix in ("pdf", "svg", "png"):
            assert (results / f"figures/transfer_{value}.{suffix}").is_file()
            assert (results / f"figures/transfer_published_heatmap.{suffix}").is_file()
            assert (results / f"figures/transfer_clustered.{suffix}").is_file()
            assert (results / f"figures/modifications/mnist_5k.{suffix}").is_file()
    for path in ("tables/transfer.parquet", "tables/transfer.csv", "checks/transfer.json"):
        assert (results / path).is_file()


def test_the_table_has_every_cell_once(finished):
    table = pd.read_parquet(finished[0].results / "tables/transfer.parquet")
    assert len(table) == ROWS
    assert not table.duplicated(["source", "target", "arm", "trial"]).any()
    assert (table["n"] == 60).all()
    assert table["accuracy"].between(0, 1).all()
    assert set(zip(table["arm"] == "none", table["tau"], strict=True)) == {
        (True, "0"),
        (False, "0.5"),
    }
    assert set(table["regime"]) == {"retrain"}
    assert table[["gain_over_none", "gain_over_identity"]].notna().all(axis=None)
    csv = pd.read_csv(finished[0].results / "tables/transfer.csv", dtype={"tau": str})
    pd.testing.assert_frame_equal(csv, table, check_dtype=False)


def test_the_summary_has_the_means_of_the_table(finished):
    tables = finished[0].results / "tables"
    table, summary = (
        pd.read_parquet(tables / f"transfer{kind}.parquet") for kind in ("", "_summary")
    )
    keys = ["source", "target", "arm"]
    means = table.groupby(keys)[_VALUES].mean()
    found = summary.set_index(keys)[_VALUES].sort_index()
    pd.testing.assert_frame_equal(found, means, check_exact=False, atol=1e-6)
    assert set(summary["resampled"]) == {"images"}
    for kind in ("families", "variance", "robustness"):
        assert len(pd.read_csv(tables / f"transfer_{kind}.csv")) > 0


def test_provenance_says_where_the_numbers_come_from(finished):
    provenance = json.loads((finished[0].results / "provenance.json").read_text())
    assert provenance["seed"] == 7
    assert provenance["study"]["study"] == "tiny"
    assert provenance["versions"]["torch"]
    assert provenance["hardware"]["cores"] == os.cpu_count()
    assert provenance["rules"]["evaluate"]["jobs"] == 4
    assert provenance["wall_seconds"] > 0


def test_a_second_run_does_nothing(finished):
    assert finished[0].planned() == {}


def test_snakemake_takes_the_page_and_the_figures_into_its_own_report(finished, tmp_path):
    whole = tmp_path / "whole.html"
    made = finished[0].snakemake("--report", str(whole))
    assert made.returncode == 0, made.stdout
    content = whole.read_text()
    for name in ("report.html", "transfer_accuracy.png", "transfer_published_heatmap.png"):
        assert name in content


def test_one_core_and_another_order_give_the_same_bytes(finished, fresh):
    late = "results/tiny/evaluation/retrain/v2/L3/tau0.5/pgd@0.1/all/0-1.parquet"
    first = fresh.snakemake(late, "--cores", "1")
    assert first.returncode == 0, first.stdout
    rest = fresh.snakemake("--cores", "1")
    assert rest.returncode == 0, rest.stdout
    assert fresh.tables() == finished[0].tables()


def test_another_stack_size_changes_accuracies_by_no_more_than_rounding(finished, fresh):
    fresh.edit(lambda study: study.update(trials=[0, 1]))
    run = fresh.snakemake("transfer", "--cores", "2")
    assert run.returncode == 0, run.stdout
    one, two = (
        pd.read_parquet(p.results / "tables/transfer.parquet") for p in (finished[0], fresh)
    )
    pd.testing.assert_frame_equal(one.drop(columns=_VALUES), two.drop(columns=_VALUES))
    assert (one["accuracy"] - two["accuracy"]).abs().max() <= 0.002


_VALUES = ["accuracy", "gain_over_none", "gain_over_identity"]


def evaluate_by_hand(project, records, batch_size=250, tau="0.5", split="test"):
    results = project.results
    command = f"""
        scripts/evaluate.py --data {results}/data/mnist_5k/{split}.safetensors
        --network {results}/networks/v2/0-1.safetensors
        --noisy {results}/noisy/v2/L3/tau0.5/any/0-1.safetensors
        --pairs {{"any":["clean@0","brightness@5"]}}
        --modified {results}/modified/mnist_5k/brightness@5/test.safetensors
        --regime retrain --site L3 --study tiny --name v2 --passes 3 --arms identity --tau {tau}
        --seed 7 --trials 0 1 --batch-size {batch_size} --output {records}
    """
    return subprocess.run(
        [sys.executable, *command.split()], cwd=project.folder, capture_output=True, text=True
    )


@pytest.mark.parametrize("batch_size", [7, 60])
def test_a_stage_runs_by_hand_and_its_batch_size_changes_nothing(finished, tmp_path, batch_size):
    records = tmp_path / "records.parquet"
    done = evaluate_by_hand(finished[0], records, batch_size)
    assert done.returncode == 0, done.stderr
    results = finished[0].results
    keys = ["target", "arm", "trial", "image"]
    found = pd.read_parquet(records).sort_values(keys, ignore_index=True)
    whole = pd.read_parquet(results / "evaluation/retrain/v2/L3/tau0.5/any/all/0-1.parquet")
    expected = whole[whole["target"] != "pgd@0.1"].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": "0.25"}, "trained under other noise than"),
        ({"split": "validation"}, "not the images of"),
    ],
)
def test_a_stage_refuses_files_that_do_not_belong_together(finished, tmp_path, change, message):
    done = evaluate_by_hand(finished[0], tmp_path / "records.parquet", **change)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
