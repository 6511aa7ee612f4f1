"""Intervals and tests: known answers, coverage, and false discoveries, by simulation."""

from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, false_discovery_control, norm, ttest_1samp

from noisetransfer.crossed import crossed
from noisetransfer.uncertainty import bca, interval, p_value, sampled, sign_flip

RANDOM = np.random.default_rng(5)
START = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def _from_the_start():
    """Every test draws the same numbers, whichever tests run."""
    RANDOM.bit_generator.state = START


def right(trials, images, *, gain=0.0, of_trial=0.3, of_image=1.0):
    """Return which images are right under a noise and its baseline, (2, T, n), and the mean of the first."""
    trial = RANDOM.normal(size=(2, trials, 1)) * of_trial
    image = RANDOM.normal(size=images) * of_image
    rest = RANDOM.normal(size=(2, trials, images))
    level = np.array([1.0 + gain, 1.0]).reshape(2, 1, 1)
    spread = np.sqrt(1 + of_trial**2 + of_image**2)
    return (level + trial + image + rest > 0).astype(np.float32), norm.cdf(level.ravel() / spread)


# the crossed layout


def test_moments_are_those_of_the_textbook():
    found = crossed(np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 2.0]]))
    assert (found.mean, found.of_trials, found.of_images) == pytest.approx((3, 0, 1))
    # residuals: ±1, ±1, ∓2 of two trials and three images, 2 degrees of freedom
    assert found.of_rest == pytest.approx((1 + 1 + 4) * 2 / 2)


def test_without_effects_of_images_the_interval_is_that_of_student():
    values = np.repeat(RANDOM.normal(scale=0.1, size=(6, 1)), 50, axis=1)
    low, high = interval(values, "difference", RANDOM)
    own = ttest_1samp(values[:, 0], 0)
    assert (low, high) == pytest.approx(tuple(own.confidence_interval()))
    assert p_value(values) == pytest.approx(own.pvalue)


def test_variance_is_that_of_resampled_images_and_trials():
    (values, _), _ = right(40, 300, of_trial=0.4, of_image=1.5)
    trials, images = values.shape
    rows = RANDOM.multinomial(trials, np.full(trials, 1 / trials), 4000) / trials
    columns = RANDOM.multinomial(images, np.full(images, 1 / images), 4000) / images
    means = np.einsum("bt,bt->b", rows, (columns @ values.T))
    # resampling both counts the rest three times (Owen 2007)
    found = crossed(values)
    more = 2 * found.of_rest / (trials * images)
    assert means.var() == pytest.approx(found.variance + more, rel=0.1)


# coverage


@pytest.mark.parametrize("kind", ["accuracy", "difference"])
@pytest.mark.parametrize(
    ("trials", "of_trial", "of_image"),
    # of fewer than 5 trials it speaks of these alone
    [(10, 0.3, 1.0), (10, 0.5, 1.0), (10, 0.0, 2.0), (3, 0.0, 1.0)],
)
def test_intervals_cover_as_often_as_they_say(trials, kind, of_trial, of_image):
    hits, runs = 0, 500 if trials == 10 else 200
    for _ in range(runs):
        found, true = right(trials, 200, gain=0.5, of_trial=of_trial, of_image=of_image)
        values = found[0] if kind == "accuracy" else found[0] - found[1]
        low, high = interval(values, kind, RANDOM)
        hits += low <= (true[0] if kind == "accuracy" else true[0] - true[1]) <= high
    error = np.sqrt(0.95 * 0.05 / runs)
    assert 0.93 - 2 * error <= hits / runs <= 0.97 + 2 * error


def test_bca_is_that_of_scipy():
    values = RANDOM.choice([0, 0.5, 1], p=[0.85, 0.05, 0.1], size=400)
    found = bca(values, np.random.default_rng(1))
    known = bootstrap((values,), np.mean, n_resamples=4000, random_state=2).confidence_interval
    assert found == pytest.approx((known.low, known.high), abs=0.004)


@pytest.mark.parametrize("trials", [1, 4, 5])
def test_where_all_images_agree_some_may_have_been_missed(trials):
    low, high = interval(np.zeros((trials, 50), np.float32), "accuracy", RANDOM)
    assert low == 0
    assert high == pytest.approx(binomtest(0, 50).proportion_ci().high)
    low, high = interval(np.zeros((trials, 50), np.float32), "difference", RANDOM)
    assert low == -high


def test_trials_that_err_on_other_images_may_leave_every_image_alike():
    """The mean over two trials is the same on all images, though the trials differ."""
    first = np.arange(40) % 2
    low, high = interval(np.stack([first, 1 - first]), "accuracy", RANDOM)
    assert 0 < low < 0.5 < high < 1
    flips = np.zeros((2, 40))
    flips[:, 3] = 1, -1
    low, high = interval(flips, "difference", RANDOM)
    assert -1 < low < 0 < high < 1


def test_interval_of_an_accuracy_stays_within_0_and_1():
    values = np.zeros((5, 100), np.float32)
    values[0, 0] = values[1, 3] = 1
    low, high = interval(values, "accuracy", RANDOM)
    assert 0 < low < 0.004 < high < 0.1


def test_a_single_image_has_neither_interval_nor_test():
    one = np.ones((5, 1), np.float32)
    assert np.isnan([*interval(one, "accuracy", RANDOM), p_value(one)]).all()


def test_the_number_of_trials_says_what_is_a_sample():
    assert [sampled(n) for n in (1, 4, 5)] == ["images", "images", "images and trials"]


# tests


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (6, 0), (9, 2), (40, 60), (5, 5)])
def test_one_trial_is_tested_by_mcnemars_exact_test(won, lost):
    differences = np.array([[1.0] * won + [-1.0] * lost + [0.0] * 30])
    known = binomtest(won, won + lost).pvalue if won + lost else 1
    assert p_value(differences) == pytest.approx(known, rel=1e-9)


def test_sign_flips_of_several_trials_are_counted_out():
    differences = np.array([3, 3, -1, 2, 0])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    sums = np.abs(signs.T @ np.abs(differences))
    assert sign_flip(differences) == pytest.approx(np.mean(sums >= 7))


def test_p_values_are_no_smaller_than_rounding():
    assert sign_flip(np.ones(5000, np.int64)) == 1e-12
    assert sign_flip(np.ones(20, np.int64)) == pytest.approx(2 * comb(20, 20) / 2**20)
    assert p_value(np.ones((5, 100), np.float32)) == 1e-12


@pytest.mark.parametrize("trials", [1, 3, 5, 10])
@pytest.mark.parametrize("of_image", [0.2, 2.0])
def test_no_gain_is_found_more_often_than_the_level(trials, of_image):
    of_trial = 0.3 if trials >= 5 else 0.0
    runs = 600
    found = [right(trials, 100, of_trial=of_trial, of_image=of_image)[0] for _ in range(runs)]
    share = np.mean([p_value(own - base) < 0.05 for own, base in found])
    assert share <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("trials", [2, 10])
def test_false_discoveries_of_a_matrix_are_no_more_than_the_level(trials):
    """30 cells share a baseline; 10 have a true gain."""
    of_trial, runs = (0.2 if trials == 10 else 0.0), 80
    false = []
    for _ in range(runs):
        image, rest = RANDOM.normal(size=150), RANDOM.normal(size=(31, trials, 150))
        gains = np.repeat([0.0, 1.0], [21, 10]).reshape(-1, 1, 1)
        own = gains + RANDOM.normal(size=(31, trials, 1)) * of_trial + image + rest > 0
        differences = own[1:].astype(np.float32) - own[0]
        found = false_discovery_control([p_value(one) for one in differences]) < 0.05
        false.append(found[:20].sum() / max(found.sum(), 1))
        assert trials == 2 or found[20:].any()
    assert np.mean(false) <= 0.05 + 2 * np.std(false) / np.sqrt(runs)
