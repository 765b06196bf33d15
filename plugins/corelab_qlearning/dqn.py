"""Deep Q-networks (Mnih et al. 2015, doi:10.1038/nature14236), and what has been added to them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, ClassVar, NamedTuple, SupportsFloat, cast

import numpy as np
import torch
from corelab_envs.interface import (
    Environment,
    Tally,
    film,
    make_environments,
    measure,
    share_of_worker,
)
from corelab_media import Video
from corelab_nets.adam import Adam
from corelab_nets.masks import check_mask, refuse_empty
from corelab_nets.trees import tensor_dtype
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import Context, PluginError, Saved, Split, require
from corelab_qlearning.exploration import Exploration
from corelab_qlearning.flat import flatten, trace
from corelab_qlearning.interface import Acting, QNetwork, Traced
from corelab_qlearning.observations import shown, split
from corelab_qlearning.parts import draw_noise
from corelab_qlearning.presets import DQN_PRESETS
from corelab_qlearning.replay import PrioritisedReplay, Replay
from corelab_qlearning.schedules import linear
from corelab_qlearning.values import Returns, describe

_ITERATION = 64
"""Steps of the environments, at least, that an iteration takes."""


class Minibatches(NamedTuple):
    """What the updates of an iteration learn from: K rows, or one minibatch of them."""

    observation: Tensor
    action: Tensor
    """[K, 1, Z], to gather the outputs for the action with."""
    target: Tensor
    weight: Tensor
    """[K, A, 1]: of the action that was taken, over the size of a minibatch, and 0 for others."""


class DQN(Saved):
    """Q-learning with a network, a replay of experience and a target network.

    Double, dueling, prioritised, n-step, noisy and distributional variants are options.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of DQN."""

        capacity: int = 100_000
        """Steps that the replay holds."""
        learning_starts: int = 1_000
        """Steps of random actions before the first update."""
        train_every: int = 4
        """Steps of the environments between updates."""
        updates: int = 1
        """Updates each time."""
        batch_size: int = 64
        """Transitions in a minibatch."""
        lr: float = 1e-3
        """Step size of Adam."""
        adam_eps: float = 1e-8
        """What Adam adds to its divisors."""
        anneal_lr: bool = False
        """Let the step size fall to zero in a straight line over the run."""
        max_grad_norm: float = 10.0
        """Longer gradients are scaled down to this length."""
        gamma: float = 0.99
        """Discount of future rewards."""
        target_every: int = 500
        """Steps of the environments between copies of the network to the target network."""
        epsilon_start: float = 1.0
        """Probability of a random action at the beginning."""
        epsilon_end: float = 0.05
        """Probability of a random action after the exploration phase."""
        exploration: float = 0.2
        """Share of the run in which this probability falls in a straight line."""
        persistent: bool = False
        """Keep to a random action for a random while: mostly a step, sometimes many."""
        double: bool = False
        """Let the network choose the next action and the target network judge it."""
        dueling: bool = False
        """Two streams in the network: the value of the state and the advantages of actions."""
        noisy: bool = False
        """Explore by learned noise on the weights (besides random actions; see epsilon_start)."""
        n_step: int = 1
        """Rewards that are summed before the value of the state after them."""
        prioritised: bool = False
        """Replay transitions with large errors more often."""
        alpha: float = 0.6
        """How much priorities count: 0 is uniform."""
        beta: float = 0.4
        """How far importance weights make up for priorities at the beginning; 1 at the end."""
        returns: Returns = "expected"
        """What is learned of the return: its expectation, its distribution or its quantiles."""
        clip_error: bool = True
        """Clip the gradient of an expected return's squared error to ±1 (Huber's loss)."""
        atoms: int = 51
        """Numbers that describe a distribution of returns."""
        v_min: float = -10.0
        """Lowest return that c51 can represent."""
        v_max: float = 10.0
        """Highest return that c51 can represent."""

    rolls_out: ClassVar[bool] = True
    sharded: ClassVar[tuple[str, ...]] = ("batch_size", "capacity")
    adjustable: ClassVar[tuple[str, ...]] = ("lr", "epsilon_end", "target_every")
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "CartPole-v1"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 100_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = DQN_PRESETS

    saved: ClassVar[tuple[str, ...]] = (
        "net",
        "target_net",
        "optimizer",
        "replay",
        "envs",
        "observation",
        "tally",
        "progress",
        "copied",
        "exploration",
    )

    def __init__(
        self, config: Config, task: Environment, model: Callable[..., QNetwork], context: Context
    ) -> None:
        self.config, self.task, self.context = config, task, context
        space, self._masked = shown(task)
        actions = task.single_action_space
        if not isinstance(actions, spaces.Discrete):
            raise PluginError(
                f"{task.name} has actions {actions}; dqn and rainbow choose among Discrete actions "
                "only, and for a Box there are ppo and sac"
            )
        check_mask(task.single_observation_space, actions, task.name)
        N = task.num_envs or 1
        _check(config, N)
        N = share_of_worker(task, N, context.world, "workers")
        self._n, self._start = int(actions.n), int(actions.start)
        self.values = describe(
            config.returns,
            config.clip_error,
            config.atoms,
            config.v_min,
            config.v_max,
            context.device,
        )
        streams = {"dueling": config.dueling, "noisy": config.noisy}
        net = cast(Any, model(space, self._n, self.values.atoms, **streams))
        self.net: nn.Module = net
        self.target_net = copy.deepcopy(self.net)
        self._theta, self._target_theta = flatten(self.net), flatten(self.target_net)
        traces = isinstance(net, Traced) and net.traces
        self._trace = net.trace if traces else partial(trace, self.net, self._theta)
        acts = isinstance(net, Acting) and net.on_arrays and context.device.type == "cpu"
        self._q = net.act if acts and config.returns == "expected" else None
        self.optimizer = Adam([self._theta], eps=config.adam_eps, fused=True)
        self.progress = 0
        self.copied = 0  # progress at the latest copy to the target network

        kind = PrioritisedReplay if config.prioritised else Replay
        options = {"alpha": config.alpha} if config.prioritised else {}
        self.replay: Replay = kind(
            space,
            self._n,
            N,
            config.capacity // context.world,
            n_step=config.n_step,
            gamma=config.gamma,
            stack=getattr(task, "stack", 1),
            masked=self._masked,
            **options,
        )
        self.exploration = Exploration(
            N, self._n, masked=self._masked, persistent=config.persistent
        )
        self.envs = make_environments(task, N, context)
        self.observation, _ = self.envs.reset()  # S_t, [N, ...]
        self.tally = Tally(N)
        self.replay.begin(*split(self.observation))
        self._dtype = tensor_dtype(space)

    def step(self) -> dict[str, float]:
        """Act, and learn in between (Mnih et al. 2015, algorithm 1), for at least 64 steps."""
        config, before = self.config, self.progress
        # steps of all environments, of which the other processes have as many
        between = config.train_every // (self.envs.num_envs * self.context.world)
        rounds = max(1, _ITERATION // config.train_every)
        learns = self.progress >= config.learning_starts
        epsilon = self._epsilon() if learns else 1.0
        share = self.progress / self.context.steps
        lr = config.lr * (linear(1, 0, share) if config.anneal_lr else 1.0)
        metrics = {"epsilon": epsilon, "lr": lr}
        errors: list[Tensor] = []

        if learns:
            places, minibatches, metrics["q"] = self._draw(rounds * config.updates)
        choices = self.exploration.draw(rounds * between, epsilon, self.context.rng("actions"))
        for _ in range(rounds):
            if config.noisy:
                draw_noise(self.net, self.context.generator("noise"))
            for explore, anything in islice(choices, between):
                self._act(explore, anything)
            if learns:
                errors += [self._update(next(minibatches), lr) for _ in range(config.updates)]
        if learns:
            losses, priorities = torch.stack(errors).unbind(1)
            metrics["loss"] = losses.mean().item()
            if isinstance(self.replay, PrioritisedReplay):
                self.replay.prioritise(places, priorities.flatten().cpu().numpy())
        self.progress = before + int(self.context.total(self.progress - before)[0])
        return metrics | self.tally.metrics()

    def _epsilon(self) -> float:
        config = self.config
        share = self.progress / (config.exploration * self.context.steps)
        return linear(config.epsilon_start, config.epsilon_end, share)

    def _act(self, explore: NDArray[np.bool_], anything: NDArray[Any]) -> None:
        """One step of all environments, [N]: ANYTHING where EXPLORE says so, else what is best."""
        x, mask = split(self.observation)
        if mask is not None:
            refuse_empty(mask, self.tally.over, self.task.name, self.progress)
            anything = np.where(mask, anything, -1.0).argmax(-1)
        action = anything
        if not explore.all():
            action = np.where(explore, anything, self._greedy(x, mask))
        self.observation, reward, termination, truncation, _ = self.envs.step(action + self._start)
        self.replay.add(action, reward, termination, truncation, *split(self.observation))

        valid = self.tally.add(reward, termination, truncation)
        self.progress += int(np.count_nonzero(valid))

    def _greedy(self, x: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """The allowed action of the highest value, [N]."""
        if self._q is not None:
            q = self._q(x)
        else:
            observation = torch.as_tensor(x, dtype=self._dtype, device=self.context.device)
            with torch.no_grad():
                q = self.values.expected(self.net(observation)).cpu().numpy()
        if mask is not None:
            q = np.where(mask, q, -np.inf)
        return np.asarray(q.argmax(-1))

    @torch.no_grad()
    def _draw(self, batches: int) -> tuple[NDArray[np.int64], Iterator[Minibatches], float]:
        """So many minibatches from the replay, with their targets, and the mean value of the states
        that follow. All are computed together, by the networks as they are now.
        """
        config, size = self.config, self.config.batch_size // self.context.world
        if self.progress - self.copied >= config.target_every:
            self._target_theta.copy_(self._theta)
            self.copied = self.progress
        if config.noisy:
            draw_noise(self.target_net, self.context.generator("noise"))
        beta = linear(config.beta, 1, self.progress / self.context.steps)
        drawn = self.replay.draw(batches, size, self.context.rng("replay"), beta)
        drawn = drawn.to(self.context.device)
        z = self.target_net(drawn.next_observation)  # [K, A, Z]
        q = self.values.expected(self.net(drawn.next_observation) if config.double else z)
        if drawn.next_mask is not None:
            q = q.masked_fill(~drawn.next_mask, torch.finfo(q.dtype).min)
        best, chosen = q.max(-1)
        z = z[torch.arange(len(z), device=z.device), chosen]
        action = drawn.action.unsqueeze(-1)
        weight = (drawn.weight / size).unsqueeze(-1).to(q.dtype)
        rows = Minibatches(
            drawn.observation,
            action.unsqueeze(-1).expand(-1, 1, self.values.atoms),
            self.values.target(z, drawn.reward, drawn.discount),
            torch.zeros_like(q).scatter_(1, action, weight).unsqueeze(-1),
        )
        minibatches = map(Minibatches, *(torch.split(column, size) for column in rows))
        return drawn.place, minibatches, best.mean().item()

    def _update(self, batch: Minibatches, lr: float) -> Tensor:
        """One step of Adam on a minibatch; return its losses and errors, [2, B]."""
        z, pull = self._trace(batch.observation)
        taken = z.gather(1, batch.action).squeeze(1)
        loss, gradient, error = self.values.loss(taken, batch.target)
        slope = pull(batch.weight * gradient.unsqueeze(1))
        self.context.average([slope])
        length = torch.linalg.vector_norm(slope).item()
        if length > self.config.max_grad_norm:
            slope.mul_(self.config.max_grad_norm / (length + 1e-6))
        self._theta.grad = slope
        self.optimizer.step(lr)
        return torch.stack([loss, error])

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100), always taking the action of the highest
        value, or, if STOCHASTIC, exploring as in training.
        """
        with self._player(seed, stochastic) as act:
            return measure(self.task, act, n, split, seed)

    def sample(self, n: int = 1, seed: int = 0, *, stochastic: bool = False) -> Video:
        """Film N episodes, always taking the action of the highest value, or, if STOCHASTIC,
        exploring as in training.
        """
        with self._player(seed, stochastic) as act:
            return film(self.task, act, n, "test", seed)

    @contextmanager
    def _player(self, seed: int, stochastic: bool) -> Iterator[Callable[[Any], NDArray[Any]]]:
        rng = np.random.default_rng(seed)
        epsilon = self._epsilon() if stochastic else 0.0

        def act(observation: Any) -> NDArray[Any]:
            x, mask = split(observation)
            action = self._greedy(x, mask)
            if stochastic:
                allowed = np.ones((len(x), self._n), np.bool_) if mask is None else mask
                anything = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(-1)
                action = np.where(rng.random(len(x)) < epsilon, anything, action)
            return action + self._start

        self.net.train(stochastic)
        try:
            yield act
        finally:
            self.net.train()


def _check(config: DQN.Config, num_envs: int) -> None:
    def need(fits: Callable[[Any], bool], what: str, *options: str) -> None:
        for option in options:
            value = getattr(config, option)
            require(fits(value), f"algorithm.{option}", value, what)

    counts = ("learning_starts", "train_every", "updates", "batch_size", "target_every", "n_step")
    need(lambda x: x >= 1, "at least 1", *counts)
    need(lambda x: x >= 2, "at least 2", "atoms")
    need(lambda x: x > 0, "positive", "lr", "adam_eps", "max_grad_norm", "exploration")
    shares = ("gamma", "epsilon_start", "epsilon_end", "alpha", "beta")
    need(lambda x: 0 <= x <= 1, "between 0 and 1", *shares)
    need(lambda x: x < config.v_max, f"less than algorithm.v_max, {config.v_max}", "v_min")
    multiple = f"a multiple of the number of environments, which is {num_envs}"
    need(lambda x: x % num_envs == 0, multiple, "train_every")
    least = max(num_envs * (config.n_step + 1), config.learning_starts)
    need(lambda x: x >= least, f"at least {least}, so that updates can begin", "capacity")
