"""A network on the graph of a problem, which says which literals may well close which.

It passes messages along the edges (Wang, Tang, Wang and Deng 2017, arXiv:1709.09994; Olšák,
Kaliszyk and Urban 2020, arXiv:1911.12073), once for each problem, before the search: what it knows
of two literals is the dot product of their vectors. So it sees what a linear policy cannot, the
rest of the problem and where the conjecture is in it, and the search never waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from corelab_envs.theorem.interface import Graph, Link, Matrix, Pairs, Thing, graph_of
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from corelab_theorem.lessons import Choices
from corelab_theorem.linear import Fitting, fit_policy

NAMES = 4096
"""Buckets for the names of symbols."""
FOLDS = 4
"""Parts of the problems; see `examples_of`."""
NAMELESS = 0.2
"""Share of the symbols whose names are hidden in each minibatch, so that use counts, too."""
_LINKS = [link for link in Link if link is not Link.ABOVE]
"""There are no paths in problems."""
_PROBLEMS = 8
"""In a minibatch."""
_CLIP = 1.0
"""The gradient's norm is not more than this."""


class Batch:
    """Graphs side by side, as the network reads them."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        ends = np.cumsum([len(graph.things) for graph in graphs])
        firsts = ends - [len(graph.things) for graph in graphs]
        self.starts = _indices(firsts)
        """The first node of each graph, [graphs]."""
        self.things = _together([graph.things for graph in graphs])
        """What each node is, [nodes]."""
        self.names = _together([_buckets(graph.names) for graph in graphs])
        """The bucket of its name, from 1 on, 0 if it has none, [nodes]."""
        shifted = [
            graph.edges + np.array([first, first, 0])
            for graph, first in zip(graphs, firsts, strict=True)
        ]
        edges = np.concatenate(shifted)
        self.links = [
            _grouped(edges[edges[:, 2] == link], source, target)
            for link in _LINKS
            for source, target in ((0, 1), (1, 0))
        ]
        """Of each link, there and back: see `_grouped`."""
        self.literals = _together(
            [graph.literals + first for graph, first in zip(graphs, firsts, strict=True)]
        )
        """The nodes of the literals of all graphs, in order."""


class Encoder(nn.Module):
    """Vectors of nodes from LAYERS rounds of messages between nodes that have WIDTH numbers."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.thing = nn.Embedding(max(Thing) + 1, width)
        self.name = nn.Embedding(NAMES + 1, width, padding_idx=0)
        with torch.no_grad():
            self.name.weight *= 0.3
        self.layers = nn.ModuleList(_Messages(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: Batch, rng: np.random.Generator | None = None) -> Tensor:
        """The vectors of the nodes, [nodes, width]. RNG hides a share of the names."""
        names = batch.names
        if rng is not None:
            names = names * torch.from_numpy(rng.random(len(names)) >= NAMELESS)
        nodes = self.thing(batch.things) + self.name(names)
        for layer in self.layers:
            nodes = nodes + layer(nodes, batch.links)
        normed: Tensor = self.norm(nodes)
        return normed


class GraphNetwork(nn.Module):
    """Vectors of literals, for a search."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, layers)
        self.goal = nn.Linear(width, width // 2)
        self.entry = nn.Linear(width, width // 2)
        self.prior = nn.Linear(width, 1)

    def forward(
        self, batch: Batch, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The vectors of all literals as goals and as entries, [literals, width / 2 + 1]. RNG hides
        a share of the names.
        """
        literals = self.encoder(batch, rng)[batch.literals]
        goals, entries = self.goal(literals), self.entry(literals)
        ones = torch.ones(len(literals), 1)
        return torch.cat([goals, ones], 1), torch.cat([entries, self.prior(literals)], 1)

    @torch.no_grad()
    def pairs(self, matrix: Matrix) -> Pairs:
        """What it makes of the literals of MATRIX."""
        goals, entries = self(Batch([graph_of(matrix)]))
        return Pairs(goals.numpy(), entries.numpy())


class _Messages(nn.Module):
    """To each node: what it is itself and, for each link there and back, the mean of the nodes that
    are linked so, each through a matrix of its own (Schlichtkrull et al. 2018, arXiv:1703.06103).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.own = nn.Linear(width, width)
        weights = torch.randn(2 * len(_LINKS), width, width)
        self.others = nn.Parameter(weights * 0.5 / width**0.5)
        self.out = nn.Linear(width, width)

    def forward(self, nodes: Tensor, links: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        x = self.norm(nodes)
        total = self.own(x)
        for (sources, firsts, targets), weight in zip(links, self.others, strict=True):
            if len(sources):
                means = embedding_bag(sources, x, firsts, mode="mean")
                total = total.index_add(0, targets, means @ weight)
        out: Tensor = self.out(total.relu())
        return out


@dataclass(frozen=True, eq=False)
class Example:
    """The states [S] of the proofs of one problem in which there was a choice, and the inferences
    [A] that applied in all of them, one state after the other.
    """

    graph: Graph
    goals: NDArray[np.int64]
    """Of each inference: the literal that is the goal, [A]."""
    entries: NDArray[np.int64]
    """Of each inference: the literal by which a clause is entered, [A]; -1 of a reduction."""
    lengths: NDArray[np.int64]
    """Of each state: how many inferences applied, [S]."""
    chosen: NDArray[np.int64]
    """Of each state: the one in the proof, [S]."""
    weights: NDArray[np.float32]
    """Of each state: what it counts, [S]."""
    logits: NDArray[np.float32]
    """Of each inference: what is thought of it besides, [A]."""


def examples_of(
    choices: Choices,
    sources: Sequence[str],
    graphs: Mapping[str, Graph],
    buckets: int,
    fitting: Fitting,
    rng: np.random.Generator,
) -> list[Example]:
    """CHOICES as examples, by the problem that each is from: SOURCES, which GRAPHS has.

    What a policy of BUCKETS thinks of the choices it was fitted to is too good to learn anything
    beside it. So the problems are dealt into folds, and the logits of each fold are from a policy
    that was fitted to the others.
    """
    names = sorted(set(sources))
    folds = {name: i % FOLDS for i, name in enumerate(names)}
    states: dict[str, list[int]] = {name: [] for name in names}
    for state, name in enumerate(sources):
        states[name].append(state)
    examples = []
    for fold in range(FOLDS):
        others = [state for state, name in enumerate(sources) if folds[name] != fold]
        weights = np.zeros(buckets, np.float32)
        if others:
            weights = fit_policy(choices.part(others), buckets, fitting, rng).weights
        for name in names[fold::FOLDS]:
            own = choices.part(states[name])
            examples.append(_example(graphs[name], own, weights))
    return examples


def _example(graph: Graph, choices: Choices, weights: NDArray[np.float32]) -> Example:
    lengths = np.array([len(entries) for entries in choices.entries])
    sums = np.concatenate([[0.0], weights[np.concatenate(choices.walks)].cumsum(dtype=np.float64)])
    walks = np.concatenate(choices.lengths)
    ends = walks.cumsum()
    return Example(
        graph,
        np.repeat(np.array(choices.goals), lengths),
        np.concatenate(choices.entries),
        lengths,
        np.array(choices.chosen),
        np.array(choices.weights, np.float32),
        (sums[ends] - sums[ends - walks]).astype(np.float32),
    )


def fit_network(
    network: GraphNetwork,
    examples: Sequence[Example],
    epochs: int,
    lr: float,
    rng: np.random.Generator,
) -> float:
    """Make the mean of -log p of what was chosen small, where p is a softmax of the scores of
    NETWORK and the logits of EXAMPLES together; its mean over the last of EPOCHS.

    The step size LR of Adam goes to 0.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    updates = epochs * -(-len(examples) // _PROBLEMS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / updates)
    loss = float("nan")
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        sums = np.zeros(2)
        for start in range(0, len(examples), _PROBLEMS):
            some = [examples[i] for i in order[start : start + _PROBLEMS]]
            total, count = network_loss(network, some, rng)
            optimizer.zero_grad()
            torch.autograd.backward(total / count)
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimizer.step()
            schedule.step()
            sums += total.item(), count
        loss = float(sums[0] / sums[1])
    return loss


def network_loss(
    network: GraphNetwork, examples: Sequence[Example], rng: np.random.Generator | None = None
) -> tuple[Tensor, float]:
    """The weighted sum of -log p of what was chosen in EXAMPLES, and the sum of the weights. RNG
    hides names.
    """
    goals, entries = network(Batch([example.graph for example in examples]), rng)
    ends = np.cumsum([len(example.graph.literals) for example in examples])
    firsts = ends - [len(example.graph.literals) for example in examples]
    own = list(zip(examples, firsts, strict=True))
    goals = goals[_together([example.goals + first for example, first in own])]
    entries = entries[_together([example.entries.clip(0) + first for example, first in own])]
    extends = _together([example.entries >= 0 for example in examples])
    logits = _together([example.logits for example in examples])
    scores = (goals * entries).sum(1) * extends + logits
    lengths = np.concatenate([example.lengths for example in examples])
    states, most = len(lengths), int(lengths.max())
    rows = np.repeat(np.arange(states), lengths)
    columns = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    places = torch.from_numpy(rows * most + columns)
    table = torch.full((states * most,), -torch.inf).index_put((places,), scores)
    chosen = _together([example.chosen for example in examples])
    logp = table.view(states, most).log_softmax(1).gather(1, chosen[:, None])[:, 0]
    weights = _together([example.weights for example in examples])
    return -(logp * weights).sum(), weights.sum().item()


def _buckets(names: NDArray[np.uint32]) -> NDArray[np.int64]:
    codes = names.astype(np.int64)
    return np.where(codes > 0, 1 + (codes * NAMES >> 32), 0)


def _grouped(edges: NDArray[np.int64], source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """The SOURCE nodes of EDGES in the order of their TARGET nodes, the first one for each target,
    and these targets.
    """
    edges = edges[np.argsort(edges[:, target], kind="stable")]
    targets, firsts = np.unique(edges[:, target], return_index=True)
    return _indices(edges[:, source]), _indices(firsts), _indices(targets)


def _indices(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def _together(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
    joined = np.concatenate(arrays)
    return torch.from_numpy(joined) if joined.dtype.kind == "f" else _indices(joined)
