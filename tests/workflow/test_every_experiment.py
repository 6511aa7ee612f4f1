"""Every kind of experiment, run for real: its tables hold what was planned, its figures are there."""

import json
from itertools import combinations, product
from typing import get_args

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from noisetransfer.auditing import Verdict
from noisetransfer.config import HEATMAP, load
from noisetransfer.plan import arms, evaluations, pairs, trials_of
from noisetransfer.regimes import without_noise
from noisetransfer.statistics import CELL
from project import ROOT, copy_of_project

CONFIG = "tests/workflow/every_experiment.yaml"
STUDY = load(yaml.safe_load((ROOT / CONFIG).read_text()))
FORMATS = "pdf", "svg", "png"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the study done. Not to be changed."""
    copied = copy_of_project(tmp_path_factory.mktemp("every_experiment"))
    run = copied.snakemake("--cores", "2", configfile=CONFIG)
    assert run.returncode == 0, run.stdout
    return copied


@pytest.fixture
def results(project):
    return project.folder / "results/every_experiment"


@pytest.fixture
def table(results):
    """The table of an experiment, by its name."""
    return lambda name: pd.read_parquet(results / f"tables/{name}.parquet")


OF_PRETRAINED = {"retrieve_network", "prepare_network", "retrieve_corrupted", "read_modified"}
"""The stages of pretrained networks, and of images that are read."""
BY_HAND = {"compare_studies"}


def test_every_stage_ran(results):
    stages = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert {path.name.removesuffix(".tsv") for path in (results / "benchmarks").iterdir()} == (
        (stages - OF_PRETRAINED - BY_HAND - {"modify_images"}) | {"redraw_images"}
    )


def test_every_trial_has_modified_images_of_its_own(results):
    for path in (results / "modified/mnist_5k").glob("motion_blur@5/*/*.safetensors"):
        first, second = load_file(path)["images"]
        assert not torch.equal(first, second)
    assert {path.parent.name for path in (results / "modified").rglob("test.safetensors")} == {
        STUDY.trials[0]
    }


@pytest.mark.parametrize("name", STUDY.experiments)
def test_tables_and_figures_are_there(results, name):
    compared = name in STUDY.checks and STUDY.checks[name].published_cells
    kinds = [*STUDY.figures_of(name), *(["published_cells"] if compared else [])]
    if HEATMAP in kinds:
        kinds.remove(HEATMAP)
        kinds += ["accuracy", "gain_over_none", "gain_over_identity"]
        kinds += ["clustered", "geometry", "spectra"]
    drawn = {path.name for path in (results / "figures").glob(f"{name}_*")}
    assert drawn == {f"{name}_{kind}.{suffix}" for kind in kinds for suffix in FORMATS}
    assert all((results / "figures" / figure).stat().st_size > 5000 for figure in drawn)
    assert (results / f"tables/{name}.csv").is_file()


@pytest.mark.parametrize("name", STUDY.experiments)
def test_a_table_holds_every_planned_cell_once(table, name):
    planned = {
        (STUDY.study, job.network, job.site, source, target, arm, job.tau, job.regime, trial)
        for job in evaluations(STUDY, name)
        if job.split == "test"
        for source, targets in pairs(STUDY.suites, job.source, job.suite).items()
        for target in targets
        for arm in arms(STUDY.noise.arms, job.source, job.tau)
        for trial in trials_of(STUDY.trials[0])
    }
    found = table(name)
    assert set(found[CELL].itertuples(index=False, name=None)) == planned
    assert len(found) == len(planned)
    assert (found["n"] == 40).all()
    assert found["accuracy"].between(0, 1).all()


@pytest.mark.parametrize("name", STUDY.experiments)
def test_gains_are_the_differences_to_their_arms(table, name):
    found = table(name)
    place = ["network", "site", "target", "regime", "trial"]
    for arm, keys in {"none": place, "identity": [*place, "tau"]}.items():
        base = found[found["arm"] == arm].set_index(keys)["accuracy"]
        shaped = found[(found["source"] != "any") & (found["arm"] != "fine_tuned")]  # it has no τ
        if arm == "none":  # the same whether noise would be on in training or at test
            shaped = shaped.assign(regime=shaped["regime"].map(without_noise))
        shaped = shaped.set_index(keys)
        difference = shaped["accuracy"] - base.reindex(shaped.index)
        pd.testing.assert_series_equal(
            shaped[f"gain_over_{arm}"], difference, check_names=False, check_exact=False
        )


TAUS = {
    "attacks": {"0", "2.0"},
    "layer_sweep": {"0", "0.5"},
    "trace_sweep": {"0", "unscaled", "0.5", "2.0"},
    "adversarial_training": {"0", "2.0"},
    "input_noise": {"0", "0.5"},
    "cross": {"0", "2.0"},
    "audit": {"0", "2.0"},
    "controls": {"0", "0.5"},
}


@pytest.mark.parametrize(("name", "taus"), TAUS.items())
def test_tau_is_text_and_that_of_no_noise_is_0(results, table, name, taus):
    csv = pd.read_csv(results / f"tables/{name}.csv", dtype={"tau": str})
    pd.testing.assert_frame_equal(csv, table(name), check_dtype=False)
    assert set(csv["tau"]) == taus
    assert set(csv[csv["tau"] == "0"]["arm"]) - {"fine_tuned"} == {"none"}
    assert set(csv[csv["arm"] == "none"]["tau"]) == {"0"}


def test_an_attack_is_tested_at_the_strength_of_its_source(table):
    found = table("attacks").query("source != 'any'")
    assert set(found[["source", "target"]].itertuples(index=False, name=None)) == {
        ("pgd@0.05", "pgd@0.05"),
        ("pgd@0.05", "fgm@0.05"),
        ("pgd@0.1", "pgd@0.1"),
        ("pgd@0.1", "fgm@0.1"),
        ("auto_pgd@0.1", "auto_pgd@0.1"),
        ("auto_pgd@0.1", "fgm@0.1"),
        ("square@0.1", "square@0.1"),
        ("square@0.1", "fgm@0.1"),
    }


def test_networks_trained_adversarially_are_tested_as_they_are(table):
    found = table("adversarial_training")
    assert set(found["network"]) == {"v2", "v2+pgd@0.1x0.5"}
    for network, regime in {"v2": "retrain", "v2+pgd@0.1x0.5": "inference"}.items():
        assert set(found[found["network"] == network]["regime"]) == {regime}
    assert set(found[found["regime"] == "inference"]["arm"]) == {"none"}


def test_input_noise_is_another_network_under_the_same_targets(table):
    found = table("input_noise")
    keys = ["source", "target", "arm", "tau", "trial"]
    plain, noisy = (
        found[found["network"] == network].set_index(keys)["accuracy"].sort_index()
        for network in ("v2", "v2+input_noise@0.2")
    )
    assert plain.index.equals(noisy.index)
    assert (plain != noisy).any()


def test_experiments_that_share_evaluations_agree(table):
    layer = table("layer_sweep").query("site == 'L3'")
    for name in ("trace_sweep", "input_noise"):
        shared = table(name).query("network == 'v2' and tau in ['0', '0.5']")
        pd.testing.assert_frame_equal(
            shared[[*CELL, "accuracy"]].reset_index(drop=True),
            layer[[*CELL, "accuracy"]].reset_index(drop=True),
        )


def test_arms_are_compared_at_the_clean_validation_accuracy_of_full(results, table):
    found = pd.read_parquet(results / "tables/trace_sweep_matched.parquet")
    keys = ["arm", "target", "reference_tau", "trial"]
    arms = ["identity", "diagonal", "full"]
    every = product(arms, ["clean@0", "motion_blur@5"], ["0.5", "2.0"], [0, 1])
    assert sorted(found[keys].itertuples(index=False, name=None)) == sorted(every)
    assert set(found["source"]) == {"motion_blur@5"}
    images = found["clean_accuracy"] * 20 * 4  # a mean of two trials, where it would rise of two τ
    assert images.to_numpy() == pytest.approx(images.round().to_numpy())
    full = found[(found["arm"] == "full") & (found["reference_tau"] == "2.0")]
    assert full["tau"].to_numpy() == pytest.approx(2.0)
    tested = table("trace_sweep").query("arm == 'full' and tau == '2.0'")
    on = ["source", "target", "trial"]
    pd.testing.assert_series_equal(
        full.set_index(on)["accuracy"].sort_index(), tested.set_index(on)["accuracy"].sort_index()
    )
    page = (ROOT / "docs/tables.md").read_text().split("## At equal")[1].split("\n## ")[0]
    assert [column for column in found if f"`{column}`" not in page] == []


def test_validation_images_are_in_records_of_their_own_and_in_no_table(results):
    records = [pd.read_parquet(p) for p in results.glob("evaluation/**/validation@0/*.parquet")]
    validated = pd.concat(records)
    tested = pd.read_parquet(next(results.glob("evaluation/**/blur/*.parquet")))
    assert validated["image"].nunique() == 20
    assert not set(validated["image"]) & set(tested["image"])
    for path in (results / "tables").glob("*.csv"):
        assert "validation@0" not in path.read_text()


CROSSED = ["pgd@0.05", "pgd@0.1", "auto_pgd@0.1", "square@0.1"]


def test_geometry_has_every_two_sources_once_and_is_tested_against_the_gain(results):
    tables = {
        kind: pd.read_parquet(results / f"tables/cross_{kind}.parquet")
        for kind in ("geometry", "spectra", "mantel")
    }
    pairs = tables["geometry"]
    for trial in (0, 1):
        own = pairs[pairs["trial"] == trial]
        found = list(own[["source", "other"]].itertuples(index=False, name=None))
        assert found == list(combinations(CROSSED, 2))
    assert pairs["bures"].between(0, 2**0.5).all()
    assert pairs["cka"].between(0, 1).all()
    spectra = tables["spectra"]
    assert len(spectra.drop_duplicates(["source", "trial"])) == len(CROSSED) * 2
    assert spectra.groupby(["source", "trial"])["share"].sum().max() < 1 + 1e-6
    assert spectra["class_share"].between(0, 1).all()
    tests = tables["mantel"].set_index("measure")
    assert (tests["cells"] == len(CROSSED) * (len(CROSSED) - 1)).all()
    assert tests["p"].between(0, 1).all()
    for kind, table in tables.items():
        csv = pd.read_csv(results / f"tables/cross_{kind}.csv", dtype={"tau": str})
        pd.testing.assert_frame_equal(csv, table, check_dtype=False)


def test_columns_of_geometry_are_documented(results):
    page = (ROOT / "docs/tables.md").read_text().split("## The geometry")[1].split("\n## ")[0]
    kinds = "geometry", "spectra", "mantel"
    tables = [pd.read_parquet(results / f"tables/cross_{kind}.parquet") for kind in kinds]
    assert [c for table in tables for c in table if f"`{c}`" not in page] == []


@pytest.mark.parametrize("unit", ["pgd", "others"])
def test_noise_is_shown_for_each_unit_of_sources(results, unit):
    for suffix in FORMATS:
        sheet = results / f"figures/noise/v2/L3/tau2.0/{unit}/0-1.{suffix}"
        assert sheet.stat().st_size > 5000


def test_controls_are_trained_under_noise_of_their_own(results, table):
    own = table("controls").query("regime == 'retrain'")
    assert {"signal", "pooled", "half_a", "fine_tuned"} < set(own["arm"])
    noisy = results / "noisy/v2/L3/tau0.5"
    units = {"motion_blur@5": 1, "motion_blur@5+half_a": 0, "any+signal": 0, "any+pooled": 0}
    suffixes = [
        next(iter(load_file(noisy / unit / "0-1.safetensors").values()))[row]
        for unit, row in units.items()
    ]
    assert all(not torch.equal(a, b) for a, b in combinations(suffixes, 2))


def test_fine_tuning_is_a_suffix_of_modified_images_without_noise(results, table):
    """It is another suffix than that of arm none, and certain in every pass."""
    unit = "motion_blur@5+fine_tuned"
    own, none = (
        load_file(results / f"noisy/v2/L3/tau0/{name}/0-1.safetensors") for name in (unit, "any")
    )
    assert all(own[name].shape == none[name].shape for name in none)
    assert not torch.equal(*(next(iter(suffix.values())) for suffix in (own, none)))
    (path,) = (results / f"evaluation/retrain/v2/L3/tau0/{unit}").glob("*/0-1.parquet")
    records = pd.read_parquet(path)
    assert set(records["source"]) == {"motion_blur@5"}
    assert records["draws_correct"].isin([0, STUDY.evaluation.passes]).all()
    rows = table("controls").query("arm == 'fine_tuned'")
    assert set(rows["target"]) == {"clean@0", "motion_blur@5"}
    assert rows[["gain_over_none", "gain_over_identity"]].notna().all(axis=None)


def test_the_noise_is_on_where_the_regime_says(results):
    """Of the noise of motion blur: arm full has both effects, each regime one of them."""
    draws = {
        regime: pd.concat(
            pd.read_parquet(path)
            for path in (results / "evaluation" / regime / "v2/L3").glob("tau0*/*/blur/*.parquet")
        ).query("arm in ['none', 'full']")
        for regime in ("retrain", "trained_only", "tested_only")
    }
    assert set(draws["trained_only"]["arm"]) == set(draws["tested_only"]["arm"]) == {"full"}
    certain = [0, STUDY.evaluation.passes]  # the same in all passes
    assert draws["trained_only"]["draws_correct"].isin(certain).all()
    assert not draws["tested_only"]["draws_correct"].isin(certain).all()


def test_an_audit_judges_every_noise_and_checks_the_attacks(results, table):
    judged = table("audit_verdicts")
    assert set(judged["arm"]) == {"identity", "diagonal", "full", "none"}
    assert set(judged.query("arm == 'none'")["network"]) == {"v2+pgd@0.1x0.5"}
    assert set(judged["verdict"]) <= set(get_args(Verdict))
    audited = table("audit_audit")
    attacks = {"pgd", "pgd_eot", "pgd_eot.m1", "rays_eot", "auto_attack"}
    assert attacks | {"one_draw", "competent"} == set(audited["attack"])
    assert set(audited.query("attack == 'pgd_eot.m1'")["passes"]) == {1}
    probes = table("audit_probes")
    assert probes["zero_gradients"].between(0, 1).all()
    assert probes.query("arm != 'none'")["trace"].between(0.8, 1.2).all()
    robust = table("audit_robustness").dropna(subset="threat").groupby("threat")["attacks"].unique()
    assert robust.map(list).to_dict() == {
        "Linf@0.05": ["pgd"],
        "Linf@0.1": ["pgd pgd_eot pgd_eot.m1"],
    }
    checks = [check["check"] for check in json.loads((results / "checks/audit.json").read_text())]
    assert "accuracy under pgd_eot minus under pgd_eot.m1" in checks
    assert any("covariance of the injected noise" in check for check in checks)


def test_learning_curves_have_every_suffix(results, table):
    losses = pd.read_parquet(results / "tables/attacks_losses.parquet")
    keys = ["study", "network", "site", "source", "tau", "arm", "trial"]
    curves, rows = (
        set(one[keys].itertuples(index=False, name=None)) for one in (losses, table("attacks"))
    )
    assert curves == rows
    assert (losses["loss"] > 0).all()
    assert losses["epoch"].between(0, 1).all()
    assert not losses.duplicated([*keys, "epoch"]).any()


def test_published_cells_are_compared_where_both_are(results):
    (check,) = json.loads((results / "checks/attacks.json").read_text())
    assert not check["required"]
    cells = pd.read_parquet(results / "checks/attacks_cells.parquet")
    assert set(cells["modification"]) == {"pgd"}
    assert set(cells["strength"]) == {0.1}
    assert set(cells["arm"]) == set(STUDY.noise.arms)


def test_a_second_run_does_nothing(project):
    assert project.planned(configfile=CONFIG) == {}
