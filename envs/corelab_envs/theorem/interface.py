"""The interfaces "theorems" and "premises": what tasks promise to algorithms that learn to prove.

Besides the task itself, this is what such an algorithm works with: searches that a `Guide` leads,
and tableaux, in which it follows what they found.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from corelab_envs.theorem.calculus import Kind, Outcome, Settings
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.graph import Graph, Link, Thing, graph_of
from corelab_envs.theorem.guide import Guide, Pairs, outlook
from corelab_envs.theorem.library import Library, Theorem
from corelab_envs.theorem.machinery import depth_first, follow, tableau, tree
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.proof import reward
from corelab_envs.theorem.prover import Attempt, Strategy, attempt
from corelab_envs.theorem.tptp import Problem
from corelab_envs.theorem.tree_search import Rules
from corelab_envs.theorem.walks import STATE_NUMBERS

__all__ = [
    "STATE_NUMBERS",
    "Attempt",
    "Form",
    "Graph",
    "Guide",
    "Kind",
    "Library",
    "Link",
    "Matrix",
    "Outcome",
    "Pairs",
    "Premises",
    "Problem",
    "Proves",
    "Rules",
    "Settings",
    "Strategy",
    "Theorem",
    "Theorems",
    "Thing",
    "attempt",
    "depth_first",
    "follow",
    "graph_of",
    "outlook",
    "reward",
    "tableau",
    "tree",
]


class Theorems(Protocol):
    """A task that provides "theorems": problems to be proved."""

    names: list[str]
    """What the problems are called, in order."""
    form: Form
    """Where parts of formulas have names."""
    conj: bool
    """Whether proofs begin with clauses of the conjecture."""

    def matrix(self, name: str) -> Matrix:
        """The clauses of the problem NAME. `DataError` if it cannot be read."""

    @property
    def measured(self) -> Theorems:
        """The same, with the problems that are not learned from."""


class Premises(Protocol):
    """A task that provides "premises": theorems, and what they might be proved from."""

    library: Library
    """The formulas of all problems."""
    theorems: list[Theorem]
    """Those to be learned from."""
    measured: list[Theorem]
    """Those that are not learned from."""


@runtime_checkable
class Proves(Protocol):
    """An algorithm that `corelab prove --run` can ask for a proof."""

    def prove(self, problem: Problem, inferences: int | None, seconds: float | None) -> Attempt:
        """Try to prove PROBLEM by what was learned, within so many INFERENCES and SECONDS."""
