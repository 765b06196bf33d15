"""Minimax: what a player can be sure of some moves ahead. The opponent that is measured against."""

from __future__ import annotations

import numpy as np
from corelab_envs.interface import Game
from corelab_mcts import Floats, Indices, States
from numpy.typing import NDArray

_DISCOUNT = 0.99
"""A win now is better than one later; a loss later is better than one now."""


def minimax(game: Game, states: States, depth: int) -> Floats:
    """What each action is worth to who is to move when both look DEPTH moves ahead, [n, actions];
    -∞ for what is not legal.

    All moves are tried, for all STATES [n] at once; behind the last one the game's heuristic
    judges.
    """
    legal = game.legal(states)
    state, action = legal.nonzero()
    values = np.full(legal.shape, -np.inf)
    following, outcome, over = game.step(states[state], action)
    if depth > 1 and not over.all():
        # where moves lead to the same position it is looked at once
        unique, which = np.unique(following[~over], axis=0, return_inverse=True)
        outcome[~over] = -_DISCOUNT * minimax(game, unique, depth - 1).max(1)[which.ravel()]
    else:
        outcome[~over] = -_DISCOUNT * game.heuristic(following[~over])
    values[state, action] = outcome
    return values


def best_actions(values: Floats, rng: np.random.Generator) -> Indices:
    """An action of the highest of VALUES [n, actions] for each state, [n]; RNG breaks ties."""
    best = values == values.max(1, keepdims=True)
    chosen: Indices = np.where(best, rng.random(values.shape), -1).argmax(1)
    return chosen


def random_actions(legal: NDArray[np.bool_], rng: np.random.Generator) -> Indices:
    """One of the LEGAL [n, actions] actions for each state, [n]."""
    return best_actions(legal.astype(np.float64), rng)
