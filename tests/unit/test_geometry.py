"""Measures of covariances in factor form equal those of dense matrices, and what is known of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from noisetransfer import geometry
from noisetransfer.classes import ClassMeans
from noisetransfer.covariance import Covariance, from_tensors, to_tensors
from noisetransfer.geometry import (
    angles,
    class_share,
    compare,
    entropy_rank,
    pair_rows,
    participation_ratio,
    slope,
    spectrum_rows,
    structure,
)
from structures import D, correlated, covariance, dense, fitted

SYMMETRIC = ["bures", "cka", "angle_first", "angle_mean", "angle_last"]


def exact(seed):
    """Cholesky factor: no remainder."""
    return covariance("full", seed=seed)


def few(seed):
    """More units than images: the factor is the images, the remainder the ridge alone."""
    return fitted(correlated(15, D, seed), "full", {"relative": 1e-3})[0]


def singular(seed):
    """The same without a ridge: many directions have no variance at all."""
    return fitted(correlated(15, D, seed), "full")[0]


def low(seed):
    return covariance(6, seed=seed)


def high(seed):
    """Two of them have more columns than there are units."""
    return covariance(30, seed=seed)


PAIRS = {
    "exact, exact": (exact, exact),
    "low, low": (low, low),
    "high, high": (high, high),
    "few, few": (few, few),
    "singular, singular": (singular, singular),
    "exact, low": (exact, low),
    "low, singular": (low, singular),
    "low, few": (low, few),
}
EACH_PAIR = pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
EACH = pytest.mark.parametrize("make", [exact, low, high, few, singular])


def of(values, d=None, directions=None, remainder=0.0):
    """Return a covariance with given eigenvalues along the first axes, or along given columns."""
    d = d or len(values)
    axes = torch.eye(d)[:, : len(values)] if directions is None else directions
    factor = axes * torch.tensor(values).sqrt()
    return Covariance(torch.zeros(d), factor, remainder, factor.square().sum(1) + remainder)


def normalised(covariance):
    matrix = dense(covariance).numpy()
    return matrix / np.trace(matrix)


def dense_bures(a, b):
    root = sqrtm(a + 1e-15 * np.eye(len(a)))
    inner = np.linalg.eigvalsh((root @ b @ root).real)
    return np.sqrt(max(0, 2 - 2 * np.sqrt(inner.clip(0)).sum()))


# against dense formulas


@EACH_PAIR
def test_bures_and_cka_are_those_of_the_dense_matrices(pair):
    first, second = pair[0](0), pair[1](1)
    found = compare(structure(first), structure(second))
    a, b = normalised(first), normalised(second)
    assert found["bures"] == pytest.approx(dense_bures(a, b), abs=1e-5)
    cosine = np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert found["cka"] == pytest.approx(cosine, rel=1e-6)


@EACH_PAIR
def test_angles_are_those_between_the_leading_eigenvectors(pair, monkeypatch):
    monkeypatch.setattr(geometry, "LEADING", 4)
    first, second = pair[0](0), pair[1](1)
    a, b = (np.linalg.eigh(normalised(one))[1][:, -4:] for one in (first, second))
    cosines = np.linalg.svd(a.T @ b, compute_uv=False)
    found = angles(structure(first), structure(second))
    np.testing.assert_allclose(np.sort(found), np.degrees(np.arccos(cosines)), atol=1e-2)
    told = compare(structure(first), structure(second))
    assert told["angles"] == 4
    assert told["angle_first"] <= told["angle_mean"] <= told["angle_last"] <= 90


@EACH
def test_spectrum_and_effective_ranks_are_those_of_the_dense_matrix(make):
    own = make(0)
    values = np.linalg.eigvalsh(normalised(own))[::-1]
    found = structure(own)
    count = len(found.values)
    np.testing.assert_allclose(found.values + found.remainder, values[:count], atol=1e-7)
    positive = values[values > 1e-12]
    entropy = np.exp(-np.sum(positive * np.log(positive)))
    assert participation_ratio(found) == pytest.approx(1 / np.sum(values**2), rel=1e-5)
    assert entropy_rank(found) == pytest.approx(entropy, rel=1e-4)


# known answers


def test_bures_of_diagonal_covariances_is_the_distance_of_their_roots():
    a, b = of([0.5, 0.3, 0.2]), of([0.1, 0.1, 0.8])
    roots = np.sqrt([0.5, 0.3, 0.2]) - np.sqrt([0.1, 0.1, 0.8])
    assert compare(structure(a), structure(b))["bures"] == pytest.approx(np.linalg.norm(roots))


def test_covariances_of_spaces_at_right_angles_have_nothing_in_common():
    a, b = of([2.0, 1.0], 6), of([1.0, 3.0], 6, torch.eye(6)[:, 3:5])
    found = compare(structure(a), structure(b))
    assert found["bures"] == pytest.approx(np.sqrt(2))
    assert found["cka"] == 0
    assert found["angle_first"] == found["angle_last"] == pytest.approx(90)


def test_the_angle_between_two_lines_is_theirs():
    line = torch.tensor([[np.cos(0.3)], [np.sin(0.3)]], dtype=torch.float32)
    found = compare(structure(of([1.0], 2)), structure(of([4.0], 2, line)))
    assert found["angle_mean"] == pytest.approx(np.degrees(0.3), rel=1e-5)
    assert found["angles"] == 1


def test_effective_ranks_of_equal_variances_are_their_number():
    for equal in (of([3.0] * 5, 9), of([0.5] * 4, 4)):
        rank = equal.factor.shape[1]
        assert participation_ratio(structure(equal)) == pytest.approx(rank)
        assert entropy_rank(structure(equal)) == pytest.approx(rank)


def test_a_covariance_without_structure_has_every_rank_and_no_direction():
    plain = structure(of([], 7, torch.zeros(7, 0), remainder=0.4))
    assert participation_ratio(plain) == pytest.approx(7)
    assert entropy_rank(plain) == pytest.approx(7)
    found = compare(plain, structure(low_of_seven()))
    assert np.isnan(found["angle_first"])
    assert found["angles"] == 0
    expected = dense_bures(np.eye(7) / 7, normalised(low_of_seven()))
    assert found["bures"] == pytest.approx(expected, abs=1e-6)


def low_of_seven():
    return of([2.0, 1.0], 7, remainder=0.1)


@pytest.mark.parametrize("exponent", [-0.5, -1.0, -2.0])
def test_slope_of_a_power_law_is_its_exponent(exponent):
    values = torch.arange(1, 101).double() ** exponent
    found, first, last = slope(structure(of(values.tolist())))
    assert found == pytest.approx(exponent, rel=1e-4)
    assert (first, last) == geometry.SLOPE


def test_slope_of_too_few_eigenvalues_is_unknown():
    found, _, last = slope(structure(of([3.0, 2.0, 1.0, 0.5, 0.1])))
    assert np.isnan(found)
    assert last == 5


# invariances


@EACH
def test_a_covariance_has_no_distance_to_itself(make):
    found = compare(structure(make(0)), structure(make(0)))
    assert found["bures"] == pytest.approx(0, abs=1e-6)
    assert found["cka"] == pytest.approx(1)
    assert found["angle_last"] == pytest.approx(0, abs=1e-3)


@EACH_PAIR
def test_measures_are_symmetric(pair):
    first, second = structure(pair[0](0)), structure(pair[1](1))
    forth, back = compare(first, second), compare(second, first)
    assert [forth[m] for m in SYMMETRIC] == pytest.approx([back[m] for m in SYMMETRIC], abs=1e-6)


@EACH_PAIR
def test_neither_scale_nor_rotation_matters(pair):
    first, second = pair[0](0), pair[1](1)
    basis, _ = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5)))
    turned = [replace(one, factor=basis @ one.factor) for one in (first, second)]
    turned[0] = replace(turned[0], factor=3 * turned[0].factor, remainder=9 * first.remainder)
    before = compare(structure(first), structure(second))
    after = compare(*map(structure, turned))
    assert [before[m] for m in SYMMETRIC] == pytest.approx(
        [after[m] for m in SYMMETRIC], abs=1e-3, rel=1e-4
    )


def test_columns_that_pad_a_file_change_nothing():
    alone = [low(0), few(1)]
    padded = from_tensors(to_tensors(alone))
    assert padded[0].factor.shape[1] > alone[0].factor.shape[1]
    before, after = (compare(*map(structure, pair)) for pair in (alone, padded))
    assert after == pytest.approx(before, abs=1e-6)


def test_blocks_of_rows_do_not_matter(monkeypatch):
    whole = compare(structure(low(0)), structure(few(1)))
    monkeypatch.setattr(geometry, "_ROWS", 7)
    assert compare(structure(low(0)), structure(few(1))) == pytest.approx(whole)


# class means


def means(*rows, counts):
    return ClassMeans(torch.tensor(rows), torch.tensor(counts))


def test_class_share_is_what_lies_in_the_leading_space():
    plane = structure(of([2.0, 1.0], 4))
    inside = means([1.0, 0, 0, 5], [-1.0, 0, 0, 5], counts=[10, 10])
    outside = means([0, 0, 1.0, 0], [0, 0, 2.0, 0], counts=[10, 30])
    between = means([1.0, 0, 1.0, 0], [0.0, 0, 0.0, 0], counts=[10, 30])
    found = [class_share(plane, classes) for classes in (inside, outside, between)]
    assert found == pytest.approx([1, 0, 0.5])
    assert np.isnan(class_share(plane, means([1.0, 0, 0, 0], counts=[10])))


def test_a_random_space_holds_its_share_by_chance():
    draws = torch.Generator().manual_seed(3)
    classes = ClassMeans(torch.randn(200, D, generator=draws), torch.full((200,), 5))
    rows = spectrum_rows("snow@5", structure(low(0)), classes)
    assert rows[0]["leading"] == 6
    assert rows[0]["class_share_by_chance"] == 6 / D
    assert rows[0]["class_share"] == pytest.approx(6 / D, rel=0.2)


# rows of the tables


def test_spectrum_rows_list_the_eigenvalues_and_their_shares(monkeypatch):
    monkeypatch.setattr(geometry, "LISTED", 4)
    classes = means([1.0] * 6, [0.0] * 6, counts=[1, 1])
    rows = spectrum_rows("snow@5", structure(of([4.0, 3, 1, 1, 1])), means([1.0] * 5, counts=[1]))
    assert [row["index"] for row in rows] == [1, 2, 3, 4]
    assert [row["eigenvalue"] for row in rows] == pytest.approx([4, 3, 1, 1])
    assert [row["share"] for row in rows] == pytest.approx([0.4, 0.3, 0.1, 0.1])
    with_ridge = spectrum_rows("snow@5", structure(of([4.0], 6, remainder=1.0)), classes)
    assert [row["eigenvalue"] for row in with_ridge] == pytest.approx([5])
    assert [row["share"] for row in with_ridge] == pytest.approx([0.5])


def test_pair_rows_name_every_two_sources_once():
    sources = {name: structure(low(seed)) for seed, name in enumerate("abc")}
    rows = pair_rows(sources)
    assert [(row["source"], row["other"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert rows[1]["bures"] == compare(sources["a"], sources["c"])["bures"]
