"""The interface "game": two players in turn, who see everything, and nothing is left to chance.

A state is an element of a NumPy array along its first axis; what it is made of is the game's own
business. Functions take many states at once and change none of them, so a search can go on
from any state that it has kept. `corelab_envs.interface` has the name for other packages.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

States: TypeAlias = NDArray[Any]
"""States, one for each element of the first axis, of a dtype that can be saved."""


class Game(Protocol):
    """A task that provides "game". The players gain what the other one loses."""

    name: str
    """What it is called in messages, such as "connect-four"."""
    actions: int
    """How many actions there are; which of them a state allows, `legal` says."""
    observation_shape: tuple[int, int, int]
    """Height, width and planes of what a player sees."""
    max_length: int
    """No game has more moves."""
    symmetries: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    """What leaves the game the same, as pairs of permutations, of the height x width cells and of
    the actions; the identity is the first. Cell i and action i of a mirrored state are cell
    `cells[i]` and action `actions[i]` of the original one."""

    def initial(self, n: int) -> States:
        """N states before the first move."""

    def legal(self, states: States) -> NDArray[np.bool_]:
        """Which actions who is to move may take, [n, actions]: at least one before the end."""

    def step(
        self, states: States, actions: NDArray[np.integer]
    ) -> tuple[States, NDArray[np.float64], NDArray[np.bool_]]:
        """Take legal ACTIONS [n]: the next states, the outcomes [n] for those who moved (1 won,
        0 drawn or not yet over, -1 lost) and whether the games are over [n].
        """

    def observe(self, states: States) -> NDArray[np.int8]:
        """What those who are to move see, [n, height, width, planes]."""

    def heuristic(self, states: States) -> NDArray[np.float64]:
        """A plain guess, between -1 and 1, of the outcomes [n] for those who are to move; 0 if
        nothing is known.
        """

    def render(self, states: States) -> NDArray[np.uint8]:
        """Pictures of STATES, [n, height, width, 3]."""
