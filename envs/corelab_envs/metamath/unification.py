"""Unification of syntax trees, and what values do to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from corelab_envs.metamath.grammar import MAX_DEPTH, Term

Values = dict[int, Term]
"""Values of variables, in which other variables may have values."""
MAX_SYMBOLS = 2_000
"""A goal may have so many symbols."""


class TooLarge(Exception):  # noqa: N818 - a finding: there is a unifier, but it is too large
    """A tree has more than `MAX_SYMBOLS` symbols or `MAX_DEPTH` levels."""


def unify(a: Term, b: Term, values: Values) -> bool:
    """Whether A and B can be made equal; adds the most general VALUES that do it.

    Where types of variables are those of the grammar, so are the values'. `TooLarge`.
    """
    todo, looked = [(a, b)], 0
    while todo:
        looked += 1
        if looked > 10 * MAX_SYMBOLS:  # values of values can be looked at ever again
            raise TooLarge
        a, b = todo.pop()
        a, b = _value(a, values), _value(b, values)
        if a == b:
            continue
        if isinstance(a, int):
            if _occurs(a, b, values):
                return False
            values[a] = b
        elif isinstance(b, int):
            todo.append((b, a))
        elif a[0] != b[0]:
            return False
        else:
            todo.extend(zip(a[1:], b[1:], strict=True))
    return True


def _value(term: Term, values: Mapping[int, Term]) -> Term:
    while isinstance(term, int) and term in values:
        term = values[term]
    return term


def _occurs(variable: int, term: Term, values: Mapping[int, Term]) -> bool:
    todo, looked = [term], 0
    while todo:
        at = _value(todo.pop(), values)
        looked += 1
        if at == variable:
            return True
        if looked > MAX_SYMBOLS:
            raise TooLarge
        if not isinstance(at, int):
            todo += at[1:]
    return False


def resolved(term: Term, values: Mapping[int, Term]) -> Term:
    """TERM with all VALUES put in. `TooLarge`."""
    left = MAX_SYMBOLS

    def build(term: Term, level: int) -> Term:
        nonlocal left
        left -= 1
        if left < 0 or level > MAX_DEPTH:
            raise TooLarge
        term = _value(term, values)
        if isinstance(term, int):
            return term
        return (term[0], *(build(child, level + 1) for child in term[1:]))

    return build(term, 1)


def renumbered(term: Term, first: int) -> Term:
    """TERM, whose variables count from 0, with variables that count from FIRST."""
    if isinstance(term, int):
        return term + first
    return (term[0], *(renumbered(child, first) for child in term[1:]))


def leaves(term: Term) -> Iterator[int | str]:
    """The variables in TERM, from left to right: numbers, and labels of those that are fixed."""
    todo = [term]
    while todo:
        at = todo.pop()
        if isinstance(at, int):
            yield at
        elif len(at) == 1:
            yield at[0]
        else:
            todo += reversed(at[1:])


def size(term: Term) -> int:
    """How many symbols TERM has."""
    todo, found = [term], 0
    while todo:
        at = todo.pop()
        found += 1
        if not isinstance(at, int):
            todo += at[1:]
    return found
