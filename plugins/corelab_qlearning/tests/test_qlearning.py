from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_qlearning.qlearning import QLearning

from corelab import ConfigError, Context, PluginError


def qlearning_on(name, steps, seed=0, num_envs=None, **options):
    task = GymnasiumTask(GymnasiumTask.Config(id=name, num_envs=num_envs))
    context = Context(seed=seed, device=torch.device("cpu"), steps=steps)
    preset = {
        key.removeprefix("algorithm."): value
        for key, value in QLearning.presets.get(name, {}).items()
        if key.startswith("algorithm.")
    }
    return QLearning(QLearning.Config(**{**preset, **options}), task, None, context), context


def until(algorithm, steps):
    while algorithm.progress < steps:
        metrics = algorithm.step()
    return metrics


def optimum(name, gamma):
    """The values of state-action pairs by value iteration on the environment's own dynamics."""
    dynamics = gym.make(name).unwrapped.P
    q = np.zeros((len(dynamics), len(dynamics[0])))
    while True:
        v = q.max(1)
        new = np.array(
            [
                [sum(p * (r + gamma * v[s] * (not end)) for p, s, r, end in ways[a]) for a in ways]
                for ways in dynamics.values()
            ]
        )
        if np.abs(new - q).max() < 1e-10:
            return new
        q = new


def test_frozen_lake_converges_to_the_optimum_of_value_iteration():
    q, _ = qlearning_on("FrozenLake-v1", 120_000, num_envs=8, gamma=0.9, epsilon_end=0.3)
    until(q, 120_000)
    error = np.abs(q.table - optimum("FrozenLake-v1", 0.9))[q.visits > 0]
    assert (q.visits > 0).sum() == 11 * 4  # 4 holes and the goal have nothing to learn
    assert error.max() < 0.1
    assert error.mean() < 0.03


def test_the_shortest_way_along_the_cliff_is_found():
    q, _ = qlearning_on("CliffWalking-v1", 20_000)
    until(q, 20_000)
    assert q.evaluate("test", 1)["return"] == -13
    best = optimum("CliffWalking-v1", 0.99).max(1)
    way = [36, *range(24, 36)]
    np.testing.assert_allclose(q.table.max(1)[way], best[way], atol=1e-6)


@pytest.mark.slow
def test_the_taxi_reaches_its_optimum():
    q, _ = qlearning_on("Taxi-v3", 100_000)
    until(q, 100_000)
    assert q.evaluate("test", 100)["return"] > 7.5


class Scripted:
    """Two copies that follow a script, whatever is done."""

    name, num_envs, video, fps = "Scripted-v0", 2, False, 30.0
    single_observation_space = gym.spaces.Discrete(3, start=5)
    single_action_space = gym.spaces.Discrete(2, start=1)

    def make(self, num_envs, seed, *, render=False):
        self.rng, self.log = np.random.default_rng(0), []
        self.over = np.zeros(2, bool)
        return self

    def reset(self):
        self.state = self.rng.integers(5, 8, 2)
        return self.state, {}

    def step(self, actions):
        reward = np.where(self.over, 0, self.rng.normal(size=2))
        terminated, truncated = (self.rng.random((2, 2)) < 0.2) & ~self.over
        before, self.state = self.state, self.rng.integers(5, 8, 2)
        self.log += [
            (before[i], actions[i], reward[i], self.state[i], terminated[i])
            for i in range(2)
            if not self.over[i]
        ]
        self.over = terminated | truncated
        return self.state, reward, terminated, truncated, {}


def test_corrections_are_those_of_the_definition():
    task = Scripted()
    config = QLearning.Config(lr=0.5, lr_decay=0.7, gamma=0.8, initial=0.3)
    context = Context(seed=0, device=torch.device("cpu"), steps=1000)
    q = QLearning(config, task, None, context)
    q.step()
    table = {(s, a): 0.3 for s in (5, 6, 7) for a in (1, 2)}
    visits = dict.fromkeys(table, 0)
    for s, a, reward, s_next, terminated in task.log:
        visits[s, a] += 1
        following = 0 if terminated else 0.8 * max(table[s_next, 1], table[s_next, 2])
        alpha = 0.5 / visits[s, a] ** 0.7
        table[s, a] = (1 - alpha) * table[s, a] + alpha * (reward + following)
    expected = [[table[s, a] for a in (1, 2)] for s in (5, 6, 7)]
    np.testing.assert_allclose(q.table, expected, atol=1e-12)
    assert q.progress == len(task.log) < 256


def test_a_resumed_run_has_the_same_bits(tmp_path):
    whole, context = qlearning_on("FrozenLake-v1", 5000, 3, num_envs=3)
    until(whole, 1000)
    whole.save(tmp_path)
    streams = copy.deepcopy(context.state_dict())
    expected = [whole.step() for _ in range(5)]
    resumed, context = qlearning_on("FrozenLake-v1", 5000, 3, num_envs=3)
    resumed.load(tmp_path)
    context.load_state_dict(streams)
    assert [resumed.step() for _ in range(5)] == expected
    assert np.array_equal(resumed.table, whole.table)
    assert np.array_equal(resumed.visits, whole.visits)


def test_evaluation_explores_only_if_asked():
    q, _ = qlearning_on("CliffWalking-v1", 20_000, epsilon_start=0.5, epsilon_end=0.5)
    until(q, 10_000)
    assert q.evaluate("test", 5) == q.evaluate("test", 5)
    assert q.evaluate("test", 5, stochastic=True)["return"] < q.evaluate("test", 5)["return"]


def test_only_discrete_spaces_fit():
    with pytest.raises(
        PluginError, match=r"CartPole-v1 shows Box.*qlearning needs both to be Disc"
    ):
        qlearning_on("CartPole-v1", 100)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": 0.0}, "algorithm.lr is 0.0; it must be above 0 and at most 1"),
        ({"gamma": 2.0}, "algorithm.gamma is 2.0; it must be between 0 and 1"),
        ({"exploration": 0.0}, "algorithm.exploration is 0.0; it must be positive"),
    ],
)
def test_a_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError) as error:
        qlearning_on("FrozenLake-v1", 100, **options)
    assert str(error.value) == sentence
