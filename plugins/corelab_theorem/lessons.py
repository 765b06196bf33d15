"""What is learned from: proofs and failures, seen again step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from corelab_envs.theorem.interface import Kind, Matrix, Outcome, tableau
from numpy.typing import NDArray

Line = list[tuple[int, int]]
"""Actions in turn, each with its rival: the action besides that was tried most, or -1."""


@dataclass
class Choices:
    """States [S] in which an action was chosen."""

    walks: list[NDArray[np.int32]] = field(default_factory=list)
    """Of each state: what the policy sees of its actions, one after the other, as buckets."""
    lengths: list[NDArray[np.int32]] = field(default_factory=list)
    """Of each state: how many walks each action has."""
    chosen: list[int] = field(default_factory=list)
    """Of each state: the action."""
    weights: list[float] = field(default_factory=list)
    """Of each state: what it counts."""
    goals: list[int] = field(default_factory=list)
    """Of each state: the literal that is the goal."""
    entries: list[NDArray[np.int64]] = field(default_factory=list)
    """Of each state: the literal by which each action enters a clause, -1 for a reduction."""

    def part(self, states: Sequence[int]) -> Choices:
        """Those among STATES."""
        return Choices(*([own[i] for i in states] for own in vars(self).values()))


@dataclass
class Outlooks:
    """States [S] and what came of them."""

    walks: list[NDArray[np.int32]] = field(default_factory=list)
    """Of each state: what the value sees, as buckets."""
    numbers: list[NDArray[np.float32]] = field(default_factory=list)
    """Of each state: its plain numbers, [STATE_NUMBERS]."""
    targets: list[float] = field(default_factory=list)
    """Of each state: what it is worth, 0 to 1."""


@dataclass
class Lessons:
    """What a policy and a value are fitted to.

    DISCOUNT is what a state is worth one step earlier (Kaliszyk et al. 2018, sec. 3, "Value
    learning and guidance").
    """

    policy_buckets: int
    value_buckets: int
    discount: float
    choices: Choices = field(default_factory=Choices)
    outlooks: Outlooks = field(default_factory=Outlooks)

    def add_proof(self, matrix: Matrix, eager: bool, line: Line, weight: float = 1.0) -> None:
        """A proof of MATRIX: each of its actions is right, and where it leads is worth more the
        fewer steps are left. What the search took for the next best is worth nothing.
        """
        at = tableau(matrix, eager)
        for left, (action, rival) in zip(range(len(line), 0, -1), line, strict=True):
            if at.action_count > 1:
                walks, lengths = at.policy_walks(self.policy_buckets)
                self.choices.walks.append(walks)
                self.choices.lengths.append(lengths)
                self.choices.chosen.append(action)
                self.choices.weights.append(weight)
                self.choices.goals.append(at.goal)
                self.choices.entries.append(_entries(at))
            self._judge(at, self.discount**left)
            if rival >= 0:
                here = at.save()
                if at.step(rival) is Outcome.RUNNING:
                    self._judge(at, 0.0)
                at.restore(here)
            at.step(action)

    def add_failure(self, matrix: Matrix, eager: bool, line: Line) -> None:
        """Where most of the playouts went in a search that found no proof: worth nothing."""
        at = tableau(matrix, eager)
        for action, _ in line:
            at.step(action)
            self._judge(at, 0.0)

    def _judge(self, at: Any, target: float) -> None:
        walks, numbers = at.value_walks(self.value_buckets)
        self.outlooks.walks.append(walks)
        self.outlooks.numbers.append(numbers)
        self.outlooks.targets.append(target)


def _entries(at: Any) -> NDArray[np.int64]:
    extends = Kind.EXTENSION
    return np.array([action.other if action.kind == extends else -1 for action in at.actions])
