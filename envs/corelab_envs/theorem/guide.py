"""What a linear policy and a linear value see of a proof, and what they say of it.

A policy scores an inference by the sum of its weights for

- the walks down the literals of the clause that is entered, and the number of these literals;
- each thing that it knows of the goal, crossed with what the clause is: the goal's own walks, the
  predicates on its path, how its clause was entered, and a constant.

All of these are hashed into the buckets of one array. The same clause has the same hash in all
problems, so what is learned of one applies to another, and the walks tell of clauses never seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corelab import DivergedError, require
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.walks import STATE_NUMBERS, Role, Walks, bucket, mix

if TYPE_CHECKING:
    from corelab_envs.theorem.calculus import Cell, Goal, Proof


@dataclass(frozen=True, eq=False)
class Pairs:
    """What is thought of closing a literal of a matrix by another, whatever their variables are
    bound to: the dot product of two vectors.
    """

    goals: NDArray[np.float32]
    """Of each literal, as a goal: its vector, [L, K]."""
    entries: NDArray[np.float32]
    """Of each literal, as the one by which a clause is entered, [L, K]."""

    def __post_init__(self) -> None:
        for name in ("goals", "entries"):
            array = np.ascontiguousarray(getattr(self, name), np.float32)
            if not np.isfinite(array).all():
                raise DivergedError(f"the vectors of literals as {name} are not finite")
            object.__setattr__(self, name, array)

    def score(self, goal: int, entry: int) -> float:
        """What is thought of closing the literal GOAL by ENTRY."""
        total = 0.0
        for a, b in zip(self.goals[goal].tolist(), self.entries[entry].tolist(), strict=True):
            total += a * b
        return total


@dataclass(frozen=True, eq=False)
class Guide:
    """Weights that say which inference is promising, and how good a state is."""

    policy: NDArray[np.float32]
    """Weights of the policy's buckets, [P]."""
    value: NDArray[np.float32]
    """Weights of the value: of the plain numbers of a state, of a constant, of buckets, [V]."""
    temperature: float = 1.0
    """What scores are divided by before they become priors or prices."""
    pairs: Callable[[Matrix], Pairs] | None = None
    """What to add to the scores of extensions, found once for each problem."""

    def __post_init__(self) -> None:
        for name, least in (("policy", 1), ("value", STATE_NUMBERS + 2)):
            array = np.ascontiguousarray(getattr(self, name), np.float32)
            require(len(array) >= least, f"the length of {name}", len(array), f"at least {least}")
            if not np.isfinite(array).all():
                raise DivergedError(f"the weights of the {name} are not finite")
            object.__setattr__(self, name, array)
        require(self.temperature > 0, "temperature", self.temperature, "positive")


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares of 1 in proportion to exp of SCORES."""
    most = max(scores)
    weights = [math.exp(score - most) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]


LEAST_PRICE = 0.5
"""The price of an extension that is certain."""


def prices(scores: Sequence[float], temperature: float) -> list[float]:
    """What extensions of these SCORES, the greatest first, add to the cost of a path: the less
    probable, the more; for a share p of exp(score / TEMPERATURE), `LEAST_PRICE` - ln p.
    """
    above = [(score - scores[0]) / temperature for score in scores]
    log_of_sum = math.log(sum(map(math.exp, above))) if above else 0.0
    return [LEAST_PRICE + log_of_sum - more for more in above]


class Sight:
    """What a policy sees of the inferences in the proofs of one matrix, as hashes."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self._entries: dict[int, tuple[int, list[int]]] = {}

    def goal(self, proof: Proof, goal: Goal) -> list[int]:
        """What is known of GOAL of PROOF."""
        m = self.matrix
        seen = [0]
        Walks(m, proof.bindings, seen.append).literal(goal.literal, goal.offset, Role.GOAL)
        seen += [self._predicate(Role.PATH, cell.literal) for cell in goal.path or ()]
        if goal.entry >= 0:
            seen.append(mix(Role.ORIGIN, self._entry(goal.entry)[0]))
        return seen

    def inference(self, goal: list[int], other: int, cell: Cell | None) -> list[int]:
        """An extension to the literal OTHER, or the reduction with CELL, for what `goal` saw."""
        if cell is not None:
            identity = self._predicate(mix(Role.ENTRY, Role.PATH), cell.literal)
            return [mix(identity, seen) for seen in goal]
        identity, walks = self._entry(other)
        return walks + [mix(identity, seen) for seen in goal]

    def _predicate(self, role: int, literal: int) -> int:
        key = self.matrix.key[literal]
        return mix(mix(role, key & 1), self.matrix.codes[key >> 1])

    def _entry(self, literal: int) -> tuple[int, list[int]]:
        """What the clause of LITERAL is, entered by it: its hash, and walks down its literals."""
        if literal not in self._entries:
            m = self.matrix
            clause = m.clause_of[literal]
            begin, end = m.begin[clause : clause + 2]
            others = [other for other in range(begin, end) if other != literal]
            identity, seen = int(Role.ENTRY), list[int]()
            walks = Walks(m, None, seen.append)
            for at in (literal, *others):
                walks.literal(at, 0, Role.ENTRY if at == literal else Role.NEW)
                identity = mix(identity, m.key[at] & 1)
                todo = [m.atom[at]]
                while todo:
                    term = todo.pop()
                    symbol = m.symbol[term]
                    identity = mix(identity, -symbol if symbol < 0 else m.codes[symbol])
                    todo += m.arguments[term][::-1]
            seen.append(mix(Role.WIDTH, end - begin))
            self._entries[literal] = identity, seen
        return self._entries[literal]


def score(guide: Guide, seen: Sequence[int]) -> float:
    """What the policy of GUIDE makes of SEEN."""
    weights, total = guide.policy, 0.0
    for value in seen:
        total += float(weights[bucket(value, len(weights))])
    return total


def outlook(size: float) -> float:
    """The logit of what a state is worth whose goals have SIZE symbols, by that alone: what is
    thought of states before anything is learned.
    """
    return 3.7 * math.exp(-0.05 * size) - 2.5


def judge(guide: Guide | None, numbers: Sequence[float], seen: Sequence[int]) -> float:
    """What a state is worth, 0 to 1, by its plain NUMBERS, what is SEEN of it, and what GUIDE adds
    to its `outlook`.
    """
    total = outlook(numbers[2])
    if guide is not None:
        first = len(numbers) + 1
        hashed = guide.value[first:]
        total += float(guide.value[first - 1])
        for weight, number in zip(guide.value, numbers, strict=False):
            total += float(weight) * math.log1p(number)
        for value in seen:
            total += float(hashed[bucket(value, len(hashed))])
    return 1 / (1 + math.exp(-total))
