"""Problems and states as graphs, in which names mean nothing.

Clauses, literals, terms, variables and symbols are nodes, so that what becomes of a graph depends
only on how symbols are used (Wang, Tang, Wang and Deng 2017, "Premise Selection for Theorem Proving
by Deep Graph Embedding", arXiv:1709.09994; Olšák, Kaliszyk and Urban 2020, "Property Invariant
Embedding for Automated Reasoning", arXiv:1911.12073).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.walks import Role, bucket

if TYPE_CHECKING:
    from corelab_envs.theorem.calculus import Bindings

_SYMBOL = 2**31 - 1
"""No offset, but the mark of a symbol among what a sketch knows."""


class Thing(IntEnum):
    """What a node is. 0 is none."""

    PREDICATE = 1
    FUNCTION = 2
    CLAUSE = 3
    START = 4
    """A clause that a proof may begin with."""
    POSITIVE = 5
    """A literal and its atom."""
    NEGATIVE = 6
    TERM = 7
    VARIABLE = 8


class Link(IntEnum):
    """What an edge says of the node it goes to. 0 is none."""

    LITERAL = 1
    """It is a literal of this clause."""
    SYMBOL = 2
    """It is the symbol of this atom or term."""
    FIRST = 3
    """It is an argument of this atom or term: the first, the second, or one beyond."""
    SECOND = 4
    BEYOND = 5
    ABOVE = 6
    """It is the literal of the path above this one."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes and edges."""

    things: NDArray[np.int32]
    """What each node is, [nodes], a `Thing`."""
    names: NDArray[np.uint32]
    """A hash of the name of each node that is a symbol, the same in all problems, else 0."""
    edges: NDArray[np.int32]
    """From which node to which, and the `Link`, [edges, 3]."""
    literals: NDArray[np.int32]
    """The node of each literal of the matrix, in order."""


def graph_of(matrix: Matrix) -> Graph:
    """The clauses of MATRIX as a graph, the last one, by which proofs begin, among them."""
    m = matrix
    start = m.key[-1] ^ 1
    things: list[int] = [Thing.FUNCTION] * len(m.symbols)
    names = list(m.codes)
    edges: list[tuple[int, int, int]] = []
    literals: list[int] = []
    ground: dict[int, int] = {}

    def add(thing: Thing) -> int:
        things.append(thing)
        names.append(0)
        return len(things) - 1

    for clause in range(len(m.width)):
        of_clause = range(m.begin[clause], m.begin[clause + 1])
        starts = any(m.key[literal] == start for literal in of_clause)
        root = add(Thing.START if starts else Thing.CLAUSE)
        variables = [add(Thing.VARIABLE) for _ in range(m.width[clause])]
        for literal in of_clause:
            things[m.key[literal] >> 1] = Thing.PREDICATE
            node = add(Thing.NEGATIVE if m.key[literal] & 1 else Thing.POSITIVE)
            literals.append(node)
            edges.append((root, node, Link.LITERAL))
            todo = [(m.atom[literal], node)]
            while todo:
                term, node = todo.pop()
                edges.append((node, m.symbol[term], Link.SYMBOL))
                for place, argument in enumerate(m.arguments[term]):
                    link = min(Link.FIRST + place, Link.BEYOND)
                    symbol = m.symbol[argument]
                    known = variables[-symbol - 1] if symbol < 0 else ground.get(argument)
                    if known is None:
                        known = add(Thing.TERM)
                        if m.ground[argument]:
                            ground[argument] = known
                        todo.append((argument, known))
                    edges.append((node, known, link))
    return Graph(
        np.array(things, np.int32),
        np.array(names, np.uint32),
        np.array(edges, np.int32).reshape(-1, 3),
        np.array(literals, np.int32),
    )


class Sketch:
    """A graph with room for so many nodes and edges, row by row; what there is no room for is left
    out. Literals come first, then what is below them, the nearest first.

    NODES [n, 3] take the `Thing`, the `Role` of a literal, and of symbols the bucket of the name
    among NAMES, from 1 on; EDGES [e, 3] take the nodes from which and to which, and the `Link`.
    """

    def __init__(
        self, matrix: Matrix, nodes: NDArray[np.int32], edges: NDArray[np.int32], names: int
    ) -> None:
        self.matrix = matrix
        self.nodes, self.edges, self.names = nodes, edges, names
        nodes[:] = edges[:] = 0
        self._node_count = self._edge_count = 0
        self._known: dict[tuple[int, int], int] = {}
        self._todo: list[tuple[int, int, int]] = []

    def node(self, thing: Thing, role: int = 0, name: int = 0) -> int:
        """A new node; -1 if there is no room."""
        if self._node_count == len(self.nodes):
            return -1
        self.nodes[self._node_count] = thing, role, name
        self._node_count += 1
        return self._node_count - 1

    def edge(self, source: int, target: int, link: Link) -> None:
        """An edge between two nodes, if both are there."""
        if min(source, target) >= 0 and self._edge_count < len(self.edges):
            self.edges[self._edge_count] = source, target, link
            self._edge_count += 1

    def literal(self, literal: int, offset: int, role: Role) -> int:
        """A node for LITERAL, whose variables begin at OFFSET; those of a clause that is not in the
        tableau yet have no values, and a negative offset of their own.
        """
        negative = self.matrix.key[literal] & 1
        node = self.node(Thing.NEGATIVE if negative else Thing.POSITIVE, role)
        if node >= 0:
            self._todo.append((node, self.matrix.atom[literal], offset))
        return node

    def finish(self, bindings: Bindings) -> None:
        """Add what is below the literals."""
        m = self.matrix
        for node, term, offset in self._todo:  # which grows
            thing = Thing.FUNCTION if self.nodes[node, 0] == Thing.TERM else Thing.PREDICATE
            self.edge(node, self._symbol(m.symbol[term], thing), Link.SYMBOL)
            for place, argument in enumerate(m.arguments[term]):
                at = (argument, offset)
                if offset >= 0:
                    at = bindings.resolve(at)
                self.edge(node, self._term(*at), Link(min(Link.FIRST + place, Link.BEYOND)))

    def _symbol(self, symbol: int, thing: Thing) -> int:
        key = symbol, _SYMBOL
        if key not in self._known:
            code = self.matrix.codes[symbol]
            name = 1 + bucket(code, self.names) if self.names else 0
            self._known[key] = self.node(thing, 0, name)
        return self._known[key]

    def _term(self, term: int, offset: int) -> int:
        m = self.matrix
        symbol = m.symbol[term]
        key = term, 0 if m.ground[term] else offset
        if symbol < 0:
            key = (symbol, offset) if offset < 0 else (symbol - offset, 0)
        if key not in self._known:
            self._known[key] = node = self.node(Thing.VARIABLE if symbol < 0 else Thing.TERM)
            if symbol >= 0 and node >= 0:
                self._todo.append((node, term, offset))
        return self._known[key]
