import numpy as np
import pytest

from noisetransfer.losses import learning_curves

ROWS = [("snow@5", "full"), ("any", "none")]
TRIALS = [3, 8]


def curve(table, row=0, trial=3):
    source, arm = ROWS[row]
    own = table[(table["source"] == source) & (table["arm"] == arm) & (table["trial"] == trial)]
    return own["epoch"].to_numpy(), own["loss"].to_numpy()


def made(losses, steps_per_epoch):
    return learning_curves(
        np.asarray(losses, dtype=np.float32),
        rows=ROWS,
        trials=TRIALS,
        steps_per_epoch=steps_per_epoch,
    )


def spread(values):
    """The same losses, shifted by 100 a row and 10 a trial."""
    shifts = np.array([[0, 10], [100, 110]])
    return np.asarray(values, dtype=float)[:, None, None] + shifts


def test_a_point_is_the_mean_of_a_tenth_of_an_epoch():
    """Two epochs of 20 steps whose loss is the number of the step."""
    epochs, losses = curve(made(spread(range(40)), 20))
    np.testing.assert_allclose(losses, np.arange(0.5, 40, 2))
    np.testing.assert_allclose(epochs, np.arange(0.05, 2, 0.1))


@pytest.mark.parametrize(
    ("row", "trial", "shift"), [(0, 3, 0), (0, 8, 10), (1, 3, 100), (1, 8, 110)]
)
def test_every_row_and_trial_has_its_own_curve(row, trial, shift):
    table = made(spread(range(40)), 20)
    assert list(table.columns) == ["source", "arm", "trial", "epoch", "loss"]
    assert len(table) == 2 * 2 * 20
    np.testing.assert_allclose(curve(table, row, trial)[1], shift + np.arange(0.5, 40, 2))


def test_an_epoch_of_fewer_than_ten_steps_has_a_point_a_step():
    epochs, losses = curve(made(spread([5, 3, 1, 4, 2, 0]), 3))
    np.testing.assert_allclose(losses, [5, 3, 1, 4, 2, 0])
    np.testing.assert_allclose(epochs, [1 / 6, 1 / 2, 5 / 6, 7 / 6, 3 / 2, 11 / 6])


def test_an_epoch_of_one_step_has_one_point():
    epochs, losses = curve(made(spread([5, 3]), 1))
    np.testing.assert_allclose(losses, [5, 3])
    np.testing.assert_allclose(epochs, [0.5, 1.5])


def test_steps_that_are_no_multiple_of_ten_are_shared_out():
    """13 steps: tenths end at ⌊1.3 i⌋ = 1, 2, 3, 5, 6, 7, 9, 10, 11, 13; the fourth holds steps 3 and 4."""
    epochs, losses = curve(made(spread(range(26)), 13))
    first = [0, 1, 2, 3.5, 5, 6, 7.5, 9, 10, 11.5]
    np.testing.assert_allclose(losses, [*first, *np.add(first, 13)])
    np.testing.assert_allclose(epochs, (losses + 0.5) / 13)


@pytest.mark.parametrize("steps", [1, 7, 10, 55, 99, 938])
def test_every_step_counts_once(steps):
    """Of constant losses the curve is constant; of a line, each point lies on it."""
    table = made(spread(np.full(2 * steps, 0.25)), steps)
    np.testing.assert_allclose(curve(table)[1], 0.25)
    epochs, losses = curve(made(spread(np.arange(2 * steps) / steps), steps))
    assert len(epochs) == 2 * min(10, steps)
    np.testing.assert_allclose(losses, epochs - 0.5 / steps, rtol=1e-5)
    assert (np.diff(epochs) > 0).all()
