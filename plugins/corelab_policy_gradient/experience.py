"""Experience: what came of T steps in each of N copies of an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from corelab_nets.trees import Stack, Tree, map_tree
from numpy.typing import NDArray
from torch import Tensor

from corelab_policy_gradient.minibatches import Sequences, Transitions
from corelab_policy_gradient.policy import Policy

_AT_ONCE = 1024
"""How many observations go through the network together when all of them must."""


class Experience:
    """T steps of N rows, in which POLICY or an older one has acted.

    Rows of time are [T, N, ...], observations [T + 1, N, ...]: the last is what followed. A step
    that only reset its copy is no transition and not `valid`; its other entries mean nothing.
    """

    def __init__(self, policy: Policy, T: int, N: int, aged: bool = False) -> None:
        self._policy = policy
        self.rows = slice(0, N)
        """Which of all rows these are."""
        distribution, self._device = policy.distribution, policy.device
        self.observations = Stack(policy.space, T + 1, N, policy.name)
        self.masks = (
            torch.ones((T + 1, N, distribution.size), dtype=torch.bool) if policy.has_mask else None
        )
        self.actions = torch.zeros((T, N, *distribution.shape), dtype=distribution.dtype)
        self.rewards = np.zeros((T, N))
        self.terminations = np.zeros((T, N), np.bool_)
        self.truncations = np.zeros((T, N), np.bool_)
        self.valid = np.zeros((T, N), np.bool_)
        self.starts = np.zeros((T + 1, N), np.bool_)  # whether s_t begins an episode
        self.memories = torch.zeros((T + 1, N, policy.memory), device=self._device)  # before s_t
        self.log_mu: NDArray[np.float64] | None = np.zeros((T, N)) if aged else None
        """Log μ(a_t|s_t) under the policy that acted, if that is AGED and not POLICY as it is."""
        self.returns: NDArray[np.float64] = np.zeros(0)
        self.lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        """Of the episodes that ended."""

    def metrics(self) -> dict[str, float]:
        """Mean return and length of the episodes that ended, and the share of them that was cut
        off, if any did.
        """
        if not len(self.returns):
            return {}
        return {
            "return": float(self.returns.mean()),
            "episode_length": float(self.lengths.mean()),
            "truncated": float((self.truncations & self.valid).sum() / len(self.returns)),
        }

    def arrays(self) -> dict[str, Tree]:
        """All of its rows as arrays, for `write`: views, which the next steps write over."""
        optional = {} if self.masks is None else {"masks": self.masks.numpy()}
        if self.log_mu is not None:
            optional["log_mu"] = self.log_mu
        return optional | {
            "observations": map_tree(Tensor.numpy, self.observations.tree),
            "actions": self.actions.numpy(),
            "rewards": self.rewards,
            "terminations": self.terminations,
            "truncations": self.truncations,
            "valid": self.valid,
            "starts": self.starts,
            "memories": self.memories.cpu().numpy(),
        }

    def write(self, rows: slice, arrays: dict[str, Tree]) -> None:
        """Copy to these ROWS what `arrays` gave of as many elsewhere."""

        def copy(mine: NDArray[Any], theirs: NDArray[Any]) -> None:
            mine[:, rows] = theirs

        mine = self.arrays()
        map_tree(copy, {name: mine[name] for name in arrays}, arrays)
        if self._device.type != "cpu":  # what was written to is a copy
            self.memories[:, rows] = torch.tensor(arrays["memories"], device=self._device)

    @torch.no_grad()
    def outputs(self) -> tuple[Tensor, Tensor]:
        """What the policy gives for what was seen, [T, N, k], and all values, [T + 1, N]."""
        T, N = self.rewards.shape
        observation, mask = self._inputs()
        mask = None if mask is None else mask.flatten(0, 1)
        if self._policy.memory:
            starts = torch.from_numpy(self.starts).to(self._device)
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
        T, device = len(self.rewards), self._device
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
        mask = None if self.masks is None else self.masks.to(self._device)
        return self._policy.prepare(self.observations.tree), mask
