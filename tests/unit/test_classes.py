"""Class means of clean activations, and their scatter."""

import numpy as np
import pytest
import torch

from noisetransfer.classes import ClassMeans, class_means

LABELS = torch.tensor([3, 0, 3, 7, 0, 3, 7, 7, 3])
ROWS = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)) + 2


@pytest.mark.parametrize("chunk", [1, 4, 9])
def test_means_are_those_of_the_rows_of_each_class(chunk):
    found = class_means(iter(ROWS.split(chunk)), LABELS)
    assert found.counts.tolist() == [2, 4, 3]
    expected = torch.stack([ROWS[label == LABELS].mean(0) for label in (0, 3, 7)])
    torch.testing.assert_close(found.means, expected)


def test_scatter_is_that_of_the_class_means_weighted_by_their_images():
    found = class_means([ROWS], LABELS)
    each = found.means[torch.searchsorted(torch.tensor([0, 3, 7]), LABELS)]
    expected = np.cov(each.numpy(), rowvar=False, bias=True)
    scattered = found.scattered().numpy()
    np.testing.assert_allclose(scattered.T @ scattered, expected, atol=1e-6)


def test_one_class_has_no_scatter():
    one = ClassMeans(torch.ones(1, 4), torch.tensor([3]))
    assert not one.scattered().any()


@pytest.mark.parametrize("rows", [ROWS[:8], ROWS.repeat(2, 1)])
def test_other_rows_than_labels_are_refused(rows):
    with pytest.raises((ValueError, RuntimeError)):
        class_means(rows.split(4), LABELS)
