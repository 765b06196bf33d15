"""The formulas in a folder of problems, and what each theorem was proved from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.terms import Application
from corelab_envs.theorem.tptp import Problem, Statement, deep_recursion, show_formula

_TRUE = Application("$true")


@dataclass(frozen=True)
class Theorem:
    """A problem with one conjecture."""

    name: str
    formula: int
    """The number of its conjecture."""
    premises: frozenset[int]
    """The numbers of the formulas that its problem gives to prove it from."""


class Library:
    """The formulas of problems, each once, whatever they are called there.

    What may be used to prove a theorem are all formulas but itself and those whose own problem
    needs it, directly or by way of others: a folder has no order but this.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.formulas: list[Statement] = []
        self.theorems: list[Theorem] = []
        """Of the problems that have premises, in order."""
        self._numbers: dict[str, int] = {}
        for problem in problems:
            goals = [s for s in problem.statements if s.role == "conjecture"]
            others = [s for s in problem.statements if s.role != "conjecture"]
            numbers = frozenset(self._number(s) for s in others if s.formula != _TRUE)
            for goal in goals[:1]:
                number = self._number(goal)
                premises = numbers - {number}
                if premises:
                    self.theorems.append(Theorem(problem.name, number, premises))
        self._users: dict[int, set[int]] = {}
        for theorem in self.theorems:
            for premise in theorem.premises:
                self._users.setdefault(premise, set()).add(theorem.formula)

    def available(self, theorem: Theorem) -> list[int]:
        """The numbers of what THEOREM might be proved from."""
        needing, todo = {theorem.formula}, [theorem.formula]
        while todo:
            new = self._users.get(todo.pop(), set()) - needing
            needing |= new
            todo += new
        needing -= theorem.premises  # of problems that need each other
        return [number for number in range(len(self.formulas)) if number not in needing]

    def matrix(self, number: int) -> Matrix:
        """The clauses of formula NUMBER alone."""
        statement = replace(self.formulas[number], role="axiom")
        clauses = clausify(Problem(statement.name, (statement,)), "none")
        return Matrix.of([c for c in clauses if not c.source.startswith("equality: ")])

    def _number(self, statement: Statement) -> int:
        with deep_recursion():
            text = show_formula(statement.formula)
        number = self._numbers.setdefault(text, len(self.formulas))
        if number == len(self.formulas):
            self.formulas.append(statement)
        return number
