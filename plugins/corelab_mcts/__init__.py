"""Monte Carlo tree search, guided by priors and values: many searches side by side.

AlphaZero is one user, the theorem prover another: the search knows nothing of games, networks or
proofs. It is given a `Simulator`, which says what an action leads to, and an `Evaluate`, which says
of states which actions they have, how promising each is, and what the state is worth. A network can
be behind it, or a playout.

One node of each tree is judged in each simulation, and all trees take their simulations in step, so
an `Evaluate` is called once for all of them. The trees are rows of arrays. A node has `width` slots
for its actions, as many as the largest node seen so far, and a slot whose prior is 0 is no action:
games with a fixed number of actions and provers whose states offer any number of them take the
same way. The price is memory for the empty slots (32 bytes each), which is small beside
the time that a list for each node would cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

States: TypeAlias = NDArray[Any]
"""States, one for each element of the first axis; the dtype is the simulator's own, `object`
included."""
Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Evaluate: TypeAlias = Callable[[States], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""States [n] to priors [n, k] and values [n]. Slot i of a row is what the simulator knows as action
i; a prior of 0 says that there is no such action. The value is that of the one who is to move."""
Explore: TypeAlias = Callable[[Floats, Floats, bool], Floats]
"""Priors and visits of the actions of nodes, both [n, width], and whether these nodes are roots, to
what is added to the mean values, [n, width]."""


class Simulator(Protocol):
    """What an action leads to."""

    def step(self, states: States, actions: Indices, /) -> tuple[States, Floats, NDArray[np.bool_]]:
        """Act [n] in STATES [n]: the next states [n], the rewards [n] of those who acted, and
        whether it ends there [n]. The states given are left as they are.
        """


def puct(c: float) -> Explore:
    """U(s, a) = c P(s, a) √(Σ_b N(s, b)) / (1 + N(s, a)) (Silver et al. 2017, Methods)."""

    def explore(P: Floats, N: Floats, root: bool) -> Floats:
        return P * (c * np.sqrt(N.sum(1, keepdims=True)) / (1 + N))  # type: ignore[no-any-return]

    return explore


def uct(c: float) -> Explore:
    """U(s, a) = c P(s, a) √(ln(N(s) + 1) / max(N(s, a), 1)), as in rlCoP (Kaliszyk et al. 2018,
    arXiv:1805.07563, sec. 3), where 1 is added; N(s) are the simulations that came to s.
    """

    def explore(P: Floats, N: Floats, root: bool) -> Floats:
        # one simulation made the node and chose none of its actions, unless it is a root
        visits = N.sum(1) + (0 if root else 1)
        # C's logarithm, from which NumPy's may differ in the last bit
        log = np.array([[math.log(n + 1)] for n in visits])
        return c * P * np.sqrt(log / np.maximum(N, 1))

    return explore


class Search:
    """B trees, one after the other in memory: `begin`, then `run` and `advance` in turn.

    DISCOUNT is what a state's value is worth one step earlier: γ for one agent, and -1 for two
    who take turns and whose gains are each other's losses. EXPLORE is what an action's rarity adds
    to its mean value. An action that was never tried is thought to be worth UNTRIED, or with None
    what its state was judged to be.

    With SEEK, one agent looks for a goal, which is an end with a reward. A tree in which it was
    `found` is left as it is. Other ends are visited once, and what leads to nothing but those is
    closed: it is not chosen again. Instead of `advance`, which forgets what was left behind,
    `commit` makes actions for good as long as something is open below them.
    """

    def __init__(
        self,
        simulator: Simulator,
        evaluate: Evaluate,
        *,
        discount: float,
        explore: Explore,
        untried: float | None = None,
        seek: bool = False,
    ) -> None:
        self.simulator = simulator
        self.evaluate = evaluate
        self.discount = discount
        self.explore = explore
        self.untried = untried
        self.seek = seek

    def begin(self, states: States) -> None:
        """Plant a tree at each of STATES [B], none of which is an end."""
        B = len(states)
        self._size = np.ones(B, np.intp)
        self._found = np.zeros(B, np.bool_)
        # What each tree [B] knows of its nodes [M]; nodes are numbered within their tree, 0 is the
        # root, and a child is younger than its parent.
        self._edges = np.zeros((B, 1, 3, 0))  # N, Q and P of each action; Q is -∞ if it is closed
        self._child = np.zeros((B, 1, 0), np.intp)  # -1: not tried
        self._committed = np.full((B, 1), -1)  # the action made for good; -1: none
        self._parent = np.zeros((B, 1), np.intp)
        self._states = np.empty((B, 1, *states.shape[1:]), states.dtype)
        self._reward = np.zeros((B, 1))  # of the action that led here
        self._over = np.zeros((B, 1), np.bool_)
        self.replant(np.arange(B), states)

    def replant(self, trees: Indices, states: States) -> None:
        """Begin TREES [n] anew at STATES [n]."""
        if len(trees):
            root = np.zeros_like(trees)
            self._size[trees] = 1
            self._found[trees] = False
            self._committed[trees] = -1
            self._put(trees, root, states, 0.0, False)
            self._judge(trees, root, states)

    @property
    def states(self) -> States:
        """The states [B] at the roots."""
        return self._states[:, 0]

    @property
    def visits(self) -> Floats:
        """How often each action of the roots was chosen, [B, width]."""
        return self._edges[:, 0, 0]

    @property
    def values(self) -> Floats:
        """The mean value of each action of the roots, [B, width]; -∞ for what is no action."""
        return self._edges[:, 0, 1]

    @property
    def root_values(self) -> Floats:
        """What the roots are worth to who is to move, [B]: the mean over all simulations."""
        N, Q = self._edges[:, 0, 0], self._edges[:, 0, 1]
        return (N * np.where(np.isfinite(Q), Q, 0.0)).sum(1) / np.maximum(N.sum(1), 1)  # type: ignore[no-any-return]

    @property
    def steps(self) -> Indices:
        """How many steps of the simulator each tree was made of, [B]."""
        return self._size - 1

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether a goal was found, [B]."""
        return self._found

    @property
    def exhausted(self) -> NDArray[np.bool_]:
        """Whether nothing is open in the tree, [B]."""
        return (self._edges[:, 0, 1] == -np.inf).all(1)  # type: ignore[no-any-return]

    def line(self, tree: int) -> list[tuple[int, Floats]]:
        """The way to the goal of TREE, or without one to where most simulations went: each action,
        and how often this one and its alternatives were chosen [width].
        """
        line, trees, node = [], np.array([tree]), np.zeros(1, np.intp)
        while (action := self._favourites(trees, node))[0] >= 0:
            line.append((int(action[0]), self._edges[tree, node[0], 0].copy()))
            node = self._child[trees, node, action]
        return line

    def commit(self) -> None:
        """In each tree, make for good the action that was visited most of those that are open,
        below those that were committed to before.
        """
        trees = np.flatnonzero(~self._found)
        nodes = np.zeros_like(trees)
        while len(trees):
            on = self._committed[trees, nodes] >= 0
            action = self._favourites(trees, nodes)
            self._committed[trees, nodes] = action
            trees, nodes = trees[on], self._child[trees, nodes, action][on]

    def _favourites(self, trees: Indices, nodes: Indices) -> Indices:
        """What is made for good at NODES of TREES, or else is open and was visited most; -1 if
        nothing is.
        """
        edges = self._edges[trees, nodes]
        N = np.where(np.isfinite(edges[:, 1]), edges[:, 0], 0)
        most = np.where(N.any(1), N.argmax(1), -1)
        committed = self._committed[trees, nodes]
        return np.where(committed < 0, most, committed)

    def run(self, simulations: int, noise: Floats | None = None, share: float = 0.25) -> None:
        """Take SIMULATIONS in each tree.

        With NOISE [B, width], a distribution over the actions of each root such as `dirichlet`
        draws, their priors are (1 - SHARE) P + SHARE NOISE meanwhile.
        """
        self._reserve(simulations)
        priors = self._edges[:, 0, 2].copy()
        if noise is not None:
            self._edges[:, 0, 2] = (1 - share) * priors + share * noise
        trees = np.arange(len(self._size))
        for _ in range(simulations):
            if self.seek and not len(trees := np.flatnonzero(~(self._found | self.exhausted))):
                break
            self._simulate(trees)
        self._edges[:, 0, 2, : priors.shape[1]] = priors

    def dirichlet(self, alpha: float, rng: np.random.Generator) -> Floats:
        """Dir(ALPHA) over the actions of each root, [B, width]."""
        priors = self._edges[:, 0, 2]
        noise = np.where(priors > 0, rng.standard_gamma(alpha, priors.shape), 0.0)
        total = noise.sum(1, keepdims=True)
        share: Floats = np.divide(noise, total, out=priors.copy(), where=total > 0)
        return share

    def advance(self, actions: Indices) -> tuple[Floats, NDArray[np.bool_]]:
        """Take ACTIONS [B] at the roots for good; what is known of their consequences is kept.

        Returns the rewards [B] and whether it ended [B]; a tree that ended must be replanted
        before the next run.
        """
        self._reserve(1)
        B, M = self._parent.shape
        trees = np.arange(B)
        untried = trees[self._child[trees, 0, actions] < 0]
        self._expand(untried, np.zeros_like(untried), actions[untried])
        root = self._child[trees, 0, actions]

        # A node stays if the line of its ancestors, which doubles in every round, leads to ROOT.
        up = self._parent.copy()
        up[trees, root] = root
        for _ in range(int(self._size.max()).bit_length()):
            up = np.take_along_axis(up, up, 1)
        kept = (up == root[:, None]) & (np.arange(M) < self._size[:, None])
        place = np.where(kept, kept.cumsum(1) - 1, -1)
        tree, old = kept.nonzero()
        new = place[tree, old]
        child = self._child[tree, old]
        self._child[tree, new] = np.where(child < 0, -1, place[tree[:, None], child])
        self._parent[tree, new] = np.maximum(place[tree, self._parent[tree, old]], 0)
        for array in (self._edges, self._states, self._reward, self._over):
            array[tree, new] = array[tree, old]
        self._size = kept.sum(1)
        return self._reward[:, 0].copy(), self._over[:, 0].copy()

    def _simulate(self, trees: Indices) -> None:
        """In TREES, once: select, expand and evaluate, backup (Silver et al. 2017, fig. 2)."""
        B, M = self._parent.shape
        edges, children = self._edges.reshape(B * M, 3, -1), self._child.reshape(B * M, -1)
        over, committed = self._over.ravel(), self._committed.ravel()
        path: list[tuple[Indices, Indices, Indices]] = []
        tree, node = trees, trees * M  # nodes are numbered through all trees
        leaf, last = np.empty((2, B), np.intp)
        while len(tree):
            N, Q, P = edges[node].swapaxes(0, 1)
            action = (Q + self.explore(P, N, not path)).argmax(1)
            if self.seek:
                action = np.where(committed[node] < 0, action, committed[node])
            path.append((tree, node, action))
            leaf[tree], last[tree] = node, action
            child = children[node, action]
            tried = child >= 0
            tree = tree[tried]
            node = tree * M + child[tried]
            if len(tree):
                going = ~over[node]
                tree, node = tree[going], node[going]

        new = trees[children[leaf[trees], last[trees]] < 0]
        value = np.zeros(B)
        value[new] = self._expand(new, leaf[new] % M, last[new])

        edges, children = self._edges.reshape(B * M, 3, -1), self._child.reshape(B * M, -1)
        reward = self._reward.ravel()
        for tree, node, action in reversed(path):
            G = reward[tree * M + children[node, action]] + self.discount * value[tree]
            value[tree] = G
            N, Q = edges[node, 0, action] + 1, edges[node, 1, action]
            edges[node, 0, action] = N
            edges[node, 1, action] = Q + (G - Q) / N
        if self.seek:
            ended = new[self._over[new, self._size[new] - 1]]
            if len(ended):
                self._conclude(path, ended)

    def _conclude(self, path: list[tuple[Indices, Indices, Indices]], ended: Indices) -> None:
        """PATH has led the trees ENDED to new ends: commit to it if it is a goal, else close what
        leads to nothing but ends.
        """
        B, M = self._parent.shape
        edges, committed = self._edges.reshape(B * M, 3, -1), self._committed.ravel()
        goal = self._reward[ended, self._size[ended] - 1] > 0
        self._found[ended[goal]] = True
        closed = np.zeros(B, np.bool_)
        closed[ended[~goal]] = True
        for tree, node, action in reversed(path):
            won = self._found[tree]
            committed[node[won]] = action[won]
            lost = closed[tree]
            edges[node[lost], 1, action[lost]] = -np.inf
            committed[node[lost]] = -1
            closed[tree] = lost & (edges[node, 1] == -np.inf).all(1)

    def _expand(self, trees: Indices, nodes: Indices, actions: Indices) -> Floats:
        """Add what ACTIONS at NODES of TREES lead to; returns what it is worth, 0 for an end."""
        states, reward, over = self.simulator.step(self._states[trees, nodes], actions)
        new = self._size[trees]
        self._size[trees] += 1
        self._child[trees, nodes, actions] = new
        self._parent[trees, new] = nodes
        self._put(trees, new, states, reward, over)
        value = np.zeros(len(trees))
        going = ~over
        if going.any():
            value[going] = self._judge(trees[going], new[going], states[going])
        return value

    def _put(self, trees: Indices, nodes: Indices, states: States, reward: Any, over: Any) -> None:
        self._edges[trees, nodes] = [[0.0], [-np.inf], [0.0]]
        self._child[trees, nodes] = -1
        self._states[trees, nodes] = states
        self._reward[trees, nodes] = reward
        self._over[trees, nodes] = over

    def _judge(self, trees: Indices, nodes: Indices, states: States) -> Floats:
        """Give NODES of TREES their actions; returns what STATES there are worth."""
        P, V = self.evaluate(states)
        k = P.shape[1]
        if k > self._child.shape[2]:
            self._reserve(0, k)
        value = V.astype(np.float64)
        first = value[:, None] if self.untried is None else self.untried
        self._edges[trees, nodes, 1, :k] = np.where(P > 0, first, -np.inf)
        self._edges[trees, nodes, 2, :k] = P
        return value

    def _reserve(self, nodes: int, width: int = 0) -> None:
        """Make room for so many NODES more in each tree, and for WIDTH actions at each node."""
        B, M, K = self._child.shape
        shape = B, max(M, int(self._size.max()) + nodes), max(K, width)
        if shape != (B, M, K):
            self._edges = _grown(self._edges, (*shape[:2], 3, shape[2]), 0.0)
            self._edges[:, :, 1, K:] = -np.inf
            self._child = _grown(self._child, shape, -1)
            self._committed = _grown(self._committed, shape[:2], -1)
            self._parent = _grown(self._parent, shape[:2], 0)
            self._states = _grown(self._states, (*shape[:2], *self._states.shape[2:]), 0)
            self._reward = _grown(self._reward, shape[:2], 0.0)
            self._over = _grown(self._over, shape[:2], False)

    def state_dict(self) -> dict[str, Any]:
        """The trees as arrays; what cannot be saved are states of the dtype object."""
        return {name: getattr(self, f"_{name}") for name in _SAVED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called."""
        B, M = state["parent"].shape
        nothing = {"found": np.zeros(B, np.bool_), "committed": np.full((B, M), -1)}
        for name in _SAVED:  # of which older states lack what concerns goals
            setattr(self, f"_{name}", (nothing | state)[name].copy())


_SAVED = ("size", "found", "edges", "child", "committed", "parent", "states", "reward", "over")


def _grown(array: NDArray[Any], shape: tuple[int, ...], fill: Any) -> NDArray[Any]:
    grown = np.full(shape, fill, array.dtype)
    grown[tuple(map(slice, array.shape))] = array
    return grown
