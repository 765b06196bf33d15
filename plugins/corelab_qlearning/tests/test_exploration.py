from __future__ import annotations

import numpy as np
import pytest
from corelab_qlearning.exploration import Exploration
from corelab_qlearning.schedules import linear


def drawn(exploration, steps, epsilon, seed=0):
    choices = exploration.draw(steps, epsilon, np.random.default_rng(seed))
    explores, anything = zip(*choices, strict=True)
    return np.stack(explores), np.stack(anything)


def test_a_share_of_the_steps_explores_evenly():
    explores, anything = drawn(Exploration(4, 3, masked=False, persistent=False), 10_000, 0.3)
    assert explores.mean() == pytest.approx(0.3, abs=0.01)
    assert np.bincount(anything.ravel()) / 40_000 == pytest.approx(np.full(3, 1 / 3), abs=0.01)


def test_where_actions_are_masked_preferences_are_drawn():
    _, anything = drawn(Exploration(4, 3, masked=True, persistent=False), 10, 0.3)
    assert anything.shape == (10, 4, 3)


@pytest.mark.parametrize("masked", [False, True])
def test_persistent_actions_last_as_long_as_a_zeta_distribution_says(masked):
    explores, anything = drawn(Exploration(20, 1000, masked=masked, persistent=True), 500, 1.0)
    assert explores.all()  # one follows the other
    held = anything.reshape(500, 20, -1)
    changes = (held[1:] != held[:-1]).any(2)
    lengths = np.concatenate([np.diff(np.flatnonzero(column)) for column in changes.T])
    assert (lengths == 1).mean() == pytest.approx(6 / np.pi**2, abs=0.05)  # P(n) = 6 / (π n)²
    assert lengths.max() > 20


def test_what_is_kept_to_goes_on_after_a_resume():
    whole = Exploration(3, 4, masked=False, persistent=True)
    drawn(whole, 50, 0.5)
    state = {name: value.copy() for name, value in whole.state_dict().items()}
    resumed = Exploration(3, 4, masked=False, persistent=True)
    resumed.load_state_dict(state)
    for a, b in zip(drawn(whole, 50, 0.1, 1), drawn(resumed, 50, 0.1, 1), strict=True):
        assert np.array_equal(a, b)


def test_a_straight_line_ends_where_it_should():
    assert [linear(1.0, 0.2, share) for share in (-1, 0, 0.5, 1, 7)] == pytest.approx(
        [1.0, 1.0, 0.6, 0.2, 0.2]
    )
