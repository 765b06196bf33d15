"""REINFORCE, with or without a learned baseline (Williams 1992).

Equation numbers are those of Sutton and Barto, Reinforcement Learning, 2nd edition (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from corelab_envs.interface import CopyError, Environment, share_of_worker
from corelab_nets.adam import Adam
from corelab_nets.masks import masked
from corelab_nets.trees import Stack, Tree, map_tree
from numpy.typing import NDArray
from torch import Tensor

from corelab import Context, DataError, PluginError, Saved, require
from corelab_policy_gradient.interface import ActorCritic
from corelab_policy_gradient.normalisation import mean_of_all, std_of_all
from corelab_policy_gradient.policy import Played, Policy

_EPISODES = 8
"""How many copies of the environment, and so episodes an update, if the user does not say."""
_LONGEST = 100_000
"""Steps after which an episode is taken to be endless."""


def returns_to_go(rewards: NDArray[np.floating], gamma: float) -> NDArray[np.float64]:
    """G_t = r_t + γ G_{t+1} [T, N], eq. 3.9, for the REWARDS [T, N] of N episodes."""
    G = np.zeros(rewards.shape)
    following = np.zeros(rewards.shape[1:])
    for t in reversed(range(len(rewards))):
        G[t] = following = rewards[t] + gamma * following
    return G


def policy_loss(log_prob: Tensor, weight: Tensor, episodes: int) -> Tensor:
    """-E[Σ_t log π(A_t|S_t) W_t], the mean over EPISODES, with W_t = G_t - b(S_t) or a multiple of
    it: its gradient is that of eq. 13.11 with its sign changed.
    """
    return -(log_prob * weight).sum() / episodes


def value_loss(value: Tensor, target: Tensor, episodes: int) -> Tensor:
    """E[Σ_t ½ (G_t - v̂(S_t))²]: its gradient is that of section 13.4, sign changed."""
    return 0.5 * (target - value).square().sum() / episodes


class Experience(NamedTuple):
    """N whole episodes. What is [K, ...] holds their K transitions, ordered by t and then n."""

    seen: Tree
    """What the network sees of S_t, [K, ...]."""
    mask: Tensor | None
    """Which actions were allowed, [K, n], if the environment says so."""
    action: Tensor
    """A_t, [K, ...]."""
    reward: NDArray[np.float64]
    """R_{t+1}, [T, N], of which T is the length of the longest; 0 after an end."""
    valid: NDArray[np.bool_]
    """Whether the episode had not ended before t, [T, N]."""
    last: Tree
    """What the network sees of the last observations, [N, ...]."""
    truncated: NDArray[np.bool_]
    """Which episodes were cut off, [N]."""


class REINFORCE(Played, Saved):
    """The policy gradient estimated from whole episodes, for the actions that PPO takes."""

    @dataclass(frozen=True)
    class Config:
        """Options of REINFORCE."""

        lr: float = 3e-3
        """Step size of Adam."""
        anneal_lr: bool = False
        """Let the step size fall to zero in a straight line over the run."""
        gamma: float = 0.99
        """Discount of future rewards."""
        discount_steps: bool = False
        """Weigh step t of an episode by gamma^t, as the gradient of the discounted return asks."""
        baseline: bool = True
        """Learn the value of each state, and weigh actions by how much more came of them."""
        normalise_advantage: bool = False
        """Give the weights of an update's actions mean 0 and standard deviation 1."""
        entropy_coef: float = 0.0
        """Weight of the entropy bonus."""

    sharded: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "env steps"
    default_task: ClassVar[str] = "CartPole-v1"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "max eval/return"
    highlights: ClassVar[tuple[str, ...]] = ("train/return", "eval/return")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "CartPole-v1": {
            "steps": 100_000,
            "algorithm.lr": 5e-3,
            "algorithm.anneal_lr": True,
        },
    }

    saved: ClassVar[tuple[str, ...]] = ("net", "optimizer", "copies", "observations", "progress")

    def __init__(
        self, config: Config, task: Environment, model: Callable[..., ActorCritic], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.policy = Policy(task, model, context, normalise=False)
        if self.policy.memory:
            raise PluginError(
                "reinforce does not train networks that remember; choose another --model"
            )
        self.net = self.policy.net
        self.optimizer = Adam(self.net.parameters())
        self.progress = 0
        N = share_of_worker(task, task.num_envs or _EPISODES, context.world, "workers")
        self.copies = Copies(task, N, self.policy, context)
        self.observations = self.copies.reset()  # S_0 of the next episodes, N of [1, ...]
        self._shown = Stack(self.policy.space, N, 1, task.name)

    def step(self) -> dict[str, float]:
        """Play an episode in each of N environments, then take one step along the gradient."""
        remaining = max(0.0, 1 - self.progress / self.context.steps)
        lr = self.config.lr * (remaining if self.config.anneal_lr else 1.0)
        experience = self._play()
        metrics = self._differentiate(experience)
        self.optimizer.step(lr)
        self.progress += int(self.context.total(len(experience.action))[0])
        return metrics | {
            "return": float(experience.reward.sum(0).mean()),
            "episode_length": float(experience.valid.sum(0).mean()),
            "lr": lr,
        }

    def _play(self) -> Experience:
        """An episode in each copy, from S_0 to its end; then all stand at the S_0 of another."""
        rng = self.context.rng("actions")
        distribution, N = self.policy.distribution, len(self.observations)
        running, truncated = np.ones(N, np.bool_), np.zeros(N, np.bool_)
        seen, actions, rewards, valid = [], [], [], []
        masks: list[Tensor] = []
        while running.any():
            numbers = np.flatnonzero(running)
            S, mask = self._look(numbers)
            p, _ = self.policy.act(S, mask)
            A = distribution.sample(p, rng)
            R = np.zeros(N)
            seen.append(S)
            masks += [] if mask is None else [torch.from_numpy(mask)]
            actions.append(torch.from_numpy(A))
            rewards.append(R)
            valid.append(running.copy())
            for i, action in zip(numbers.tolist(), distribution.to_env(A), strict=True):
                self.observations[i], R[i], terminated, truncated[i] = self.copies.step(i, action)
                running[i] = not (terminated or truncated[i])
            if len(rewards) > _LONGEST:
                raise DataError(
                    f"{self.task.name}: an episode has not ended after {_LONGEST} steps; "
                    "set a limit with --task.max_episode_steps"
                )
        last, _ = self._look(np.arange(N), over=True)
        for i in range(N):
            self.observations[i], *_ = self.copies.step(i, action)  # which only resets
        return Experience(
            seen=map_tree(lambda *x: torch.cat(x), *seen),
            mask=torch.cat(masks) if masks else None,
            action=torch.cat(actions),
            reward=np.stack(rewards),
            valid=np.stack(valid),
            last=last,
            truncated=truncated,
        )

    def _look(
        self, numbers: NDArray[np.int64], over: bool = False
    ) -> tuple[Tree, NDArray[np.bool_] | None]:
        """What the network sees of the copies NUMBERS, [len(NUMBERS), ...], and their masks."""
        masks: list[NDArray[np.bool_]] = []
        for i in numbers.tolist():
            ended = np.array([over])
            self._shown[i], mask = self.policy.see(self.observations[i], ended, self.progress, i)
            masks += [] if mask is None else [mask]
        index = torch.from_numpy(numbers)
        seen = map_tree(lambda x: x[index].flatten(0, 1), self._shown.tree)
        return seen, np.concatenate(masks) if masks else None

    def _differentiate(self, experience: Experience) -> dict[str, float]:
        """Set the gradient of eq. 13.11, all episodes together; return the terms of the loss."""
        config, e, device = self.config, experience, self.context.device
        N = len(e.truncated)
        p, value = self.net(self.policy.prepare(e.seen))
        mask = None if e.mask is None else e.mask.to(device)
        log_prob, entropy = self.policy.distribution.log_prob_and_entropy(
            masked(p, mask), e.action.to(device)
        )
        reward = self._bootstrapped(e) if config.baseline and e.truncated.any() else e.reward
        G = torch.from_numpy(returns_to_go(reward, config.gamma)[e.valid]).to(value)
        weight = G - value.detach() if config.baseline else G
        if config.normalise_advantage:
            mean, std = mean_of_all(weight, self.context), std_of_all(weight, self.context)
            weight = (weight - mean) / (std + 1e-8)
        if config.discount_steps:
            t, _ = e.valid.nonzero()
            weight = weight * torch.from_numpy(config.gamma**t).to(value)
        loss = L_policy = policy_loss(log_prob, weight, N)
        loss = loss - config.entropy_coef * entropy.sum() / N
        metrics = {"policy_loss": L_policy.item(), "entropy": entropy.mean().item()}
        if config.baseline:
            loss = loss + value_loss(value, G, N)
            metrics["value_loss"] = (G - value).square().mean().item()
        self.net.zero_grad()
        torch.autograd.backward(loss)
        gradients = (p.grad for p in self.net.parameters())
        self.context.average(gradient for gradient in gradients if gradient is not None)
        return metrics

    def _bootstrapped(self, e: Experience) -> NDArray[np.float64]:
        """The rewards, the last of a truncated episode with γ v̂ of what was shown after it."""
        _, value = self.policy.look(self.policy.prepare(e.last), None)
        cut = np.flatnonzero(e.truncated)
        reward = e.reward.copy()
        reward[e.valid.sum(0)[cut] - 1, cut] += self.config.gamma * value.cpu().numpy()[cut]
        return reward


class Copies:
    """N copies of TASK that step alone, so that one whose episode is over waits for the others."""

    def __init__(self, task: Environment, n: int, policy: Policy, context: Context) -> None:
        self._copies = [task.make(1, context.seed_for("environments", i)) for i in range(n)]
        for copy in self._copies:
            policy.accompany(copy, task, policy.drawing(context.rng("actions")))

    def reset(self) -> list[Any]:
        """Begin an episode in every copy: N observations [1, ...]."""
        observations = []
        for i, copy in enumerate(self._copies):
            try:
                observations.append(copy.reset()[0])
            except CopyError as error:
                raise error.counted_from(i) from error
        return observations

    def step(self, i: int, action: Any) -> tuple[Any, float, bool, bool]:
        """Act in copy I: observation [1, ...], reward, whether it terminated, was truncated."""
        try:
            observation, reward, terminated, truncated, _ = self._copies[i].step(np.array([action]))
        except CopyError as error:
            raise error.counted_from(i) from error
        # a copy of it, since the environment may write the next one to the same place
        return map_tree(np.array, observation), reward[0], terminated[0], truncated[0]

    def state_dict(self) -> dict[str, Any]:
        """Where they stand."""
        return {"copies": [copy.state_dict() for copy in self._copies]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        for copy, saved in zip(self._copies, state["copies"], strict=True):
            copy.load_state_dict(saved)


def _check(config: REINFORCE.Config) -> None:
    require(config.lr > 0, "algorithm.lr", config.lr, "positive")
    require(0 <= config.gamma <= 1, "algorithm.gamma", config.gamma, "between 0 and 1")
    bonus = config.entropy_coef  # which may be negative, for whoever wants less entropy
    require(math.isfinite(bonus), "algorithm.entropy_coef", bonus, "a finite number")
