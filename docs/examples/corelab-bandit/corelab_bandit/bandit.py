"""A bandit whose arms pay 1 or nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corelab import ConfigError


@dataclass(frozen=True)
class Config:
    """Options of the bandit."""

    arms: int = 10
    """How many arms it has."""
    odds_seed: int = 0
    """The seed that the arms' odds are drawn from."""

    def __post_init__(self) -> None:
        if self.arms < 2:
            raise ConfigError(f"task.arms is at least 2, got {self.arms}")


class BernoulliBandit:
    """Arm `a` pays 1 with the chance `odds[a]`, drawn evenly from 0 to 1."""

    Config = Config

    def __init__(self, config: Config) -> None:
        self.odds = np.random.default_rng(config.odds_seed).random(config.arms)

    def pull(self, arm: int, rng: np.random.Generator) -> float:
        """What ARM pays this time."""
        return float(rng.random() < self.odds[arm])
