"""Gymnasium's vector environments, made to keep their word: seeded, checked, saved and restored."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from corelab import CorelabError, DataError
from corelab_envs.state import Hidden, restore, snapshot

_ARRAY_SPACES = (
    gym.spaces.Box,
    gym.spaces.Discrete,
    gym.spaces.MultiBinary,
    gym.spaces.MultiDiscrete,
)


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


class Copy(gym.Wrapper[Any, Any, Any, Any]):
    """One of several copies: seeds its episodes one by one and can come back to where it was.

    The seed of an episode follows from ROOT, the copy's INDEX and the number of the episode. If the
    state cannot be read (REPLAYS), the actions since the last reset are remembered, and it is
    restored by beginning the same episode and acting the same again.
    """

    def __init__(
        self, env: gym.Env[Any, Any], name: str, root: int, index: int, replays: bool
    ) -> None:
        super().__init__(env)
        self._name = name
        self._root = root
        self._index = index
        self._replays = replays
        self._episode = -1
        self._over = False
        self._actions: list[Any] = []
        self._observation: Any = None

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode."""
        self._episode += 1
        self._over = False
        self._actions.clear()
        words = np.random.SeedSequence([self._root, self._index, self._episode]).generate_state(1)
        observation, info = self._call(self.env.reset, seed=int(words[0] >> 1), options=options)
        self._observation = observation
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; if the episode is over, reset (a vector environment forgets that when restored)."""
        if self._over:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        if self._replays:
            self._actions.append(deepcopy(action))
        observation, reward, terminated, truncated, info = self._call(self.env.step, action)
        self._observation = observation
        self._over = bool(terminated or truncated)
        return observation, reward, terminated, truncated, info

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # whatever it is, it comes from someone else's code
            raise DataError(
                f"{self._name}: copy {self._index} failed in {method.__name__}, "
                f"episode {self._episode}: {first_line(error)}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as a tree that can be saved."""
        state: dict[str, Any] = {
            "root": self._root,
            "episode": self._episode,
            "over": self._over,
        }
        if not self._replays:
            return state | {"snapshot": _seen(self.env, f"{self._name}: copy {self._index}")}
        space, n = self.env.action_space, len(self._actions)
        actions = concatenate(space, self._actions, create_empty_array(space, n)) if n else None
        return state | {"n": n, "actions": actions, "observation": deepcopy(self._observation)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, or raise `DataError`."""
        self._root = state["root"]
        if self._replays:
            self._episode = state["episode"] - 1
            self.reset()
            n, space = state["n"], self.env.action_space
            for action in iterate(batch_space(space, n), state["actions"]) if n else ():
                self.step(action)
            if not data_equivalence(self._observation, state["observation"], exact=True):
                raise DataError(
                    f"{self._name}: copy {self._index} cannot be restored: the same seed and "
                    "actions led to another observation, so its dynamics depend on something else"
                )
        else:
            restore(self.env, state["snapshot"])
            self._episode = state["episode"]
        self._over = state["over"]


class GymnasiumEnvironments:
    """A vector environment in autoreset mode NEXT_STEP whose every choice follows from SEED."""

    def __init__(self, vector: gym.vector.VectorEnv[Any, Any, Any], name: str, seed: int) -> None:
        self._name = name
        self.num_envs = vector.num_envs
        self._vector = vector
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        space = vector.single_action_space
        self._dtype = space.dtype if isinstance(space, _ARRAY_SPACES) else None
        self._copies: list[Any] = (
            list(vector.envs) if isinstance(vector, gym.vector.SyncVectorEnv) else []
        )
        self._steps = 0

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        observations, infos = self._call(self._vector.reset, seed=self._seed)
        self._refuse_non_finite("an observation", observations)
        return observations, infos

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act [N, ...] in every copy: observations [N, ...], rewards, terminations, truncations [N]
        and further information. `DataError` if a copy fails or gives a number that is not finite.
        """
        if self._dtype is not None:
            actions = np.asarray(actions, self._dtype)
        observations, rewards, *ends, infos = self._call(self._vector.step, actions)
        self._steps += 1
        self._refuse_non_finite("an observation", observations)
        self._refuse_non_finite("a reward", rewards)
        terminations, truncations = ends
        return observations, rewards, terminations, truncations, infos

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3]."""
        for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
            os.environ.setdefault(driver, "dummy")  # pygame draws in memory: no window, no sound
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pygame's own
            frames = self._call(self._vector.render)
        return np.asarray(frames[0], np.uint8)

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except CorelabError:
            raise
        except gym.error.DependencyNotInstalled as error:  # Gymnasium draws with pygame alone
            raise DataError(
                f"{self._name} cannot be drawn, because pygame is not installed: "
                'pip install "corelab-ml[render]"'
            ) from error
        except Exception as error:
            raise DataError(
                f"{self._name} failed in {method.__name__} after {self._steps} steps: "
                f"{first_line(error)}"
            ) from error

    def _refuse_non_finite(self, what: str, values: Any) -> None:
        for array in _floats(values):
            if not np.isfinite(array).all():
                finite = np.isfinite(array.reshape(self.num_envs, -1)).all(axis=1)
                raise DataError(
                    f"{self._name}: copy {int(finite.argmin())} gave {what} that is not "
                    f"finite at step {self._steps}"
                )

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        if self._copies:
            return {"steps": self._steps, "copies": [copy.state_dict() for copy in self._copies]}
        return {
            "steps": self._steps,
            "snapshot": _seen(self._vector, f"{self._name}: the vector environment"),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called. `ValueError` if that was something else."""
        self._steps = state["steps"]
        if self._copies:
            self.reset()
            for copy, saved in zip(self._copies, state["copies"], strict=True):
                copy.load_state_dict(saved)
        else:
            restore(self._vector, state["snapshot"])

    def close(self) -> None:
        """Let go of what they hold."""
        self._vector.close()


def _seen(env: Any, what: str) -> Any:
    try:
        return snapshot(env)
    except Hidden as hidden:
        raise DataError(
            f"{what} cannot be saved any more, because it has come to hold something "
            f"that cannot be read: {hidden}"
        ) from hidden


def _floats(values: Any) -> Iterator[NDArray[np.floating]]:
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, tuple):
        for value in values:
            yield from _floats(value)
    elif isinstance(values, np.ndarray) and values.dtype.kind == "f":
        yield values


def first_line(error: Exception) -> str:
    """ERROR in one line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
