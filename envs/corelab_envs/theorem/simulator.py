"""Tableaux for a tree search: states as values, stepped from anywhere.

This is what `corelab_search.mcts.Search` calls a simulator. A state knows nothing of the tableau
that it was saved from, so one tableau does the work for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corelab_envs.theorem.calculus import Outcome
from corelab_envs.theorem.machinery import tableau
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.proof import reward


class Simulator:
    """The tableaux of one problem."""

    def __init__(self, matrix: Matrix, eager: bool = False) -> None:
        self.tableau: Any = tableau(matrix, eager)
        """The tableau that goes to each state in turn; it is left at the last one."""

    def initial(self, n: int) -> NDArray[np.object_]:
        """N states before the first inference."""
        self.tableau.reset()
        return _array([self.tableau.save() for _ in range(n)])

    def counts(self, states: NDArray[np.object_]) -> NDArray[np.intp]:
        """How many inferences apply in STATES [n]."""
        found = []
        for state in states:
            self.tableau.restore(state)
            found.append(self.tableau.action_count)
        return np.array(found, np.intp)

    def step(
        self, states: NDArray[np.object_], actions: NDArray[np.intp]
    ) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.bool_]]:
        """Make inferences ACTIONS [n] in STATES [n]: the next states, the rewards (1 for a checked
        proof) and whether it ends there.
        """
        after, rewards, over = [], np.zeros(len(states)), np.zeros(len(states), np.bool_)
        for i, (state, action) in enumerate(zip(states, actions.tolist(), strict=True)):
            self.tableau.restore(state)
            over[i] = self.tableau.step(action) is not Outcome.RUNNING
            rewards[i] = reward(self.tableau) if over[i] else 0.0
            after.append(self.tableau.save())
        return _array(after), rewards, over


def _array(states: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(states), np.object_)
    for i, state in enumerate(states):
        array[i] = state
    return array
