"""Advantage actor-critic with its workers in step (Mnih et al. 2016, arXiv:1602.01783)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from corelab_envs.interface import Environment, share_of_worker
from corelab_nets.adam import Adam
from corelab_nets.masks import masked
from corelab_nets.trees import map_tree
from torch import Tensor, nn

from corelab import Context, PluginError, Saved, require
from corelab_policy_gradient.interface import ActorCritic
from corelab_policy_gradient.normalisation import mean_of_all, std_of_all
from corelab_policy_gradient.policy import Played, Policy
from corelab_policy_gradient.returns import gae, vtrace
from corelab_policy_gradient.workers import RolloutConfig, collector

_NUM_ENVS = 16
"""How many copies of the environment are learned from if the user does not say."""


def policy_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """-E[log π(a_t|s_t; θ) Â_t], of which algorithm S3 accumulates the gradient."""
    return -(log_prob * advantage).mean()


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """E[(R_t - V(s_t; θ_v))²], in which R_t is taken as a number."""
    return (target - value).square().mean()


class RMSProp:
    """RMSProp with statistics that all workers share (section 4, "Optimizations")."""

    def __init__(self, parameters: Iterable[Tensor], alpha: float = 0.99, eps: float = 1e-5):
        self._parameters = list(parameters)
        self._alpha, self._eps = alpha, eps
        self._g = [torch.zeros_like(p) for p in self._parameters]

    @torch.no_grad()
    def step(self, lr: float, max_norm: float) -> None:
        """One step of size LR, for gradients scaled down, together, to length MAX_NORM."""
        nn.utils.clip_grad_norm_(self._parameters, max_norm)
        for p, g in zip(self._parameters, self._g, strict=True):
            if p.grad is not None:  # g ← α g + (1 - α) Δθ², θ ← θ - η Δθ / √(g + ε)
                g.mul_(self._alpha).addcmul_(p.grad, p.grad, value=1 - self._alpha)
                p.addcdiv_(p.grad, (g + self._eps).sqrt_(), value=-lr)

    def state_dict(self) -> dict[str, Any]:
        """The statistics."""
        return {"g": self._g}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave."""
        for mine, saved in zip(self._g, state["g"], strict=True):
            mine.copy_(saved)


class A2C(Played, Saved):
    """Synchronous n-step advantage actor-critic, for the actions that PPO takes."""

    @dataclass(frozen=True)
    class Config:
        """Options of A2C."""

        horizon: int = 8
        """Steps in each copy of the environment between two updates: t_max in the paper."""
        lr: float = 7e-4
        """Step size of the optimizer."""
        anneal_lr: bool = False
        """Let the step size fall to zero in a straight line over the run."""
        optimizer: Literal["rmsprop", "adam"] = "rmsprop"
        """RMSProp, as in the paper, or Adam."""
        gamma: float = 0.99
        """Discount of future rewards."""
        lam: float = 1.0
        """How far advantages look ahead, from 0 (one step) to 1 (to the horizon, the paper's)."""
        value_coef: float = 0.5
        """Weight of the value loss."""
        entropy_coef: float = 0.01
        """Weight of the entropy bonus: β in the paper."""
        normalise_advantage: bool = False
        """Give the advantages of each update mean 0 and standard deviation 1."""
        max_grad_norm: float = 0.5
        """Longer gradients are scaled down to this length."""
        rollout: RolloutConfig = field(default_factory=RolloutConfig)

    rolls_out: ClassVar[bool] = True
    sharded: ClassVar[tuple[str, ...]] = ()
    adjustable: ClassVar[tuple[str, ...]] = ("lr", "gamma", "lam", "value_coef", "entropy_coef")
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "CartPole-v1"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "CartPole-v1": {
            "steps": 150_000,
            "task.num_envs": 8,
            "algorithm.horizon": 64,
            "algorithm.lr": 5e-3,
            "algorithm.anneal_lr": True,
            "algorithm.optimizer": "adam",
            "algorithm.lam": 0.95,
            "algorithm.entropy_coef": 0.0,
            "algorithm.normalise_advantage": True,
        },
        "Acrobot-v1": {
            "steps": 300_000,
            "task.num_envs": 16,
            "algorithm.horizon": 16,
            "algorithm.lr": 2e-3,
            "algorithm.anneal_lr": True,
            "algorithm.optimizer": "adam",
            "algorithm.lam": 0.95,
            "algorithm.normalise_advantage": True,
        },
    }

    saved: ClassVar[tuple[str, ...]] = ("net", "optimizer", "rollout", "progress")

    def __init__(
        self, config: Config, task: Environment, model: Callable[..., ActorCritic], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.policy = Policy(task, model, context, normalise=False)
        if self.policy.memory:
            raise PluginError("a2c does not train networks that remember; choose another --model")
        self.net = self.policy.net
        parameters = self.net.parameters()
        self.optimizer: Adam | RMSProp = (
            RMSProp(parameters) if config.optimizer == "rmsprop" else Adam(parameters, eps=1e-5)
        )
        N = share_of_worker(task, task.num_envs or _NUM_ENVS, context.world, "workers")
        self.rollout = collector(config.rollout, task, self.policy, config.horizon, N, context)
        self.progress = 0

    def step(self) -> dict[str, float]:
        """Act for T steps in each of N environments, then take one step along the gradient."""
        config = self.config
        remaining = max(0.0, 1 - self.progress / self.context.steps)
        lr = config.lr * (remaining if config.anneal_lr else 1.0)
        metrics = self.rollout.collect() | self._differentiate()
        self.optimizer.step(lr, config.max_grad_norm)
        self.progress += int(self.context.total(self.rollout.valid.sum())[0])
        return metrics | {"lr": lr}

    def _differentiate(self) -> dict[str, float]:
        """Set the gradients of algorithm S3, all workers together; return the terms of the loss."""
        config, e, device = self.config, self.rollout, self.context.device
        T, N = e.rewards.shape
        # One pass for all: the policy at s_0 … s_{T-1}, the values at s_T, too.
        shown = map_tree(lambda x: x.flatten(0, 1), e.observations.tree)
        p, value = self.net(self.policy.prepare(shown))
        V = value.detach().cpu().numpy().reshape(T + 1, N)

        valid = torch.from_numpy(e.valid).flatten().nonzero().squeeze(1)
        mask = None if e.masks is None else e.masks.flatten(0, 1)[valid].to(device)
        actions = e.actions.flatten(0, 1)[valid].to(device)
        log_prob, entropy = self.policy.distribution.log_prob_and_entropy(
            masked(p[valid.to(device)], mask), actions
        )
        seen = e.rewards, V, e.terminations, e.truncations
        if e.log_mu is None:
            A = gae(*seen, config.gamma, config.lam)
        else:  # older weights have acted
            log_rho = np.zeros((T, N))
            log_rho[e.valid] = log_prob.detach().cpu().numpy() - e.log_mu[e.valid]
            A = vtrace(*seen, log_rho, config.gamma, config.lam)
        advantage = torch.from_numpy(A).flatten()[valid].to(value)  # R_t - V(s_t) if λ = 1
        valid = valid.to(device)
        target = advantage + value[valid].detach()
        if config.normalise_advantage:
            mean, std = mean_of_all(advantage, self.context), std_of_all(advantage, self.context)
            advantage = (advantage - mean) / (std + 1e-8)
        L_policy = policy_loss(log_prob, advantage)
        L_value = value_loss(value[valid], target)
        S = entropy.mean()
        loss = L_policy + config.value_coef * L_value - config.entropy_coef * S
        (B,) = self.context.total(len(valid))
        self.net.zero_grad()
        torch.autograd.backward(loss * (len(valid) * self.context.world / B))
        gradients = (p.grad for p in self.net.parameters())
        self.context.average(gradient for gradient in gradients if gradient is not None)
        terms = torch.stack([L_policy, L_value, S]).tolist()
        return dict(zip(("policy_loss", "value_loss", "entropy"), terms, strict=True))


def _check(config: A2C.Config) -> None:
    require(config.horizon >= 1, "algorithm.horizon", config.horizon, "at least 1")
    require(config.lr > 0, "algorithm.lr", config.lr, "positive")
    require(config.max_grad_norm > 0, "algorithm.max_grad_norm", config.max_grad_norm, "positive")
    require(0 <= config.gamma <= 1, "algorithm.gamma", config.gamma, "between 0 and 1")
    require(0 <= config.lam <= 1, "algorithm.lam", config.lam, "between 0 and 1")
    require(config.value_coef >= 0, "algorithm.value_coef", config.value_coef, "at least 0")
    bonus = config.entropy_coef  # which may be negative, for whoever wants less entropy
    require(math.isfinite(bonus), "algorithm.entropy_coef", bonus, "a finite number")
