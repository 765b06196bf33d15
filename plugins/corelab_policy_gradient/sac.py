"""Soft actor-critic with a learned temperature (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, SupportsFloat

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
from corelab_nets.perceptron import Perceptrons
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import Context, DivergedError, PluginError, Saved, Split, require
from corelab_policy_gradient.replay import Replay

_ITERATION = 32
"""Steps in each copy of the environment that make an iteration."""
_LOG_STD = (-20.0, 2.0)
"""Between what the logarithms of the policy's standard deviations are kept."""


class SoftActorCritic(Protocol):
    """An `nn.Module`, built as `model(observation_space, action_space)` from two of Gymnasium's
    spaces, a Box of n numbers and a bounded Box of d. Its parts carry gradients in closed form.
    """

    actor: Perceptrons
    """From s [B, n] to means and log standard deviations, [1, B, 2d], of what is squashed."""
    critics: Perceptrons
    """From s and a beside each other, [B, n + d], to Q_1 and Q_2, [2, B, 1]."""


class Draw(NamedTuple):
    """Actions drawn from the squashed Gaussian, and what its gradient needs."""

    a: Tensor
    """Actions within ±1, [B, d]."""
    log_prob: Tensor
    """log π(a|s), [B]."""
    noise: Tensor
    """ε, [B, d]."""
    std: Tensor
    """Standard deviations before the squashing, [B, d]."""
    free: Tensor
    """Where the log standard deviation was not held at a bound, [B, d]."""


def draw(policy: Tensor, noise: Tensor) -> Draw:
    """Take a = f_φ(ε; s) = tanh(μ + σ ε), eq. 8, for POLICY [B, 2d], μ and log σ, and NOISE [B, d].

    Its likelihood, appendix C: log π(a|s) = Σ log N(u; μ, σ) - Σ log(1 - tanh² u), in which
    1 - tanh² u = 4 / (e^u + e^-u)² is taken in a form that stays exact for large u.
    """
    mean, given = policy.chunk(2, -1)
    log_std = given.clamp(*_LOG_STD)
    std = log_std.exp()
    u = mean + std * noise
    squash = 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))
    log_prob = -(0.5 * noise**2 + log_std + squash).sum(-1)
    log_prob = log_prob - 0.5 * math.log(2 * math.pi) * noise.shape[-1]
    return Draw(u.tanh(), log_prob, noise, std, given == log_std)


def policy_gradient(drawn: Draw, alpha: Tensor, dQ: Tensor) -> Tensor:
    """The gradient [B, 2d] of J_π = E[α log π(a|s) - Q(s, a)], eq. 9, for a policy's μ and log σ,
    with dQ [B, d] the gradient of Q for the action; eq. 10, up to the network.
    """
    a, _, noise, std, free = drawn
    d_mean = alpha * 2 * a - dQ * (1 - a**2)  # ∂ log π / ∂u = 2 tanh u for a given ε
    d_log_std = (d_mean * std * noise - alpha) * free
    return torch.cat([d_mean, d_log_std], -1) / len(a)


def critic_gradient(Q: Tensor, y: Tensor) -> Tensor:
    """The gradient [2, B, 1] of J_Q = Σ_i E[½ (Q_i - y)²], eq. 5, for Q [2, B, 1]; y [B]."""
    return (Q - y.unsqueeze(-1)) / len(y)


def temperature_gradient(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """The gradient of J(α) = E[-α (log π(a|s) + H̄)], eq. 18, for log α."""
    return -log_alpha.exp() * (log_prob.mean() + target_entropy)


class Seen(NamedTuple):
    """What an update came upon."""

    Q: Tensor
    """Q_i(s, a) before the update, [2, B, 1]."""
    y: Tensor
    """What they were to be, [B]."""
    log_prob: Tensor
    """log π(a|s) of actions drawn anew, [B]."""
    Q_pi: Tensor
    """The smaller Q_i(s, a) of these, [B]."""
    alpha: Tensor
    """The temperature before the update."""

    def metrics(self) -> dict[str, float]:
        """The objectives, and the terms that tell how it goes."""
        return {
            "critic_loss": (0.5 * (self.Q - self.y.unsqueeze(-1)) ** 2).mean(1).sum().item(),
            "actor_loss": (self.alpha * self.log_prob - self.Q_pi).mean().item(),
            "q": self.Q.mean().item(),
            "entropy": -self.log_prob.mean().item(),
            "alpha": self.alpha.item(),
        }


class SAC(Saved):
    """Soft actor-critic with two critics and a learned temperature, for bounded Box actions."""

    @dataclass(frozen=True)
    class Config:
        """Options of SAC."""

        lr: float = 3e-4
        """Step size of Adam for the actor, the critics and the temperature: λ in the paper."""
        gamma: float = 0.99
        """Discount of future rewards."""
        tau: float = 0.005
        """How far the target critics move towards the critics in each update: τ."""
        batch_size: int = 256
        """Transitions in a minibatch."""
        capacity: int = 1_000_000
        """How many of the newest transitions are kept."""
        warmup: int = 1_000
        """Steps of the environments with uniformly drawn actions before learning begins."""
        updates: float = 1.0
        """Updates for each step of the environments."""
        alpha: float | None = None
        """A fixed temperature; none learns it, beginning at 1."""
        target_entropy: float | None = None
        """The entropy H̄ that a learned temperature holds; none takes -1 for each action dimension.
        """

    rolls_out: ClassVar[bool] = True
    sharded: ClassVar[tuple[str, ...]] = ("batch_size", "capacity")
    adjustable: ClassVar[tuple[str, ...]] = ("lr", "gamma", "tau")
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "Pendulum-v1"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 100_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "Pendulum-v1": {
            "steps": 10_000,
            "algorithm.lr": 1e-3,
            "algorithm.batch_size": 128,
            "model.sizes": (64, 64),
        },
    }

    saved: ClassVar[tuple[str, ...]] = (
        "net",
        "target",
        "temperature",
        "actor_optimizer",
        "critic_optimizer",
        "replay",
        "envs",
        "observation",
        "tally",
        "owed",
        "progress",
    )

    def __init__(
        self,
        config: Config,
        task: Environment,
        model: Callable[..., SoftActorCritic],
        context: Context,
    ) -> None:
        _check(config)
        N = task.num_envs or 1
        rows = config.capacity
        require(rows >= N, "algorithm.capacity", rows, f"at least {N}, one for each environment")
        N = share_of_worker(task, N, context.world, "workers")
        observations, actions = task.single_observation_space, task.single_action_space
        if not (isinstance(observations, spaces.Box) and len(observations.shape) == 1):
            raise PluginError(
                f"{task.name} shows {observations}; sac learns from a Box of one dimension"
            )
        if not (
            isinstance(actions, spaces.Box)
            and len(actions.shape) == 1
            and np.issubdtype(actions.dtype, np.floating)
            and actions.is_bounded()
        ):
            raise PluginError(
                f"{task.name} has actions {actions}; sac takes a bounded Box of one dimension and "
                "real numbers"
            )
        self.config, self.task, self.context = config, task, context
        (n,), (d,) = observations.shape, actions.shape
        self._low, self._high = actions.low, actions.high
        self.net: Any = model(observations, actions)
        self.target = copy.deepcopy(self.net.critics)
        self.target_entropy = -d if config.target_entropy is None else config.target_entropy
        first = 0.0 if config.alpha is None else math.log(config.alpha)
        self.log_alpha = nn.Parameter(torch.tensor(first, device=context.device))
        self.temperature = nn.ParameterDict({"log_alpha": self.log_alpha})
        learned = [self.net.actor.flat, *([self.log_alpha] if config.alpha is None else [])]
        self.actor_optimizer = Adam(learned)
        self.critic_optimizer = Adam([self.net.critics.flat])
        self.progress = 0
        self.owed = 0.0  # updates that are due

        self.envs = make_environments(task, N, context)
        self.observation, _ = self.envs.reset()  # s_t, [N, n]
        self.tally = Tally(N)
        self.replay = Replay(rows // context.world, 2 * n + d + 2, context.device)
        self._columns = [n, d, 1, 1, n]
        self._rows = torch.zeros(N, sum(self._columns))  # the transitions of one step
        self._fields = [x.numpy() for x in torch.split(self._rows, self._columns, -1)]

    def step(self) -> dict[str, float]:
        """Act for 32 steps in each of N environments, with the updates due after each of them."""
        seen: Seen | None = None
        before, rewards = self.progress, 0.0
        for _ in range(_ITERATION):
            transitions, reward = self.context.total(*self._act())
            rewards += reward
            if self.progress >= self.config.warmup:
                self.owed += transitions * self.config.updates
                n = int(self.owed)
                self.owed -= n
                if n:
                    seen = self._learn(n)
            self.progress += int(transitions)
        metrics = seen.metrics() if seen else {}
        metrics["reward"] = rewards / (self.progress - before)
        return metrics | self.tally.metrics()

    def _act(self) -> tuple[int, float]:
        """Take one step in each copy, keep the transitions and return how many they were and the
        sum of their rewards.
        """
        s, a, r, lives, s_next = self._fields
        s[...] = self.observation
        if self.progress < self.config.warmup:
            a[...] = self.context.rng("warmup").uniform(-1, 1, a.shape)
        else:
            shown = self._rows[:, : self._columns[0]]
            a[...] = self._policy(shown, self.context.generator("noise"))
            if not np.isfinite(a).all():
                raise DivergedError(
                    f"the policy's actions are no longer finite after {self.progress:,} env steps: "
                    "try a smaller learning rate"
                )
        self.observation, reward, termination, truncation, _ = self.envs.step(self._to_env(a))
        r[:, 0], lives[:, 0] = reward, ~termination
        s_next[...] = self.observation
        valid = self.tally.add(reward, termination, truncation)
        self.replay.add(self._rows[torch.from_numpy(valid)])
        return int(valid.sum()), float(reward[valid].sum())

    @torch.no_grad()
    def _policy(self, s: Tensor, generator: torch.Generator | None) -> NDArray[np.float32]:
        """Actions [N, d] within ±1 for S [N, n], drawn with GENERATOR; tanh(μ) without one."""
        policy = self.net.actor.infer(s.to(self.context.device))
        if generator is None:
            a = policy.chunk(2, -1)[0].tanh()
        else:
            a = draw(policy, self._noise(generator, len(s))).a
        return np.asarray(a.cpu())

    def _noise(self, generator: torch.Generator, *shape: int) -> Tensor:
        device = self.context.device
        return torch.randn(*shape, self._columns[1], generator=generator, device=device)

    def _to_env(self, a: NDArray[Any]) -> NDArray[Any]:
        """A, within ±1, stretched to the bounds of the environment."""
        low, high = self._low, self._high
        return np.asarray(np.clip(low + (high - low) * (a + 1) / 2, low, high))

    @torch.no_grad()
    def _learn(self, n: int) -> Seen:
        """N updates; return what was seen in the last of them."""
        B = self.config.batch_size // self.context.world
        batches = self.replay.sample(n, B, self.context.rng("minibatches"))
        noise = self._noise(self.context.generator("noise"), n, 2 * B)
        for batch, epsilon in zip(batches, noise, strict=True):
            seen = self._update(batch, epsilon)
        return seen

    def _update(self, batch: Tensor, noise: Tensor) -> Seen:
        """One step on each objective (algorithm 1) for transitions [B, width] and ε [2B, d]."""
        n, d, *_ = self._columns
        B = len(batch)
        s, _, r, lives, s_next = torch.split(batch, self._columns, -1)
        actor, critics, alpha = self.net.actor, self.net.critics, self.log_alpha.exp()

        # Nothing changes the policy until its own step, so one pass serves s and s'.
        policy, kept = actor.trace(torch.cat([s, s_next]))
        drawn = draw(policy[0], noise)
        now, after = Draw(*(x[:B] for x in drawn)), Draw(*(x[B:] for x in drawn))

        # θ_i ← θ_i - λ ∇J_Q(θ_i)
        Q_next, _ = self.target.trace(torch.cat([s_next, after.a], -1))
        V_next = Q_next.amin(0).squeeze(-1) - alpha * after.log_prob  # eq. 3, the smaller critic
        y = r.squeeze(-1) + self.config.gamma * lives.squeeze(-1) * V_next  # eq. 2
        Q, seen = critics.trace(batch[:, : n + d])
        critics.flat.grad, _ = critics.pull(seen, critic_gradient(Q, y))
        self.context.average([critics.flat.grad])
        self.critic_optimizer.step(self.config.lr)

        # φ ← φ - λ ∇J_π(φ), and α ← α - λ ∇J(α)
        Q_pi, seen = critics.trace(torch.cat([s, now.a], -1))
        Q_min, smaller = Q_pi.min(0)
        delta = critics.pull_input(seen, torch.stack([1 - smaller, smaller]).to(Q.dtype))
        W_1, W_2 = (critics.layers(i)[0][0] for i in range(2))
        dQ = delta[0] @ W_1[n:].mT + delta[1] @ W_2[n:].mT
        kept = [x[:, :B] for x in kept]
        actor.flat.grad, _ = actor.pull(kept, policy_gradient(now, alpha, dQ).unsqueeze(0))
        if self.config.alpha is None:
            self.log_alpha.grad = temperature_gradient(
                self.log_alpha, now.log_prob, self.target_entropy
            )
            self.context.average([self.log_alpha.grad])
        self.context.average([actor.flat.grad])
        self.actor_optimizer.step(self.config.lr)

        self.target.flat.lerp_(critics.flat, self.config.tau)  # θ̄_i ← τ θ_i + (1 - τ) θ̄_i
        return Seen(Q, y, now.log_prob, Q_min.squeeze(-1), alpha)

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100), always taking tanh(μ), or STOCHASTIC: with
        actions drawn as in training.
        """
        return measure(self.task, self._player(seed, stochastic), n, split, seed)

    def sample(self, n: int = 1, seed: int = 0, *, stochastic: bool = False) -> Video:
        """Film N episodes, always taking tanh(μ), or with STOCHASTIC actions."""
        return film(self.task, self._player(seed, stochastic), n, "test", seed)

    def _player(self, seed: int, stochastic: bool) -> Callable[[Any], NDArray[Any]]:
        """From observations [N, n] to actions [N, d]; nothing is changed by it."""
        generator = torch.Generator(self.context.device).manual_seed(seed) if stochastic else None

        def act(observation: Any) -> NDArray[Any]:
            s = torch.tensor(observation, dtype=torch.float32)
            return self._to_env(self._policy(s, generator))

        return act


def _check(config: SAC.Config) -> None:
    for option in ("lr", "tau", "updates"):
        value = getattr(config, option)
        require(value > 0, f"algorithm.{option}", value, "positive")
    require(config.tau <= 1, "algorithm.tau", config.tau, "at most 1")
    require(0 <= config.gamma <= 1, "algorithm.gamma", config.gamma, "between 0 and 1")
    for option in ("batch_size", "capacity", "warmup"):
        value = getattr(config, option)
        require(value >= 1, f"algorithm.{option}", value, "at least 1")
    if config.alpha is not None:
        require(config.alpha > 0, "algorithm.alpha", config.alpha, "positive")
