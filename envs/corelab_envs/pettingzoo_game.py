"""The task "pettingzoo-game" of the interface "game": PettingZoo's games for two, copied."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import DataError, require
from corelab_envs.game import States
from corelab_envs.pettingzoo_task import _find, _path
from corelab_envs.vector import FAILURES, first_line

_REMEMBERED = 10_000
"""How many positions are kept as environments."""


class PettingZooGame:
    """A turn-based game for two from PettingZoo, with action masks and nothing hidden or random.

    A state is the list of actions that led to it, int16 [1 + max_length], its length first. The
    environment behind it is copied from that of the state before, or played again from the start
    if that one has been forgotten. This is slow: some 0.1 to 10 ms a move.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of a PettingZoo game."""

        id: str = "classic/connect_four_v3"
        """The game's family and module."""
        max_length: int = 512
        """Games of more moves are drawn."""

    def __init__(self, config: Config) -> None:
        require(config.max_length >= 1, "task.max_length", config.max_length, "at least 1")
        self.config = config
        self.name = config.id
        self.max_length = config.max_length
        module = _find(config.id, _path(config.id))
        if not hasattr(module, "env"):
            raise DataError(f"{self.name} is not turn-based; a game that can be searched is")
        self._make: Any = module.env
        self._start = self._begin()
        self.actions, self.observation_shape = self._spaces()
        cells = self.observation_shape[0] * self.observation_shape[1]
        self.symmetries = ((np.arange(cells), np.arange(self.actions)),)
        self._envs: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def _spaces(self) -> tuple[int, tuple[int, int, int]]:
        """How many actions there are and the shape of what is seen; DataError if they are unfit."""
        agents = self._start.possible_agents
        actions = self._start.action_space(agents[0])
        match self._start.observation_space(agents[0]):
            case spaces.Dict(spaces={"observation": spaces.Box() as seen, "action_mask": _}) if (
                len(agents) == 2 and isinstance(actions, spaces.Discrete)
            ) and seen.dtype.kind in "bui":  # type: ignore[union-attr]
                match seen.shape:
                    case (height, width, planes):
                        return int(actions.n), (height, width, planes)
                    case shape:
                        return int(actions.n), (1, 1, math.prod(shape))
        raise DataError(
            f"{self.name} cannot be searched: that takes two players, Discrete actions with "
            "a mask, and an observation of whole numbers"
        )

    def _begin(self, **options: Any) -> Any:
        try:
            # without the wrappers that check what an algorithm does: only legal moves are made
            env = self._make(**options).unwrapped
            env.reset(seed=0)
        except FAILURES as error:
            raise DataError(f"{self.name} cannot be made: {first_line(error)}") from error
        return env

    def initial(self, n: int) -> States:
        """N times the beginning."""
        return np.zeros((n, 1 + self.max_length), np.int16)

    def legal(self, states: States) -> NDArray[np.bool_]:
        """The action masks, [n, actions]. DataError if one of them allows nothing."""
        masks = np.stack([self._seen(state)["action_mask"] for state in states]).astype(np.bool_)
        for state, mask in zip(states, masks, strict=True):
            if not mask.any():
                raise DataError(f"{self.name} allows no action at move {state[0] + 1}")
        return masks

    def step(
        self, states: States, actions: NDArray[np.integer]
    ) -> tuple[States, NDArray[np.float64], NDArray[np.bool_]]:
        """Act in a copy of each environment."""
        following = states.copy()
        following[:, 0] += 1
        following[np.arange(len(states)), following[:, 0]] = actions
        outcome, over = np.zeros(len(states)), following[:, 0] == self.max_length
        for i, (state, then) in enumerate(zip(states, following, strict=True)):
            mover, env = self._env(state).agent_selection, self._env(then)
            outcome[i] = env.rewards[mover]
            ended = env.terminations[mover] or env.truncations[mover]
            over[i] |= ended
            if sum(env.rewards.values()) or not (ended or env.agent_selection != mover):
                raise DataError(
                    f"{self.name} cannot be searched: its players do not take turns, or one does "
                    "not lose what the other gains"
                )
        return following, outcome, over

    def observe(self, states: States) -> NDArray[np.int8]:
        """What those who are to move see, [n, height, width, planes]."""
        seen = np.stack([self._seen(state)["observation"] for state in states])
        return seen.astype(np.int8).reshape(len(states), *self.observation_shape)

    def heuristic(self, states: States) -> NDArray[np.float64]:
        """Nothing is known before the end."""
        return np.zeros(len(states))

    def render(self, states: States) -> NDArray[np.uint8]:
        """The environment's own pictures, reduced to some 240 rows, [n, height, width, 3]."""
        pictures = []
        for state in states:
            env = self._begin(render_mode="rgb_array")
            for action in _actions(state):
                env.step(action)
            picture = np.asarray(env.render(), np.uint8)
            pictures.append(picture[:: len(picture) // 240 + 1, :: len(picture) // 240 + 1])
        return np.stack(pictures)

    def _seen(self, state: NDArray[np.int16]) -> dict[str, NDArray[Any]]:
        env = self._env(state)
        observation: dict[str, NDArray[Any]] = env.observe(env.agent_selection)
        return observation

    def _env(self, state: NDArray[np.int16]) -> Any:
        """The environment at STATE, which nobody may change."""
        actions = _actions(state)
        if actions in self._envs:
            self._envs.move_to_end(actions)
            return self._envs[actions]
        known = next((n for n in range(len(actions), 0, -1) if actions[:n] in self._envs), 0)
        env = _copied(self._envs[actions[:known]] if known else self._start)
        try:
            for action in actions[known:]:
                env.step(action)
        except FAILURES as error:
            raise DataError(
                f"{self.name} failed at move {len(actions)}: {first_line(error)}"
            ) from error
        self._envs[actions] = env
        if len(self._envs) > _REMEMBERED:
            self._envs.popitem(last=False)
        return env


def _copied(env: Any) -> Any:
    """ENV as it stands: its own way of being copied, EzPickle's, would begin anew."""
    copied = object.__new__(type(env))
    vars(copied).update(copy.deepcopy(vars(env)))
    return copied


def _actions(state: NDArray[np.int16]) -> tuple[int, ...]:
    return tuple(state[1 : 1 + state[0]].tolist())
