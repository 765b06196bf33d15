"""What proving has alike in all calculi: what is shown, what is for measuring, and the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Literal, Self, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import require
from corelab_envs.vector import Copies, Copy

Observation = dict[str, NDArray[Any]]
Part: TypeAlias = Literal["all", "train", "dev"]
"""All that there is to prove, or what to learn from, or what to measure on."""
_LARGEST = 25.0
"""All features are log(1 + n), which does not reach this."""


class Spaces:
    """The spaces of one proof in the making, from options that say how many numbers tell what."""

    max_actions: int
    state_features: int
    action_features: int

    def observation_space(self) -> spaces.Dict:
        """What it shows."""
        size = self.state_features + self.max_actions * self.action_features
        return spaces.Dict(
            {
                "observation": spaces.Box(0, _LARGEST, (size,), np.float32),
                "action_mask": spaces.Box(0, 1, (self.max_actions,), np.int8),
            }
        )

    def action_space(self) -> spaces.Discrete[Any]:
        """What it accepts."""
        return spaces.Discrete(self.max_actions)


class ProvingTask(ABC):
    """Proving as a task, one inference at a time, where some theorems are only for measuring."""

    name: str
    video = False
    fps = 2.0
    _environment: type[gym.Env[Observation, np.int64]]

    def __init__(self, config: Any, measured: bool = False) -> None:
        value = config.num_envs
        require(value is None or value >= 1, "task.num_envs", value, "at least 1")
        self.config = config
        self.num_envs = config.num_envs
        self._options = self._checked_options(measured)
        if not measured:
            self._checked_options(measured=True)  # so that all that is missing is told at once
        self.single_observation_space = self._options.observation_space()
        self.single_action_space = self._options.action_space()

    @abstractmethod
    def _checked_options(self, measured: bool) -> Any:
        """What its environments are told. `DataError` if that leaves them nothing to prove."""

    @property
    def measured(self) -> Self:
        """The same, with what is not learned from."""
        return type(self)(self.config, measured=True)

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Copies:
        """NUM_ENVS copies whose every random choice follows from SEED."""
        options = asdict(self._options)
        copies = [
            Copy(self._environment(**options), self.name, seed, index, replays=True)
            for index in range(num_envs)
        ]
        return Copies(copies, self.name)


def is_in(name: str, part: Part) -> bool:
    """Whether what is called NAME is of the PART: a hash puts a tenth of all names into dev."""
    is_dev = int.from_bytes(sha256(name.encode()).digest()) % 10 == 0
    return part == "all" or is_dev == (part == "dev")
