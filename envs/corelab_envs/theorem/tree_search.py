"""Monte Carlo tree search over tableaux (Kaliszyk, Urban, Michalewski and Olšák 2018,
arXiv:1805.07563, sec. 3), by the search that AlphaZero plays with. `connection.cpp` computes the
same, to the last visit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from corelab_mcts import Floats, Search, States, uct

from corelab import require
from corelab_envs.theorem.calculus import Kind, Outcome, Tableau
from corelab_envs.theorem.guide import Guide, judge, score, softmax
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.simulator import Simulator


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
        self._tableau = Tableau(matrix, rules.eager)
        self._pairs = guide.pairs(matrix) if guide is not None and guide.pairs else None
        simulator = Simulator(self._tableau, rules.depth)
        self._search = Search(
            simulator,
            self._evaluate,
            discount=1.0,
            explore=uct(rules.exploration),
            untried=0.0,
            seek=True,
        )
        self.outcome = self._tableau.outcome
        self._search.begin(simulator.initial(1))

    @property
    def inferences(self) -> int:
        """How many inferences were made."""
        return int(self._search.steps[0])

    def run(self, limit: int) -> Outcome:
        """Go on until the search ends or has made LIMIT inferences in all."""
        while self.outcome is Outcome.RUNNING and self.inferences < limit:
            to_big_step = self.rules.big_step - self.inferences % self.rules.big_step
            self._search.run(min(to_big_step, limit - self.inferences))
            if self._search.found[0]:
                self.outcome = Outcome.PROVED
            elif self._search.exhausted[0]:
                self.outcome = Outcome.EXHAUSTED
            elif self.inferences % self.rules.big_step == 0:
                self._search.commit()
        return self.outcome

    def line(self) -> list[tuple[int, int]]:
        """The actions that lead to the proof or, without one, to where most playouts went; each
        with its rival: the action besides that was visited most, -1 if none was.
        """
        found = []
        for action, visits in self._search.line(0):
            visits[action] = 0
            found.append((action, int(visits.argmax()) if visits.any() else -1))
        return found

    def _evaluate(self, states: States) -> tuple[Floats, Floats]:
        """Priors of the inferences that apply in the one of STATES, and what it is worth."""
        self._tableau.restore(states[0])
        if not self._tableau.action_count:
            return np.zeros((1, 1)), np.zeros(1)
        seen, numbers = self._tableau.sight()
        # an inference may be as unlikely as can be, but 0 would say that there is none
        priors = np.maximum(self._priors(), math.ulp(0.0))
        return priors[None], np.array([judge(self.guide, numbers, seen)])

    def _priors(self) -> list[float]:
        count = self._tableau.action_count
        if self.guide is None:
            return [1 / count] * count
        scores = [score(self.guide, seen) for seen in self._tableau.sight_of_actions()]
        goal = self._tableau.goal
        if self._pairs is not None and goal is not None:
            for i, action in enumerate(self._tableau.actions):
                if action.kind == Kind.EXTENSION:
                    scores[i] += self._pairs.score(goal, action.other)
        return softmax([s / self.guide.temperature for s in scores])
