"""A league of past opponents for self-play, with Elo ratings.

Playing only against oneself can go round in circles: what beats today's policy may lose to last
week's. So snapshots of the network are kept, and an episode is played against the latest policy
or one of them (Bansal et al. 2018, arXiv:1710.03748), all alike or rather those that are hard to
beat (prioritised fictitious self-play, Vinyals et al. 2019, doi:10.1038/s41586-019-1724-z).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from corelab_envs.interface import Episodes, play
from corelab_nets.trees import to_tensors
from numpy.typing import NDArray
from torch import nn

from corelab import PluginError, Split, require
from corelab_policy_gradient.policy import Policy

LATEST = -1
"""The number of the policy that is learning."""
_K = 16.0
"""How far one game moves a rating, at most."""
_MEMORY = 100
"""Over about how many games the score against a member is averaged."""

Choose = Callable[[nn.Module, Any], NDArray[Any]]
"""From a network and observations [B, ...] to moves [B]."""


def expected_score(rating: float, other: float) -> float:
    """What RATING should score against OTHER, 1 for a win and 0 for a loss (Elo 1978)."""
    return float(1 / (1 + 10 ** ((other - rating) / 400)))


def prioritised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities ∝ (1 - score)² of opponents against whom the learner has SCORES: f_hard of
    Vinyals et al. 2019 with p = 2. All alike if every one is always beaten.
    """
    weights = (1 - scores) ** 2
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(scores), 1 / len(scores))


class League:
    """At most `size` past policies, known by numbers that grow; `Opponents` of a game."""

    @dataclass(frozen=True)
    class Config:
        """Options of the league of past opponents, for games of two players."""

        every: int = 20
        """Iterations between two snapshots of the policy."""
        size: int = 10
        """How many snapshots are kept; when there are more, every second one goes."""
        latest: float = 0.5
        """Share of the episodes that are played against the latest policy."""
        draw: Literal["uniform", "prioritised"] = "uniform"
        """How the others are drawn: all alike, or rather those that are hard to beat."""

    def __init__(
        self, config: Config, net: nn.Module, choose: Choose, rng: np.random.Generator
    ) -> None:
        require(config.every >= 1, "algorithm.league.every", config.every, "at least 1")
        require(config.size >= 2, "algorithm.league.size", config.size, "at least 2")
        require(
            0 <= config.latest <= 1, "algorithm.league.latest", config.latest, "between 0 and 1"
        )
        self._config = config
        self._net = net
        self._choose = choose
        self._rng = rng
        self._every = config.every
        self._iterations = 0
        self.elo = 0.0
        """Rating of the learner; that of its first weights is 0."""
        self._numbers: list[int] = []
        self._members: list[nn.Module] = []
        self._elo: list[float] = []
        self._scores: list[float] = []
        self._results: list[float] = []
        self._join(0)

    def _join(self, number: int) -> None:
        self._numbers.append(number)
        self._members.append(deepcopy(self._net).eval())
        self._elo.append(self.elo)
        self._scores.append(0.5)

    def update(self) -> dict[str, float]:
        """An iteration has ended: take a snapshot if it is time. The metrics of the iteration."""
        self._iterations += 1
        if self._iterations % self._every == 0:
            self._join(self._iterations)
        if len(self._numbers) > self._config.size:  # what is kept spans the run, ever more thinly
            self._every *= 2
            for column in (self._numbers, self._members, self._elo, self._scores):
                del column[1::2]
        metrics = {"elo": self.elo, "league_size": float(len(self._numbers))}
        if self._results:
            results = np.array(self._results)
            metrics["win_rate"] = float((results == 1).mean())
            metrics["draw_rate"] = float((results == 0.5).mean())
            self._results.clear()
        return metrics

    def draw(self, n: int) -> NDArray[np.int64]:
        """The opponents [n] of N episodes that begin."""
        uniform = self._config.draw == "uniform"
        p = None if uniform else prioritised(np.array(self._scores))
        past = self._rng.choice(np.array(self._numbers), n, p=p)
        return np.where(self._rng.random(n) < self._config.latest, LATEST, past)

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        """A move [B] for each of OPPONENTS [B], one pass for each that is among them."""
        who = np.array([self._place(number) for number in opponents.tolist()])
        moves = np.zeros(len(who), np.int64)
        for place in np.unique(who):
            mine = who == place
            net = self._net if place == LATEST else self._members[place]
            moves[mine] = self._choose(net, {k: v[mine] for k, v in observations.items()})
        return moves

    def record(self, opponents: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        """Episodes against OPPONENTS [n] brought the learner RETURNS [n]: a win if positive.

        R += K (S - E), with the score S of the game and E expected by the ratings; the member's
        rating moves as far the other way, but the first weights' stays at 0.
        """
        for number, gained in zip(opponents.tolist(), returns.tolist(), strict=True):
            place = self._place(number)
            if place == LATEST:
                continue
            score = 0.5 + 0.5 * float(np.sign(gained))
            change = _K * (score - expected_score(self.elo, self._elo[place]))
            self.elo += change
            if self._numbers[place] > 0:
                self._elo[place] -= change
            self._scores[place] += (score - self._scores[place]) / _MEMORY
            self._results.append(score)

    def _place(self, number: int) -> int:
        """Where the member with this NUMBER is; if it has gone, its episodes go to the latest."""
        return self._numbers.index(number) if number in self._numbers else LATEST

    def state_dict(self) -> dict[str, Any]:
        """Its members' weights and all numbers, as a tree that can be saved."""
        return {
            "every": self._every,
            "iterations": self._iterations,
            "elo": self.elo,
            "numbers": list(self._numbers),
            "members": [member.state_dict() for member in self._members],
            "elos": list(self._elo),
            "scores": list(self._scores),
            "results": list(self._results),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the league that was saved."""
        self._every, self._iterations = state["every"], state["iterations"]
        self.elo, self._elo = state["elo"], list(state["elos"])
        self._numbers, self._scores = list(state["numbers"]), list(state["scores"])
        self._results = list(state["results"])
        self._members = [deepcopy(self._net).eval() for _ in self._numbers]
        for member, weights in zip(self._members, state["members"], strict=True):
            member.load_state_dict(weights)


def drawn_by(policy: Policy, rng: np.random.Generator) -> Choose:
    """Moves that are drawn from what a network says, seen as POLICY sees, with RNG."""
    if policy.memory:
        raise PluginError("self-play needs a model without memory; choose another --model")

    def choose(net: nn.Module, observations: Any) -> NDArray[Any]:
        player = copy(policy)
        player.net = net
        seen, mask = player.see(observations, np.zeros(len(observations["action_mask"]), np.bool_))
        p, _ = player.act(to_tensors(player.space, seen), mask)
        return player.distribution.to_env(player.distribution.sample(p, rng))

    return choose


def duels(
    policy: Policy, task: Any, n: int | None, split: Split, seed: int, stochastic: bool
) -> dict[str, float]:
    """How often POLICY wins, draws and loses against each fixed player of TASK, in N episodes each,
    and the figures of all these episodes; nothing if TASK is no game.
    """
    metrics: dict[str, float] = {}
    played: list[Episodes] = []
    for rival in getattr(task, "rivals", ()):
        with policy.playing(task.against(rival), seed, stochastic) as (watched, act):
            played.append(play(watched, act, n, split, seed))
        returns = played[-1].returns
        for name, share in (("win", returns > 0), ("draw", returns == 0), ("loss", returns < 0)):
            metrics[f"{name}_rate_{rival}"] = float(share.mean())
    if not played:
        return metrics
    both = (np.concatenate(x) for x in zip(*((p.returns, p.lengths) for p in played), strict=True))
    return metrics | Episodes(*both).metrics()
