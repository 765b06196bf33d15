"""The task "tic-tac-toe" of the interface "game": three in a row on 3 x 3 squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from corelab_envs.game import States

_SQUARES = np.arange(9, dtype=np.uint64)
_LINES = np.array(
    [sum(1 << square for square in line) for line in (
        *((0, 1, 2), (3, 4, 5), (6, 7, 8)),
        *((0, 3, 6), (1, 4, 7), (2, 5, 8)),
        *((0, 4, 8), (2, 4, 6)),
    )],
    np.uint64,
)  # fmt: skip
_FULL = np.uint64((1 << 9) - 1)


def _symmetries() -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]:
    square = np.arange(9).reshape(3, 3)
    turned = [np.rot90(board, k) for board in (square, square.T) for k in range(4)]
    return tuple((board.ravel(), board.ravel()) for board in turned)


class TicTacToe:
    """Tic-tac-toe as in PettingZoo's tictactoe_v3.

    A state is uint64 [2]: the squares of who is to move and of the other player, square i in bit i.
    """

    @dataclass(frozen=True)
    class Config:
        """Tic-tac-toe has no options."""

    name: ClassVar[str] = "tic-tac-toe"
    actions: ClassVar[int] = 9
    observation_shape: ClassVar[tuple[int, int, int]] = (3, 3, 2)
    max_length: ClassVar[int] = 9
    symmetries = _symmetries()

    def __init__(self, config: Config) -> None:
        self.config = config

    def initial(self, n: int) -> States:
        """N empty boards."""
        return np.zeros((n, 2), np.uint64)

    def legal(self, states: States) -> NDArray[np.bool_]:
        """The empty squares, [n, 9]."""
        taken = states[:, :1] | states[:, 1:]
        return (taken >> _SQUARES & np.uint64(1)) == 0  # type: ignore[no-any-return]

    def step(
        self, states: States, actions: NDArray[np.integer]
    ) -> tuple[States, NDArray[np.float64], NDArray[np.bool_]]:
        """Mark squares ACTIONS [n]."""
        mine = states[:, 0] | np.uint64(1) << actions.astype(np.uint64)
        won = ((mine[:, None] & _LINES) == _LINES).any(1)
        over = won | ((mine | states[:, 1]) == _FULL)
        return np.stack([states[:, 1], mine], 1), won.astype(np.float64), over

    def observe(self, states: States) -> NDArray[np.int8]:
        """The squares of who is to move, and those of the other player, [n, 3, 3, 2]."""
        bits = states[:, None, :] >> _SQUARES[:, None] & np.uint64(1)
        return bits.astype(np.int8).reshape(-1, 3, 3, 2)

    def heuristic(self, states: States) -> NDArray[np.float64]:
        """Nothing is known before the end."""
        return np.zeros(len(states))

    def render(self, states: States) -> NDArray[np.uint8]:
        """White boards, red for who began and blue for the other, [n, 72, 72, 3]."""
        seen = self.observe(states)
        second = seen.sum((1, 2, 3)) % 2 == 1
        board = np.where(second[:, None, None, None], seen[..., ::-1], seen)
        colour = (
            255
            - board[..., :1] * np.array([30, 200, 200])
            - board[..., 1:] * np.array([200, 150, 30])
        )
        tile = np.ones((24, 24), np.uint8)
        tile[:1], tile[:, :1] = 0, 0
        pictures = np.kron(colour.transpose(0, 3, 1, 2).astype(np.uint8), tile)
        return pictures.transpose(0, 2, 3, 1)
