import pytest
import torch

from noisetransfer.errors import StudyError
from noisetransfer.halves import HALVES, in_half


def halves(n, source="snow@5", trial=0, seed=1):
    return [in_half(half, n, seed=seed, source=source, trial=trial) for half in HALVES]


@pytest.mark.parametrize("n", [4, 5, 101])
def test_the_halves_share_no_image_and_hold_all(n):
    a, b = halves(n)
    assert torch.equal(a, ~b)
    assert [int(half.sum()) for half in (a, b)] == [n // 2, n - n // 2]


@pytest.mark.parametrize("other", [{"source": "fog@5"}, {"trial": 1}, {"seed": 2}])
def test_each_source_trial_and_seed_has_its_own(other):
    assert torch.equal(halves(100)[0], halves(100)[0])
    assert not torch.equal(halves(100)[0], halves(100, **other)[0])


def test_a_half_takes_images_from_everywhere():
    a, _ = halves(1000)
    assert abs(int(a[:500].sum()) - 250) < 60  # 5 standard deviations


@pytest.mark.parametrize("half", HALVES)
def test_too_few_images_are_an_error(half):
    with pytest.raises(StudyError, match=f"{half} of fog@1: 3 calibration images; .* 4 or more"):
        in_half(half, 3, seed=0, source="fog@1", trial=0)
