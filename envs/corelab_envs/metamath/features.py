"""What is seen of derivations: numbers, and walks down trees, hashed by the labels in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from corelab_envs.metamath.derivation import Derivation, Inference, Lemma
from corelab_envs.metamath.grammar import Term
from corelab_envs.metamath.unification import leaves, size
from corelab_envs.theorem.walks import bucket, mix

STATE_NUMBERS = 5
"""Open goals, steps, symbols in the first goal and in all, and occurrences of unknowns in all."""
ACTION_NUMBERS = 4
"""Whether it is a premise of the theorem, goals it brings, symbols and unknowns in those."""
_UNKNOWN = 1
_LIMIT = 250
"""So many symbols of a state, or of a lemma, are seen."""


class Role(IntEnum):
    """What a tree, or a label, is to a state or an inference."""

    GOAL = 1
    OPEN = 2
    PREMISE = 3
    CONCLUSION = 4
    NEW = 5
    SOURCE = 6


class Sight:
    """Tells states and inferences in STATE_WIDTH and ACTION_WIDTH numbers, all log(1 + n)."""

    def __init__(self, state_width: int, action_width: int) -> None:
        self._state_width = state_width
        self._action_width = action_width
        self._rows: dict[str, NDArray[np.float64]] = {}
        """What a lemma says, hashed, by its label."""

    def state(self, derivation: Derivation) -> NDArray[np.float32]:
        """DERIVATION [STATE_WIDTH]: `STATE_NUMBERS`, and walks of up to three labels down its goals
        and the theorem's premises, counted and hashed into the rest.
        """
        out = np.zeros(self._state_width)
        goals = derivation.goals
        if goals:
            out[:STATE_NUMBERS] = (
                len(goals),
                derivation.steps,
                size(goals[0]),
                sum(map(size, goals)),
                sum(map(_unknowns, goals)),
            )
            seen = [(Role.GOAL, goals[0])]
            seen += [(Role.PREMISE, formula) for _, formula in derivation.premises]
            seen += [(Role.OPEN, goal) for goal in goals[1:]]
            _count(_walks(seen), out[STATE_NUMBERS:])
        return np.log1p(out).astype(np.float32)

    def actions(self, inferences: list[Inference], count: int) -> NDArray[np.float32]:
        """INFERENCES [COUNT, ACTION_WIDTH]: `ACTION_NUMBERS`, and of a lemma its label and walks
        down what it says, in the same form; rows beyond the last are 0.
        """
        out = np.zeros((count, self._action_width))
        for row, inference in zip(out, inferences, strict=False):
            row[:ACTION_NUMBERS] = (
                not isinstance(inference.source, Lemma),
                len(inference.premises),
                sum(map(size, inference.premises)),
                sum(map(_unknowns, inference.premises)),
            )
            if isinstance(inference.source, Lemma):  # labels of premises are the theorem's own
                row[ACTION_NUMBERS:] = self._row(inference.source)
        return np.log1p(out).astype(np.float32)

    def _row(self, lemma: Lemma) -> NDArray[np.float64]:
        found = self._rows.get(lemma.label)
        if found is None:
            found = self._rows[lemma.label] = np.zeros(self._action_width - ACTION_NUMBERS)
            _count([mix(Role.SOURCE, crc32(lemma.label.encode()))], found)
            said = [(Role.CONCLUSION, lemma.conclusion)]
            _count(_walks([*said, *((Role.NEW, premise) for premise in lemma.premises)]), found)
        return found


def _unknowns(term: Term) -> int:
    return sum(isinstance(leaf, int) for leaf in leaves(term))


def _count(hashes: Iterable[int], into: NDArray[np.float64]) -> None:
    for value in hashes:
        into[bucket(value, len(into))] += 1


def _walks(trees: list[tuple[Role, Term]]) -> Iterator[int]:
    """The walks of up to three labels down TREES, hashed, of the first `_LIMIT` symbols."""
    looked = 0
    for role, tree in trees:
        root = mix(role, 0)
        todo = [(tree, 0, 0)]
        while todo and looked < _LIMIT:
            looked += 1
            at, parent, grandparent = todo.pop()
            code = _UNKNOWN if isinstance(at, int) else crc32(at[0].encode())
            yield mix(root, code)
            if parent:
                yield mix(mix(root, parent), code)
            if grandparent:
                yield mix(mix(mix(root, grandparent), parent), code)
            if not isinstance(at, int):
                todo += [(child, code, parent) for child in at[:0:-1]]
