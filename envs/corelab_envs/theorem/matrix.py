"""Clauses as a matrix: numbered symbols, terms, literals and connections, ready to be searched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from corelab_envs.theorem.clausify import START
from corelab_envs.theorem.terms import Application, Clause, Literal, Term, Variable, variables

_MADE = re.compile(r"(sk|def)_*\d+")
"""Names of the clausifier's making: their numbers mean nothing in another problem."""


@dataclass
class Matrix:
    """Clauses, flattened. Terms, literals and clauses are known by their numbers.

    The last clause is not one of `clauses`: its one literal, the negation of `START`, is the goal
    that every proof begins with.
    """

    clauses: tuple[Clause, ...]
    symbols: list[str] = field(default_factory=list)
    arities: list[int] = field(default_factory=list)
    symbol: list[int] = field(default_factory=list)
    """Of each term: its symbol, or -(v + 1) if it is variable v of its clause."""
    arguments: list[tuple[int, ...]] = field(default_factory=list)
    """Of each term: its arguments."""
    ground: list[bool] = field(default_factory=list)
    """Of each term: whether it has no variables. Equal ground terms have one number."""
    atom: list[int] = field(default_factory=list)
    """Of each literal: its atom."""
    key: list[int] = field(default_factory=list)
    """Of each literal: twice its predicate, and 1 more if it is negative."""
    clause_of: list[int] = field(default_factory=list)
    """Of each literal: its clause."""
    begin: list[int] = field(default_factory=list)
    """Of each clause: its first literal; and the number of all literals."""
    width: list[int] = field(default_factory=list)
    """Of each clause: how many variables it has."""
    connections: list[list[int]] = field(default_factory=list)
    """Of each key: the literals that have it, in order."""
    codes: list[int] = field(default_factory=list)
    """Of each symbol: a hash of its name, which is the same in all problems."""

    @classmethod
    def of(cls, clauses: Sequence[Clause]) -> Matrix:
        """The matrix of CLAUSES."""
        matrix = cls(tuple(clauses))
        numbers: dict[tuple[str, int], int] = {}
        known: dict[tuple[int, tuple[int, ...]], int] = {}
        goal = Clause((Literal(True, START),), "start")
        for number, clause in enumerate((*clauses, goal)):
            names = {name: i for i, name in enumerate(variables(clause.literals))}
            matrix.begin.append(len(matrix.atom))
            matrix.width.append(len(names))
            for literal in clause.literals:
                atom = matrix._add(literal.atom, names, numbers, known)
                matrix.atom.append(atom)
                matrix.key.append(2 * matrix.symbol[atom] + literal.negative)
                matrix.clause_of.append(number)
        matrix.begin.append(len(matrix.atom))
        matrix.connections = [[] for _ in range(2 * len(matrix.symbols))]
        for literal_number, key in enumerate(matrix.key[:-1]):
            matrix.connections[key].append(literal_number)
        matrix.codes = [
            _code(symbol, arity)
            for symbol, arity in zip(matrix.symbols, matrix.arities, strict=True)
        ]
        return matrix

    def _add(
        self,
        term: Term,
        names: Mapping[str, int],
        numbers: dict[tuple[str, int], int],
        known: dict[tuple[int, tuple[int, ...]], int],
    ) -> int:
        """The number of TERM, with its arguments numbered before it; this does not recur."""
        done: list[int] = []
        todo: list[tuple[Term, bool]] = [(term, False)]
        while todo:
            at, opened = todo.pop()
            if isinstance(at, Variable):
                done.append(self._term(-names[at.name] - 1, (), False))
                continue
            arity = len(at.arguments)
            if not opened and arity:
                todo.append((at, True))
                todo += [(argument, False) for argument in reversed(at.arguments)]
                continue
            arguments = tuple(done[len(done) - arity :])
            del done[len(done) - arity :]
            number = numbers.setdefault((at.symbol, arity), len(self.symbols))
            if number == len(self.symbols):
                self.symbols.append(at.symbol)
                self.arities.append(arity)
            if all(self.ground[argument] for argument in arguments):
                if (number, arguments) not in known:
                    known[number, arguments] = self._term(number, arguments, True)
                done.append(known[number, arguments])
            else:
                done.append(self._term(number, arguments, False))
        return done[0]

    def _term(self, symbol: int, arguments: tuple[int, ...], ground: bool) -> int:
        self.symbol.append(symbol)
        self.arguments.append(arguments)
        self.ground.append(ground)
        return len(self.symbol) - 1

    def heads(self, literal: int) -> tuple[int, int, int]:
        """The symbols of the first three arguments of LITERAL; -1 for a variable or none."""
        arguments = self.arguments[self.atom[literal]][:3]
        symbols = [max(self.symbol[argument], -1) for argument in arguments]
        first, second, third = symbols + [-1] * (3 - len(symbols))
        return first, second, third

    def term(self, codes: Sequence[int]) -> Term:
        """The term that CODES, symbols in the order of writing and variables as -(v + 1), tell."""
        done: list[Term] = []
        for code in reversed(codes):
            if code < 0:
                done.append(Variable(f"X{-code}"))
            else:
                arity = self.arities[code]
                arguments = tuple(reversed(done[len(done) - arity :]))
                del done[len(done) - arity :]
                done.append(Application(self.symbols[code], arguments))
        (term,) = done
        return term


def _code(symbol: str, arity: int) -> int:
    made = _MADE.fullmatch(symbol)
    return crc32(f"{made[1] if made else symbol}/{arity}".encode()) | 1  # 0 stands for none
