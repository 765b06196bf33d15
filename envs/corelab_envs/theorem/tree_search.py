"""Monte Carlo tree search over tableaux (Kaliszyk, Urban, Michalewski and Olšák 2018,
arXiv:1805.07563, sec. 3), in plain Python: `connection.cpp` computes the same, to the last visit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from corelab import require
from corelab_envs.theorem.calculus import Kind, Outcome, State, Tableau
from corelab_envs.theorem.guide import Guide, judge, score, softmax
from corelab_envs.theorem.matrix import Matrix


@dataclass(frozen=True)
class Rules:
    """How a tree is searched."""

    exploration: float = 3.0
    """How much what is promising and rarely tried is preferred: c."""
    big_step: int = 2_000
    """After so many playouts, the most visited inference is made for good."""
    depth: int = 100
    """Tableaux of so many inferences are not extended."""
    eager: bool = True
    """Make reductions that bind variables without asking."""

    def __post_init__(self) -> None:
        require(self.exploration >= 0, "exploration", self.exploration, "at least 0")
        for name in ("big_step", "depth"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


@dataclass(eq=False)
class _Edge:
    prior: float
    child: _Node | None = None
    visits: int = 0
    total: float = 0.0
    dead: bool = False
    """Whether it is known to lead to no proof."""


@dataclass(eq=False)
class _Node:
    state: State
    parent: _Node | None = None
    action: int = -1
    """Which edge of the parent leads here."""
    visits: int = 0
    alive: int = 1
    """How many of its edges are not dead; 1 before it has any."""
    edges: list[_Edge] = field(default_factory=list)


class TreeSearch:
    """A tree of tableaux, grown by playouts.

    A playout goes down from the root by the largest

        w_i / n_i + c p_i sqrt(ln(N + 1) / max(n_i, 1))

    where inference i was made n_i times in N visits, w_i is the sum of what it led to, 0 if it was
    never made, and p_i its prior. It ends with the first inference that was not made before, whose
    state is judged, and the judgement is added to all w on the way. States are kept, so to go down
    a way again takes no inference. What is known to lead nowhere is not tried again.

    After so many playouts the most visited inference is made for good: a *big step*. If nothing is
    left below, the last one is taken back.
    """

    def __init__(self, matrix: Matrix, rules: Rules, guide: Guide | None = None) -> None:
        self.rules = rules
        self.guide = guide
        self.outcome = Outcome.RUNNING
        self.inferences = 0
        """How many inferences were made."""
        self._playouts = 0
        self._tableau = Tableau(matrix, rules.eager)
        self._pairs = guide.pairs(matrix) if guide is not None and guide.pairs else None
        self._first = _Node(self._tableau.save())
        self._at = self._first
        """The node that big steps have led to; in the end, the proof."""

    def run(self, limit: int) -> Outcome:
        """Go on until the search ends or has made LIMIT inferences in all."""
        if self._first.state.outcome is not Outcome.RUNNING:
            self.outcome = self._first.state.outcome
        while self.outcome is Outcome.RUNNING and self.inferences < limit:
            child = self._playout()
            if child.state.outcome is Outcome.PROVED:
                self.outcome, self._at = Outcome.PROVED, child
                break
            while not self._at.alive and self._at.parent is not None:
                self._at = self._at.parent
            if not self._at.alive:
                self.outcome = Outcome.EXHAUSTED
                break
            self._playouts += 1
            if self._playouts % self.rules.big_step == 0:
                self._at = _favourite(self._at)
        return self.outcome

    def line(self) -> list[tuple[int, int]]:
        """The actions that lead to the proof or, without one, to where most playouts went; each
        with its rival: the action besides that was visited most, -1 if none was.
        """
        last = self._at
        if self.outcome is not Outcome.PROVED:
            while (below := _favourite(last)) is not last:
                last = below
        actions = [node.action for node in _upwards(last)][-2::-1]
        found = []
        node = self._first
        for action in actions:
            visits = [0 if a == action else edge.visits for a, edge in enumerate(node.edges)]
            rival = visits.index(max(visits)) if max(visits) else -1
            found.append((action, rival))
            child = node.edges[action].child
            assert child is not None
            node = child
        return found

    def _playout(self) -> _Node:
        """Go down, make an inference, judge what it led to: the new node."""
        node = self._at
        while True:
            if not node.edges:
                self._open(node)
            action = self._select(node)
            child = node.edges[action].child
            if child is None:
                break
            node = child
        self._tableau.restore(node.state)
        self._tableau.step(action)
        self.inferences += 1
        new = _Node(self._tableau.save(), node, action)
        node.edges[action].child = new
        if new.state.outcome is Outcome.PROVED:
            return new
        reward = 0.0
        if new.state.outcome is Outcome.RUNNING and new.state.inferences < self.rules.depth:
            seen, numbers = self._tableau.sight()
            reward = judge(self.guide, numbers, seen)
        else:
            _bury(new)
        for below in _upwards(new):
            below.visits += 1
            if below.parent is not None:
                edge = below.parent.edges[below.action]
                edge.visits += 1
                edge.total += reward
        return new

    def _open(self, node: _Node) -> None:
        """Give NODE its edges."""
        self._tableau.restore(node.state)
        count = self._tableau.action_count
        priors = [1 / count] * count
        if self.guide is not None:
            scores = [score(self.guide, seen) for seen in self._tableau.sight_of_actions()]
            goal = self._tableau.goal
            if self._pairs is not None and goal is not None:
                for i, action in enumerate(self._tableau.actions):
                    if action.kind == Kind.EXTENSION:
                        scores[i] += self._pairs.score(goal, action.other)
            priors = softmax([s / self.guide.temperature for s in scores])
        node.edges = [_Edge(prior) for prior in priors]
        node.alive = count

    def _select(self, node: _Node) -> int:
        log = math.log(node.visits + 1)
        c = self.rules.exploration

        def urgency(edge: _Edge) -> float:
            if edge.dead:
                return -math.inf
            mean = edge.total / edge.visits if edge.visits else 0.0
            return mean + c * edge.prior * math.sqrt(log / max(edge.visits, 1))

        values = [urgency(edge) for edge in node.edges]
        return values.index(max(values))


def _upwards(node: _Node) -> Iterator[_Node]:
    at: _Node | None = node
    while at is not None:
        yield at
        at = at.parent


def _bury(node: _Node) -> None:
    """NODE leads to no proof, nor does any above of which no inference is left."""
    node.alive = 0
    while not node.alive and node.parent is not None:
        node.parent.edges[node.action].dead = True
        node = node.parent
        node.alive -= 1


def _favourite(node: _Node) -> _Node:
    """The child of NODE that was visited most, if it has one from which a proof may follow."""
    best, most = node, 0
    for edge in node.edges:
        if edge.child is not None and not edge.dead and edge.visits > most:
            best, most = edge.child, edge.visits
    return best
