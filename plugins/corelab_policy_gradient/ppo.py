"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, SupportsFloat

import numpy as np
import torch
from corelab_envs.interface import Environment, film, play
from corelab_media import Video
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import ConfigError, Context, PluginError, Saved, Split
from corelab_policy_gradient.distributions import distribution_over
from corelab_policy_gradient.interface import ActorCritic
from corelab_policy_gradient.returns import gae

_NUM_ENVS = 8
"""How many copies of the environment are learned from if the user does not say."""


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """-L^CLIP, eq. 7: the smaller of the surrogate objective and the same with a clipped ratio."""
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


def value_loss(value: Tensor, target: Tensor, old_value: Tensor, clip: float | None) -> Tensor:
    """L^VF of eq. 9, the mean squared error; with CLIP, the larger of it and the same with the
    value kept within CLIP of OLD_VALUE.
    """
    error = (value - target) ** 2
    if clip is not None:
        kept = old_value + (value - old_value).clamp(-clip, clip)
        error = torch.maximum(error, (kept - target) ** 2)
    return error.mean()


def kl_estimate(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """E[r - 1 - log r], r = π/π_old: unbiased for KL(π_old ‖ π), never negative and of low variance
    (Schulman 2020, "Approximating KL Divergence", k3).
    """
    log_ratio = log_prob - old_log_prob
    return (log_ratio.expm1() - log_ratio).mean()


class Batch(NamedTuple):
    """Transitions, one a row."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    target: Tensor

    def shuffled(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Minibatches of SIZE, the last maybe smaller; one gather makes them contiguous."""
        order = torch.from_numpy(rng.permutation(len(self.target))).to(self.target.device)
        columns = [column[order] for column in self]
        for begin in range(0, len(order), size):
            yield Batch(*(column[begin : begin + size] for column in columns))


class PPO(Saved):
    """PPO with the clipped surrogate objective, for Discrete and Box actions."""

    @dataclass(frozen=True)
    class Config:
        """Options of PPO."""

        horizon: int = 256
        """Steps in each copy of the environment between two updates: T in the paper."""
        epochs: int = 10
        """Passes over these steps in an update: K in the paper."""
        batch_size: int = 64
        """Steps in a minibatch: M in the paper."""
        lr: float = 3e-4
        """Step size of Adam."""
        anneal_lr: bool = False
        """Let the step size fall to zero in a straight line over the run."""
        gamma: float = 0.99
        """Discount of future rewards."""
        lam: float = 0.95
        """How far advantages look ahead, from 0 (one step) to 1 (the whole episode)."""
        clip: float = 0.2
        """How far the probability ratio may move from 1 before it stops to pay: ε."""
        anneal_clip: bool = False
        """Let ε fall to zero in a straight line over the run."""
        value_coef: float = 0.5
        """Weight of the value loss: c1."""
        clip_value: bool = False
        """Keep new values within ε of the old ones."""
        entropy_coef: float = 0.0
        """Weight of the entropy bonus: c2."""
        normalise_advantage: bool = True
        """Give the advantages of each minibatch mean 0 and standard deviation 1."""
        max_grad_norm: float = 0.5
        """Longer gradients are scaled down to this length."""

    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "CartPole-v1"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 100_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    # Found from those of rl-baselines3-zoo (hyperparams/ppo.yml); docs/algorithms/ppo.md tells how.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "CartPole-v1": {
            "steps": 50_000,
            "task.num_envs": 8,
            "algorithm.horizon": 32,
            "algorithm.epochs": 20,
            "algorithm.batch_size": 256,
            "algorithm.lr": 2e-3,
            "algorithm.anneal_lr": True,
            "algorithm.lam": 0.9,
            "algorithm.anneal_clip": True,
        },
        "Acrobot-v1": {
            "steps": 100_000,
            "task.num_envs": 16,
            "algorithm.horizon": 64,
            "algorithm.batch_size": 256,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.lam": 0.94,
        },
        "Pendulum-v1": {
            "steps": 100_000,
            "task.num_envs": 4,
            "algorithm.horizon": 512,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 0.95,
        },
    }

    saved: ClassVar[tuple[str, ...]] = (
        "net",
        "optimizer",
        "envs",
        "observation",
        "over",
        "episode_return",
        "episode_length",
        "progress",
    )

    def __init__(
        self, config: Config, task: Environment, model: Callable[..., ActorCritic], context: Context
    ) -> None:
        N = task.num_envs or _NUM_ENVS
        _check(config, N)
        T = config.horizon
        space = task.single_observation_space
        if not isinstance(space, spaces.Box | spaces.Discrete):
            raise PluginError(f"{task.name} shows {space}; ppo learns from Box and Discrete")
        self.config, self.task, self.context = config, task, context
        self.distribution = distribution_over(task.single_action_space, task.name)
        self.net: nn.Module = context.wrap(model(space, task.single_action_space))
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.lr, eps=1e-5, fused=True)
        self.progress = 0

        self.envs = task.make(N, context.seed_for("environments"))
        self.observation, _ = self.envs.reset()  # s_t, [N, ...]
        self.over = np.zeros(N, np.bool_)  # whether the next step only resets, [N]
        self.episode_return, self.episode_length = np.zeros(N), np.zeros(N, np.int64)

        # The experience of one iteration. Torch owns the memory, because it aligns it: sums must
        # not depend on where an array happens to lie.
        shape = (T + 1, N, *(space.shape or ()))
        self._observations = torch.zeros(shape, dtype=_tensor_dtype(space))
        self._actions = torch.zeros((T, N, *self.distribution.shape), dtype=self.distribution.dtype)
        self._rewards = np.zeros((T, N))
        self._terminations = np.zeros((T, N), np.bool_)
        self._truncations = np.zeros((T, N), np.bool_)
        self._valid = np.zeros((T, N), np.bool_)  # whether it was a transition, not a reset

    def step(self) -> dict[str, float]:
        """Act for T steps in each of N environments, then optimize for K epochs (algorithm 1)."""
        config = self.config
        remaining = max(0.0, 1 - self.progress / self.context.steps)
        lr = config.lr * (remaining if config.anneal_lr else 1.0)
        clip = config.clip * (remaining if config.anneal_clip else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

        metrics = self._act()
        batch = self._batch()
        metrics |= self._optimize(batch, clip)
        self.progress += len(batch.target)

        variance = batch.target.var(correction=0).item()
        if variance > 0:
            error = (batch.target - batch.value).var(correction=0).item()
            metrics["explained_variance"] = 1 - error / variance
        return metrics | {"lr": lr}

    def _act(self) -> dict[str, float]:
        """Fill the experience; return mean return and length of the episodes that ended."""
        rng = self.context.rng("actions")
        returns, lengths = [], []
        for t in range(self.config.horizon):
            self._observations[t].numpy()[...] = self.observation
            action = self.distribution.sample(self._policy(self._observations[t]), rng)
            self.observation, reward, termination, truncation, _ = self.envs.step(
                self.distribution.to_env(action)
            )
            self._actions[t].numpy()[...] = action
            self._rewards[t] = reward
            self._terminations[t] = termination
            self._truncations[t] = truncation
            self._valid[t] = ~self.over

            self.episode_return += reward
            self.episode_length += ~self.over
            self.over = termination | truncation
            returns += self.episode_return[self.over].tolist()
            lengths += self.episode_length[self.over].tolist()
            self.episode_return[self.over] = 0
            self.episode_length[self.over] = 0
        self._observations[-1].numpy()[...] = self.observation
        if not returns:
            return {}
        return {"return": float(np.mean(returns)), "episode_length": float(np.mean(lengths))}

    @torch.no_grad()
    def _policy(self, observation: Tensor) -> NDArray[np.float32]:
        policy, _ = self.net(observation.to(self.context.device))
        output: NDArray[np.float32] = policy.cpu().numpy()
        return output

    @torch.no_grad()
    def _batch(self) -> Batch:
        """The transitions of this iteration, with what π_old and V_old say about them."""
        config, device = self.config, self.context.device
        T, N = self._rewards.shape
        observation = self._observations.flatten(0, 1).to(device)
        action = self._actions.flatten(0, 1).to(device)
        policy, value = self.net(observation)
        log_prob, _ = self.distribution.log_prob_and_entropy(policy[: T * N], action)
        V = value.cpu().numpy().reshape(T + 1, N)
        A = gae(self._rewards, V, self._terminations, self._truncations, config.gamma, config.lam)
        column = partial(torch.as_tensor, dtype=value.dtype, device=device)
        valid = torch.from_numpy(np.flatnonzero(self._valid)).to(device)
        columns = (
            observation,
            action,
            log_prob,
            value,
            column(A.ravel()),
            column((A + V[:-1]).ravel()),
        )
        return Batch(*(c[valid] for c in columns))

    def _optimize(self, batch: Batch, clip: float) -> dict[str, float]:
        """K epochs of Adam on eq. 9; return what was seen on the way, averaged."""
        config = self.config
        rng = self.context.rng("minibatches")
        parameters = list(self.net.parameters())
        minibatches = self._rewards.size // config.batch_size
        size = -(-len(batch.target) // minibatches)
        seen = []
        for _ in range(config.epochs):
            for b in batch.shuffled(size, rng):
                policy, value = self.net(b.observation)
                log_prob, entropy = self.distribution.log_prob_and_entropy(policy, b.action)
                A = b.advantage
                if config.normalise_advantage:
                    A = (A - A.mean()) / (A.std(correction=0) + 1e-8)
                L_policy = policy_loss(log_prob, b.log_prob, A, clip)
                L_value = value_loss(value, b.target, b.value, clip if config.clip_value else None)
                S = entropy.mean()
                loss = L_policy + config.value_coef * L_value - config.entropy_coef * S

                self.net.zero_grad()
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                self.optimizer.step()

                with torch.no_grad():
                    kl = kl_estimate(log_prob, b.log_prob)
                    clipped = ((log_prob - b.log_prob).expm1().abs() > clip).float().mean()
                    seen.append(torch.stack([L_policy, L_value, S, kl, clipped]).detach())
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
        return dict(zip(names, torch.stack(seen).mean(0).tolist(), strict=True))

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100), always taking the likeliest action."""
        if n is None:
            n = {"validation": 20, "test": 100}[split]
        with self._greedy() as act:
            metrics: dict[str, SupportsFloat | Video] = {
                **play(self.task, act, n, split, seed).metrics()
            }
            if self.task.video:
                metrics["episode"] = film(self.task, act, 1, split, seed)
        return metrics

    def sample(self, n: int = 1, seed: int = 0) -> Video:
        """Film N episodes, always taking the likeliest action."""
        with self._greedy() as act:
            return film(self.task, act, n, "test", seed)

    @contextmanager
    def _greedy(self) -> Iterator[Callable[[Any], NDArray[Any]]]:
        def act(observation: Any) -> NDArray[Any]:
            output = self._policy(torch.as_tensor(observation, dtype=self._observations.dtype))
            return self.distribution.to_env(self.distribution.mode(output))

        training = self.net.training
        self.net.eval()
        try:
            yield act
        finally:
            self.net.train(training)


def _check(config: PPO.Config, num_envs: int) -> None:
    def need(fits: bool, option: str, what: str) -> None:
        if not fits:
            value = getattr(config, option)
            raise ConfigError(f"algorithm.{option} is {value}; it must be {what}")

    need(config.horizon >= 2, "horizon", "at least 2")
    need(config.epochs >= 1, "epochs", "at least 1")
    need(config.lr > 0, "lr", "positive")
    need(config.clip > 0, "clip", "positive")
    need(config.max_grad_norm > 0, "max_grad_norm", "positive")
    need(0 <= config.gamma <= 1, "gamma", "between 0 and 1")
    need(0 <= config.lam <= 1, "lam", "between 0 and 1")
    steps, size = num_envs * config.horizon, config.batch_size
    near = max((n for n in range(1, min(size, steps) + 1) if steps % n == 0), default=1)
    need(
        near == size,
        "batch_size",
        f"a divisor, such as {near}, of the steps in an iteration, which are {steps} "
        f"({num_envs} environments x horizon {config.horizon})",
    )


def _tensor_dtype(space: spaces.Box | spaces.Discrete[Any]) -> torch.dtype:
    if isinstance(space, spaces.Discrete):
        return torch.int64
    dtype = torch.from_numpy(np.empty(0, space.dtype)).dtype
    return torch.float32 if dtype.is_floating_point else dtype
