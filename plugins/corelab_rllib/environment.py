"""An environment task as RLlib wants it: Gymnasium's interface, for one copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from corelab_envs.interface import Environment
from corelab_nets.masks import check_mask, has_mask, split_mask, without_mask
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

See: TypeAlias = Callable[[Any], NDArray[np.float32]]
"""What makes of observations [N, ...] what networks see of them, [N, ...]."""


def observed(task: Environment) -> tuple[spaces.Box, See]:
    """What RLlib's networks see of TASK, and what makes it of its observations.

    Images [C, H, W] become [H, W, C], bytes within 0 and 1, and everything else a vector. If a mask
    says which of n actions are allowed, it is the first n numbers of a vector. PluginError if a
    mask does not fit the actions.
    """
    space = task.single_observation_space
    if not has_mask(space):
        return _numbers(space)
    check_mask(space, task.single_action_space, task.name)
    shown, see = _numbers(without_mask(space))
    n = int(task.single_action_space.n)  # type: ignore[attr-defined]

    def beside_mask(observation: Any) -> NDArray[np.float32]:
        rest, mask = split_mask(observation)
        return np.concatenate([mask, see(rest).reshape(len(mask), -1)], 1, dtype=np.float32)

    low = np.concatenate([np.zeros(n, np.float32), shown.low.ravel()])
    high = np.concatenate([np.ones(n, np.float32), shown.high.ravel()])
    return spaces.Box(low, high), beside_mask


def _numbers(space: spaces.Space[Any]) -> tuple[spaces.Box, See]:
    """What of SPACE is seen where there is no mask."""
    if isinstance(space, spaces.Box) and len(space.shape) == 3:
        scale = np.float32(255 if space.dtype == np.uint8 else 1)

        def seen(observation: Any) -> NDArray[np.float32]:
            return np.moveaxis(np.asarray(observation, np.float32), 1, -1) / scale

        low, high = (seen(bound[None])[0] for bound in (space.low, space.high))
        return spaces.Box(low, high), seen

    if isinstance(space, spaces.Box):

        def flat(observation: Any) -> NDArray[np.float32]:
            return np.asarray(observation, np.float32).reshape(len(observation), -1)

        return spaces.Box(flat(space.low[None])[0], flat(space.high[None])[0]), flat

    rows = batch_space(space)

    def spread(observation: Any) -> NDArray[np.float32]:
        each = [spaces.flatten(space, x) for x in iterate(rows, observation)]
        return np.asarray(each, np.float32)

    return spaces.Box(-np.inf, np.inf, (spaces.flatdim(space),)), spread


def seed_of_copy(options: Any) -> int:
    """The seed of the copy that OPTIONS are for: RLlib adds which worker makes it, and as which of
    several.
    """
    place = (getattr(options, "worker_index", 0), getattr(options, "vector_index", 0) or 0)
    words = np.random.SeedSequence([options["seed"], *place]).generate_state(1, np.uint64)
    return int(words[0] >> 1)


class Single(gym.Env[NDArray[np.float32], Any]):
    """One copy of a task; OPTIONS has the `task`, and the `seed` of the run's environments."""

    def __init__(self, options: Any) -> None:
        task: Environment = options["task"]
        self.observation_space, self._see = observed(task)
        self.action_space = task.single_action_space
        self._envs = task.make(1, seed_of_copy(options))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the next episode. SEED is not heeded: the run's decides."""
        observation, _ = self._envs.reset()
        return self._see(observation)[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, termination, truncation, _ = self._envs.step(np.asarray(action)[None])
        return (
            self._see(observation)[0],
            float(reward[0]),
            bool(termination[0]),
            bool(truncation[0]),
            {},
        )

    def close(self) -> None:
        """Let go of what it holds."""
        self._envs.close()
