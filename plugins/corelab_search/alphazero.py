"""AlphaZero (Silver et al. 2018, arXiv:1712.01815): learning to play from nothing but play."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, pi
from typing import Any, ClassVar, SupportsFloat, cast

import numpy as np
import torch
from corelab_envs.interface import Game
from corelab_mcts import Floats, Indices, Search, States, puct
from corelab_media import Video
from numpy.typing import NDArray
from torch import Tensor

from corelab import Context, Saved, Split, require
from corelab_search.interface import PolicyValue
from corelab_search.matches import Record, openings, play_matches
from corelab_search.minimax import best_actions, minimax, random_actions
from corelab_search.positions import Positions


def policy_loss(logits: Tensor, policy: Tensor) -> Tensor:
    """-πᵀ log p: the cross entropy of the network's policy and that of the search."""
    return -(policy * logits.log_softmax(-1)).sum(-1).mean()


def value_loss(value: Tensor, outcome: Tensor) -> Tensor:
    """(z - v)²: the squared error of the network's value."""
    return (value - outcome).square().mean()


def drawn(visits: Floats, rng: np.random.Generator) -> Indices:
    """An action for each row of VISITS [n, actions], in proportion to them, [n]."""
    below = visits.cumsum(1)
    chosen: Indices = (below > rng.random((len(visits), 1)) * below[:, -1:]).argmax(1)
    return chosen


class AlphaZero(Saved):
    """AlphaZero: a network guides a tree search, and learns from where the search leads."""

    @dataclass(frozen=True)
    class Config:
        """Options of AlphaZero."""

        games: int = 128
        """Games of self-play side by side; one iteration is a move in each of them."""
        simulations: int = 32
        """Simulations of the search before each move of self-play."""
        c_puct: float = 1.5
        """How much the search prefers what is promising and rarely tried: c_puct."""
        noise: float = 1.0
        """Concentration of the Dirichlet noise at the root, about 10 over the usual number of
        legal moves."""
        noise_share: float = 0.25
        """Share of the noise in the priors at the root: ε."""
        random_moves: int = 0
        """The most moves at the beginning of a game of self-play that are random; how many is drawn
        for each game."""
        temperature_moves: int = 12
        """Moves of each game that are drawn in proportion to the visits; later ones are the most
        visited."""
        value_mix: float = 0.5
        """What a value learns from: this share of what the search thought of the position, and
        the rest of how the game came out; 0 in the paper."""
        capacity: int = 200_000
        """Positions that are remembered and learned from."""
        batch_size: int = 512
        """Positions in a minibatch."""
        updates: int = 1
        """Minibatches learned from in an iteration."""
        lr: float = 2e-3
        """Step size of Adam at the beginning; it falls to zero over the run, as half a cosine."""
        weight_decay: float = 1e-4
        """Decay of the weights in each update, as a multiple of the step size: c."""
        eval_simulations: int = 200
        """Simulations before each move in evaluations and samples."""
        minimax_depth: int = 0
        """How many moves ahead the opponent in evaluations looks; 0 to leave it out."""
        opening_moves: int = 0
        """Random moves at the beginning of each game of an evaluation."""

    sharded: ClassVar[tuple[str, ...]] = ("games", "batch_size", "capacity")
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "connect-four"
    default_model: ClassVar[str] = "cnn"
    default_steps: ClassVar[int] = 1_000_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/policy_loss", "train/value_loss", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "connect-four": {
            "algorithm.random_moves": 6,
            "algorithm.eval_simulations": 1_600,
            "algorithm.minimax_depth": 4,
            "algorithm.opening_moves": 2,
        },
        "tic-tac-toe": {
            "algorithm.random_moves": 2,
            "steps": 30_000,
            "algorithm.games": 64,
            "algorithm.updates": 2,
            "algorithm.eval_simulations": 400,
            "algorithm.minimax_depth": 9,
            "algorithm.temperature_moves": 4,
        },
    }

    saved: ClassVar[tuple[str, ...]] = (
        *("net", "optimizer", "search", "positions", "ply", "game_seen", "game_policy"),
        *("game_value", "progress"),
    )

    def __init__(
        self, config: Config, task: Game, model: Callable[..., PolicyValue], context: Context
    ) -> None:
        _check(config)
        self.config, self.game, self.context = config, task, context
        self.net = cast(Any, model(task.observation_shape, task.actions))
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
        self._symmetries = [
            (torch.from_numpy(cells.copy()), torch.from_numpy(actions.copy()))
            for cells, actions in task.symmetries
        ]
        rows = config.capacity // context.world
        self.positions = Positions(rows, task.observation_shape, task.actions)
        self.search = self._new_search()
        self.progress = 0

        B, L = config.games // context.world, task.max_length
        with self._judging():
            self.search.begin(self._begun(B))
        self.ply = np.zeros(B, np.intp)
        self.game_seen = np.zeros((B, L, *task.observation_shape), np.int8)
        self.game_policy = np.zeros((B, L, task.actions), np.float32)
        self.game_value = np.zeros((B, L), np.float32)

    def _begun(self, n: int) -> States:
        """N positions from which self-play goes on."""
        rng = self.context.rng("openings")
        moves = rng.integers(self.config.random_moves, size=n, endpoint=True)
        return openings(self.game, moves, rng)

    def _new_search(self) -> Search:
        return Search(self.game, self._judge, discount=-1.0, explore=puct(self.config.c_puct))

    @torch.inference_mode()
    def _judge(self, states: States) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """(p, v) = f_θ(s), with p over the legal actions."""
        seen = torch.from_numpy(self.game.observe(states))
        logits, value = self.net(seen.to(self.context.device, torch.float32))
        legal = torch.from_numpy(self.game.legal(states)).to(self.context.device)
        p = logits.double().masked_fill(~legal, -torch.inf).softmax(-1)
        return p.cpu().numpy(), value.cpu().numpy()

    @contextmanager
    def _judging(self) -> Iterator[None]:
        training = self.net.training
        self.net.eval()
        try:
            yield
        finally:
            self.net.train(training)

    def step(self) -> dict[str, float]:
        """Make a move in each of B games, then learn from what is remembered."""
        with self._judging():
            metrics = self._play()
        self.progress += self.config.games
        (learners,) = self.context.total(int(self.positions.size > 0))
        if learners == self.context.world:
            metrics |= self._learn()
        return metrics

    def _play(self) -> dict[str, float]:
        config, rng = self.config, self.context.rng("play")
        noise = self.search.dirichlet(config.noise, rng)
        self.search.run(config.simulations, noise, config.noise_share)
        N = self.search.visits
        policy = N / N.sum(1, keepdims=True)
        games = np.arange(len(self.ply))
        self.game_seen[games, self.ply] = self.game.observe(self.search.states)
        self.game_policy[games, self.ply] = policy
        self.game_value[games, self.ply] = self.search.root_values

        early = self.ply < config.temperature_moves
        outcome, over = self.search.advance(np.where(early, drawn(N, rng), N.argmax(1)))
        self.ply += 1
        entropy = -(policy * np.log(np.maximum(policy, 1e-12))).sum(1).mean()
        return {"search_entropy": float(entropy)} | self._remember(outcome, np.flatnonzero(over))

    def _remember(self, outcome: Floats, ended: Indices) -> dict[str, float]:
        """Learn from games that ENDED with this OUTCOME for who moved last, and begin others."""
        if not len(ended):
            return {}
        length, mix = self.ply[ended], self.config.value_mix
        for game, n in zip(ended, length, strict=True):
            # z of each position is what came of it for who was to move: signs alternate
            z = outcome[game] * (-1.0) ** np.arange(n - 1, -1, -1)
            target = (1 - mix) * z + mix * self.game_value[game, :n]
            self.positions.add(self.game_seen[game, :n], self.game_policy[game, :n], target)
        self.ply[ended] = 0
        self.search.replant(ended, self._begun(len(ended)))
        ties = outcome[ended] == 0
        return {"game_length": float(length.mean()), "draws": float(ties.mean())}

    def _learn(self) -> dict[str, float]:
        """Steps of Adam on l = (z - v)² - πᵀ log p + c ‖θ‖² (eq. 1)."""
        config, device = self.config, self.context.device
        rng = self.context.rng("minibatches")
        lr = config.lr * (1 + cos(pi * min(1.0, self.progress / self.context.steps))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        seen = []
        for _ in range(config.updates):
            s, policy, z = self.positions.draw(config.batch_size // self.context.world, rng)
            s, policy = self._mirrored(s, policy, rng)
            p, v = self.net(s.to(device, torch.float32))
            L_policy = policy_loss(p, policy.to(device))
            L_value = value_loss(v, z.to(device))
            self.optimizer.zero_grad()
            torch.autograd.backward(L_policy + L_value)
            gradients = (p.grad for p in self.net.parameters())
            self.context.average(gradient for gradient in gradients if gradient is not None)
            self.optimizer.step()
            seen.append(torch.stack([L_policy, L_value]).detach())
        means = torch.stack(seen).mean(0).tolist()
        return dict(zip(("policy_loss", "value_loss"), means, strict=True)) | {"lr": lr}

    def _mirrored(
        self, seen: Tensor, policy: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The minibatch in equal parts as the game's symmetries show it, in a random order."""
        order = rng.permutation(len(self._symmetries))
        parts = zip(seen.chunk(len(order)), policy.chunk(len(order)), order, strict=False)
        mirrored = []
        for s, p, i in parts:
            cells, actions = self._symmetries[i]
            mirrored.append((s.flatten(1, 2)[:, cells].view_as(s), p[:, actions]))
        return torch.cat([s for s, _ in mirrored]), torch.cat([p for _, p in mirrored])

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat]:
        """Play N games (validation: 40, test: 200) against each opponent, begin every other one.

        Two games follow each random opening, one from either side. STOCHASTIC moves are drawn in
        proportion to the search's visits; otherwise the most visited one is taken.
        """
        if n is None:
            n = {"validation": 40, "test": 200}[split]
        metrics: dict[str, SupportsFloat] = {}
        for opponent in ("random", "minimax") if self.config.minimax_depth else ("random",):
            outcomes, _ = self._match(opponent, split, n, seed, stochastic)
            metrics[f"{opponent}_win"] = float((outcomes > 0).mean())
            metrics[f"{opponent}_draw"] = float((outcomes == 0).mean())
            metrics[f"{opponent}_loss"] = float((outcomes < 0).mean())
        return {"return": float(outcomes.mean()), **metrics}

    def sample(self, n: int = 2, seed: int = 0, *, stochastic: bool = False) -> Video:
        """Film N games against the strongest opponent, beginning every other one."""
        opponent = "minimax" if self.config.minimax_depth else "random"
        _, record = self._match(opponent, "test", n, seed, stochastic)
        frames = []
        for game in range(n):
            # the last position of a game stays for a while
            stands = [states[on == game] for on, states in record if game in on]
            frames += [*stands, *[stands[-1]] * 3]
        return Video(self.game.render(np.concatenate(frames)), fps=2.0)

    def _match(
        self, opponent: str, split: Split, n: int, seed: int, stochastic: bool
    ) -> tuple[Floats, Record]:
        """Outcomes and record of N games against OPPONENT, from as many random openings by two."""
        config, game = self.config, self.game
        rng = np.random.default_rng(self.context.seed_for("evaluate", split, opponent, seed))

        def play(states: States) -> Indices:
            return self.act(states, rng if stochastic else None)

        def oppose(states: States) -> Indices:
            if opponent == "random":
                return random_actions(game.legal(states), rng)
            return best_actions(minimax(game, states, config.minimax_depth), rng)

        start = openings(game, np.full(-(-n // 2), config.opening_moves), rng).repeat(2, 0)[:n]
        return play_matches(game, play, oppose, start, np.arange(n) % 2 == 0)

    def act(self, states: States, rng: np.random.Generator | None = None) -> Indices:
        """The actions [n] that a search without noise visits most in STATES [n]; with RNG, actions
        drawn in proportion to the visits.
        """
        search = self._new_search()
        with self._judging():
            search.begin(states)
            search.run(self.config.eval_simulations)
        return search.visits.argmax(1) if rng is None else drawn(search.visits, rng)


def _check(config: AlphaZero.Config) -> None:
    positive = ("games", "simulations", "eval_simulations", "capacity", "batch_size", "updates")
    natural = ("random_moves", "temperature_moves", "minimax_depth", "opening_moves")
    for option in positive + natural:
        value, least = getattr(config, option), int(option in positive)
        require(value >= least, f"algorithm.{option}", value, f"at least {least}")
    for option in ("lr", "c_puct", "noise"):
        value = getattr(config, option)
        require(value > 0, f"algorithm.{option}", value, "positive")
    for option in ("noise_share", "value_mix"):
        value = getattr(config, option)
        require(0 <= value <= 1, f"algorithm.{option}", value, "between 0 and 1")
