"""Epsilon-greedy action values (Sutton & Barto 2018, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from corelab import ConfigError, Context, Saved, Split
from corelab_bandit.bandit import BernoulliBandit


@dataclass(frozen=True)
class Config:
    """Options of epsilon-greedy."""

    epsilon: float = 0.1
    """The chance of pulling any arm, rather than the one that looks best."""

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ConfigError(f"algorithm.epsilon is a chance, from 0 to 1, got {self.epsilon}")


class EpsilonGreedy(Saved):
    """Pulls the arm with the best average so far, and now and then any other."""

    Config = Config
    unit = "pulls"
    default_task = "bernoulli-bandit"
    default_model = ""
    default_steps = 2_000
    best = "max eval/odds"
    highlights = ("train/reward", "eval/odds")
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    saved = ("value", "pulls", "progress")

    def __init__(
        self, config: Config, task: BernoulliBandit, model: None, context: Context
    ) -> None:
        self.config, self.task = config, task
        self.rng = context.rng("arms")
        self.value = np.zeros(len(task.odds))  # Q
        self.pulls = np.zeros(len(task.odds), np.int64)  # N
        self.progress = 0

    def step(self) -> dict[str, float]:
        """Pull one arm."""
        explore = self.rng.random() < self.config.epsilon
        arm = int(self.rng.integers(len(self.value)) if explore else self.value.argmax())
        reward = self.task.pull(arm, self.rng)
        self.pulls[arm] += 1
        self.value[arm] += (reward - self.value[arm]) / self.pulls[arm]  # eq. 2.3
        self.progress += 1
        return {"reward": reward}

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, float]:
        """The odds of the arm that looks best, and how far they are from the best there are."""
        odds = float(self.task.odds[self.value.argmax()])
        return {"odds": odds, "regret": float(self.task.odds.max()) - odds}
