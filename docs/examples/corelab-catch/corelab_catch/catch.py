"""Catch: a ball falls down a board, and a paddle at the bottom should be below it in time."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from corelab import require
from gymnasium import spaces
from numpy.typing import NDArray


class Catch:
    """A board whose pixels are 0, or 1 where ball and paddle are. Each step the paddle goes left,
    stays or goes right, and the ball falls by a row; at the bottom it pays 1 if it was caught,
    and -1 if not.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of catch."""

        rows: int = 10
        """How high the board is."""
        columns: int = 5
        """How wide the board is."""
        drift: float = 0.0
        """The chance that the ball moves a column to the left or to the right as it falls."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""
        video: bool = False
        """Film one episode at each evaluation."""

        def __post_init__(self) -> None:
            require(self.rows >= 2, "task.rows", self.rows, "at least 2")
            require(self.columns >= 2, "task.columns", self.columns, "at least 2")
            require(0 <= self.drift <= 1, "task.drift", self.drift, "a chance, from 0 to 1")
            n = self.num_envs
            require(n is None or n >= 1, "task.num_envs", n, "at least 1")

    name = "catch"
    fps = 5.0

    def __init__(self, config: Config) -> None:
        self.config = config
        self.num_envs, self.video = config.num_envs, config.video
        pixels = config.rows * config.columns
        self.single_observation_space = spaces.Box(0, 1, (pixels,), np.float32)
        self.single_action_space: spaces.Space[np.int64] = spaces.Discrete(3)

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Boards:
        """NUM_ENVS copies whose every random choice follows from SEED."""
        return Boards(self.config, num_envs, seed)


class Boards:
    """N boards side by side, as arrays."""

    def __init__(self, config: Catch.Config, num_envs: int, seed: int) -> None:
        self.config, self.num_envs = config, num_envs
        self.rng = np.random.default_rng(seed)
        self.row = np.zeros(num_envs, np.int64)  # of the ball
        self.column = np.zeros(num_envs, np.int64)  # of the ball
        self.paddle = np.zeros(num_envs, np.int64)
        self.over = np.zeros(num_envs, np.bool_)

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode on every board."""
        self._begin(np.ones(self.num_envs, np.bool_))
        return self._observation(), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Go left (0), stay (1) or go right (2). One that was over begins an episode instead."""
        resets, last = self.over.copy(), self.config.columns - 1
        self.paddle = (self.paddle + np.asarray(actions) - 1).clip(0, last)
        drifts = self.rng.random(self.num_envs) < self.config.drift
        sides = self.rng.choice([-1, 1], self.num_envs)
        self.column = (self.column + np.where(drifts, sides, 0)).clip(0, last)
        self.row += 1
        terminated = (self.row == self.config.rows - 1) & ~resets
        caught = self.column == self.paddle
        rewards = np.where(terminated, np.where(caught, 1.0, -1.0), 0.0)
        self.over = terminated
        self._begin(resets)
        return self._observation(), rewards, terminated, np.zeros_like(terminated), {}

    def _begin(self, boards: NDArray[np.bool_]) -> None:
        n = int(boards.sum())
        self.row[boards] = 0
        self.column[boards] = self.rng.integers(self.config.columns, size=n)
        self.paddle[boards] = self.rng.integers(self.config.columns, size=n)
        self.over[boards] = False

    def _observation(self) -> NDArray[np.float32]:
        """The boards, row by row: [N, rows x columns]."""
        boards = np.zeros((self.num_envs, self.config.rows, self.config.columns), np.float32)
        each = np.arange(self.num_envs)
        boards[each, self.row, self.column] = 1
        boards[each, -1, self.paddle] = 1
        return boards.reshape(self.num_envs, -1)

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first board, [20 rows, 20 columns, 3]: ball red, paddle blue."""
        board = np.full((self.config.rows, self.config.columns, 3), 240, np.uint8)
        board[-1, self.paddle[0]] = 50, 90, 200
        board[self.row[0], self.column[0]] = 210, 60, 60
        return board.repeat(20, 0).repeat(20, 1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on."""
        names = ("rng", "row", "column", "paddle", "over")
        return {name: deepcopy(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        for name, value in state.items():
            setattr(self, name, value)

    def close(self) -> None:
        """Nothing is held."""
