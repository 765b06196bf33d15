"""The task "connect-four" of the interface "game": four in a row, and stones fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from corelab_envs.game import States

_ROWS, _COLUMNS = 6, 7
_ONE = np.uint64(1)
# Bit 7 c + r is the cell in column c, r cells above the ground. The seventh bit of a column stays
# empty, so that no line runs on from one column into the next.
_GROUND = _ONE << np.arange(0, 49, 7, dtype=np.uint64)
_TOP = _GROUND << np.uint64(_ROWS - 1)
_BOARD = np.bitwise_or.reduce(_GROUND) * np.uint64((1 << _ROWS) - 1)
_CELLS = (7 * np.arange(_COLUMNS) + np.arange(_ROWS)[::-1, None]).astype(np.uint64)
_DIRECTIONS = tuple(np.uint64(step) for step in (1, 7, 6, 8))  # up, across, and the diagonals
_TWO, _THREE = np.uint64(2), np.uint64(3)
_MOST = 4 * 69  # three stones in every line
_BYTES = np.uint64(0x0101010101010101)
_HALVES = tuple(
    (np.uint64(width), np.uint64(mask))
    for width, mask in (
        (1, 0x5555555555555555),
        (2, 0x3333333333333333),
        (4, 0x0F0F0F0F0F0F0F0F),
    )
)


def _count(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """How many bits are set in each of BITS: sums of neighbours, of pairs, of fours, of eights."""
    for width, mask in _HALVES:
        bits = (bits & mask) + (bits >> width & mask)
    return ((bits * _BYTES) >> np.uint64(56)).astype(np.float64)


class ConnectFour:
    """Connect Four as in PettingZoo's connect_four_v3.

    A state is uint64 [2]: the stones of who is to move and of the other player, seven bits for each
    column.
    """

    @dataclass(frozen=True)
    class Config:
        """Connect Four has no options."""

    name: ClassVar[str] = "connect-four"
    actions: ClassVar[int] = _COLUMNS
    observation_shape: ClassVar[tuple[int, int, int]] = (_ROWS, _COLUMNS, 2)
    max_length: ClassVar[int] = _ROWS * _COLUMNS
    symmetries = tuple(
        (np.arange(42).reshape(6, 7)[:, ::side].ravel(), np.arange(7)[::side]) for side in (1, -1)
    )

    def __init__(self, config: Config) -> None:
        self.config = config

    def initial(self, n: int) -> States:
        """N empty boards."""
        return np.zeros((n, 2), np.uint64)

    def legal(self, states: States) -> NDArray[np.bool_]:
        """The columns with room, [n, 7]."""
        return ((states[:, :1] | states[:, 1:]) & _TOP) == 0  # type: ignore[no-any-return]

    def step(
        self, states: States, actions: NDArray[np.integer]
    ) -> tuple[States, NDArray[np.float64], NDArray[np.bool_]]:
        """Drop a stone into columns ACTIONS [n]."""
        mine, theirs = states[:, 0], states[:, 1]
        ground = _GROUND[actions]
        taken = mine | theirs
        column = ground * np.uint64((1 << _ROWS) - 1)
        # adding to the lowest cell carries to the first empty one
        stone = ((taken & column) + ground) & column
        mine = mine | stone
        won = np.zeros(len(states), np.bool_)
        for step in _DIRECTIONS:
            pair = mine & (mine >> step)
            won |= (pair & (pair >> (_TWO * step))) != 0
        over = won | ((taken | stone) == _BOARD)
        return np.stack([theirs, mine], 1), won.astype(np.float64), over

    def observe(self, states: States) -> NDArray[np.int8]:
        """The stones of who is to move, and of the other player, [n, 6, 7, 2], top row first."""
        bits = states[:, None, None, :] >> _CELLS[:, :, None] & _ONE
        return bits.astype(np.int8)

    def heuristic(self, states: States) -> NDArray[np.float64]:
        """Lines of four that a player alone has stones in count 1 for two stones and 4 for three;
        the difference between the players, divided by the most that it can be.
        """
        mine, theirs = states[:, 0], states[:, 1]
        return (self._chances(mine, theirs) - self._chances(theirs, mine)) / _MOST

    def _chances(self, own: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.float64]:
        free = _BOARD & ~other
        score = np.zeros(len(own))
        for step in _DIRECTIONS:
            open_line = free & (free >> step)
            open_line &= open_line >> (_TWO * step)
            a, b, c, d = own, own >> step, own >> (_TWO * step), own >> (_THREE * step)
            two = (a & b) | (c & d) | ((a | b) & (c | d))
            three = (a & b & (c | d)) | (c & d & (a | b))
            score += _count(open_line & two) + 3 * _count(open_line & three)
        return score

    def render(self, states: States) -> NDArray[np.uint8]:
        """Blue boards, yellow for who began and red for the other, [n, 144, 168, 3]."""
        seen = self.observe(states).astype(np.bool_)
        second = seen.sum((1, 2, 3)) % 2 == 1
        board = np.where(second[:, None, None, None], seen[..., ::-1], seen)
        colours = np.array([[245, 245, 245], [250, 210, 50], [215, 50, 50]], np.uint8)
        cell = colours[board[..., 0] + 2 * board[..., 1]].repeat(24, 1).repeat(24, 2)
        y, x = np.ogrid[-11.5:12, -11.5:12]
        hole = np.tile(y**2 + x**2 < 100, (_ROWS, _COLUMNS))[:, :, None]
        return np.where(hole, cell, np.array([40, 80, 190], np.uint8))
