"""Experience: T steps in each of N copies of an environment, gathered by a policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from corelab_envs.interface import Environment, Opponents, SelfPlay
from corelab_nets.trees import Stack, Tree, map_tree
from numpy.typing import NDArray
from torch import Tensor

from corelab import Context
from corelab_policy_gradient.minibatches import Sequences, Transitions
from corelab_policy_gradient.policy import Policy

_AT_ONCE = 1024
"""How many observations go through the network together when all of them must."""


class Rollout:
    """N copies of TASK, in which POLICY acts for T steps at a time; what came of the last of them.
    If TASK is a game, OPPONENTS move for the other side.

    Rows of time are [T, N, ...], observations [T + 1, N, ...]: the last is what followed. A step
    that only reset its copy is no transition and not `valid`; its other entries mean nothing.
    """

    def __init__(
        self,
        task: Environment,
        policy: Policy,
        T: int,
        N: int,
        context: Context,
        opponents: Opponents | None = None,
    ) -> None:
        self._policy, self._context, self._name = policy, context, task.name
        self.envs = task.make(N, context.seed_for("environments"))
        if opponents is not None and isinstance(self.envs, SelfPlay):
            self.envs.face(opponents)
        self._observation, info = self.envs.reset()  # s_t, [N, ...]
        self._over = info.get("waits", np.zeros(N, np.bool_))  # whether the next step only resets
        self._starts = np.ones(N, np.bool_)  # whether s_t begins an episode
        self._memory = torch.zeros(N, policy.memory, device=context.device)
        self._return, self._length = np.zeros(N), np.zeros(N, np.int64)
        self._steps = 0

        distribution = policy.distribution
        self.observations = Stack(policy.space, T + 1, N, task.name)
        self.masks = (
            torch.ones((T + 1, N, distribution.size), dtype=torch.bool) if policy.has_mask else None
        )
        self.actions = torch.zeros((T, N, *distribution.shape), dtype=distribution.dtype)
        self.rewards = np.zeros((T, N))
        self.terminations = np.zeros((T, N), np.bool_)
        self.truncations = np.zeros((T, N), np.bool_)
        self.valid = np.zeros((T, N), np.bool_)
        self.starts = np.zeros((T + 1, N), np.bool_)  # whether s_t begins an episode
        self.memories = torch.zeros((T + 1, N, policy.memory), device=context.device)  # before s_t

    def collect(self) -> dict[str, float]:
        """Act for T steps; return mean return and length of the episodes that ended."""
        policy, rng = self._policy, self._context.rng("actions")
        distribution, recurrent = policy.distribution, policy.memory > 0
        actions = self.actions.numpy()
        T = len(self.rewards)
        over, memory = self._over, self._memory
        before = over
        for t in range(T):
            mask = self._see(t, over)
            self.starts[t] = self._starts
            if recurrent:
                self.memories[t] = memory
            p, memory = policy.act(self.observations[t], mask, memory, self._starts)
            actions[t] = action = distribution.sample(p, rng)
            self._observation, reward, termination, truncation, _ = self.envs.step(
                distribution.to_env(action)
            )
            self._steps += 1
            self.rewards[t] = reward
            self.terminations[t] = termination
            self.truncations[t] = truncation
            self._starts, over = over, termination | truncation
        self._see(T, over)
        self.starts[T], self.memories[T] = self._starts, memory
        self._over, self._memory = over, memory
        ends = self.terminations | self.truncations
        self.valid[0], self.valid[1:] = ~before, ~ends[:-1]
        return self._episodes(ends & self.valid)  # the others wait, and have ended before

    @torch.no_grad()
    def outputs(self) -> tuple[Tensor, Tensor]:
        """What the policy gives for what was seen, [T, N, k], and all values, [T + 1, N]."""
        T, N = self.rewards.shape
        observation, mask = self._inputs()
        mask = None if mask is None else mask.flatten(0, 1)
        if self._policy.memory:
            starts = torch.from_numpy(self.starts).to(self._context.device)
            every = torch.arange(starts.numel(), device=starts.device)
            inputs = (observation, self.memories[0], starts)
            p, value, _ = self._policy.outputs(inputs, every, mask)
        else:
            flat = map_tree(lambda x: x.flatten(0, 1), observation)
            parts = []
            for begin in range(0, (T + 1) * N, _AT_ONCE):
                part = slice(begin, begin + _AT_ONCE)
                x = map_tree(lambda x, part=part: x[part], flat)
                parts.append(self._policy.look(x, None if mask is None else mask[part]))
            p, value = (torch.cat(column) for column in zip(*parts, strict=True))
        return p[: T * N].view(T, N, -1), value.view(T + 1, N)

    def batch(self, columns: dict[str, Tensor], sequence: int = 1) -> Transitions | Sequences:
        """The transitions among what was seen, with COLUMNS [T, N, ...] and the mask, if there is
        one; in stretches of SEQUENCE steps for a policy that remembers.
        """
        T, device = len(self.rewards), self._context.device
        observation, mask = self._inputs()
        columns = columns if mask is None else columns | {"mask": mask[:T]}
        valid = torch.from_numpy(self.valid).to(device)
        if self._policy.memory:
            observation = map_tree(lambda x: x[:T], observation)
            starts = torch.from_numpy(self.starts[:T]).to(device)
            return Sequences(observation, self.memories[:T], starts, columns, valid, sequence)
        observation = map_tree(lambda x: x.flatten(0, 1), observation)
        columns = {name: column.flatten(0, 1) for name, column in columns.items()}
        rows = valid.flatten().nonzero().squeeze(1)
        return Transitions(observation, columns, rows, self._policy.on_arrays)

    def _inputs(self) -> tuple[Tree, Tensor | None]:
        mask = None if self.masks is None else self.masks.to(self._context.device)
        return self._policy.prepare(self.observations.tree), mask

    def _see(self, t: int, over: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        seen, mask = self._policy.see(self._observation, over, self._steps)
        self.observations[t] = seen
        if mask is not None and self.masks is not None:
            self.masks[t].numpy()[...] = mask
        return mask

    def _episodes(self, ends: NDArray[np.bool_]) -> dict[str, float]:
        returns, lengths, begin = [], [], 0
        for t in np.flatnonzero(ends.any(1)).tolist():
            self._count(begin, t + 1)
            returns.append(self._return[ends[t]])
            lengths.append(self._length[ends[t]])
            self._return[ends[t]] = self._length[ends[t]] = 0
            begin = t + 1
        self._count(begin, len(ends))
        if not returns:
            return {}
        return {
            "return": float(np.concatenate(returns).mean()),
            "episode_length": float(np.concatenate(lengths).mean()),
        }

    def _count(self, begin: int, end: int) -> None:
        self._return += self.rewards[begin:end].sum(0)  # 0 where a step only reset
        self._length += self.valid[begin:end].sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Where the environments are, and what is known of the episodes that go on."""
        return {
            "envs": self.envs.state_dict(),
            "observation": self._observation,
            "over": self._over,
            "starts": self._starts,
            "memory": self._memory,
            "return": self._return,
            "length": self._length,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.envs.load_state_dict(state["envs"])
        self._observation = state["observation"]
        self._over, self._starts = state["over"], state["starts"]
        self._memory = state["memory"].to(self._memory.device)
        self._return, self._length = state["return"], state["length"]
        self._steps = state["steps"]
