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
FAILURES = (Exception, SystemExit)
"""What an environment, which is someone else's code, can end with; Ctrl-C is the user's own."""
Stepped = tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
"""Observations, rewards, terminations, truncations and further information."""


class CopyError(DataError):
    """What is WRONG with a COPY of the environment NAME."""

    def __init__(self, name: str, copy: int, wrong: str) -> None:
        super().__init__(name, copy, wrong)

    def __str__(self) -> str:
        name, copy, wrong = self.args
        return f"{name}: copy {copy} {wrong}"

    def counted_from(self, first: int) -> CopyError:
        """The same where the copies that were numbered from 0 are those from FIRST on."""
        name, copy, wrong = self.args
        return CopyError(name, first + copy, wrong)


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
        self._name = name
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
            return state | {"snapshot": _seen(self.env, f"{self._name}: copy {self._index}")}
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
                raise CopyError(
                    self._name,
                    self._index,
                    "cannot be restored: the same seed and actions led to another observation, "
                    "so its dynamics depend on something else",
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

    def _failed(self, wrong: str, error: BaseException, copy: int | None = None) -> CorelabError:
        """What to tell of an ERROR, which comes from someone else's code."""
        if isinstance(error, CorelabError):
            return error
        wrong = f"{wrong} at step {self._steps}: {first_line(error)}"
        if copy is not None:
            return CopyError(self._name, copy, wrong)
        return DataError(f"{self._name} {wrong}")

    def _refuse_non_finite(self, what: str, values: Any) -> None:
        for array in floats(values):
            # in one pass: a sum of squares is finite only if all of them are, if not vice versa
            flat = array.ravel("K")
            if not math.isfinite(np.vdot(flat, flat)) and not np.isfinite(array).all():
                finite = np.isfinite(array.reshape(self.num_envs, -1)).all(axis=1)
                wrong = f"gave {what} that is not finite at step {self._steps}"
                raise CopyError(self._name, int(finite.argmin()), wrong)

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
        except FAILURES as error:
            raise self._failed("could not be drawn", error) from error


class Copies(Checked):
    """Copies of one environment that are stepped one after the other, in autoreset mode NEXT_STEP.

    Further information comes by its name, as a list in which a copy that says nothing has None.
    """

    def __init__(self, copies: Sequence[Copy], name: str) -> None:
        super().__init__(name, len(copies))
        self.copies = copies
        self._action_space = copies[0].action_space
        self._space = copies[0].observation_space
        self._stack = stack_of(self._space)
        self._masked = (
            isinstance(self._space, gym.spaces.Dict) and "action_mask" in self._space.spaces
        )

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        begun = []
        for i, copy in enumerate(self.copies):
            try:
                begun.append(copy.reset())
            except FAILURES as error:
                raise self._failed("failed to reset", error, i) from error
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
        except FAILURES as error:
            where = f"failed in episode {self.copies[i].episode}"
            raise self._failed(where, error, i) from error
        observations = self._together(each)
        self._refuse_non_finite("an observation", observations)
        self._refuse_non_finite("a reward", rewards)
        if self._masked:
            self._refuse_deadlock(observations["action_mask"], terminations | truncations)
        return observations, rewards, terminations, truncations, _by_name(infos)

    def _refuse_deadlock(self, masks: NDArray[Any], over: NDArray[np.bool_]) -> None:
        stuck = ~(masks.any(axis=1) | over)
        if stuck.any():
            wrong = f"allows no action at step {self._steps}, and its episode is not over"
            raise CopyError(self._name, int(stuck.argmax()), wrong)

    def _together(self, each: Sequence[Any]) -> Any:
        """The observations of EACH copy, as one of arrays [N, ...]."""
        try:
            return self._stack(each)
        except FAILURES as error:
            wrong = "gave an observation that does not fit its space"
            raise self._failed(wrong, error, self._misfit(each)) from error

    def _misfit(self, each: Sequence[Any]) -> int:
        """The first copy whose observation does not fit alone."""
        for i, one in enumerate(each):
            try:
                self._stack([one])
            except FAILURES:
                return i
        return 0

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
        for i, copy in enumerate(self.copies):
            try:
                copy.env.close()  # type: ignore[no-untyped-call]
            except FAILURES as error:
                raise self._failed("failed to close", error, i) from error


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
        except FAILURES as error:
            raise self._failed("failed to reset", error) from error
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
        except FAILURES as error:
            raise self._failed("failed", error) from error
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
        try:
            self.vector.close()
        except FAILURES as error:
            raise self._failed("failed to close", error) from error


Stack = Callable[[Sequence[Any]], Any]
"""From N observations to arrays [N, ...], in dicts and tuples where they are."""


def stack_of(space: gym.Space[Any]) -> Stack:
    """What puts observations in SPACE together. What SPACE has no room for is a `ValueError`:
    another shape, a fraction where it has whole numbers, a number that it has not.
    """
    if isinstance(space, gym.spaces.Dict):
        named = {key: stack_of(part) for key, part in space.items()}
        return lambda each: {key: put([one[key] for one in each]) for key, put in named.items()}
    if isinstance(space, gym.spaces.Tuple):
        listed = [stack_of(part) for part in space]
        return lambda each: tuple(put([one[i] for one in each]) for i, put in enumerate(listed))
    if not isinstance(space, _ARRAY_SPACES):
        return lambda each: concatenate(space, each, create_empty_array(space, len(each)))
    dtype, shape = np.dtype(space.dtype), space.shape

    def real(each: Sequence[Any]) -> NDArray[Any]:
        array = np.array(each, dtype)
        if array.shape[1:] != shape:
            raise ValueError(f"{array.shape[1:]} is not {shape}")
        return array

    def whole(each: Sequence[Any]) -> NDArray[Any]:
        given = np.array(each)
        array = given.astype(dtype, copy=False)
        if array.shape[1:] != shape:
            raise ValueError(f"{array.shape[1:]} is not {shape}")
        if given.dtype != dtype:
            refuse(given != array, given)
        return array

    def refuse(wrong: NDArray[np.bool_], given: NDArray[Any]) -> None:
        if wrong.any():
            raise ValueError(" ".join(f"{given[wrong][0]} is not in {space}".split()))

    def one_of(each: Sequence[Any]) -> NDArray[Any]:
        array = whole(each)
        if min(each) < first or max(each) > last:  # faster than arrays, of which there are few
            refuse((array < first) | (array > last), array)
        return array

    def some_of(each: Sequence[Any]) -> NDArray[Any]:
        array = whole(each)
        refuse((array < first) | (array > last), array)
        return array

    first: Any
    last: Any
    if isinstance(space, gym.spaces.Discrete):
        first, last = int(space.start), int(space.start) + int(space.n) - 1
        return one_of
    if isinstance(space, gym.spaces.MultiDiscrete):
        first, last = space.start, space.start + space.nvec - 1
        return some_of
    return real if dtype.kind == "f" else whole


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


def floats(values: Any) -> Iterator[NDArray[np.floating]]:
    """The arrays of real numbers in VALUES, an array, or dicts and tuples of arrays."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            yield values
    elif isinstance(values, dict | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from floats(value)


def first_line(error: BaseException) -> str:
    """ERROR in one line."""
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
