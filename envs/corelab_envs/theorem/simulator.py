"""Tableaux for a tree search: states as values, stepped from anywhere.

This is what `corelab_mcts.Search` calls a simulator. A state knows nothing of the tableau that it
was saved from, so one tableau does the work for all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corelab_envs.theorem.calculus import Outcome


class Simulator:
    """The states of TABLEAU; those of DEPTH inferences, if that is given, are ends."""

    def __init__(self, tableau: Any, depth: float = math.inf) -> None:
        self.tableau = tableau
        """It goes to each state in turn, and is left at the last one."""
        self.depth = depth

    def initial(self, n: int) -> NDArray[np.object_]:
        """N states before the first inference."""
        self.tableau.reset()
        return _array([self.tableau.save() for _ in range(n)])

    def step(
        self, states: NDArray[np.object_], actions: NDArray[np.intp]
    ) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.bool_]]:
        """Make inferences ACTIONS [n] in STATES [n]: the next states, the rewards (1 for a proof,
        which remains to be checked) and whether it ends there.
        """
        after, rewards, over = [], np.zeros(len(states)), np.zeros(len(states), np.bool_)
        for i, (state, action) in enumerate(zip(states, actions.tolist(), strict=True)):
            self.tableau.restore(state)
            outcome = self.tableau.step(action)
            rewards[i] = outcome is Outcome.PROVED
            over[i] = outcome is not Outcome.RUNNING or self.tableau.inferences >= self.depth
            after.append(self.tableau.save())
        return _array(after), rewards, over


def _array(states: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(states), np.object_)
    for i, state in enumerate(states):
        array[i] = state
    return array
