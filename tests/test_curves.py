"""benchmarks/curves.py: what is told of training episodes, and what their curves say together."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import curves
import trainers


def test_an_episode_counts_in_the_part_it_ends_in() -> None:
    ended = [(1, 1.0), (50, 3.0), (51, 4.0)] + [(50 * k, 10.0 * k) for k in range(3, 21)]
    assert curves.curve([*ended, (1001, 7.0)], steps=1000) == [2.0, 4.0, *range(30, 201, 10)]


def test_episodes_are_told_without_the_steps_that_only_reset() -> None:
    script = iter(
        [  # rewards, terminations and truncations of two copies
            ([1, 1], [0, 0], [0, 0]),
            ([2, 1], [1, 0], [0, 0]),  # the first ends after 4 steps of both
            ([0, 1], [0, 0], [0, 0]),  # and is reset, while the second takes the fifth
            ([5, 2], [1, 0], [0, 1]),  # both end, after 7 steps
        ]
    )

    def step(_: object) -> tuple[object, ...]:
        rewards, *ends = next(script)
        return (None, np.array(rewards, float), *(np.array(e, np.bool_) for e in ends), {})

    algorithm = SimpleNamespace(envs=SimpleNamespace(num_envs=2, step=step))
    ended = trainers.recording(algorithm)
    for _ in range(4):
        algorithm.envs.step(None)
    assert ended == [(4, 3.0), (7, 5.0), (7, 5.0)]


def test_a_training_run_tells_every_episode() -> None:
    settings = {
        "algorithm": "dqn",
        "task": "CartPole-v1",
        "model": "",
        "steps": 400,
        "seed": 0,
        "options": {"task.num_envs": 1, "algorithm.learning_starts": 1_000},
        "episodes": 0,
        "every": 0,
        "record": True,
    }
    run = trainers.corelab(settings, trainers.Clock())
    at, returns = np.array(run["ended"]).T
    assert at.tolist() == returns.cumsum().tolist()  # a step of CartPole brings 1
    assert run["steps"] - 500 < at[-1] <= run["steps"]


def test_the_test_of_areas_is_the_permutation_test_of_their_interquartile_means() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 1, (4, 20)), rng.normal(0, 1, (5, 20))
    areas = np.concatenate([ours.mean(1), theirs.mean(1)])

    def difference(of_ours: tuple[int, ...]) -> float:
        rest = np.delete(areas, of_ours)
        # The middle half of 4 is 2 of them, that of 5 is 3.
        return float(np.sort(areas[list(of_ours)])[1:3].mean() - np.sort(rest)[1:4].mean())

    every = np.array([difference(chosen) for chosen in combinations(range(9), 4)])
    at_least = min((every >= every[0] - 1e-12).mean(), (every <= every[0] + 1e-12).mean())
    assert curves.compared(ours, theirs)["p"] == pytest.approx(min(1, 2 * at_least), abs=1e-4)


def test_curves_far_from_each_other_are_apart() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(0, 1, (6, 20))
    figures = curves.compared(theirs + np.repeat([0.0, 100.0], 10), theirs)
    assert (figures["apart"], figures["inside"]) == (10, 10)
