"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, SupportsFloat

import torch
from corelab_envs.interface import Environment, share_of_worker
from corelab_media import Video
from corelab_nets.adam import Adam
from corelab_nets.arrays import Array, module_of

from corelab import Context, Saved, Split, require
from corelab_policy_gradient.interface import ActorCritic
from corelab_policy_gradient.league import League, drawn_by, duels
from corelab_policy_gradient.minibatches import Minibatch, Sequences, Transitions
from corelab_policy_gradient.normalisation import RewardNormaliser, mean_of_all
from corelab_policy_gradient.policy import Played, Policy
from corelab_policy_gradient.returns import gae, vtrace
from corelab_policy_gradient.workers import RolloutConfig, collector

_NUM_ENVS = 8
"""How many copies of the environment are learned from if the user does not say."""


def clipped_surrogate(log_ratio: Array, A: Array, clip: float) -> tuple[Array, Array]:
    """The terms [B] of L^CLIP, eq. 7, and their derivatives with respect to log π: the smaller of
    r Â and the same with a clipped ratio r = π/π_old, which does not depend on π.
    """
    xp = module_of(A)
    r = xp.exp(log_ratio)
    surrogate, clipped = r * A, r.clip(1 - clip, 1 + clip) * A
    return xp.minimum(surrogate, clipped), surrogate * (surrogate <= clipped)


def squared_error(
    value: Array, target: Array, old_value: Array, clip: float | None
) -> tuple[Array, Array]:
    """The terms [B] of L^VF of eq. 9, and their derivatives with respect to V. With CLIP, each is
    the larger of the error and the same with V kept within CLIP of OLD_VALUE.
    """
    error = value - target
    if clip is None:
        return error**2, 2 * error
    moved = value - old_value
    xp = module_of(value)
    kept = old_value + moved.clip(-clip, clip) - target
    counts = (abs(moved) <= clip) | (abs(error) >= abs(kept))
    return xp.maximum(error**2, kept**2), 2 * error * counts


def kl_estimate(log_ratio: Array) -> float:
    """E[r - 1 - log r], r = π/π_old: unbiased for KL(π_old ‖ π), never negative and of low variance
    (Schulman 2020, "Approximating KL Divergence", k3).
    """
    return float((module_of(log_ratio).expm1(log_ratio) - log_ratio).mean())


class PPO(Played, Saved):
    """PPO with the clipped surrogate objective."""

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
        target_kl: float | None = None
        """End an update when a minibatch has moved this far, in KL(π_old ‖ π); none never does."""
        normalise_advantage: bool = True
        """Give the advantages of each minibatch mean 0 and standard deviation 1."""
        max_grad_norm: float = 0.5
        """Longer gradients are scaled down to this length."""
        normalise_observation: bool = False
        """Give what is observed mean 0 and standard deviation 1, by all that was seen before."""
        normalise_reward: bool = False
        """Divide rewards by the standard deviation of the discounted return."""
        sequence: int = 16
        """Steps through which a recurrent model is trained at a time."""
        league: League.Config = field(default_factory=League.Config)
        rollout: RolloutConfig = field(default_factory=RolloutConfig)

    rolls_out: ClassVar[bool] = True
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)
    adjustable: ClassVar[tuple[str, ...]] = (
        "lr",
        "gamma",
        "lam",
        "clip",
        "value_coef",
        "entropy_coef",
        "epochs",
        "target_kl",
    )
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
            "steps": 150_000,
            "task.num_envs": 16,
            "algorithm.horizon": 64,
            "algorithm.batch_size": 256,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.lam": 0.94,
            "algorithm.normalise_observation": True,
            "algorithm.normalise_reward": True,
        },
        "MountainCar-v0": {
            "steps": 300_000,
            "task.num_envs": 16,
            "algorithm.horizon": 128,
            "algorithm.batch_size": 256,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 0.995,
            "algorithm.lam": 0.98,
            "algorithm.normalise_observation": True,
            "algorithm.normalise_reward": True,
        },
        "LunarLander-v3": {
            "steps": 1_000_000,
            "task.num_envs": 16,
            "algorithm.horizon": 512,
            "algorithm.epochs": 4,
            "algorithm.gamma": 0.999,
            "algorithm.lam": 0.98,
            "algorithm.entropy_coef": 0.01,
        },
        "Pendulum-v1": {
            "steps": 100_000,
            "task.num_envs": 4,
            "algorithm.horizon": 512,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 0.95,
        },
        **{
            f"ALE/{game}-v5": {
                "model": "cnn",
                "steps": 10_000_000,
                "task.num_envs": 8,
                "algorithm.horizon": 128,
                "algorithm.epochs": 4,
                "algorithm.batch_size": 256,
                "algorithm.lr": 2.5e-4,
                "algorithm.anneal_lr": True,
                "algorithm.clip": 0.1,
                "algorithm.anneal_clip": True,
                "algorithm.entropy_coef": 0.01,
                "model.width": 512,
            }
            for game in ("Pong", "Breakout")
        },
        # The critic sees all agents, so that short looks ahead are hardly biased, and less noisy.
        "mpe2/simple_spread_v3": {
            "steps": 3_000_000,
            "task.num_envs": 16,
            "algorithm.horizon": 100,
            "algorithm.batch_size": 400,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 0.95,
            "algorithm.lam": 0.6,
            "model.sizes": [128, 128],
            "model.activation": "relu",
        },
        "classic/tictactoe_v3": {
            "steps": 150_000,
            "task.num_envs": 32,
            "algorithm.horizon": 64,
            "algorithm.epochs": 8,
            "algorithm.batch_size": 128,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 1.0,
            "algorithm.lam": 0.9,
            "algorithm.entropy_coef": 0.1,
            "algorithm.league.every": 5,
            "model.sizes": [128, 128],
            "model.activation": "relu",
        },
        "classic/connect_four_v3": {
            "steps": 200_000,
            "task.num_envs": 32,
            "algorithm.horizon": 64,
            "algorithm.epochs": 6,
            "algorithm.batch_size": 256,
            "algorithm.lr": 1e-3,
            "algorithm.anneal_lr": True,
            "algorithm.gamma": 1.0,
            "algorithm.lam": 0.9,
            "algorithm.entropy_coef": 0.05,
            "model.sizes": [128, 128],
            "model.activation": "relu",
        },
    }

    saved: ClassVar[tuple[str, ...]] = (
        "net",
        "optimizer",
        "rollout",
        "normaliser",
        "reward_normaliser",
        "league",
        "progress",
    )

    def __init__(
        self, config: Config, task: Environment, model: Callable[..., ActorCritic], context: Context
    ) -> None:
        T, N = config.horizon, task.num_envs or _NUM_ENVS
        N = share_of_worker(task, N, context.world, "workers")
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.policy = Policy(task, model, context, normalise=config.normalise_observation)
        if self.policy.memory:
            L = config.sequence
            require(
                L >= 1 and T % L == 0, "algorithm.sequence", L, f"a divisor of the horizon, {T}"
            )
        self.net, self.normaliser = self.policy.net, self.policy.normaliser
        self.reward_normaliser = RewardNormaliser(N, config.gamma, context)
        self.optimizer = Adam(self.net.parameters(), eps=1e-5)
        self.league: League | None = None
        if getattr(task, "rivals", ()):
            rng = context.rng("league")
            self.league = League(config.league, self.net, drawn_by(self.policy, rng), rng)
        self.rollout = collector(config.rollout, task, self.policy, T, N, context, self.league)
        _check_batch_size(config.batch_size, *self.rollout.rewards.shape, context.world)
        self.progress = 0

    def step(self) -> dict[str, float]:
        """Act for T steps in each of N environments, then optimize for K epochs (algorithm 1)."""
        config = self.config
        remaining = max(0.0, 1 - self.progress / self.context.steps)
        lr = config.lr * (remaining if config.anneal_lr else 1.0)
        clip = config.clip * (remaining if config.anneal_clip else 1.0)

        metrics = self.rollout.collect()
        batch = self._batch()
        metrics |= self._optimize(batch, lr, clip)
        self.policy.count(self.rollout.observations.tree, self.context)
        if self.league is not None:
            metrics |= self.league.update()

        target, value = batch.columns["target"], batch.columns["value"]
        self.progress += int(self.context.total(len(target))[0])
        variance = target.var(correction=0).item()
        if variance > 0:
            error = (target - value).var(correction=0).item()
            metrics["explained_variance"] = 1 - error / variance
        return metrics | {"lr": lr}

    @torch.no_grad()
    def _batch(self) -> Transitions | Sequences:
        """The transitions of this iteration, with what π_old and V_old say about them."""
        config, rollout, device = self.config, self.rollout, self.context.device
        T = config.horizon
        p, V = rollout.outputs()
        action = rollout.actions.to(device)
        log_prob, _, _ = self.policy.distribution.likelihood(p.flatten(0, 1), action.flatten(0, 1))
        r, terminations, truncations = rollout.rewards, rollout.terminations, rollout.truncations
        if config.normalise_reward:
            ends = terminations | truncations
            r = self.reward_normaliser(r, ends, rollout.valid, rollout.rows)
        seen = r, V.cpu().numpy(), terminations, truncations
        if rollout.log_mu is None:
            A = gae(*seen, config.gamma, config.lam)
        else:  # older weights have acted
            log_rho = log_prob.view(r.shape).cpu().numpy() - rollout.log_mu
            A = vtrace(*seen, log_rho, config.gamma, config.lam)
        advantage = torch.as_tensor(A, dtype=V.dtype, device=device)
        columns = {
            "action": action,
            "log_prob": log_prob.view(action.shape[:2]),
            "value": V[:T],
            "advantage": advantage,
            "target": advantage + V[:T],
        }
        return rollout.batch(columns, config.sequence)

    def _optimize(self, batch: Transitions | Sequences, lr: float, clip: float) -> dict[str, float]:
        """K epochs of Adam on eq. 9; return what was seen on the way, averaged."""
        config, rng = self.config, self.context.rng("minibatches")
        parts = self.rollout.rewards.size * self.context.world // config.batch_size
        together = self.context.world > 1
        minibatches = (
            b for _ in range(config.epochs) for b in batch.shuffled(parts, rng, exactly=together)
        )
        seen: list[tuple[Array, ...]] = []
        for minibatch in minibatches:
            seen.append(self._learn(minibatch, lr, clip))
            if config.target_kl is not None:
                (kl,) = self.context.total(kl_estimate(seen[-1][-1]))
                if kl / self.context.world > config.target_kl:
                    break
        xp = module_of(seen[0][0])
        L_clip, L_vf, S, log_ratio = (xp.concatenate(column) for column in zip(*seen, strict=True))
        return {
            "policy_loss": -float(L_clip.mean()),
            "value_loss": float(L_vf.mean()),
            "entropy": float(S.mean()),
            "approx_kl": kl_estimate(log_ratio),
            "clip_fraction": float((abs(xp.expm1(log_ratio)) > clip).sum()) / len(log_ratio),
        }

    def _learn(self, minibatch: Minibatch, lr: float, clip: float) -> tuple[Array, ...]:
        """One step of Adam; return the terms of the loss, and log r, [B] each.

        The loss is the mean of -L^CLIP + c1 L^VF - c2 S (eq. 9). Its derivatives with respect to
        what the network gives are written down; from there the network goes back to its weights.
        """
        config, b = self.config, minibatch.columns
        p, value, pull = self.policy.outputs(minibatch.inputs, minibatch.rows, b.get("mask"))
        log_prob, S, pull_p = self.policy.distribution.likelihood(p, b["action"])
        log_ratio = log_prob - b["log_prob"]
        A = b["advantage"]
        if config.normalise_advantage:
            A = A - mean_of_all(A, self.context)
            A = A / (mean_of_all(A**2, self.context) ** 0.5 + 1e-8)
        L_clip, d_clip = clipped_surrogate(log_ratio, A, clip)
        clip_value = clip if config.clip_value else None
        L_vf, d_vf = squared_error(value, b["target"], b["value"], clip_value)
        (B,) = self.context.total(len(value))
        B /= self.context.world
        d_S = 0 * S - config.entropy_coef / B if config.entropy_coef else None
        pull(pull_p(d_clip / -B, d_S), d_vf * (config.value_coef / B))
        gradients = (p.grad for p in self.net.parameters())
        self.context.average(gradient for gradient in gradients if gradient is not None)
        self.optimizer.step(lr, config.max_grad_norm)
        return L_clip, L_vf, S, log_ratio

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100) with the likeliest actions, or STOCHASTIC:
        with actions drawn as in training. A game is played against each of its fixed players.
        """
        played = super().evaluate(split, n, seed, stochastic=stochastic)
        return played | duels(self.policy, self.task, n, split, seed, stochastic)


def _check(config: PPO.Config) -> None:
    for option in ("lr", "clip", "max_grad_norm", "target_kl"):
        value = getattr(config, option)
        require(value is None or value > 0, f"algorithm.{option}", value, "positive")
    for option in ("gamma", "lam"):
        value = getattr(config, option)
        require(0 <= value <= 1, f"algorithm.{option}", value, "between 0 and 1")
    require(config.value_coef >= 0, "algorithm.value_coef", config.value_coef, "at least 0")
    bonus = config.entropy_coef  # which may be negative, for whoever wants less entropy
    require(math.isfinite(bonus), "algorithm.entropy_coef", bonus, "a finite number")
    T = config.horizon
    require(T >= 2, "algorithm.horizon", T, "at least 2")
    require(config.epochs >= 1, "algorithm.epochs", config.epochs, "at least 1")


def _check_batch_size(size: int, T: int, N: int, world: int) -> None:
    N *= world
    near = max((n for n in range(1, min(size, T * N) + 1) if T * N % n == 0), default=1)
    require(
        near == size,
        "algorithm.batch_size",
        size,
        f"a divisor, such as {near}, of the steps in an iteration, which are {T * N} "
        f"({N} environments x horizon {T})",
    )
