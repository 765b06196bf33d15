"""Matches between players of a game, many side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from corelab_envs.interface import Game
from corelab_mcts import Floats, Indices, States
from numpy.typing import NDArray

from corelab_search.minimax import random_actions

Record: TypeAlias = list[tuple[Indices, States]]
"""After each move, which games went on and how they stand."""
Player: TypeAlias = Callable[[States], Indices]
"""States [n] to actions [n]."""


def openings(game: Game, moves: Indices, rng: np.random.Generator) -> States:
    """Positions after so many random MOVES [n] each, or fewer where another would end the game."""
    states = game.initial(len(moves))
    for move in range(int(moves.max(initial=0))):
        following, _, over = game.step(states, random_actions(game.legal(states), rng))
        on = (move < moves) & ~over
        states[on] = following[on]
    return states


def play_matches(
    game: Game, player: Player, opponent: Player, states: States, first: NDArray[np.bool_]
) -> tuple[Floats, Record]:
    """Play a game from each of STATES [n], in which PLAYER begins where FIRST [n] says so.

    Returns its outcomes [n], 1 for a win, and the record, which begins with STATES.
    """
    outcomes = np.zeros(len(states))
    on, turn = np.arange(len(states)), first.copy()
    record: Record = [(on, states)]
    while len(on):
        actions = np.zeros(len(on), np.intp)
        for mover, mine in ((player, turn), (opponent, ~turn)):
            if mine.any():
                actions[mine] = mover(states[mine])
        states, outcome, over = game.step(states, actions)
        record.append((on, states))
        outcomes[on] = np.where(turn, outcome, -outcome)
        on, states, turn = on[~over], states[~over], ~turn[~over]
    return outcomes, record
