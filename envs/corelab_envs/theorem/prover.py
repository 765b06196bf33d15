"""Proving a problem by depth-first search: from a file to a status and a checked proof."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from corelab_envs.theorem.calculus import Outcome, Settings
from corelab_envs.theorem.clausify import Form, clausify
from corelab_envs.theorem.guide import Guide
from corelab_envs.theorem.machinery import depth_first
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.proof import (
    Instance,
    Node,
    TooLarge,
    instances,
    refusal,
    tableau,
)
from corelab_envs.theorem.terms import Clause
from corelab_envs.theorem.tptp import Problem

_SLICE_SECONDS = 0.05
"""How long it may take, about, until the search looks at the clock; an interrupt waits as long."""


@dataclass(frozen=True)
class Strategy:
    """How a problem is turned into clauses, and how they are searched.

    The default is the strongest entry of leanCoP's schedule, which is complete.
    """

    settings: Settings = field(default_factory=lambda: Settings(cut=True, comp=7))
    form: Form = "conjecture"
    conj: bool = False
    """Begin with clauses of the conjecture, not with those whose literals are all negative."""
    guide: Guide | None = None
    """What says which inferences are promising."""

    def __str__(self) -> str:
        s = self.settings
        options = {
            "cut": s.cut,
            "scut": s.scut,
            f"comp({s.comp})": s.comp,
            "conj": self.conj,
            f"form {self.form}": True,
            "guided": self.guide is not None,
        }
        return ", ".join(name for name, given in options.items() if given)


@dataclass(frozen=True)
class Attempt:
    """What came of an attempt to prove a problem."""

    status: str
    """One of the SZS ontology: Theorem, Unsatisfiable, CounterSatisfiable, Satisfiable,
    ResourceOut, MemoryOut, User if it was interrupted, or GaveUp: the search was not complete, or
    its proof is `TooLarge`."""
    inferences: int
    path_limit: int
    """How long paths were allowed to be in the end, or with a guide how costly."""
    seconds: float
    strategy: Strategy
    clauses: tuple[Clause, ...]
    proof: tuple[Instance, ...] = ()
    tree: Node | None = None


def attempt(
    problem: Problem,
    strategy: Strategy | None = None,
    inferences: int | None = None,
    seconds: float | None = None,
) -> Attempt:
    """Try to prove PROBLEM within so many INFERENCES and SECONDS.

    Without a compiler, the search is done in Python. `RuntimeError` if a proof fails its check,
    which would be a mistake of corelab's.
    """
    strategy = strategy or Strategy()
    began = time.monotonic()
    clauses = clausify(problem, strategy.form, strategy.conj)
    matrix = Matrix.of(clauses)
    search = depth_first(matrix, strategy.settings, strategy.guide)
    interrupted = False
    some = 100
    try:
        while search.outcome is Outcome.RUNNING:
            if inferences is not None and search.inferences >= inferences:
                break
            if seconds is not None and time.monotonic() - began >= seconds:
                break
            limit, started = search.inferences + some, time.monotonic()
            search.run(limit if inferences is None else min(limit, inferences))
            slow = time.monotonic() - started > _SLICE_SECONDS
            some = max(1, some // 2) if slow else 2 * some
    except KeyboardInterrupt:
        interrupted = True
    proof: tuple[Instance, ...] = ()
    root = None
    status = _status(problem, strategy, search)
    if search.outcome is Outcome.PROVED:
        try:
            proof, root = instances(search), tableau(search)
        except TooLarge:
            status = "GaveUp"
        if proof and (why := refusal(clauses, proof)):
            raise RuntimeError(f"{problem.name}: a proof is refused, because {why}")
    elif interrupted:
        status = "User"
    spent = time.monotonic() - began
    return Attempt(
        status, search.inferences, search.path_limit, spent, strategy, tuple(clauses), proof, root
    )


def _status(problem: Problem, strategy: Strategy, search: Any) -> str:
    conjecture = problem.has_conjecture
    if search.outcome is Outcome.PROVED:
        return "Theorem" if conjecture else "Unsatisfiable"
    if search.outcome is Outcome.OUT_OF_MEMORY:
        return "MemoryOut"
    if search.outcome is Outcome.RUNNING:
        return "ResourceOut"
    if not search.is_complete or (strategy.conj and conjecture):
        return "GaveUp"  # something was left out, or the axioms might contradict each other
    return "CounterSatisfiable" if conjecture else "Satisfiable"
