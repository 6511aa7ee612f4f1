"""Suffixes trained on modified images: which images they see, and that each trains as by hand."""

import pytest
import torch
from torch import nn

from noisetransfer.errors import StudyError
from noisetransfer.fine_tuning import mixed, recording, train_each
from noisetransfer.noise import NoiseSampler
from noisetransfer.retraining import recorded, under_input_noise
from noisetransfer.training import Schedule
from structures import CPU, adam, assert_is, tiny

N, TRIALS, RATE = 20, (4, 7), 1e-2
INDICES = torch.arange(N) * 3 + 100
CALIBRATION = INDICES[[2, 5, 11, 3]]  # in no order
SCHEDULE = Schedule(RATE, 8, 2, 1, TRIALS)


def drawn(seed, *shape):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 1, 3, 3), generator=draws, dtype=torch.uint8)


IMAGES, LABELS = drawn(0, N), torch.arange(N) % 3
MODIFIED = {
    "shared": drawn(1, 4),
    "of each trial": drawn(2, 2, 4),
    "float": drawn(3, 4) / 255 * 0.9,
    "all images": drawn(4, N),
}
SOURCES = [(images, INDICES if len(images) == N else CALIBRATION) for images in MODIFIED.values()]
every_source = pytest.mark.parametrize(("modified", "own"), SOURCES, ids=MODIFIED)


def prefixes():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return [
            nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.Tanh()).requires_grad_(False) for _ in TRIALS
        ]


def by_hand(modified, own, trial):
    """Return the images of a trial in float, one after another."""
    modified = modified[trial] if modified.dim() == 5 else modified
    images = [image.float() / 255 for image in IMAGES]
    for index, image in zip(own.tolist(), modified, strict=True):
        images[INDICES.tolist().index(index)] = (
            image if image.is_floating_point() else image.float() / 255
        )
    return torch.stack(images)


def hidden(modified, own):
    images = mixed(IMAGES, INDICES, modified, own)
    return recorded(recording(prefixes(), images, CPU), CPU)


def silence(rows):
    scale = torch.zeros(rows, len(TRIALS), 12)
    return NoiseSampler((None,) * rows, scale, seed=1, trials=TRIALS)


def train(*sources):
    fresh = [tiny(trial) for trial in TRIALS]
    own = (hidden(*source) for source in sources)
    return train_each(fresh, own, LABELS, INDICES, silence(len(sources)), SCHEDULE)


@every_source
def test_calibration_images_are_modified_and_the_others_clean(modified, own):
    found = mixed(IMAGES, INDICES, modified, own)
    assert found.dtype == modified.dtype
    assert found.shape == (*modified.shape[:-4], *IMAGES.shape)
    each = found if found.dim() == 5 else [found] * 2
    for trial, images in enumerate(each):
        as_float = images if images.is_floating_point() else images.float() / 255
        torch.testing.assert_close(as_float, by_hand(modified, own, trial))


def test_the_clean_images_are_left_as_they_are():
    before = IMAGES.clone()
    mixed(IMAGES, INDICES, MODIFIED["shared"], CALIBRATION)
    assert torch.equal(IMAGES, before)


def test_images_of_another_split_are_refused():
    with pytest.raises(StudyError, match="101 is the index of no training image"):
        mixed(IMAGES, INDICES, MODIFIED["shared"], CALIBRATION + torch.tensor([0, 0, 0, -8]))


@every_source
def test_a_suffix_is_the_one_trained_by_hand_on_the_mixed_images(modified, own):
    """Same initial suffix, steps, order of images; no noise."""
    parameters, losses = train((modified, own))
    for trial, prefix in enumerate(prefixes()):
        states, network = prefix(by_hand(modified, own, trial)), tiny(TRIALS[trial])
        orders = [rows[trial] for _, rows in SCHEDULE.steps(N, "shuffle for suffix", CPU)]
        expected = adam(network, [(states[o], LABELS[o]) for o in orders], RATE)
        assert losses[:, 0, trial].tolist() == pytest.approx(expected, rel=1e-5)
        assert_is({name: p[0, trial] for name, p in parameters.items()}, network)


def test_a_suffix_depends_on_no_other_source_of_its_unit():
    parameters, losses = train(*SOURCES)
    assert losses.shape == (6, len(SOURCES), len(TRIALS))
    for row, source in enumerate(SOURCES):
        alone, own = train(source)
        assert torch.equal(losses[:, row], own[:, 0])
        for name, values in alone.items():
            assert torch.equal(parameters[name][row], values[0])
    assert len({round(float(loss), 6) for loss in losses[-1].flatten()}) == losses[-1].numel()


@pytest.mark.parametrize("trials", [slice(0, 2), slice(1, 2)])
@every_source
def test_a_network_with_input_noise_sees_it_on_the_images_of_its_trial(modified, own, trials):
    images = mixed(IMAGES, INDICES, modified, own)
    positions = torch.tensor([[2, 5, 0], [3, 11, 2]])[trials]
    of = under_input_noise(prefixes(), images, INDICES, 0.0, SCHEDULE, CPU)
    found = of(trials)(torch.tensor(0), positions)
    expected = hidden(modified, own)(trials)(torch.tensor(0), positions)
    torch.testing.assert_close(found, expected)
