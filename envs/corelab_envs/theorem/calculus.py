"""The connection calculus, in plain Python: what a tableau is and how it is searched.

A proof is a tree of clauses. It begins with a goal that every start clause can close. A goal, which
is a literal of a clause in the tree, is closed by

- *extension*: a literal of a new copy of a clause is made its complement by unification, and the
  other literals of that clause become goals;
- *reduction*: it is made the complement of a literal on its path to the root;
- *lemma*: it is the same as a goal that was closed before and whose proof could be repeated here.

Goals are closed from the left, depth first. A clause must be *regular*: no literal of it that is
open stands on its own path. This is the calculus of leanCoP 2.1 (Otten and Bibel 2003,
"leanCoP: Lean Connection-Based Theorem Proving", JSC 36; Otten 2010, AI Communications 23), and
`Search` visits its inferences in that program's order.

This module defines what `connection.cpp` computes: parts of the same name do the same, and tests
hold them to the same number of inferences. It is a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corelab import require
from corelab_envs.theorem.graph import Link, Sketch, Thing
from corelab_envs.theorem.guide import Guide, Sight, prices, score
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.walks import STATE_NUMBERS, Role, Walks, bucket

TERM_LIMIT = 100_000
"""A unification that looks at more symbols fails, and the search is no longer complete."""
ACTION_NUMBERS = 3
"""What stands in front of those of an action: extension?, reduction?, new goals."""


class Outcome(IntEnum):
    """Where a search or a tableau stands."""

    RUNNING = 0
    PROVED = 1
    EXHAUSTED = 2
    """There is nothing left to do. Of a tableau: no inference applies to the goal."""
    OUT_OF_MEMORY = 3


class Kind(IntEnum):
    """The inferences."""

    EXTENSION = 0
    REDUCTION = 1
    LEMMA = 2


class Step(NamedTuple):
    """An inference in a tableau. The clause that step i brought is instance i + 1, the root 0."""

    kind: int
    instance: int
    """The instance to which the goal belongs."""
    literal: int
    """The goal."""
    other: int
    """The literal that closes it: of the new clause, on the path, or the lemma."""
    offset: int
    """Where the variables of that other literal begin."""


class Action(NamedTuple):
    """An inference that applies."""

    kind: int
    other: int
    """Of an extension: the literal to connect to; what it is of a reduction is the engine's own."""


@dataclass(frozen=True)
class Settings:
    """How `Search` goes about it; the defaults are complete."""

    cut: bool = False
    """Keep the first solution of each goal: restricted backtracking."""
    scut: bool = False
    """Begin with the first start clause only."""
    comp: int = 0
    """When the path limit has reached this, begin again without restrictions; 0 never does."""

    def __post_init__(self) -> None:
        require(0 <= self.comp <= 1000, "comp", self.comp, "at least 0 and at most 1000")


Instance: TypeAlias = tuple[int, int]
"""A term of the matrix, and where the values of its variables begin."""


class Bindings:
    """The values of variables, and the one way in which they are found: unification."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.values: list[Instance | None] = []
        self.trail: list[int] = []
        self.oversized = False

    def fresh(self, count: int) -> int:
        """COUNT new variables; where they begin."""
        offset = len(self.values)
        self.values += [None] * count
        return offset

    def undo(self, trail: int, variables: int) -> None:
        """Forget all but the first TRAIL bindings and the first VARIABLES."""
        while len(self.trail) > trail:
            self.values[self.trail.pop()] = None
        del self.values[variables:]

    def resolve(self, x: Instance) -> Instance:
        """X, or what it is bound to."""
        while (symbol := self.matrix.symbol[x[0]]) < 0:
            value = self.values[x[1] - symbol - 1]
            if value is None:
                break
            x = value
        return x

    def unify(self, a: Instance, b: Instance) -> bool:
        """Bind variables so that A and B are the same; if that fails, some bindings may stay."""
        return self._walk(a, b, bind=True)

    def equal(self, a: Instance, b: Instance) -> bool:
        """Whether A and B are the same already."""
        return self._walk(a, b, bind=False)

    def _variable(self, x: Instance) -> int:
        return x[1] - self.matrix.symbol[x[0]] - 1

    def _walk(self, a: Instance, b: Instance, bind: bool) -> bool:
        m = self.matrix
        pairs = [(a, b)]
        looked = 0
        while pairs:
            a, b = pairs.pop()
            a, b = self.resolve(a), self.resolve(b)
            x, y = m.symbol[a[0]], m.symbol[b[0]]
            if x < 0 or y < 0:
                if x < 0 and y < 0 and self._variable(a) == self._variable(b):
                    continue
                if not bind:
                    return False
                if x >= 0:
                    a, b = b, a
                looked = self._bind(self._variable(a), b, looked)
                if looked < 0:
                    return False
            elif m.ground[a[0]] and m.ground[b[0]]:
                if a[0] != b[0]:
                    return False
            elif a != b:
                if x != y:
                    return False
                looked += len(m.arguments[a[0]])
                if looked > TERM_LIMIT:
                    self.oversized = True
                    return False
                below = zip(m.arguments[a[0]], m.arguments[b[0]], strict=True)
                pairs += [((s, a[1]), (t, b[1])) for s, t in below][::-1]
        return True

    def _bind(self, variable: int, value: Instance, looked: int) -> int:
        """Bind VARIABLE to VALUE: the symbols LOOKED at by now, or -1 if it occurs there."""
        m = self.matrix
        todo = [] if m.ground[value[0]] or m.symbol[value[0]] < 0 else [value]
        while todo:
            x = self.resolve(todo.pop())
            if m.symbol[x[0]] < 0:
                if self._variable(x) == variable:
                    return -1
            elif not m.ground[x[0]]:
                looked += len(m.arguments[x[0]])
                if looked > TERM_LIMIT:
                    self.oversized = True
                    return -1
                todo += [(argument, x[1]) for argument in m.arguments[x[0]]][::-1]
        self.values[variable] = value
        self.trail.append(variable)
        return looked


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """The newest literal of a path or of the lemmas, and those before it."""

    literal: int
    offset: int
    next: Cell | None

    def __iter__(self) -> Iterator[Cell]:
        cell: Cell | None = self
        while cell is not None:
            yield cell
            cell = cell.next


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """A literal that is to be closed next, those after it in its clause, and what is around."""

    literal: int
    end: int
    """The end of the clause."""
    entry: int
    """The literal by which the clause was entered, which is closed."""
    offset: int
    path: Cell | None
    lemmas: Cell | None
    parent: Goal | None
    """The goal that the clause closes; the root has none."""
    instance: int
    height: int = 0
    """How many choices there were before this goal's own."""
    cost: float = 0.0
    """Of a search: the prices of the extensions on the path, in sum."""


class Proof:
    """What a search and a tableau have in common."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.bindings = Bindings(matrix)
        self._steps: list[Step] = []

    def steps(self) -> list[Step]:
        """The inferences in the tableau, in order."""
        return list(self._steps)

    def write(self, literal: int, offset: int, capacity: int) -> list[int] | None:
        """The atom of LITERAL with its values, as `Matrix.term` reads it; None if it has more
        symbols than CAPACITY.
        """
        codes: list[int] = []
        todo = [(self.matrix.atom[literal], offset)]
        while todo:
            term, offset = self.bindings.resolve(todo.pop())
            if len(codes) == capacity:
                return None
            symbol = self.matrix.symbol[term]
            codes.append(symbol - offset if symbol < 0 else symbol)
            todo += [(argument, offset) for argument in self.matrix.arguments[term]][::-1]
        return codes

    def _atom(self, literal: int, offset: int) -> Instance:
        return self.matrix.atom[literal], offset

    def _begin(self) -> Goal:
        first = self.matrix.begin[-2]
        return Goal(first, first + 1, -1, 0, None, None, None, 0)

    def _solved(self, goal: Goal) -> Goal:
        """What is to be closed after the literal of GOAL, which is a lemma from now on."""
        lemma = Cell(goal.literal, goal.offset, goal.lemmas)
        return _skipping(replace(goal, literal=goal.literal + 1, lemmas=lemma))

    def _is_irregular(self, goal: Goal) -> bool:
        """Whether a literal of GOAL's clause that is still open stands on the path, too."""
        key = self.matrix.key
        for literal in range(goal.literal, goal.end):
            for cell in goal.path or ():
                if (
                    literal != goal.entry
                    and key[cell.literal] == key[literal]
                    and self.bindings.equal(
                        self._atom(cell.literal, cell.offset), self._atom(literal, goal.offset)
                    )
                ):
                    return True
        return False

    def _extensions(self, goal: Goal) -> list[int]:
        """The literals that GOAL can be connected to, in order."""
        m, bindings = self.matrix, self.bindings
        mark = len(bindings.trail), len(bindings.values)
        wanted = self._atom(goal.literal, goal.offset)
        found = []
        for other in m.connections[m.key[goal.literal] ^ 1]:
            offset = bindings.fresh(m.width[m.clause_of[other]])
            if bindings.unify(self._atom(other, offset), wanted):
                found.append(other)
            bindings.undo(*mark)
        return found

    def _extend(self, goal: Goal, other: int, offset: int) -> Goal:
        """Enter the clause of literal OTHER, whose variables begin at OFFSET, to close GOAL."""
        clause = self.matrix.clause_of[other]
        self._steps.append(Step(Kind.EXTENSION, goal.instance, goal.literal, other, offset))
        path = Cell(goal.literal, goal.offset, goal.path)
        begin, end = self.matrix.begin[clause : clause + 2]
        instance = len(self._steps)
        return _skipping(Goal(begin, end, other, offset, path, goal.lemmas, goal, instance))

    def _close(self, goal: Goal, cell: Cell, kind: Kind) -> Goal:
        """Close the literal of GOAL by CELL of its path or of its lemmas."""
        self._steps.append(Step(kind, goal.instance, goal.literal, cell.literal, cell.offset))
        return self._solved(goal)


def _skipping(goal: Goal) -> Goal:
    """GOAL, or the one after it if it is the entry of its clause."""
    return replace(goal, literal=goal.literal + 1) if goal.literal == goal.entry else goal


class Search(Proof):
    """Depth-first search with iterative deepening on the cost of paths, in leanCoP's order.

    Each extension of a path costs 1, so what is limited is its length. The policy of a GUIDE, if
    there is one, gives the extensions of each goal other `prices`, and puts the cheapest first.
    """

    def __init__(self, matrix: Matrix, settings: Settings, guide: Guide | None = None) -> None:
        super().__init__(matrix)
        self.settings = settings
        self._guide = guide
        self._sight = Sight(matrix)
        self._pairs = guide.pairs(matrix) if guide is not None and guide.pairs else None
        self.outcome = Outcome.RUNNING
        self.path_limit = 1
        self.inferences = 0
        """How many extensions and reductions were made, those undone since included."""
        self._limit = 0
        self._goal: Goal | None
        self._choices: list[Iterator[Goal | None]]
        self._restart()

    @property
    def is_complete(self) -> bool:
        """Whether, if the search is exhausted, nothing was left out."""
        return not (self.settings.cut or self.settings.scut or self.bindings.oversized)

    def run(self, limit: int) -> Outcome:
        """Go on until the search ends or has made LIMIT inferences in all."""
        self._limit = limit
        while self.outcome is Outcome.RUNNING:
            if self._goal is not None:
                self._goal = self._next_open(self._goal)
                if self._goal is None:
                    self.outcome = Outcome.PROVED
                elif not self._is_irregular(self._goal):
                    goal = replace(self._goal, height=len(self._choices))
                    self._choices.append(self._alternatives(goal))
                    self._goal = None
                else:
                    self._goal = None
            elif self._choices:
                choice = self._choices[-1]
                try:
                    self._goal = next(choice)
                except StopIteration:
                    self._choices.pop()
                    continue
                if self._goal is None:
                    break
            elif not self._deepen():
                self.outcome = Outcome.EXHAUSTED
        return self.outcome

    def _restart(self) -> None:
        self._choices = []
        self.bindings.undo(0, 0)
        self._steps.clear()
        self._limited = False
        self._goal = self._begin()

    def _next_open(self, goal: Goal) -> Goal | None:
        """From GOAL on, the next literal to close, if there is one."""
        while goal.literal == goal.end:
            assert goal.parent is not None
            goal = goal.parent
            if goal.parent is None:
                return None
            if self.settings.cut:
                del self._choices[goal.height :]
            goal = self._solved(goal)
        return goal

    def _deepen(self) -> bool:
        """Begin anew with longer paths, or without restrictions, if there is reason to."""
        if self.settings.comp and self.path_limit == self.settings.comp:
            self.settings = Settings()
            self.path_limit = 1
        elif self.settings.comp or self._limited:
            self.path_limit += 1
        else:
            return False
        self._restart()
        return True

    def _alternatives(self, goal: Goal) -> Iterator[Goal | None]:
        """What follows each inference that closes GOAL; before the next one, it is undone.

        Where the limit forbids an inference, there is None, and the next time it is tried again.
        """
        m, bindings = self.matrix, self.bindings
        mark = len(bindings.trail), len(bindings.values)
        steps = len(self._steps)
        wanted, key = self._atom(goal.literal, goal.offset), m.key[goal.literal]

        def undo() -> None:
            bindings.undo(*mark)
            del self._steps[steps:]

        for cell in goal.lemmas or ():
            if m.key[cell.literal] == key and bindings.equal(
                self._atom(cell.literal, cell.offset), wanted
            ):
                yield self._closed(goal, cell, Kind.LEMMA)
                undo()
        for cell in goal.path or ():
            if m.key[cell.literal] == key ^ 1:
                if bindings.unify(self._atom(cell.literal, cell.offset), wanted):
                    while self.inferences >= self._limit:
                        yield None
                    self.inferences += 1
                    yield self._closed(goal, cell, Kind.REDUCTION)
                undo()
        for other, price in self._in_order(goal):
            clause = m.clause_of[other]
            offset = bindings.fresh(m.width[clause])
            if bindings.unify(self._atom(other, offset), wanted):
                cost = goal.cost + price
                if m.width[clause] and cost > self.path_limit:
                    self._limited = True
                else:
                    while self.inferences >= self._limit:
                        yield None
                    self.inferences += 1
                    new = replace(self._extend(goal, other, offset), cost=cost)
                    if self.settings.scut and goal.parent is None:
                        self._choices.clear()
                    yield new
            undo()

    def _in_order(self, goal: Goal) -> list[tuple[int, float]]:
        """What GOAL might be connected to, and at which price: the literals in order, or by a guide
        the best of those that fit first.
        """
        guide = self._guide
        if guide is None:
            return [(x, 1.0) for x in self.matrix.connections[self.matrix.key[goal.literal] ^ 1]]
        seen = self._sight.goal(self, goal)
        found = self._extensions(goal)
        scores = {other: score(guide, self._sight.inference(seen, other, None)) for other in found}
        if self._pairs is not None:
            for other in found:
                scores[other] += self._pairs.score(goal.literal, other)
        found.sort(key=lambda other: -scores[other])
        costs = prices([scores[other] for other in found], guide.temperature)
        return list(zip(found, costs, strict=True))

    def _closed(self, goal: Goal, cell: Cell, kind: Kind) -> Goal:
        if self.settings.cut:
            del self._choices[goal.height :]
        return self._close(goal, cell, kind)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that a tableau is, to go back to."""

    goal: Goal | None
    outcome: Outcome
    inferences: int
    actions: tuple[tuple[Action, Cell | None], ...]
    values: tuple[Instance | None, ...]
    steps: tuple[Step, ...]


class Tableau(Proof):
    """A tableau that is extended one inference at a time, without backtracking.

    What leaves no choice happens by itself: lemmas, reductions that bind nothing and, if EAGER,
    those that do, the nearest literal of the path first. Then the actions are the reductions
    (unless EAGER), from the goal to the root, and the extensions, in the order of the clauses.
    """

    def __init__(self, matrix: Matrix, eager: bool = False) -> None:
        super().__init__(matrix)
        self.eager = eager
        self.outcome = Outcome.RUNNING
        self._sight = Sight(matrix)
        self._goal: Goal | None
        self._actions: list[tuple[Action, Cell | None]]
        self.reset()

    @property
    def actions(self) -> list[Action]:
        """What applies to the goal, in canonical order; nothing if it is proved or exhausted."""
        return [action for action, _ in self._actions]

    @property
    def action_count(self) -> int:
        """How many inferences apply."""
        return len(self._actions)

    @property
    def goal(self) -> int | None:
        """The literal that is to be closed next."""
        return None if self._goal is None else self._goal.literal

    def reset(self) -> Outcome:
        """Begin anew."""
        self.bindings.undo(0, 0)
        self._steps.clear()
        self.inferences = 0
        return self._settle(self._begin())

    def step(self, index: int) -> Outcome:
        """Make the inference of this INDEX among `actions`."""
        (_, other), cell = self._actions[index]
        goal = self._goal
        assert goal is not None
        self.inferences += 1
        wanted = self._atom(goal.literal, goal.offset)
        if cell is not None:
            self.bindings.unify(self._atom(cell.literal, cell.offset), wanted)
            goal = self._close(goal, cell, Kind.REDUCTION)
        else:
            offset = self.bindings.fresh(self.matrix.width[self.matrix.clause_of[other]])
            self.bindings.unify(self._atom(other, offset), wanted)
            goal = self._extend(goal, other, offset)
        return self._settle(goal)

    def save(self) -> State:
        """Where it stands."""
        values, steps = tuple(self.bindings.values), tuple(self._steps)
        actions = tuple(self._actions)
        return State(self._goal, self.outcome, self.inferences, actions, values, steps)

    def restore(self, state: State) -> None:
        """Go to STATE, of this tableau or of another with the same matrix."""
        self._goal, self.outcome, self.inferences = state.goal, state.outcome, state.inferences
        self._actions = list(state.actions)
        self.bindings.values = list(state.values)
        self.bindings.trail.clear()
        self._steps = list(state.steps)

    def features(self, size: int) -> NDArray[np.float32]:
        """The state as numbers [SIZE]: `STATE_NUMBERS` of them, and walks of up to three symbols
        down its terms, counted and hashed into the rest; all as log(1 + n).
        """
        out = np.zeros(size)
        goal = self._goal
        if goal is None:
            return out.astype(np.float32)
        out[:STATE_NUMBERS] = self._look(goal, _counting(out[STATE_NUMBERS:]))
        return np.log1p(out).astype(np.float32)

    def action_features(self, size: int, count: int) -> NDArray[np.float32]:
        """The first COUNT actions as numbers [COUNT, SIZE], `ACTION_NUMBERS` and walks; rows beyond
        the last action are 0.
        """
        m = self.matrix
        out = np.zeros((count, size))
        for row, ((_, other), cell) in zip(out, self._actions, strict=False):
            if cell is not None:
                walks = Walks(m, self.bindings, _counting(row[ACTION_NUMBERS:]))
                walks.literal(cell.literal, cell.offset, Role.PATH)
                row[1] = 1
                continue
            walks = Walks(m, None, _counting(row[ACTION_NUMBERS:]))
            walks.literal(other, 0, Role.ENTRY)
            begin, end = m.begin[m.clause_of[other] : m.clause_of[other] + 2]
            for literal in range(begin, end):
                if literal != other:
                    walks.literal(literal, 0, Role.NEW)
            row[0], row[2] = 1, end - begin - 1
        return np.log1p(out).astype(np.float32)

    def sight(self) -> tuple[list[int], list[float]]:
        """What a value sees: walks down the goal, all that is open and the path, as hashes; and
        `STATE_NUMBERS` plain numbers. There is nothing to see if no goal is left.
        """
        seen: list[int] = []
        numbers = self._look(self._goal, seen.append) if self._goal else [0.0] * STATE_NUMBERS
        return seen, numbers

    def sight_of_actions(self) -> list[list[int]]:
        """What a policy sees of each action, as hashes."""
        if self._goal is None:
            return []
        goal = self._sight.goal(self, self._goal)
        return [self._sight.inference(goal, other, cell) for (_, other), cell in self._actions]

    def policy_walks(self, buckets: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """What a policy sees of all actions, one after the other, as buckets; how many they are of
        each.
        """
        seen = self.sight_of_actions()
        hashed = [bucket(value, buckets) for of_action in seen for value in of_action]
        return np.array(hashed, np.int32), np.array(list(map(len, seen)), np.int32)

    def value_walks(self, buckets: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What a value sees: walks as buckets, and the plain numbers."""
        seen, numbers = self.sight()
        hashed = [bucket(value, buckets) for value in seen]
        return np.array(hashed, np.int32), np.array(numbers, np.float32)

    def graph(
        self,
        nodes: NDArray[np.int32],
        edges: NDArray[np.int32],
        actions: NDArray[np.int32],
        names: int,
    ) -> None:
        """Write the state into NODES and EDGES as a `Sketch` of it: the goal, the path, the other
        open goals, and the clauses that can be entered. ACTIONS takes the node of each action: the
        clause that it enters or the literal of the path that it reduces with; -1 beyond the last.
        """
        actions[:] = -1
        sketch = Sketch(self.matrix, nodes, edges, names)
        goal = self._goal
        if goal is None:
            return
        below = sketch.literal(goal.literal, goal.offset, Role.GOAL)
        on_path: dict[Cell, int] = {}
        for cell in goal.path or ():
            on_path[cell] = sketch.literal(cell.literal, cell.offset, Role.PATH)
            sketch.edge(below, on_path[cell], Link.ABOVE)
            below = on_path[cell]
        for literal, offset in self._others_open(goal):
            sketch.literal(literal, offset, Role.OPEN)
        for i, ((_, entry), reduced) in enumerate(self._actions[: len(actions)]):
            if reduced is not None:
                actions[i] = on_path[reduced]
                continue
            actions[i] = clause = sketch.node(Thing.CLAUSE)
            number = self.matrix.clause_of[entry]
            for literal in range(*self.matrix.begin[number : number + 2]):
                role = Role.ENTRY if literal == entry else Role.NEW
                sketch.edge(clause, sketch.literal(literal, -1 - i, role), Link.LITERAL)
        sketch.finish(self.bindings)

    def _others_open(self, goal: Goal) -> Iterator[tuple[int, int]]:
        """The literals that are open besides GOAL, with their offsets, the nearest first."""
        at: Goal | None = goal
        while at is not None:
            for literal in range(at.literal + 1, at.end):
                if literal != at.entry:
                    yield literal, at.offset
            at = at.parent

    def _look(self, goal: Goal, sink: Callable[[int], None]) -> list[float]:
        """Show SINK walks down GOAL, all that is open and the path; the plain numbers."""
        walks = Walks(self.matrix, self.bindings, sink)
        walks.literal(goal.literal, goal.offset, Role.GOAL)
        open_goals = 1
        for literal, offset in self._others_open(goal):
            walks.literal(literal, offset, Role.OPEN)
            open_goals += 1
        numbers = [open_goals, _length(goal.path), walks.looked, self.inferences]
        for cell in goal.path or ():
            walks.literal(cell.literal, cell.offset, Role.PATH)
        return list(map(float, numbers))

    def _settle(self, goal: Goal) -> Outcome:
        """Do what leaves no choice, up to the next goal that does."""
        self._actions = []
        self._goal = self._forced(goal)
        if self._goal is None:
            self.outcome = Outcome.PROVED
        elif self._is_irregular(self._goal):
            self.outcome = Outcome.EXHAUSTED
        else:
            self._actions = list(self._applicable(self._goal))
            self.outcome = Outcome.RUNNING if self._actions else Outcome.EXHAUSTED
        return self.outcome

    def _forced(self, goal: Goal) -> Goal | None:
        """The goal after all that follows GOAL without a choice, if there is one."""
        while True:
            while goal.literal == goal.end:
                assert goal.parent is not None
                if goal.parent.parent is None:
                    return None
                goal = self._solved(goal.parent)
            if self._is_irregular(goal):
                return goal
            after = self._closed_for_free(goal)
            if after is None:
                return goal
            goal = after

    def _closed_for_free(self, goal: Goal) -> Goal | None:
        m, bindings = self.matrix, self.bindings
        wanted, key = self._atom(goal.literal, goal.offset), m.key[goal.literal]
        for cell in goal.lemmas or ():
            if m.key[cell.literal] == key and bindings.equal(
                self._atom(cell.literal, cell.offset), wanted
            ):
                return self._close(goal, cell, Kind.LEMMA)
        mark = len(bindings.trail), len(bindings.values)
        fits = bindings.unify if self.eager else bindings.equal
        for cell in goal.path or ():
            if m.key[cell.literal] == key ^ 1:
                if fits(self._atom(cell.literal, cell.offset), wanted):
                    return self._close(goal, cell, Kind.REDUCTION)
                bindings.undo(*mark)
        return None

    def _applicable(self, goal: Goal) -> Iterator[tuple[Action, Cell | None]]:
        m, bindings = self.matrix, self.bindings
        wanted, key = self._atom(goal.literal, goal.offset), m.key[goal.literal]
        mark = len(bindings.trail), len(bindings.values)
        path: Sequence[Cell] = () if self.eager else tuple(goal.path or ())
        for distance, cell in enumerate(path):
            if m.key[cell.literal] == key ^ 1:
                if bindings.unify(self._atom(cell.literal, cell.offset), wanted):
                    yield Action(Kind.REDUCTION, distance), cell
                bindings.undo(*mark)
        for other in self._extensions(goal):
            yield Action(Kind.EXTENSION, other), None


def step_many(
    tableaux: Sequence[Tableau],
    actions: NDArray[np.int32],
    most: int,
    outcomes: NDArray[np.int32],
    inferences: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Make inference ACTIONS[i] in TABLEAUX[i], if it is one of the first MOST that apply: whether
    it was, [n]. OUTCOMES and INFERENCES [n] take how they stand.
    """
    applied = np.zeros(len(tableaux), np.bool_)
    for i, (tableau, action) in enumerate(zip(tableaux, actions.tolist(), strict=True)):
        if 0 <= action < min(most, tableau.action_count):
            tableau.step(action)
            applied[i] = True
        outcomes[i], inferences[i] = tableau.outcome, tableau.inferences
    return applied


def observe_many(
    tableaux: Sequence[Tableau],
    state_features: int,
    observations: NDArray[np.float32],
    masks: NDArray[np.int8],
) -> None:
    """Write the STATE_FEATURES of each of TABLEAUX and then those of its first k actions into
    OBSERVATIONS [n, s + k a], and which of these actions there are into MASKS [n, k].
    """
    most = masks.shape[1]
    action_features = (observations.shape[1] - state_features) // most
    for i, tableau in enumerate(tableaux):
        observations[i, :state_features] = tableau.features(state_features)
        observations[i, state_features:] = tableau.action_features(action_features, most).ravel()
        masks[i] = np.arange(most) < tableau.action_count


def graph_many(
    tableaux: Sequence[Tableau],
    nodes: NDArray[np.int32],
    edges: NDArray[np.int32],
    actions: NDArray[np.int32],
    masks: NDArray[np.int8],
    names: int,
) -> None:
    """Write the graph of each of TABLEAUX into NODES [n, ...], EDGES and ACTIONS as `Tableau.graph`
    does, and which of the first k actions there are into MASKS [n, k].
    """
    for i, tableau in enumerate(tableaux):
        tableau.graph(nodes[i], edges[i], actions[i], names)
        masks[i] = np.arange(masks.shape[1]) < tableau.action_count


def _length(path: Cell | None) -> int:
    return sum(1 for _ in path or ())


def _counting(row: NDArray[np.float64]) -> Callable[[int], None]:
    """A sink of walks that counts them in the buckets of ROW."""

    def count(walk: int) -> None:
        row[bucket(walk, len(row))] += 1

    return count
