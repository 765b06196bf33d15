"""The index of RLlib's algorithms, and the environments that they are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corelab_rllib import corelab_components
from corelab_rllib.environment import Single, observed
from gymnasium import spaces

from corelab import PluginError
from corelab.experiments import resolve


def test_an_environment_is_the_task_s_own() -> None:
    experiment = resolve("ppo", task="CartPole-v1")
    task = experiment.plugins.load(experiment.task)(experiment.options.task)
    env = Single({"task": task, "seed": 3})
    observation, _ = env.reset()
    assert env.observation_space.contains(observation)
    steps, over = 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(steps % 2)
        over = terminated or truncated
        steps += 1
        assert reward == 1
    assert terminated
    assert steps > 5
    again, _ = env.reset()
    assert abs(again).max() < 0.05
    other, _ = Single({"task": task, "seed": 4}).reset()
    assert not np.array_equal(other, Single({"task": task, "seed": 3}).reset()[0])


class _Task:
    """A task that shows what it is told to."""

    name = "shown"

    single_action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.single_observation_space = space


@pytest.mark.parametrize(
    ("space", "batch", "seen"),
    [
        (spaces.Discrete(3), np.array([2, 0]), [[0, 0, 1], [1, 0, 0]]),
        (
            spaces.Box(0, 255, (1, 1, 2), np.uint8),
            np.array([[[[0, 255]]]], np.uint8),
            [[[[0], [1]]]],
        ),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (2,))),
            {"a": np.array([1]), "b": np.array([[0.5, -0.5]], np.float32)},
            [[0, 1, 0.5, -0.5]],
        ),
        (
            spaces.Dict(
                action_mask=spaces.MultiBinary(2), observation=spaces.Box(-1, 1, (2, 1, 1))
            ),
            {
                "action_mask": np.array([[0, 1], [1, 1]], np.int8),
                "observation": np.array([[[[0.5]], [[-0.5]]], [[[0]], [[1]]]], np.float32),
            },
            [[0, 1, 0.5, -0.5], [1, 1, 0, 1]],
        ),
    ],
)
def test_networks_see_numbers(space: spaces.Space[Any], batch: Any, seen: Any) -> None:
    shown, see = observed(_Task(space))  # type: ignore[arg-type]
    assert see(batch).tolist() == seen
    assert shown.shape == np.shape(seen)[1:]
    assert all(shown.contains(row) for row in see(batch))


def test_a_mask_that_does_not_fit_the_actions_is_told() -> None:
    task = _Task(spaces.Dict(action_mask=spaces.MultiBinary(3), a=spaces.Discrete(2)))
    with pytest.raises(PluginError, match=r"shown shows an action_mask .* Discrete\(2\)"):
        observed(task)  # type: ignore[arg-type]


def test_without_ray_the_options_are_shown_and_training_says_what_to_install(
    tmp_path: Path,
) -> None:
    program = """
import sys
sys.modules["ray"] = None
import torch
from corelab_rllib.algorithms import PPO
from corelab.context import Context
from corelab.experiments import resolve
experiment = resolve("ppo")
task = experiment.plugins.load(experiment.task)(experiment.options.task)
try:
    PPO(PPO.Config(), task, None, Context(0, torch.device("cpu"), 1))
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert said == "PluginError rllib-ppo needs RLlib: pip install 'corelab-ml[ray]'\n"


def test_the_index_is_what_the_package_has() -> None:
    names = {component.name for component in corelab_components()}
    assert names == {"rllib-ppo", "rllib-impala", "rllib-appo", "rllib-dqn", "rllib-sac"}
