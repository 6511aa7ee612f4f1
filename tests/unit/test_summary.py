"""From records to the summary, the families, the variance components and the robustness of an experiment."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from noisetransfer.artifacts import read_table, write_table
from noisetransfer.components import COMPONENTS, components, variance_table
from noisetransfer.corruption_error import corruption_errors, mean_corruption_error, robustness
from noisetransfer.errors import StudyError
from noisetransfer.families import BLOCK, DOMINANCE, families, family
from noisetransfer.modifications import MODIFICATIONS
from noisetransfer.outcomes import KEYS, Outcome, outcomes
from noisetransfer.statistics import accuracies, transfer_table
from noisetransfer.summary import COLUMNS, summary

PLACE = {"study": "s", "network": "v2", "site": "L2", "regime": "retrain", "K": 10}
SOURCES = ["fog@3", "snow@5", "rotate@2.0"]
TARGETS = ["clean@0", *SOURCES, "fog@1", "pgd@0.1", "fgm@0.1", "pgd@0.2"]
ATTACKS = {"pgd", "fgm"}


def records(arms, trials, images=40, targets=TARGETS, skill=None):
    """Return records of every noise under every target; `skill` of (arm, source, target) in logits."""
    random, frames = np.random.default_rng(3), []
    skill = skill or (lambda arm, source, target: 0.5 + (source == target))
    hard = random.normal(size=images)
    noises = [(a, s) for a in arms for s in (SOURCES if a == "full" else ["any"])]
    for arm, source in noises:
        for target in targets:
            for trial in range(trials):
                chance = 1 / (1 + np.exp(-skill(arm, source, target) - hard))
                right = random.random(images) < chance
                names = {"source": source, "arm": arm, "target": target, "trial": trial}
                one = {"image": np.arange(images) + 7, "label": 1, "prediction": right.astype(int)}
                draws = random.binomial(10, chance)
                own = names | PLACE | {"tau": "0" if arm == "none" else "0.5"}
                frames.append(pd.DataFrame(one | {"draws_correct": draws}).assign(**own))
    return pd.concat(frames, ignore_index=True)


ARMS = ["none", "identity", "full"]
RECORDS = {trials: records(ARMS, trials) for trials in (2, 5)}
FOUND = {trials: outcomes([table]) for trials, table in RECORDS.items()}
SUMMARY = {trials: summary(*found, seed=1) for trials, found in FOUND.items()}


# outcomes


def test_order_and_parts_of_the_records_do_not_matter():
    table = RECORDS[2].sample(frac=1, random_state=1)
    cells, found = outcomes([table[table["trial"] == 1], table[table["trial"] == 0]])
    pd.testing.assert_frame_equal(cells, FOUND[2][0])
    for one, other in zip(found, FOUND[2][1], strict=True):
        assert np.array_equal(one.right, other.right)
        assert np.array_equal(one.draws, other.draws)
        assert np.array_equal(one.images, np.arange(40) + 7)


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.drop(index=3),
        lambda table: pd.concat([table, table]),
        lambda table: table.assign(image=table["image"] + table["trial"]),
    ],
    ids=["an image is missing", "twice", "other images in another trial"],
)
@pytest.mark.parametrize("blocks", [False, True])
def test_trials_on_other_images_are_an_error_that_names_the_cell(damage, blocks):
    table = damage(records(["none"], 2, targets=["clean@0"]))
    parts = [own for _, own in table.groupby("trial")] if blocks else [table]
    with pytest.raises(StudyError, match=r"target clean@0, arm none.*same images, each once"):
        outcomes(parts)


# the summary


@pytest.mark.parametrize("trials", FOUND)
def test_means_are_those_of_the_table_of_trials(trials):
    found = SUMMARY[trials]
    assert list(found.columns) == [*COLUMNS, "resampled"]
    table = transfer_table([accuracies(RECORDS[trials])])
    values = ["accuracy", "gain_over_none", "gain_over_identity"]
    means = table.groupby(KEYS)[values].mean().reset_index()
    pd.testing.assert_frame_equal(found[[*KEYS, *values]], means, check_dtype=False, atol=1e-7)
    assert set(found["trials"]) == {trials}
    assert set(found["n"]) == {40}
    assert set(found["resampled"]) == {"images" if trials == 2 else "images and trials"}


@pytest.mark.parametrize("trials", FOUND)
@pytest.mark.parametrize("value", ["accuracy", "gain_over_none", "gain_over_identity"])
def test_intervals_hold_the_means(trials, value):
    found = SUMMARY[trials].dropna(subset=f"{value}_low")
    assert len(found) > 20
    assert (found[f"{value}_low"] <= found[value]).all()
    assert (found[value] <= found[f"{value}_high"]).all()


def test_an_arm_gains_nothing_over_itself_and_is_not_tested():
    for arm in ("none", "identity"):
        own = SUMMARY[2][SUMMARY[2]["arm"] == arm]
        assert (own[f"gain_over_{arm}"] == 0).all()
        assert own.filter(regex=f"gain_over_{arm}_").isna().all(axis=None)


@pytest.mark.parametrize("gain", ["gain_over_none", "gain_over_identity"])
def test_p_values_are_adjusted_over_the_cells_of_an_arm(gain):
    own = SUMMARY[5][SUMMARY[5]["arm"] == "full"]
    known = false_discovery_control(own[f"{gain}_p"])
    assert own[f"{gain}_p_adjusted"].to_numpy() == pytest.approx(known)


def test_gains_over_arms_that_were_not_run_are_empty_and_no_family():
    found = summary(*outcomes([records(["full"], 2)]), seed=1)
    assert found.filter(like="gain").isna().all(axis=None)
    assert found[["accuracy", "accuracy_low", "accuracy_high"]].notna().all(axis=None)


def test_other_cells_do_not_change_an_interval():
    fewer = summary(*outcomes([records(ARMS, 2, targets=TARGETS[:3])]), seed=1)
    again = summary(*outcomes([records(ARMS, 2, targets=TARGETS[:3])]), seed=1)
    pd.testing.assert_frame_equal(fewer, again)
    one = outcomes([RECORDS[2][RECORDS[2]["arm"] != "identity"]])
    values = ["accuracy_low", "gain_over_none_high", "gain_over_none_p"]
    left = summary(*one, seed=1).set_index(KEYS)[values]
    pd.testing.assert_frame_equal(left, SUMMARY[2].set_index(KEYS).loc[left.index, values])


def test_empty_columns_can_be_written_and_read(tmp_path):
    tables = [
        summary(*outcomes([records(["full"], 2)]), seed=1),
        robustness(*outcomes([records(["full"], 2, targets=["clean@0"])]), ATTACKS, seed=1),
        families(*outcomes([records(["none"], 2, targets=["clean@0"])]), seed=1),
    ]
    for table in tables:
        write_table(tmp_path / "x.parquet", table)
        assert list(read_table(tmp_path / "x.parquet").columns) == list(table.columns)


# families


@pytest.mark.parametrize("name", MODIFICATIONS)
def test_every_modification_has_the_family_of_its_registry(name):
    entry = MODIFICATIONS[name]
    strength = next(s for s in (0, 1) if entry.strengths.allow(s))
    assert family(f"{name}@{strength}") == entry.family
    assert family("any") == "any"


@pytest.mark.parametrize("trials", FOUND)
def test_block_means_are_the_means_of_the_cells(trials):
    found = families(*FOUND[trials], seed=1)
    own = SUMMARY[trials][SUMMARY[trials]["arm"] == "full"]
    weather = own[own["source"].isin(["fog@3", "snow@5"]) & own["target"].str.match("fog|snow")]
    for value in ("gain_over_none", "gain_over_identity"):
        chosen = found[(found["value"] == value) & (found["arm"] == "full")]
        (block,) = chosen[
            (chosen["source_family"] == "weather") & (chosen["target_family"] == "weather")
        ].itertuples()
        assert (block.statistic, block.cells, block.n) == (BLOCK, 6, 40)
        assert block.mean == pytest.approx(weather[value].mean(), abs=1e-6)
        assert block.low < block.mean < block.high


def test_diagonal_dominance_is_own_minus_other():
    found = families(*FOUND[5], seed=1)
    (row,) = found[found["statistic"] == DOMINANCE].itertuples()
    own = SUMMARY[5][SUMMARY[5]["arm"] == "full"]
    cells = own.pivot_table(index="target", columns="source", values="gain_over_none").loc[SOURCES]
    diagonal = np.diag(cells[SOURCES])
    others = (cells.sum(axis=1).to_numpy() - diagonal) / 2
    assert row.mean == pytest.approx(np.mean(diagonal - others), abs=1e-6)
    assert row.cells == 3
    assert 0 < row.low < row.mean < row.high  # the records are made so


# variance components


def drawn(trials, images, passes, of):
    """Return draws of a linear layout: success is a chance with effects of trial, image and both."""
    random = np.random.default_rng(1)
    sizes = {"trial": (trials, 1), "image": (1, images), "both": (trials, images)}
    chance = 0.5 + sum(random.uniform(-1, 1, sizes[k]) * np.sqrt(3 * v) for k, v in of.items())
    draws = random.binomial(passes, chance).astype(np.int32)
    return Outcome(np.arange(trials), np.arange(images), draws > passes / 2, draws, passes)


def test_components_are_those_that_the_draws_were_made_with():
    of = {"trial": 0.008, "image": 0.015, "both": 0.004}
    found = components(drawn(400, 400, 10, of))
    total = 0.25  # of a success with chance ½ on average
    expected = [*of.values(), total - sum(of.values())]
    assert [found[name] for name in COMPONENTS] == pytest.approx(expected, rel=0.12)
    assert sum(found.values()) == pytest.approx(total, rel=0.02)


def test_components_that_cannot_be_told_apart_are_empty():
    of = {"trial": 0.0, "image": 0.02, "both": 0.005}
    one = components(drawn(1, 20000, 10, of))
    assert np.isnan([one["variance_trial"], one["variance_trial_image"]]).all()
    assert one["variance_image"] == pytest.approx(0.025, rel=0.1)
    single = components(drawn(50, 400, 1, of))
    assert np.isnan(single["variance_draw"])
    assert single["variance_trial_image"] == pytest.approx(0.23, rel=0.05)


def test_variance_table_has_the_mean_over_the_cells_of_each_arm():
    cells, found = FOUND[2]
    table = variance_table(cells, found).set_index("arm")
    assert table["cells"].to_dict() == {"none": 8, "identity": 8, "full": 24}
    own = [components(one) for one, arm in zip(found, cells["arm"], strict=True) if arm == "full"]
    assert table.loc["full", COMPONENTS].tolist() == pytest.approx(
        pd.DataFrame(own)[COMPONENTS].mean().tolist()
    )


# robustness


def test_corruption_error_is_that_of_hendrycks_and_dietterich():
    errors = {"fog@1": 0.1, "fog@5": 0.5, "snow@5": 0.3}
    baseline = {"fog@1": 0.3, "fog@5": 0.9, "snow@5": 0.6, "frost@1": 0.1}
    assert corruption_errors(errors, baseline) == pytest.approx({"fog": 0.5, "snow": 0.5})
    assert mean_corruption_error({**errors, "snow@5": 0.6}, baseline) == pytest.approx(0.75)
    assert np.isnan(mean_corruption_error({}, baseline))
    assert np.isnan(mean_corruption_error({"fog@1": 0.1}, {"fog@1": 0.0}))


def test_robustness_of_every_noise():
    table = robustness(*FOUND[5], ATTACKS, seed=1)
    assert len(table) == 5 * 2  # noises × ε
    means = SUMMARY[5].set_index(["arm", "source", "target"])["accuracy"].sort_index()
    error = 1 - means.loc["full", "snow@5"][["fog@1", "fog@3", "snow@5"]]
    base = 1 - means.loc["none", "any"][["fog@1", "fog@3", "snow@5"]]
    ratios = [error[:2].sum() / base[:2].sum(), error.iloc[2] / base.iloc[2]]
    (row, other) = table.query("arm == 'full' and source == 'snow@5'").itertuples()
    assert row.mce == other.mce == pytest.approx(np.mean(ratios))
    assert (row.mce_baseline, row.corruptions, row.severities) == ("none", 2, "1 3 5")
    assert row.clean_accuracy == pytest.approx(means["full", "snow@5", "clean@0"])
    assert table.query("arm == 'none'")["mce"].tolist() == [1, 1]


@pytest.mark.parametrize("regime", ["trained_only", "tested_only"])
def test_corruption_error_is_relative_to_the_network_without_noise_whatever_the_regime(regime):
    cells, found = FOUND[2]
    shaped = cells["arm"] == "full"
    other = cells.assign(regime=cells["regime"].mask(shaped, regime))
    mces = [
        robustness(one, found, ATTACKS, 1).query("arm == 'full'")["mce"] for one in (cells, other)
    ]
    assert mces[0].notna().all()
    assert mces[0].tolist() == mces[1].tolist()


def test_robust_accuracy_is_the_worst_case_per_image():
    table = robustness(*FOUND[2], ATTACKS, seed=1).query("arm == 'none'").set_index("threat")
    own = RECORDS[2].query("arm == 'none'").assign(right=lambda t: t["prediction"] == t["label"])
    both = own[own["target"].isin(["pgd@0.1", "fgm@0.1"])]
    worst = both.groupby(["trial", "image"])["right"].all().mean()
    assert table.loc["Linf@0.1", "robust_accuracy"] == pytest.approx(worst)
    assert table.loc["Linf@0.1", "attacks"] == "fgm pgd"
    assert table.loc["Linf@0.2", "attacks"] == "pgd"
    assert (table["robust_accuracy_low"] <= table["robust_accuracy"]).all()


def test_robust_accuracy_is_of_attacks_that_someone_can_run_and_all_noises_met():
    cells, found = FOUND[2]
    kept = (cells["target"] != "fgm@0.1") | (cells["arm"] != "identity")
    named = cells.assign(target=cells["target"].replace("pgd@0.2", "pgd.known@0.1"))
    table = robustness(named[kept], found, ATTACKS, seed=1)
    assert set(table["threat"]) == {"Linf@0.1"}
    assert set(table["attacks"]) == {"pgd"}
    accuracy = SUMMARY[2].query("target == 'pgd@0.1'").set_index(["arm", "source"])["accuracy"]
    own = table.set_index(["arm", "source"])["robust_accuracy"]
    pd.testing.assert_series_equal(own, accuracy[own.index], check_names=False)


def test_without_an_attack_in_common_there_is_no_robust_accuracy():
    cells, found = FOUND[2]
    attack = cells["arm"].map({"none": "pgd@0.1", "identity": "fgm@0.1", "full": "fgm@0.1"})
    own = cells[(cells["target"] == "clean@0") | (cells["target"] == attack)]
    table = robustness(own, found, ATTACKS, seed=1)
    assert len(table) == 5
    assert table["robust_accuracy"].isna().all()


def test_what_has_no_targets_is_empty():
    (row,) = robustness(
        *outcomes([records(["none"], 2, targets=["rotate@2.0"])]), ATTACKS, 1
    ).itertuples()
    assert np.isnan([row.clean_accuracy, row.mce, row.robust_accuracy]).all()
    (row,) = robustness(
        *outcomes([records(["identity"], 2, targets=["fog@1"])]), ATTACKS, 1
    ).itertuples()
    assert np.isnan(row.mce)  # nothing to compare with
    assert row.corruptions == 1
