"""Premise selection: which formulas a theorem can be proved from, by a network on the graphs of
formulas (FormulaNet: Wang, Tang, Wang and Deng 2017, arXiv:1709.09994) and by nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, SupportsFloat

import numpy as np
import torch
from corelab_envs.theorem.interface import Graph, Premises, Theorem, graph_of
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from corelab import Context, Saved, Split, require
from corelab_theorem.network import Batch, Encoder

_AT_ONCE = 64
"""Formulas that the network sees together where nothing is learned."""
_FUSION = 60
"""What is added to ranks before they are compared (Cormack, Clarke and Büttcher 2009, SIGIR)."""

_NEVER = -1e9
"""A score that makes no difference."""


class FormulaNetwork(nn.Module):
    """Two vectors of each formula: as what is to be proved, and as a premise."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, layers)
        self.goal = nn.Linear(2 * width, width)
        self.premise = nn.Linear(2 * width, width)
        self.prior = nn.Linear(2 * width, 1)

    def forward(
        self, batch: Batch, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The vectors of the formulas as goals and as premises, [formulas, width + 1], from the
        mean and the maximum of their nodes. RNG hides a share of the names.
        """
        nodes = self.encoder(batch, rng)
        every = torch.arange(len(nodes))
        pooled = [embedding_bag(every, nodes, batch.starts, mode=m) for m in ("mean", "max")]
        formulas = torch.cat(pooled, 1)
        ones = torch.ones(len(formulas), 1)
        premises = torch.cat([self.premise(formulas), self.prior(formulas)], 1)
        return torch.cat([self.goal(formulas), ones], 1), premises


class Neighbours:
    """What theorems with similar symbols were proved from (Kaliszyk and Urban 2014,
    "Learning-Assisted Automated Reasoning with Flyspeck", arXiv:1211.7012, sec. 4).

    Formulas are similar by the cosine of their symbols, each of which counts ln(N / n) if n of N
    formulas have it.
    """

    def __init__(self, graphs: Sequence[Graph], theorems: Sequence[Theorem], count: int) -> None:
        symbols = [np.unique(graph.names[graph.names > 0]) for graph in graphs]
        known = np.unique(np.concatenate(symbols))
        table = np.zeros((len(graphs), len(known)), np.float32)
        for row, own in zip(table, symbols, strict=True):
            row[np.searchsorted(known, own)] = 1
        table *= np.log(len(table) / table.sum(0))
        self._table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
        self._theorems = theorems
        self._count = count

    def scores(self, theorem: Theorem) -> NDArray[np.float32]:
        """Of each formula: how similar the neighbours of THEOREM that it proved are in all; those
        that proved none come after, by their own similarity.
        """
        similar = self._table @ self._table[theorem.formula]
        others = [t for t in self._theorems if t.formula != theorem.formula]
        near = np.array([similar[other.formula] for other in others])
        scores = 1e-3 * similar
        for i in np.argsort(-near, kind="stable")[: self._count]:
            premises = list(others[i].premises)
            scores[premises] += near[i] / len(premises)
            scores[others[i].formula] += near[i] / len(premises)
        return np.asarray(scores, np.float32)


class PremiseSelection(Saved):
    """Premise selection: formulas ranked by how likely a theorem is proved from them."""

    @dataclass(frozen=True)
    class Config:
        """Options of premise selection."""

        width: int = 32
        """How many numbers each node of a formula's graph has."""
        layers: int = 3
        """How many links far nodes see each other."""
        batch: int = 16
        """Theorems in a minibatch."""
        premises: int = 8
        """Premises of each theorem that are learned from in a minibatch."""
        others: int = 128
        """Formulas drawn from all, in a minibatch, to tell them from."""
        lr: float = 3e-3
        """Step size of Adam."""
        neighbours: int = 40
        """Theorems that are asked by the method of nearest neighbours."""

    unit: ClassVar[str] = "theorems"
    default_task: ClassVar[str] = "premises"
    default_model: ClassVar[str] = ""
    default_steps: ClassVar[int] = 6_400
    best: ClassVar[str] = "max eval/average_precision"
    highlights: ClassVar[tuple[str, ...]] = ("train/loss", "eval/average_precision")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    saved: ClassVar[tuple[str, ...]] = ("network", "optimizer", "progress")

    def __init__(self, config: Config, task: Premises, model: None, context: Context) -> None:
        for option in vars(config):
            value = getattr(config, option)
            if option == "lr":
                require(value > 0, "algorithm.lr", value, "positive")
            else:
                require(value >= 1, f"algorithm.{option}", value, "at least 1")
        self.config, self.task, self.context = config, task, context
        network = context.build(FormulaNetwork, config.width, config.layers)
        self.network: FormulaNetwork = network.cpu()
        self.optimizer = torch.optim.Adam(self.network.parameters(), config.lr)
        self.progress = 0

    @cached_property
    def graphs(self) -> list[Graph]:
        """Of each formula of the library, its graph."""
        library = self.task.library
        return [graph_of(library.matrix(number)) for number in range(len(library.formulas))]

    def step(self) -> dict[str, float]:
        """Tell the premises of a minibatch of theorems from other formulas."""
        config, rng = self.config, self.context.rng("minibatches")
        chosen = rng.choice(len(self.task.theorems), config.batch)
        theorems = [self.task.theorems[i] for i in chosen]
        own = [rng.permutation(sorted(theorem.premises))[: config.premises] for theorem in theorems]
        others = rng.choice(len(self.graphs), config.others)
        candidates = np.unique(np.concatenate([*own, others]))
        goals = [theorem.formula for theorem in theorems]
        some = [self.graphs[i] for i in (*goals, *candidates)]
        as_goals, as_premises = self.network(Batch(some), rng)
        scores = as_goals[: len(goals)] @ as_premises[len(goals) :].T
        loss = torch.stack(
            [
                _loss(row, candidates, premises, theorem)
                for row, premises, theorem in zip(scores, own, theorems, strict=True)
            ]
        ).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.progress += config.batch
        return {"loss": loss.item()}

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, SupportsFloat]:
        """Rank what N theorems that are not learned from (None: all of them) may be proved from, by
        the network, by nearest neighbours, and by both.
        """
        theorems = self.task.measured
        if n is not None and n < len(theorems):
            rng = np.random.default_rng(self.context.seed_for("evaluate", split, seed))
            theorems = [theorems[i] for i in sorted(rng.choice(len(theorems), n, replace=False))]
        as_goals, as_premises = self._vectors()
        neighbours = Neighbours(self.graphs, self.task.theorems, self.config.neighbours)
        found: dict[str, list[float]] = {}
        for theorem in theorems:
            available = np.array(self.task.library.available(theorem))
            used = np.isin(available, list(theorem.premises))
            by_network = (as_premises @ as_goals[theorem.formula])[available]
            by_neighbours = neighbours.scores(theorem)[available]
            both = 1 / (_FUSION + ranks(by_network)) + 1 / (_FUSION + ranks(by_neighbours))
            for prefix, scores in (("", by_network), ("knn_", by_neighbours), ("both_", both)):
                for name, value in quality(scores, used).items():
                    found.setdefault(prefix + name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    @torch.no_grad()
    def _vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors of all formulas as goals and as premises."""
        parts = [
            self.network(Batch(self.graphs[start : start + _AT_ONCE]))
            for start in range(0, len(self.graphs), _AT_ONCE)
        ]
        as_goals, as_premises = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return as_goals, as_premises


def ranks(scores: NDArray[Any]) -> NDArray[np.intp]:
    """The rank of each of SCORES [n], 1 for the largest; those that are equal in order."""
    found = np.empty(len(scores), np.intp)
    found[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return found


def quality(scores: NDArray[Any], used: NDArray[np.bool_]) -> dict[str, float]:
    """How well SCORES [n] tell the formulas that were USED [n] from the others."""
    own = np.sort(ranks(scores)[used])
    hits = np.arange(1, len(own) + 1)
    return {
        "average_precision": float(np.mean(hits / own)),
        "recall_at_32": float(np.mean(own <= 32)),
        "recall_at_128": float(np.mean(own <= 128)),
        "mean_rank": float(np.mean(own)),
    }


def _loss(
    scores: Tensor, candidates: NDArray[Any], premises: NDArray[Any], theorem: Theorem
) -> Tensor:
    """The mean of -log p of each of PREMISES, where p is a softmax of its score and those of the
    CANDIDATES that THEOREM does not need.
    """
    rivals = ~np.isin(candidates, [*theorem.premises, theorem.formula])
    against = scores.masked_fill(torch.from_numpy(~rivals), _NEVER).logsumexp(0)
    own = scores[torch.from_numpy(np.searchsorted(candidates, premises))]
    return (torch.logaddexp(own, against) - own).mean()
