import math

import numpy as np
import pandas as pd
import pytest

from noisetransfer.attacks import ATTACKS
from noisetransfer.auditing import (
    attacked,
    audit_table,
    plateau,
    verdict,
    verdicts,
    worst_cases,
)
from noisetransfer.errors import StudyError

K, N = 20, 200


def budget(attack, **own):
    return {"attack": attack, **ATTACKS[attack].budget.model_validate(own).model_dump()}


BUDGETS = {
    "pgd": budget("pgd"),
    "auto_pgd_eot": budget("auto_pgd_eot"),
    "auto_pgd_eot.m1": budget("auto_pgd_eot", passes=1),
    "auto_pgd_eot.known": budget("auto_pgd_eot", against="known_seed"),
    "auto_pgd_l2_eot": budget("auto_pgd_l2_eot"),
    "auto_pgd_l2_eot.m1": budget("auto_pgd_l2_eot", passes=1),
    "random_noise": budget("random_noise"),
}
KEYS = {"study": "s", "network": "v2", "site": "L2", "regime": "retrain"}


def records(target, wrong, arm="full", trials=(0, 1), source="pgd@0.1", tau="2.0", draws=K):
    """Records of N images of which those numbered in `wrong` are wrong."""
    image = np.arange(N)
    own = {"source": source, "target": target, "arm": arm, "tau": tau, "K": K}
    right = ~np.isin(image, list(wrong))
    frame = pd.DataFrame({"image": image, "label": 1, "prediction": right.astype(int)})
    frame["draws_correct"] = np.where(right, draws, 0)
    return pd.concat([frame.assign(trial=trial, **KEYS, **own) for trial in trials])


def none(target, wrong, **own):
    return records(target, wrong, arm="none", source="any", tau="0", **own)


def identity(target, wrong):
    return records(target, wrong, arm="identity", source="any")


def judged(*frames):
    found = attacked(pd.concat(frames), BUDGETS)
    return verdicts(found, BUDGETS, 0)


def test_accuracies_and_budgets_of_an_attack():
    frames = [records("pgd@0.1", range(50)), records("auto_pgd_eot.m1@0.1", range(80), draws=15)]
    clean = records("clean@0", [])
    table = audit_table(attacked(pd.concat([*frames, clean]), BUDGETS), BUDGETS)
    assert sorted(table["attack"].unique()) == ["auto_pgd_eot.m1", "pgd"]
    own = table[table["attack"] == "auto_pgd_eot.m1"].iloc[0]
    assert (own["n"], own["epsilon"], own["passes"], own["against"]) == (N, 0.1, 1, "noisy")
    assert own["rest"] == "mean=losses, step_size=2.0"
    assert own["accuracy"] == pytest.approx(0.6)
    assert own["single_draw"] == pytest.approx(0.6 * 15 / K)
    # ten draws of twenty, five of them wrong: all are right in C(15, 10) of C(20, 10) cases
    all_right = math.comb(15, 10) / math.comb(20, 10)
    assert own["error_in_10"] == pytest.approx(1 - 0.6 * all_right)


def test_too_few_draws_leave_the_errors_of_many_tries_open():
    few = records("pgd@0.1", range(50)).assign(K=4, draws_correct=4)
    assert audit_table(attacked(few, BUDGETS), BUDGETS)["error_in_10"].isna().all()


def test_the_worst_case_is_taken_image_by_image():
    frames = [
        records("pgd@0.1", range(50)),
        records("auto_pgd_eot@0.1", range(40, 100)),
        records(
            "auto_pgd_eot.known@0.1", range(200)
        ),  # sees the noise that scores it: no attacker can
        records("random_noise@0.1", range(100, 120)),  # no attack
    ]
    found = worst_cases(attacked(pd.concat(frames), BUDGETS), BUDGETS)
    accuracy = found.groupby("attack")["right"].mean()
    assert accuracy.to_dict() == {"one_draw": 0.75, "competent": 0.5}


def test_the_worst_is_of_attacks_that_all_met_in_a_ball():
    """Otherwise the noise that more attacks were tried on would seem the weaker."""
    frames = [
        records("pgd@0.1", range(50)),
        records("auto_pgd_eot.m1@0.1", range(40, 100)),
        records("auto_pgd_eot@0.1", range(150)),
        identity("pgd@0.1", range(60)),
        identity("auto_pgd_eot.m1@0.1", range(80)),
        # elsewhere, or under none that counts
        records("auto_pgd_eot@0.2", range(30)),
        none("random_noise@0.1", range(10)),
        none("auto_pgd_eot.known@0.1", range(150)),
    ]
    found = worst_cases(attacked(pd.concat(frames), BUDGETS), BUDGETS)
    accuracy = found.groupby(["epsilon", "arm", "attack"])["right"].mean()
    assert accuracy.to_dict() == {
        (0.1, "full", "one_draw"): 0.75,
        (0.1, "full", "competent"): 0.5,
        (0.1, "identity", "one_draw"): 0.7,
        (0.1, "identity", "competent"): 0.6,
        (0.2, "full", "competent"): 0.85,
    }


def test_noises_that_met_no_attack_in_common_have_no_worst():
    frames = [records("pgd@0.1", range(50)), identity("auto_pgd_eot@0.1", range(60))]
    assert worst_cases(attacked(pd.concat(frames), BUDGETS), BUDGETS).empty


@pytest.mark.parametrize(
    ("adaptive", "word"),
    [(range(60), "holds"), (range(100), "shrinks"), (range(150), "vanishes")],
)
def test_verdict_on_the_gain_over_no_noise(adaptive, word):
    frames = [none("pgd@0.1", range(150)), none("auto_pgd_eot@0.1", range(150))]
    frames += [records("pgd@0.1", range(50)), records("auto_pgd_eot@0.1", adaptive)]
    row = judged(*frames).iloc[0]
    assert (row["over"], row["arm"], row["verdict"]) == ("none", "full", word)
    assert row["gain_one_draw"] == pytest.approx(0.5)
    assert row["gain_competent"] == pytest.approx((150 - len(adaptive)) / N)
    assert (row["n"], row["trials"]) == (N, 2)


def test_the_reference_is_attacked_as_hard():
    """A gain holds where a competent attacker breaks what it is compared with as well."""
    frames = [none("pgd@0.1", range(100)), none("auto_pgd_eot@0.1", range(200))]
    frames += [records("pgd@0.1", range(50)), records("auto_pgd_eot@0.1", range(150))]
    assert judged(*frames).iloc[0]["verdict"] == "holds"


def test_both_are_judged_by_the_attacks_that_both_were_tested_under():
    """Otherwise the one that more attacks were tried on would seem the weaker."""
    frames = [none("pgd@0.1", range(150)), none("auto_pgd_eot@0.1", range(150))]
    frames += [records("pgd@0.1", range(50)), records("auto_pgd_eot@0.1", range(60))]
    alone = records("auto_pgd_eot.m1@0.1", range(150))
    pd.testing.assert_frame_equal(judged(*frames, alone), judged(*frames))
    assert judged(*frames, alone, none("auto_pgd_eot.m1@0.1", [])).iloc[0]["verdict"] == "vanishes"


def test_balls_of_different_norms_are_not_mixed():
    """At one ε: what is within it in L2 is far smaller than in L∞."""
    frames = [none(t, range(150)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    frames += [records(t, range(50)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    other = [arm("auto_pgd_l2_eot@0.1", range(200)) for arm in (none, records)]
    pd.testing.assert_frame_equal(judged(*frames, *other), judged(*frames))
    worst = worst_cases(attacked(pd.concat([*frames, *other]), BUDGETS), BUDGETS)
    right = worst.groupby(["arm", "attack", "norm"])["right"].mean()
    assert right["full", "competent"].to_dict() == {"L2": 0.0, "Linf": 0.75}


def test_in_l2_adaptive_attacks_of_one_draw_stand_for_the_usual_ones():
    adaptive, one_draw = "auto_pgd_l2_eot@2.0", "auto_pgd_l2_eot.m1@2.0"
    frames = [none(t, range(150)) for t in (adaptive, one_draw)]
    row = judged(*frames, records(one_draw, range(50)), records(adaptive, range(100))).iloc[0]
    assert (row["norm"], row["epsilon"], row["verdict"]) == ("L2", 2.0, "shrinks")
    assert (row["gain_one_draw"], row["gain_competent"]) == pytest.approx((0.5, 0.25))


def test_a_network_trained_on_attacks_is_judged_as_noise_is():
    """Over the network trained on clean images, whose suffix was retrained without noise."""
    frames = [none(t, range(150)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    trained = [
        none(target, range(wrong)).assign(network="v2+pgd@0.1x0.5", regime="inference")
        for target, wrong in (("pgd@0.1", 50), ("auto_pgd_eot@0.1", 60))
    ]
    row = judged(*frames, *trained).iloc[0]
    assert (row["network"], row["arm"], row["over"]) == ("v2+pgd@0.1x0.5", "none", "none")
    assert (row["gain_one_draw"], row["gain_competent"]) == pytest.approx((0.5, 0.45))
    assert row["verdict"] == "holds"


def test_no_gain_to_begin_with_is_no_gain_that_vanished():
    frames = [none(t, range(60)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    frames += [records(t, range(60)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    assert judged(*frames).iloc[0]["verdict"] == "absent"


def test_gains_over_identity_are_at_its_trace_and_none_is_not_judged():
    frames = [
        arm(target, wrong)
        for target in ("pgd@0.1", "auto_pgd_eot@0.1")
        for arm, wrong in ((none, range(150)), (identity, range(100)), (records, range(20)))
    ]
    frames += [records(t, range(90), tau="0.5") for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    found = judged(*frames)
    seen = set(zip(found["over"], found["arm"], found["tau"], strict=True))
    assert seen == {
        ("none", "identity", "2.0"),
        ("none", "full", "2.0"),
        ("none", "full", "0.5"),
        ("identity", "full", "2.0"),
    }
    own = found[(found["over"] == "identity")].iloc[0]
    assert own["gain_competent"] == pytest.approx(0.4)


def test_intervals_are_those_of_images():
    frames = [none("pgd@0.1", range(150)), none("auto_pgd_eot@0.1", range(150))]
    frames += [records("pgd@0.1", range(50)), records("auto_pgd_eot@0.1", range(100))]
    row = judged(*frames).iloc[0]
    d = np.isin(np.arange(N), np.arange(50, 150)).astype(float)
    half = 1.9720 * d.std(ddof=1) / N**0.5
    assert row["gain_one_draw_low"] == pytest.approx(0.5 - half, abs=0.006)  # a bootstrap
    assert row["gain_one_draw_high"] == pytest.approx(0.5 + half, abs=0.006)
    assert row["resampled"] == "images"


def test_a_gain_on_four_images_is_no_sure_gain():
    """Their bootstrap leaves out 0, but of four coins all fall alike in one case of eight."""
    frames = [none(t, range(104)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    frames += [records(t, range(100)) for t in ("pgd@0.1", "auto_pgd_eot@0.1")]
    row = judged(*[frame[frame["trial"] == 0] for frame in frames]).iloc[0]
    assert row["gain_one_draw_low"] > 0
    assert row["verdict"] == "absent"


def test_five_trials_speak_of_new_trials_too():
    """Trials that differ widen the interval, which then is not that of their images alone."""
    arms = (none, 150), (records, 50)
    frames = [
        arm(target, range(wrong + shift)).assign(trial=trial)
        for target in ("pgd@0.1", "auto_pgd_eot@0.1")
        for arm, wrong in arms
        for trial, shift in enumerate([0, 10, 20, 30, 40] if arm is records else [0] * 5)
    ]
    once = [frame.drop_duplicates("image") for frame in frames]
    row = judged(*once).iloc[0]
    assert (row["trials"], row["resampled"]) == (5, "images and trials")
    assert row["gain_one_draw"] == pytest.approx(0.4)
    assert row["gain_one_draw_high"] - row["gain_one_draw"] > 0.09


def test_a_gain_that_trials_leave_open_has_not_vanished():
    """Half of it may well be left: the five trials differ too much to say."""
    arms = (none, [150] * 5), (records, [90] * 5)
    wrong = {"pgd@0.1": arms, "auto_pgd_eot@0.1": (arms[0], (records, [90, 90, 90, 150, 162]))}
    frames = [
        arm(target, range(number), trials=[trial])
        for target, own in wrong.items()
        for arm, numbers in own
        for trial, number in enumerate(numbers)
    ]
    row = judged(*frames).iloc[0]
    assert (row["gain_one_draw"], row["gain_competent"]) == pytest.approx((0.3, 0.168))
    assert row["gain_competent_low"] < 0
    assert row["verdict"] == "open"


def test_noise_in_training_alone_is_compared_with_the_same_arm_none():
    frames = [none(target, range(150)) for target in ("pgd@0.1", "auto_pgd_eot@0.1")]
    frames += [
        records(target, range(50)).assign(regime="trained_only")
        for target in ("pgd@0.1", "auto_pgd_eot@0.1")
    ]
    row = judged(*frames).iloc[0]
    assert (row["regime"], row["verdict"]) == ("trained_only", "holds")


def test_without_adaptive_attacks_there_is_nothing_to_judge():
    only = attacked(records("random_noise@0.1", range(50)), BUDGETS)
    with pytest.raises(StudyError, match="one draw a gradient and an adaptive one"):
        verdicts(only, BUDGETS, 0)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ((0.3, True), (0.25, True), "holds"),
        ((0.3, True), (0.2, True), "shrinks"),
        ((0.3, True), (0.168, False), "open"),
        ((0.3, True), (0.061, False), "open"),
        ((0.3, True), (0.059, False), "vanishes"),
        ((0.3, True), (-0.1, False), "vanishes"),
        ((0.3, True), (0.01, True), "shrinks"),
        ((0.3, False), (0.3, True), "absent"),
    ],
)
def test_words(before, after, word):
    gains, sure = zip(before, after, strict=True)
    assert verdict(*gains, *sure) == word


@pytest.mark.parametrize(
    ("accuracy", "found"),
    [
        ([0.5, 0.3, 0.201, 0.2], 20),
        ([0.2, 0.2, 0.2, 0.2], 1),
        ([0.5, 0.4, 0.3, 0.2], float("nan")),
        ([0.3, 0.2, 0.4, 0.2], 5),  # what goes up by chance does not begin another
    ],
)
def test_plateau(accuracy, found):
    order = [2, 0, 3, 1]
    effort = np.array([1, 5, 20, 50])[order]
    assert plateau(effort, np.array(accuracy)[order]) == pytest.approx(found, nan_ok=True)
