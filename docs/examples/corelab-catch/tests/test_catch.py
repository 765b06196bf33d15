"""What the plugin promises, its rules, and that it can be learned."""

from pathlib import Path

import corelab
import numpy as np
import pytest
from corelab.testing import Check, conformance

from corelab_catch.catch import Catch

LEFT, STAY, RIGHT = 0, 1, 2


@conformance("corelab_catch")
def test_conformance(check: Check) -> None:
    check()


def test_ppo_learns_to_catch(tmp_path: Path) -> None:
    run = corelab.train("ppo", task="catch", steps=20_000, run_dir=tmp_path)
    assert run.evaluate(n=50)["return"] > 0.8  # random actions reach about -0.6


@pytest.mark.parametrize(("action", "reward"), [(LEFT, -1.0), (STAY, 1.0)])
def test_a_ball_pays_when_the_paddle_is_below_it(action: int, reward: float) -> None:
    boards = Catch(Catch.Config(rows=4, columns=5)).make(1, seed=0)
    boards.reset()
    boards.column[:] = boards.paddle[:] = 3
    for _ in range(2):
        _, rewards, terminated, _, _ = boards.step([action])
        assert (rewards[0], terminated[0]) == (0.0, False)
    _, rewards, terminated, _, _ = boards.step([action])
    assert (rewards[0], terminated[0]) == (reward, True)


def test_the_step_after_the_end_only_resets() -> None:
    boards = Catch(Catch.Config(rows=2)).make(8, seed=0)
    boards.reset()
    assert boards.step([STAY] * 8)[2].all()
    observation, rewards, terminated, _, _ = boards.step([STAY] * 8)
    assert (observation[:, :5].sum(1) == 1).all()  # a ball in the first row of each
    assert not rewards.any()
    assert not terminated.any()


def test_a_ball_drifts_if_it_is_told_to() -> None:
    straight, drifting = (
        Catch(Catch.Config(rows=10, drift=drift)).make(50, seed=0) for drift in (0.0, 1.0)
    )
    for boards, moves in ((straight, False), (drifting, True)):
        boards.reset()
        before = boards.column.copy()
        for _ in range(5):
            boards.step([STAY] * 50)
        assert (boards.column != before).any() == moves


def test_copies_that_are_restored_go_on_alike() -> None:
    task = Catch(Catch.Config(drift=0.5))
    boards, others = task.make(4, seed=1), task.make(4, seed=2)
    boards.reset()
    others.load_state_dict(boards.state_dict())
    assert np.array_equal(boards.step([RIGHT] * 4)[0], others.step([RIGHT] * 4)[0])


def test_a_board_of_one_row_is_refused_in_a_sentence() -> None:
    with pytest.raises(corelab.ConfigError, match=r"task\.rows is 1"):
        Catch.Config(rows=1)
