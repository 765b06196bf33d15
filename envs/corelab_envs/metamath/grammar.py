"""Syntax trees of statements, by the grammar that a database's own syntax axioms are.

A tree is a tuple: the label of a syntax axiom, then the trees of its variables in the order in
which a proof pushes them; a variable is a tuple of its `$f` label alone. So what a proof needs to
build an expression is the labels of its tree, children first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from corelab import DataError
from corelab_envs.metamath.database import Assertion, Database, Hypothesis

Term: TypeAlias = "int | tuple[Any, ...]"
"""A tree, or a number: a variable that has yet to be given a value."""
PROVABLE = "|-"
"""The type of statements that are proved."""
FORMULA = "wff"
"""The type of what follows it."""
MAX_DEPTH = 200
"""Trees may be so deep."""


@dataclass
class _Node:
    """A node of the trie of right sides."""

    constants: dict[str, _Node] = field(default_factory=dict)
    types: dict[str, _Node] = field(default_factory=dict)
    rules: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    """Syntax axioms that end here: type, label, and which of its parts each child is."""


class Grammar:
    """The syntax axioms of DATABASE: axioms without premises whose type is that of variables.

    `DataError` if there is no type `wff` of formulas.
    """

    def __init__(self, database: Database) -> None:
        self._path = database.path
        self._root = _Node()
        types = {h.symbols[0] for h in database.hypotheses.values() if h.floating}
        if FORMULA not in types or PROVABLE in types:
            raise DataError(
                f"{database.path}: goals are statements `{PROVABLE}` and a formula, whose type is "
                f"`{FORMULA}`, and this database has no variables of that type"
            )
        for assertion in database.assertions.values():
            if assertion.proof is None and assertion.symbols[0] in types:
                self._add(assertion)

    def _add(self, axiom: Assertion) -> None:
        of_type = {h.symbols[1]: h.symbols[0] for h in axiom.floating}
        node, parts = self._root, []
        for symbol in axiom.symbols[1:]:
            if symbol in of_type:
                parts.append(symbol)
                node = node.types.setdefault(of_type[symbol], _Node())
            else:
                node = node.constants.setdefault(symbol, _Node())
        if axiom.essential or len(parts) != len(set(parts)) or node is self._root:
            raise DataError(
                f"{self._path}: the syntax axiom {axiom.label!r} has a premise, a variable twice "
                "or nothing at all; such grammars are not understood"
            )
        order = tuple(parts.index(h.symbols[1]) for h in axiom.floating)
        node.rules.append((axiom.symbols[0], axiom.label, order))

    def parse(self, assertion: Assertion, hypothesis: Hypothesis | None = None) -> Term:
        """The tree of what ASSERTION says, or of what a premise of it says.

        `DataError` if it is no formula, or nested too deeply.
        """
        stated = hypothesis or assertion
        variables = {h.symbols[1]: h for h in assertion.floating}
        tree = self.tree(stated.symbols[1:], variables)
        if tree is None or stated.symbols[0] != PROVABLE:
            raise DataError(
                f"{self._path}: {stated.label}: {' '.join(stated.symbols)!r} is not "
                f"`{PROVABLE}` and a formula by the database's syntax axioms"
            )
        if depth(tree) > MAX_DEPTH:
            raise DataError(
                f"{self._path}: {stated.label}: its formula has more than {MAX_DEPTH} levels"
            )
        return tree

    def tree(self, symbols: Sequence[str], variables: Mapping[str, Hypothesis]) -> Term | None:
        """The tree of SYMBOLS as a formula; None if they are none.

        From right to left, all trees that begin at a symbol are found from those that begin
        further right. One that is complete may be the first part of another, as in `A = B`.
        """
        end = len(symbols)
        chart: list[dict[str, dict[int, Term]]] = [{} for _ in range(end + 1)]
        for begin in reversed(range(end)):
            found = chart[begin]
            todo: list[tuple[_Node, int, tuple[Term, ...]]] = []
            completed: list[tuple[str, int, Term]] = []
            variable = variables.get(symbols[begin])
            if variable is not None:
                completed.append((variable.symbols[0], begin + 1, (variable.label,)))
            elif symbols[begin] in self._root.constants:
                todo.append((self._root.constants[symbols[begin]], begin + 1, ()))
            while todo or completed:
                while completed:
                    of_type, at, tree = completed.pop()
                    ends = found.setdefault(of_type, {})
                    if at not in ends:
                        ends[at] = tree
                        if of_type in self._root.types:
                            todo.append((self._root.types[of_type], at, (tree,)))
                if not todo:
                    break
                node, at, parts = todo.pop()
                for of_type, label, order in node.rules:
                    completed.append((of_type, at, (label, *(parts[i] for i in order))))
                if at == end:
                    continue
                if symbols[at] in node.constants:
                    todo.append((node.constants[symbols[at]], at + 1, parts))
                for of_type, after in node.types.items():
                    for stop, tree in chart[at].get(of_type, {}).items():
                        todo.append((after, stop, (*parts, tree)))
        return chart[0].get(FORMULA, {}).get(end) if symbols else None


def depth(term: Term) -> int:
    """How many levels TERM has."""
    deepest, todo = 0, [(term, 1)]
    while todo:
        at, level = todo.pop()
        deepest = max(deepest, level)
        if not isinstance(at, int):
            todo += [(child, level + 1) for child in at[1:]]
    return deepest


class Printer:
    """Writes trees as a database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, term: Term) -> str:
        """TERM in symbols; variables without a value are `?` and their number."""
        database = self._database
        words: list[str] = []
        todo: list[Term | str] = [term]
        while todo:
            at = todo.pop()
            if isinstance(at, str):
                words.append(at)
            elif isinstance(at, int):
                words.append(f"?{at}")
            elif at[0] in database.hypotheses:
                words.append(database.hypotheses[at[0]].symbols[1])
            else:
                axiom = database.assertions[at[0]]
                values = dict(zip((h.symbols[1] for h in axiom.floating), at[1:], strict=True))
                todo += [values.get(s, s) for s in reversed(axiom.symbols[1:])]
        return " ".join(words)
