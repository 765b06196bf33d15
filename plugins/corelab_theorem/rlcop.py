"""rlCoP (Kaliszyk, Urban, Michalewski and Olšák 2018, arXiv:1805.07563): prove, learn, repeat."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, SupportsFloat, TypeAlias, get_args

import numpy as np
from corelab_envs.theorem.interface import (
    STATE_NUMBERS,
    Attempt,
    Guide,
    Matrix,
    Outcome,
    Problem,
    Rules,
    Settings,
    Strategy,
    Theorems,
    attempt,
    depth_first,
    follow,
    graph_of,
    reward,
    tree,
)

from corelab import Context, Saved, Split, require
from corelab_theorem.lessons import Choices, Lessons, Line
from corelab_theorem.linear import Fitting, fit_policy, fit_value
from corelab_theorem.network import GraphNetwork, examples_of, fit_network

Policy: TypeAlias = Literal["linear", "graph"]
"""What scores inferences."""
DEPTH_FIRST = Settings(cut=True, comp=10)
"""How the guided depth-first prover searches."""


class RlCoP(Saved):
    """rlCoP: a tree search of connection tableaux, led by what its own proofs taught."""

    @dataclass(frozen=True)
    class Config:
        """Options of rlCoP."""

        inferences: int = 2_000
        """Inferences for each problem in training."""
        eval_inferences: int = 10_000
        """Inferences for each problem in evaluations."""
        batch: int = 64
        """Problems that one step tries to prove; after the last of all problems, it learns."""
        exploration: float = 3.0
        """How much the search prefers what is promising and rarely tried: c."""
        big_step: int = 2_000
        """Playouts after which the search makes the most visited inference for good."""
        depth: int = 100
        """Tableaux of so many inferences are not extended."""
        eager: bool = True
        """Make reductions that bind variables without asking."""
        policy: Policy = "linear"
        """What scores inferences: a linear model of hashed walks, or that and a network on the
        graph of the problem (graph)."""
        graph_width: int = 32
        """How many numbers each node of the graph has in the network."""
        graph_layers: int = 5
        """How many links far the nodes of the graph see each other."""
        graph_epochs: int = 12
        """How often the network sees all proofs after each pass."""
        graph_lr: float = 5e-3
        """Step size of Adam for the network, at the beginning."""
        temperature: float = 1.0
        """What the policy's scores are divided by before they become priors."""
        depth_first_temperature: float = 2.0
        """The same, before they become what extensions cost in depth-first search."""
        learn_value: bool = False
        """Learn what states are worth, too; else it remains what is thought of them before."""
        discount: float = 0.98
        """What a state is worth one inference before one that is worth 1."""
        proofs: int = 3
        """Proofs of each problem, the newest, that are learned from."""
        policy_buckets: int = 2**18
        """Buckets into which is hashed what the policy sees."""
        value_buckets: int = 2**16
        """Buckets into which is hashed what the value sees."""
        lr: float = 3e-3
        """Step size of Adam."""
        weight_decay: float = 0.0
        """Decay of the weights in each update, as a multiple of the step size."""
        updates: int = 400
        """Minibatches learned from after each pass, and more to the end of the last round."""
        batch_size: int = 128
        """States in a minibatch."""

    unit: ClassVar[str] = "problems"
    default_task: ClassVar[str] = "theorems"
    default_model: ClassVar[str] = ""
    default_steps: ClassVar[int] = 380
    best: ClassVar[str] = "max eval/proved"
    highlights: ClassVar[tuple[str, ...]] = ("train/proved", "eval/proved")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    saved: ClassVar[tuple[str, ...]] = (
        *("policy", "value", "network", "proofs", "failures", "turns", "learned", "progress"),
    )

    def __init__(self, config: Config, task: Theorems, model: None, context: Context) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.rules = Rules(config.exploration, config.big_step, config.depth, config.eager)
        self.policy = np.zeros(config.policy_buckets, np.float32)
        self.value = np.zeros(STATE_NUMBERS + 1 + config.value_buckets, np.float32)
        self.network: GraphNetwork | None = None
        if config.policy == "graph":
            network = context.build(GraphNetwork, config.graph_width, config.graph_layers)
            self.network = network.cpu()  # where the searches are
            self._untaught = deepcopy(self.network.state_dict())
        self.learned = False
        """Whether there is anything in these weights."""
        self.proofs: dict[str, list[Line]] = {}
        """Of each problem that was proved: the newest proofs, the newest last."""
        self.failures: dict[str, Line] = {}
        """Of each problem that the last attempt did not prove: where most of its playouts went."""
        self.turns: list[str] = []
        """Problems that are still to be tried before the next lesson, in order."""
        self.progress = 0

    @property
    def guide(self) -> Guide | None:
        """What was learned; None before the first lesson, when the search is unguided."""
        if not self.learned:
            return None
        pairs = self.network.pairs if self.network is not None else None
        return Guide(self.policy, self.value, self.config.temperature, pairs)

    @property
    def depth_first_guide(self) -> Guide | None:
        """The same for depth-first search, where the scores become prices."""
        guide = self.guide
        return guide and replace(guide, temperature=self.config.depth_first_temperature)

    def step(self) -> dict[str, float]:
        """Try to prove a batch of problems; after the last one, learn from all that is known."""
        if not self.turns:
            order = self.context.rng("order").permutation(len(self.task.names))
            self.turns = [self.task.names[i] for i in order]
        names, self.turns = self.turns[: self.config.batch], self.turns[self.config.batch :]
        proved = [self._try(name) for name in names]
        self.progress += len(names)
        metrics = {
            "proved": float(np.mean(proved)),
            "known": len(self.proofs) / len(self.task.names),
        }
        return metrics if self.turns else metrics | self._learn()

    def _try(self, name: str) -> bool:
        """Search for a proof of the problem NAME, and remember what came of it."""
        is_proved, line = self._search(self.task.matrix(name), self.config.inferences)
        if not is_proved:
            self.failures[name] = line
            return False
        self.failures.pop(name, None)
        known = [proof for proof in self.proofs.get(name, []) if _actions(proof) != _actions(line)]
        self.proofs[name] = [*known, line][-self.config.proofs :]
        return True

    def _search(self, matrix: Matrix, inferences: int) -> tuple[bool, Line]:
        """Whether the tree search finds a proof, which is checked, and where it got."""
        search = tree(matrix, self.rules, self.guide)
        search.run(inferences)
        line = search.line()
        if search.outcome is not Outcome.PROVED:
            return False, line
        return reward(follow(matrix, self.rules.eager, line)) > 0, line

    def _learn(self) -> dict[str, float]:
        """Fit the policy anew to all proofs and, if asked to, the value to them and failures."""
        config, rng = self.config, self.context.rng("minibatches")
        lessons = Lessons(config.policy_buckets, config.value_buckets, config.discount)
        sources: list[str] = []
        for name in self.task.names:
            proofs = self.proofs.get(name, [])
            for proof in proofs:
                matrix = self.task.matrix(name)
                lessons.add_proof(matrix, config.eager, proof, 1 / len(proofs))
            sources += [name] * (len(lessons.choices.chosen) - len(sources))
            if config.learn_value and name in self.failures:
                lessons.add_failure(self.task.matrix(name), config.eager, self.failures[name])
        if not lessons.choices.chosen:
            return {}
        fitting = Fitting(config.lr, config.weight_decay, config.updates, config.batch_size)
        policy = fit_policy(lessons.choices, config.policy_buckets, fitting, rng)
        self.policy, self.learned = policy.weights, True
        metrics = {"policy_loss": policy.loss}
        if config.learn_value:
            value = fit_value(lessons.outlooks, config.value_buckets, fitting, rng)
            self.value = value.weights
            metrics["value_loss"] = value.loss
        if self.network is not None:
            metrics["graph_loss"] = self._learn_graph(lessons.choices, sources, fitting)
        return metrics

    def _learn_graph(self, choices: Choices, sources: list[str], fitting: Fitting) -> float:
        """Fit the network anew to CHOICES, each from the problem of that name in SOURCES."""
        config, network = self.config, self.network
        assert network is not None
        rng = self.context.rng("graphs")
        graphs = {name: graph_of(self.task.matrix(name)) for name in set(sources)}
        examples = examples_of(choices, sources, graphs, config.policy_buckets, fitting, rng)
        network.load_state_dict(self._untaught)
        return fit_network(network, examples, config.graph_epochs, config.graph_lr, rng)

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, SupportsFloat]:
        """Try to prove N problems that are not learned from (None: all of them), by the tree search
        and depth first, each with what was learned.
        """
        problems = self.task.measured
        names = problems.names
        if n is not None and n < len(names):
            rng = np.random.default_rng(self.context.seed_for("evaluate", split, seed))
            names = [names[i] for i in sorted(rng.choice(len(names), n, replace=False))]
        by_tree, depth_first_too = [], []
        for name in names:
            matrix = problems.matrix(name)
            by_tree.append(self._search(matrix, self.config.eval_inferences)[0])
            search = depth_first(matrix, DEPTH_FIRST, self.depth_first_guide)
            search.run(self.config.eval_inferences)
            depth_first_too.append(reward(search) > 0)
        return {
            "proved": float(np.mean(by_tree)),
            "proved_depth_first": float(np.mean(depth_first_too)),
        }

    def prove(self, problem: Problem, inferences: int | None, seconds: float | None) -> Attempt:
        """Try to prove PROBLEM depth first by what was learned: that proves more than the tree
        search, and is faster.
        """
        form, conj = self.task.form, self.task.conj
        strategy = Strategy(DEPTH_FIRST, form, conj, guide=self.depth_first_guide)
        return attempt(problem, strategy, inferences, seconds)


def _actions(line: Line) -> list[int]:
    return [action for action, _ in line]


def _check(config: RlCoP.Config) -> None:
    positive = ("inferences", "eval_inferences", "batch", "big_step", "depth", "proofs")
    counts = ("policy_buckets", "value_buckets", "updates", "batch_size")
    for option in (*positive, *counts, "graph_layers", "graph_epochs"):
        value = getattr(config, option)
        require(value >= 1, f"algorithm.{option}", value, "at least 1")
    for option in ("policy_buckets", "value_buckets"):
        value = getattr(config, option)
        require(value <= 2**26, f"algorithm.{option}", value, "at most 2^26")
    for option in ("exploration", "weight_decay"):
        value = getattr(config, option)
        require(value >= 0, f"algorithm.{option}", value, "at least 0")
    require(config.graph_width >= 2, "algorithm.graph_width", config.graph_width, "at least 2")
    known = config.policy in get_args(Policy)
    require(known, "algorithm.policy", config.policy, "linear or graph")
    for option in ("temperature", "depth_first_temperature", "lr", "graph_lr"):
        value = getattr(config, option)
        require(value > 0, f"algorithm.{option}", value, "positive")
    require(0 < config.discount <= 1, "algorithm.discount", config.discount, "above 0, at most 1")
