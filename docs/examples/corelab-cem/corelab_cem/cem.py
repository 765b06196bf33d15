"""The noisy cross-entropy method (Szita & Lőrincz 2006) for policies that are linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from corelab import Context, DataError, PluginError, Saved, Split, require
from corelab_envs.interface import Environment, measure
from gymnasium import spaces
from numpy.typing import NDArray


class CEM(Saved):
    """Draws policies, lets each play an episode, and draws the next ones around the best."""

    @dataclass(frozen=True)
    class Config:
        """Options of the cross-entropy method."""

        population: int = 32
        """How many policies there are in a generation."""
        elite: int = 6
        """How many of them, the best, the next generation is drawn around."""
        std: float = 1.0
        """Standard deviation of each weight in the first generation."""
        noise: float = 0.5
        """Variance that is added to each weight's, falling to zero over the run."""

        def __post_init__(self) -> None:
            require(self.population >= 2, "algorithm.population", self.population, "at least 2")
            fits = 1 <= self.elite < self.population
            require(fits, "algorithm.elite", self.elite, "at least 1 and less than the population")
            require(self.std > 0, "algorithm.std", self.std, "positive")
            require(self.noise >= 0, "algorithm.noise", self.noise, "at least 0")

    unit = "env steps"
    default_task = "CartPole-v1"
    default_model = ""
    default_steps = 100_000
    best = "max eval/return"
    highlights = ("train/return", "train/elite_return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    saved = ("mean", "variance", "envs", "progress")

    def __init__(self, config: Config, task: Environment, model: None, context: Context) -> None:
        seen, actions = task.single_observation_space, task.single_action_space
        if not isinstance(seen, spaces.Box):
            raise PluginError(f"cem needs observations Box; {task.name} has {seen}")
        match actions:
            case spaces.Discrete():
                outputs = int(actions.n)
            case spaces.Box(shape=(d,)):
                outputs = d
            case _:
                raise PluginError(
                    f"cem needs actions Discrete or a Box of one dimension; {task.name} has "
                    f"{actions}"
                )
        self.config, self.task, self.context = config, task, context
        self.actions = actions
        self.shape = (spaces.flatdim(seen) + 1, outputs)  # the last row is the bias
        self.mean = np.zeros(self.shape)
        self.variance = np.full(self.shape, config.std**2)
        self.envs = task.make(config.population, context.seed_for("environments"))
        self.progress = 0

    def step(self) -> dict[str, float]:
        """One generation."""
        noise = self.context.rng("policies").standard_normal((self.config.population, *self.shape))
        policies = self.mean + np.sqrt(self.variance) * noise
        returns = self._play(policies)
        best = np.argsort(-returns, kind="stable")[: self.config.elite]
        remaining = max(0.0, 1 - self.progress / self.context.steps)
        self.mean = policies[best].mean(0)
        self.variance = policies[best].var(0) + self.config.noise * remaining
        return {
            "return": float(returns.mean()),
            "elite_return": float(returns[best].mean()),
            "std": float(np.sqrt(self.variance).mean()),
        }

    def _play(self, policies: NDArray[np.float64]) -> NDArray[np.float64]:
        """The return [N] of an episode of each of POLICIES [N, features, outputs]."""
        observation, _ = self.envs.reset()
        running = np.ones(len(policies), np.bool_)
        returns = np.zeros(len(policies))
        while running.any():
            action = self._choose(observation, policies)
            observation, reward, terminated, truncated, _ = self.envs.step(action)
            returns += np.where(running, reward, 0.0)  # a copy that is done plays on unheeded
            self.progress += int(running.sum())
            running &= ~(terminated | truncated)
        return returns

    def _choose(self, observation: Any, policies: NDArray[np.float64]) -> NDArray[Any]:
        """What each of POLICIES does on its row of OBSERVATION [N, ...]."""
        rows = np.asarray(observation, np.float64).reshape(len(observation), -1)
        features = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        outputs = np.einsum("nf,nfo->no", features, policies)
        if not np.isfinite(outputs).all():
            raise DataError(f"{self.task.name} shows numbers that are not finite")
        if isinstance(self.actions, spaces.Discrete):
            return np.asarray(outputs.argmax(1) + self.actions.start)
        assert isinstance(self.actions, spaces.Box)
        return np.asarray(outputs.clip(self.actions.low, self.actions.high), self.actions.dtype)

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, Any]:
        """Play N episodes (None: 20 for validation, 100 for the test) with the mean policy."""

        def act(observation: Any) -> NDArray[Any]:
            return self._choose(observation, np.stack([self.mean] * len(observation)))

        return dict(measure(self.task, act, n, split, seed))
