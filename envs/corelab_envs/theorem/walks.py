"""Walks down terms, hashed: what is seen of literals, the same in all problems."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from corelab_envs.theorem.matrix import Matrix

if TYPE_CHECKING:
    from corelab_envs.theorem.calculus import Bindings

FEATURE_LIMIT = 1_000
"""So many symbols of a state are seen."""
STATE_NUMBERS = 4
"""What stands in front of what is hashed of a state: its open goals, the length of the path, the
size of the goals, the inferences so far."""
_VARIABLE = 1
_WORD = 0xFFFFFFFF


class Role(IntEnum):
    """What a literal, or something else that is hashed, is to a state or an inference."""

    GOAL = 1
    PATH = 2
    OPEN = 3
    ENTRY = 4
    """The literal by which a clause is entered."""
    NEW = 5
    """One of those that become goals thereby."""
    ORIGIN = 6
    """How the clause of the goal was entered."""
    WIDTH = 7
    """How many literals a clause has."""


def mix(a: int, b: int) -> int:
    """A hash, 32 bits, of two."""
    scrambled = (b + 0x9E3779B9 + (a << 6) + (a >> 2)) & _WORD
    return (a * 2654435761 & _WORD) ^ scrambled


def bucket(value: int, buckets: int) -> int:
    """Which of BUCKETS a hash belongs to."""
    return value * buckets >> 32


class Walks:
    """Tells SINK the walks of up to three symbols down the terms of literals, hashed."""

    def __init__(
        self, matrix: Matrix, bindings: Bindings | None, sink: Callable[[int], None]
    ) -> None:
        self.matrix = matrix
        self.bindings = bindings
        """None: variables have no values."""
        self.sink = sink
        self.looked = 0
        """How many symbols were seen."""

    def literal(self, literal: int, offset: int, role: Role) -> None:
        """Tell the walks of LITERAL, whose variables begin at OFFSET."""
        m = self.matrix
        root = mix(role, m.key[literal] & 1)
        todo = [((m.atom[literal], offset), 0, 0)]
        while todo and self.looked < FEATURE_LIMIT:
            self.looked += 1
            at, parent, grandparent = todo.pop()
            if self.bindings is not None:
                at = self.bindings.resolve(at)
            term, offset = at
            code = _VARIABLE if m.symbol[term] < 0 else m.codes[m.symbol[term]]
            self.sink(mix(root, code))
            if parent:
                self.sink(mix(mix(root, parent), code))
            if grandparent:
                self.sink(mix(mix(mix(root, grandparent), parent), code))
            below = [((argument, offset), code, parent) for argument in m.arguments[term]]
            todo += below[::-1]
