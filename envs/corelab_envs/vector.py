"""Environments that run side by side and keep their word: seeded, checked, saved and restored."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
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
Stepped = tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
"""Observations, rewards, terminations, truncations and further information."""


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
        self.episode = -1
        """The number of the episode that is being played."""
        self._name = f"{name}: copy {index}"
        self._root = root
        self._index = index
        self._replays = replays
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
        self.episode += 1
        self._over = False
        self._actions.clear()
        words = np.random.SeedSequence([self._root, self._index, self.episode]).generate_state(1)
        self._observation, info = self.env.reset(seed=int(words[0] >> 1), options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; if the episode is over, reset."""
        if self._over:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        stepped = self.env.step(action)
        if self._replays:
            self._actions.append(action if type(action) is int else deepcopy(action))
            self._observation = stepped[0]
        self._over = bool(stepped[2] or stepped[3])
        return stepped

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as a tree that can be saved."""
        state: dict[str, Any] = {
            "root": self._root,
            "episode": self.episode,
            "over": self._over,
        }
        if not self._replays:
            return state | {"snapshot": _seen(self.env, self._name)}
        space, n = self.env.action_space, len(self._actions)
        actions = concatenate(space, self._actions, create_empty_array(space, n)) if n else None
        return state | {"n": n, "actions": actions, "observation": deepcopy(self._observation)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, or raise `DataError`."""
        self._root = state["root"]
        if self._replays:
            self.episode = state["episode"] - 1
            self.reset()
            if state["n"]:
                for action in _each(self.env.action_space, state["n"], state["actions"]):
                    self.step(action)
            if not data_equivalence(self._observation, state["observation"], exact=True):
                raise DataError(
                    f"{self._name} cannot be restored: the same seed and actions led to another "
                    "observation, so its dynamics depend on something else"
                )
        else:
            restore(self.env, state["snapshot"])
            self.episode = state["episode"]
        self._over = state["over"]


class Checked:
    """N environments whose failures, and numbers that are not finite, are told in a sentence."""

    def __init__(self, name: str, num_envs: int) -> None:
        self.num_envs = num_envs
        self._name = name
        self._steps = 0

    def _failed(self, which: str, error: Exception) -> CorelabError:
        """What to tell of an ERROR, which comes from someone else's code."""
        if isinstance(error, CorelabError):
            return error
        return DataError(f"{self._name}{which} at step {self._steps}: {first_line(error)}")

    def _refuse_non_finite(self, what: str, values: Any) -> None:
        for array in _floats(values):
            # in one pass: a sum of squares is finite only if all of them are, if not vice versa
            flat = array.ravel("K")
            if not math.isfinite(np.vdot(flat, flat)) and not np.isfinite(array).all():
                finite = np.isfinite(array.reshape(self.num_envs, -1)).all(axis=1)
                raise DataError(
                    f"{self._name}: copy {int(finite.argmin())} gave {what} that is not "
                    f"finite at step {self._steps}"
                )

    def _draw(self, render: Callable[[], Any]) -> NDArray[np.uint8]:
        for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
            os.environ.setdefault(driver, "dummy")  # pygame draws in memory: no window, no sound
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pygame's own
                return np.asarray(render(), np.uint8)
        except gym.error.DependencyNotInstalled as error:  # Gymnasium draws with pygame alone
            raise DataError(
                f"{self._name} cannot be drawn, because pygame is not installed: "
                'pip install "corelab-ml[render]"'
            ) from error
        except Exception as error:
            raise self._failed(" could not be drawn", error) from error


class Copies(Checked):
    """Copies of one environment that are stepped one after the other, in autoreset mode NEXT_STEP.

    Further information comes by its name, as a list in which a copy that says nothing has None.
    """

    def __init__(self, copies: Sequence[Copy], name: str) -> None:
        super().__init__(name, len(copies))
        self.copies = copies
        self._action_space = copies[0].action_space
        self._space = copies[0].observation_space
        self._is_array = isinstance(self._space, _ARRAY_SPACES)
        self._masked = (
            isinstance(self._space, gym.spaces.Dict) and "action_mask" in self._space.spaces
        )

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        begun = []
        for i, copy in enumerate(self.copies):
            try:
                begun.append(copy.reset())
            except Exception as error:
                raise self._failed(f": copy {i} failed to reset", error) from error
        each, infos = zip(*begun, strict=True)
        observations = self._together(each)
        self._refuse_non_finite("an observation", observations)
        if self._masked:
            self._refuse_deadlock(observations["action_mask"], np.zeros(self.num_envs, np.bool_))
        return observations, _by_name(infos)

    def step(self, actions: Any) -> Stepped:
        """Act [N, ...] in every copy: observations [N, ...], rewards, terminations, truncations [N]
        and further information. `DataError` if a copy fails or gives a number that is not finite.
        """
        n = self.num_envs
        self._steps += 1
        rewards = np.empty(n)
        terminations, truncations = np.empty(n, np.bool_), np.empty(n, np.bool_)
        each: list[Any] = [None] * n
        infos: list[dict[str, Any]] = [{}] * n
        i = 0
        try:
            for i, (copy, action) in enumerate(
                zip(self.copies, _each(self._action_space, n, actions), strict=True)
            ):
                each[i], rewards[i], terminations[i], truncations[i], infos[i] = copy.step(action)
        except Exception as error:
            where = f": copy {i} failed in episode {self.copies[i].episode}"
            raise self._failed(where, error) from error
        observations = self._together(each)
        self._refuse_non_finite("an observation", observations)
        self._refuse_non_finite("a reward", rewards)
        if self._masked:
            self._refuse_deadlock(observations["action_mask"], terminations | truncations)
        return observations, rewards, terminations, truncations, _by_name(infos)

    def _refuse_deadlock(self, masks: NDArray[Any], over: NDArray[np.bool_]) -> None:
        stuck = ~(masks.any(axis=1) | over)
        if stuck.any():
            raise DataError(
                f"{self._name}: copy {int(stuck.argmax())} allows no action at step {self._steps}, "
                "and its episode is not over"
            )

    def _together(self, each: Sequence[Any]) -> Any:
        """The observations of EACH copy, as one of arrays [N, ...]."""
        space = self._space
        try:
            if self._is_array:
                together = np.array(each, space.dtype)
                if together.shape[1:] == space.shape:
                    return together
                raise ValueError(f"{together.shape[1:]} is not {space.shape}")
            return concatenate(space, each, create_empty_array(space, self.num_envs))
        except Exception as error:
            raise self._failed(": an observation does not fit its space", error) from error

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3]."""
        return self._draw(self.copies[0].render)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        return {"steps": self._steps, "copies": [copy.state_dict() for copy in self.copies]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called. `ValueError` if that was something else."""
        self._steps = state["steps"]
        self.reset()
        for copy, saved in zip(self.copies, state["copies"], strict=True):
            copy.load_state_dict(saved)

    def close(self) -> None:
        """Let go of what they hold."""
        for copy in self.copies:
            copy.env.close()  # type: ignore[no-untyped-call]


class Native(Checked):
    """A vector environment of Gymnasium's, in autoreset mode NEXT_STEP, that is seeded by SEED."""

    def __init__(self, vector: gym.vector.VectorEnv[Any, Any, Any], name: str, seed: int) -> None:
        super().__init__(name, vector.num_envs)
        self.vector = vector
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self._seeded = False
        for attribute in vars(vector).values():
            if isinstance(attribute, gym.Space):  # its generator is part of the state, too
                attribute.seed(self._seed)
        space = vector.single_action_space
        self._dtype = space.dtype if isinstance(space, _ARRAY_SPACES) else None

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        seed = None if self._seeded else self._seed  # with the seed it would begin the same again
        try:
            observations, infos = self.vector.reset(seed=seed)
        except Exception as error:
            raise self._failed(" failed to reset", error) from error
        self._seeded = True
        self._refuse_non_finite("an observation", observations)
        return observations, infos

    def step(self, actions: Any) -> Stepped:
        """Act [N, ...] in every copy: observations [N, ...], rewards, terminations, truncations [N]
        and further information. `DataError` if a copy fails or gives a number that is not finite.
        """
        self._steps += 1
        if self._dtype is not None:
            actions = np.asarray(actions, self._dtype)
        try:
            stepped = self.vector.step(actions)
        except Exception as error:
            raise self._failed(" failed", error) from error
        self._refuse_non_finite("an observation", stepped[0])
        self._refuse_non_finite("a reward", stepped[1])
        return stepped

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3]."""
        return self._draw(lambda: next(iter(self.vector.render() or ())))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        what = f"{self._name}: the vector environment"
        snapshot = _seen(self.vector, what)
        return {"steps": self._steps, "seeded": self._seeded, "snapshot": snapshot}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called. `ValueError` if that was something else."""
        self._steps, self._seeded = state["steps"], state["seeded"]
        restore(self.vector, state["snapshot"])

    def close(self) -> None:
        """Let go of what they hold."""
        self.vector.close()


def _each(space: gym.Space[Any], n: int, actions: Any) -> Iterable[Any]:
    """The N ACTIONS in SPACE one by one; those that are numbers as Python's own, which are fast."""
    if isinstance(space, _ARRAY_SPACES):
        array = np.asarray(actions, space.dtype)
        return array.tolist() if isinstance(space, gym.spaces.Discrete) else array
    return iterate(batch_space(space, n), actions)


def _by_name(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for info in infos for name in info)
    return {name: [info.get(name) for info in infos] for name in names}


def _seen(env: Any, what: str) -> Any:
    try:
        return snapshot(env)
    except Hidden as hidden:
        raise DataError(
            f"{what} cannot be saved any more, because it has come to hold something "
            f"that cannot be read: {hidden}"
        ) from hidden


def _floats(values: Any) -> Iterator[NDArray[np.floating]]:
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            yield values
    elif isinstance(values, dict | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _floats(value)


def first_line(error: Exception) -> str:
    """ERROR in one line."""
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
