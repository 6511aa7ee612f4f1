"""Noise told by the nearest images: the search, the map of change, and the sheet."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from noisetransfer import nearest
from noisetransfer.nearest import change_map, nearest_others, searched, spread
from noisetransfer.sample_figures import TITLES, Sample, noise_sheet


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_nearest_is_the_least_distance_to_another_image(scale):
    draws = torch.Generator().manual_seed(1)
    activations = torch.randn(20, 6, generator=draws)
    points = activations + scale * torch.randn(20, 6, generator=draws)
    distances = torch.cdist(points, activations) + torch.diag(torch.full((20,), 1e9))
    assert torch.equal(nearest_others(points, activations), distances.argmin(1))


def test_images_are_searched_evenly_as_they_may_be_in_order(monkeypatch):
    assert searched(7, 100).tolist() == list(range(7))
    assert len(searched(10_000, 100)) == nearest.MOST
    monkeypatch.setattr(nearest, "_NUMBERS", 400)
    assert searched(100, 100).tolist() == [12, 37, 62, 87]
    assert len(searched(100, 10**6)) == 2


@pytest.mark.parametrize(("available", "count"), [(10, 10), (10, 3), (3501, 500), (1, 1)])
def test_places_are_distinct_and_within(available, count):
    places = spread(available, count)
    assert len(places.unique()) == count
    assert int(places.min()) >= 0
    assert int(places.max()) < available


def test_a_map_is_the_mean_over_channels_of_the_absolute_change():
    change = torch.tensor([[[1.0, -2.0]], [[-3.0, 0.0]]])
    assert change_map(change.flatten(), (2, 1, 2)).tolist() == [[2.0, 1.0]]
    assert change_map(torch.tensor([-1.0, 2.0]), (2,)).tolist() == [[1.0, 2.0]]


def sample(source, level, same=True, shape=(1, 4, 4)):
    picture = np.full(shape, level, dtype=np.float32)
    return Sample(
        source=source,
        clean=picture,
        modified=picture / 2,
        change=np.eye(3, dtype=np.float32),
        nearest=dict.fromkeys(TITLES, picture / 4),
        same={name: same or name != "full" for name in TITLES},
        share=dict.fromkeys(TITLES, 0.25),
    )


def test_a_sheet_has_a_row_a_sample_and_names_each_source_once():
    rows = [sample("snow@5", 0.8), sample("snow@5", 0.4), sample("pgd@0.1", 0.2)]
    figure = noise_sheet(rows, title="tiny", among=60)
    grid = np.array(figure.axes).reshape(3, 3 + len(TITLES))
    assert [axis.get_ylabel() for axis in grid[:, 0]] == ["snow@5", "", "pgd@0.1"]
    assert [axis.get_xlabel() for axis in grid[:, 3]] == [".25", "", ".25"]
    assert [axis.get_title() for axis in grid[0, 3:]] == list(TITLES.values())
    shown = [float(axis.images[0].get_array().max()) for axis in grid[1, [0, 1, 3]]]
    assert shown == pytest.approx([0.4, 0.2, 0.1])
    assert "60" in figure.get_supxlabel()


def test_a_nearest_image_of_another_class_is_framed():
    figure = noise_sheet([sample("snow@5", 0.5, same=False)], title="", among=60)
    framed = [to_hex(axis.spines["left"].get_edgecolor()) == "#d55e00" for axis in figure.axes]
    assert framed == [False] * 6 + [True]


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)])
def test_grey_and_colour_images_are_shown(shape):
    figure = noise_sheet([sample("snow@5", 0.5, shape=shape)], title="", among=60)
    assert figure.axes[0].images[0].get_array().shape == ((4, 4) if shape[0] == 1 else (4, 4, 3))
