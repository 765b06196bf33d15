"""Tabular Q-learning (Watkins and Dayan 1992, doi:10.1007/BF00992698)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, SupportsFloat

import numpy as np
from corelab_envs.interface import Environment, Tally, film, measure
from corelab_media import Video
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import Context, PluginError, Saved, Split, require
from corelab_qlearning.schedules import linear

_ITERATION = 256
"""Steps of the environments, about, that an iteration takes."""


class QLearning(Saved):
    """A table of the values of state-action pairs, corrected after each step."""

    @dataclass(frozen=True)
    class Config:
        """Options of tabular Q-learning."""

        lr: float = 1.0
        """Step size of the first visit to a state-action pair."""
        lr_decay: float = 0.6
        """How it falls: it is divided by this power of the number of visits; 0 keeps it."""
        gamma: float = 0.99
        """Discount of future rewards."""
        initial: float = 0.0
        """What the table says at first; more than can be had makes it try everything."""
        epsilon_start: float = 1.0
        """Probability of a random action at the beginning."""
        epsilon_end: float = 0.1
        """Probability of a random action after the exploration phase."""
        exploration: float = 0.5
        """Share of the run in which this probability falls in a straight line."""

    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "FrozenLake-v1"
    default_model: ClassVar[str] = ""
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "FrozenLake-v1": {
            "steps": 100_000,
            "algorithm.initial": 1.0,  # the most that an episode can bring: tries everything
            "algorithm.epsilon_start": 0.3,
        },
        # Nothing is random here, so there is nothing to average.
        "Taxi-v3": {
            "steps": 100_000,
            "algorithm.lr_decay": 0.0,
            "algorithm.epsilon_start": 0.1,
        },
        "CliffWalking-v1": {
            "task.max_episode_steps": 200,
            "steps": 20_000,
            "algorithm.lr_decay": 0.0,
            "algorithm.epsilon_start": 0.1,
        },
    }

    saved: ClassVar[tuple[str, ...]] = (
        "table",
        "visits",
        "envs",
        "observation",
        "tally",
        "progress",
    )

    def __init__(self, config: Config, task: Environment, model: None, context: Context) -> None:
        _check(config)
        states, actions = task.single_observation_space, task.single_action_space
        if not isinstance(states, spaces.Discrete) or not isinstance(actions, spaces.Discrete):
            raise PluginError(
                f"{task.name} shows {states} and has actions {actions}; "
                "qlearning needs both to be Discrete, and for other observations there is dqn"
            )
        N = task.num_envs or 1
        self.config, self.task, self.context = config, task, context
        self.table = np.full((int(states.n), int(actions.n)), config.initial)
        """Q(s, a)."""
        self.visits = np.zeros(self.table.shape, np.int64)
        """How often each pair has been corrected."""
        self._first_state, self._first_action = int(states.start), int(actions.start)
        self.progress = 0
        self.envs = task.make(N, context.seed_for("environments"))
        self.observation, _ = self.envs.reset()  # s, [N]
        self.tally = Tally(N)

    def step(self) -> dict[str, float]:
        """Act and correct the table after each step, for about 256 steps."""
        N = self.envs.num_envs
        epsilon = self._epsilon()
        rng, T = self.context.rng("actions"), -(-_ITERATION // N)
        explores = rng.random((T, N)) < epsilon
        # An order of preference decides between actions of equal value, and when exploring.
        preferences = rng.random((T, N, self.table.shape[1]))
        errors: list[float] = []
        for explore, preference in zip(explores, preferences, strict=True):
            s = self.observation - self._first_state
            a = self._choose(s, explore, preference)
            self.observation, reward, termination, truncation, _ = self.envs.step(
                a + self._first_action
            )
            s_next = self.observation - self._first_state
            valid = self.tally.add(reward, termination, truncation)
            errors += [
                self._correct(s[i], a[i], reward[i], s_next[i], termination[i])
                for i in np.flatnonzero(valid)
            ]
        self.progress += len(errors)
        metrics = {
            "epsilon": epsilon,
            "error": float(np.abs(errors).mean()),
            "visited": float((self.visits > 0).mean()),
        }
        return metrics | self.tally.metrics()

    def _correct(self, s: int, a: int, reward: float, s_next: int, terminated: bool) -> float:
        """Q(s, a) ← Q(s, a) + α (r + γ max_b Q(s', b) - Q(s, a)), eq. 1; return what α scales.

        After a truncation s' is the last state, whose value stands for what would have followed.
        """
        config = self.config
        self.visits[s, a] += 1
        alpha = config.lr / self.visits[s, a] ** config.lr_decay
        following = 0.0 if terminated else config.gamma * self.table[s_next].max()
        error = float(reward + following - self.table[s, a])
        self.table[s, a] += alpha * error
        return error

    def _epsilon(self) -> float:
        config = self.config
        share = self.progress / (config.exploration * self.context.steps)
        return linear(config.epsilon_start, config.epsilon_end, share)

    def _choose(
        self, s: NDArray[Any], explore: NDArray[np.bool_], preference: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """For states S [N] the best action, the one preferred among equals, or, where EXPLORE says
        so, the one preferred among all.
        """
        q = self.table[s]
        best = q == q.max(1, keepdims=True)
        return np.asarray(np.where(best | explore[:, None], preference, -1.0).argmax(1))

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100), always taking an action of the highest
        value, or, if STOCHASTIC, exploring as in training.
        """
        return measure(self.task, self._player(seed, stochastic), n, split, seed)

    def sample(self, n: int = 1, seed: int = 0, *, stochastic: bool = False) -> Video:
        """Film N episodes, always taking an action of the highest value, or, if STOCHASTIC,
        exploring as in training.
        """
        return film(self.task, self._player(seed, stochastic), n, "test", seed)

    def _player(self, seed: int, stochastic: bool) -> Callable[[Any], NDArray[Any]]:
        rng = np.random.default_rng(seed)
        epsilon = self._epsilon() if stochastic else 0.0

        def act(observation: NDArray[Any]) -> NDArray[Any]:
            s = observation - self._first_state
            explore = rng.random(len(s)) < epsilon
            preference = rng.random((len(s), self.table.shape[1]))
            return self._choose(s, explore, preference) + self._first_action

        return act


def _check(config: QLearning.Config) -> None:
    require(0 < config.lr <= 1, "algorithm.lr", config.lr, "above 0 and at most 1")
    require(config.exploration > 0, "algorithm.exploration", config.exploration, "positive")
    for option in ("lr_decay", "gamma", "epsilon_start", "epsilon_end"):
        value = getattr(config, option)
        require(0 <= value <= 1, f"algorithm.{option}", value, "between 0 and 1")
