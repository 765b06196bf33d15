"""Fixed players of turn-based games: what a learned policy is measured against."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rival = Callable[[NDArray[Any], NDArray[Any], np.random.Generator], NDArray[np.int64]]
"""From observations [B, ...], masks [B, n] and a generator to moves [B]."""


def random_player(
    observations: NDArray[Any], masks: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Any move that is allowed, each as likely as the others."""
    moves: NDArray[np.int64] = (masks * (1 - rng.random(masks.shape))).argmax(-1)
    return moves


def perfect_tictactoe(
    observations: NDArray[Any], masks: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Any of the moves that minimax finds best; OBSERVATIONS [B, 3, 3, 2] are own and other marks.

    It never loses, and wins whenever the other side's moves allow it.
    """
    cells = observations.reshape(-1, 9, 2).astype(np.int64)
    own, other = np.moveaxis(cells, 2, 0) @ (1 << np.arange(9))
    best = np.zeros_like(masks)
    for row, position in enumerate(zip(own.tolist(), other.tolist(), strict=True)):
        best[row, list(_minimax(*position)[1])] = 1
    return random_player(observations, best, rng)


def one_ply_connect_four(
    observations: NDArray[Any], masks: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Win if one move does, else prevent the other side from winning with its next, else at random;
    OBSERVATIONS [B, 6, 7, 2] are own and other pieces, the top row first.
    """
    cells = observations.reshape(-1, 42, 2).astype(np.int64)
    own, other = np.moveaxis(cells, 2, 0)
    empty = (own + other) == 0
    rests = np.ones_like(empty)  # on the ground, or on another piece
    rests[:, :35] = ~empty[:, 7:]
    choices = masks
    for mine, yours in ((other, own), (own, other)):  # winning, which is looked at last, goes first
        almost = (mine @ _LINES.T == 3) & (yours @ _LINES.T == 0)  # [B, 69]
        completes = (almost @ _LINES > 0) & empty & rests
        moves = completes.reshape(-1, 6, 7).any(1)
        choices = np.where(moves.any(1, keepdims=True), moves, choices)
    return random_player(observations, choices, rng)


def _lines_of_four() -> NDArray[np.int64]:
    """The 69 lines of Connect Four as sets of cells, [69, 42]."""
    lines = []
    for row, column in product(range(6), range(7)):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            ends = row + 3 * down, column + 3 * right
            if ends[0] < 6 and 0 <= ends[1] < 7:
                line = np.zeros((6, 7), np.int64)
                for k in range(4):
                    line[row + k * down, column + k * right] = 1
                lines.append(line.ravel())
    return np.stack(lines)


_LINES = _lines_of_four()
_ROWS_OF_THREE = (0o007, 0o070, 0o700, 0o111, 0o222, 0o444, 0o421, 0o124)


@cache
def _minimax(own: int, other: int) -> tuple[int, tuple[int, ...]]:
    """What a position of tic-tac-toe (sets of cells) is worth to who has to move, and the moves
    that bring it.
    """
    if any(other & line == line for line in _ROWS_OF_THREE):
        return -1, ()
    free = [cell for cell in range(9) if not (own | other) >> cell & 1]
    if not free:
        return 0, ()
    worth = {cell: -_minimax(other, own | 1 << cell)[0] for cell in free}
    best = max(worth.values())
    return best, tuple(cell for cell in free if worth[cell] == best)


RIVALS: dict[str, dict[str, Rival]] = {
    "pettingzoo.classic.tictactoe_v3": {"perfect": perfect_tictactoe},
    "pettingzoo.classic.connect_four_v3": {"one-ply": one_ply_connect_four},
}
"""Fixed players of single games, besides the random one of all."""
