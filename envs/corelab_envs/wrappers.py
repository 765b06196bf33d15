"""What stands between an environment and its copy, where it asks for something of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from zlib import crc32

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import DataError

_WORDS = 256


class Remade(gym.Wrapper[Any, Any, Any, Any]):
    """Makes its environment anew for each episode, where a reset leaves traces of the last."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        super().__init__(make())
        self._make = make
        self._used = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if self._used:
            self.env = self._make()
        self._used = True
        return self.env.reset(seed=seed, options=options)


class Reseeded(gym.Wrapper[Any, Any, Any, Any]):
    """Seeds the generator of a game of MinAtar where it is, to the same effect.

    MinAtar makes another, which takes a hundred times as long: more than a short episode.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        game: Any = self.unwrapped.game  # type: ignore[attr-defined]
        if seed is not None:
            game.random.seed(seed)
            game.env.random = game.random
        return self.env.reset(options=options)


class Masked(gym.Wrapper[Any, Any, Any, Any]):
    """Moves `action_mask` from the information that an environment gives into the observation.

    What is seen is then {"observation": …, "action_mask": 0 or 1 for each action}.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        actions = env.action_space
        if not isinstance(actions, spaces.Discrete):
            raise DataError(f"task.mask is true, but the actions are {actions}, not discrete")
        mask = spaces.Box(0, 1, (int(actions.n),), np.int8)
        self.observation_space = spaces.Dict(
            {"observation": env.observation_space, "action_mask": mask}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(observation, info), reward, terminated, truncated, info

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        if "action_mask" not in info:
            raise DataError("task.mask is true, but the environment does not say what is allowed")
        return {"observation": observation, "action_mask": info.pop("action_mask")}


def has_mission(env: gym.Env[Any, Any]) -> bool:
    """Whether ENV shows what MiniGrid's environments show: an image, a direction, a mission."""
    space = env.observation_space
    return isinstance(space, spaces.Dict) and {"image", "direction", "mission"} == set(space)


class Mission(gym.ObservationWrapper[Any, Any, Any]):
    """MiniGrid's observations without text.

    A mission that is the same in every episode is left out. Another becomes 256 bits, of which each
    word sets the one whose number is the CRC-32 of its place and itself, "0 get", modulo 256.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Dict)
        mission: Any = space["mission"]
        self._varies = (
            bool(mission.ordered_placeholders) or "babyai" in type(env.unwrapped).__module__
        )
        seen: dict[str, spaces.Space[Any]] = {
            "image": space["image"],
            "direction": space["direction"],
        }
        if self._varies:
            seen["mission"] = spaces.MultiBinary(_WORDS)
        self.observation_space = spaces.Dict(seen)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; what BabyAI prints of levels that it rejects is no output of a run."""
        with redirect_stdout(None):
            return super().reset(seed=seed, options=options)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The OBSERVATION without text."""
        seen = {name: observation[name] for name in ("image", "direction")}
        if self._varies:
            seen["mission"] = bits(observation["mission"])
        return seen


def bits(text: str) -> NDArray[np.int8]:
    """TEXT as 256 bits, of which each word in its place sets one."""
    seen = np.zeros(_WORDS, np.int8)
    for place, word in enumerate(text.lower().split()):
        seen[crc32(f"{place} {word}".encode()) % _WORDS] = 1
    return seen
