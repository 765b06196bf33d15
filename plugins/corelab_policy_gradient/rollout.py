"""Acting: T steps at a time in each of N copies of an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from corelab_envs.interface import Environments
from numpy.typing import NDArray
from torch import Tensor

from corelab_policy_gradient.experience import Experience
from corelab_policy_gradient.policy import Policy


class Rollout(Experience):
    """ENVS, N copies, in which POLICY acts for T steps at a time, by actions drawn with RNG; and
    what came of the last of them, with the likelihood of actions that is needed once POLICY has
    AGED.
    """

    def __init__(
        self,
        envs: Environments,
        policy: Policy,
        T: int,
        rng: np.random.Generator,
        aged: bool = False,
    ) -> None:
        N = envs.num_envs
        super().__init__(policy, T, N, aged)
        self.envs = envs
        self._rng = rng
        self._observation, info = self.envs.reset()  # s_t, [N, ...]
        self._over = info.get("waits", np.zeros(N, np.bool_))  # whether the next step only resets
        self._starts = np.ones(N, np.bool_)  # whether s_t begins an episode
        self._memory = torch.zeros(N, policy.memory, device=self._device)
        self._return, self._length = np.zeros(N), np.zeros(N, np.int64)
        self._steps = 0
        self._mu = np.zeros((T, N, policy.distribution.size)) if aged else None
        # A network that gives both in one pass need not be asked again for what it said in acting.
        self._keeps = not (aged or policy.memory or policy.on_arrays)
        self._p: list[Tensor] = []
        self._value: list[Tensor] = []

    def collect(self) -> dict[str, float]:
        """Act for T steps; return mean return and length of the episodes that ended."""
        policy, rng = self._policy, self._rng
        distribution, recurrent = policy.distribution, policy.memory > 0
        actions = self.actions.numpy()
        T = len(self.rewards)
        over, memory = self._over, self._memory
        before = over
        self._p, self._value = [], []
        for t in range(T):
            mask = self._see(t, over)
            self.starts[t] = self._starts
            if recurrent:
                self.memories[t] = memory
            if self._keeps:
                p = self._look(t)
            else:
                p, memory = policy.act(self.observations[t], mask, memory, self._starts)
            actions[t] = action = distribution.sample(p, rng)
            if self._mu is not None:
                self._mu[t] = p
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
        self._count_episodes(ends & self.valid)  # the others wait, and have ended before
        if self._mu is not None:
            mu, taken = (x.reshape(-1, *x.shape[2:]) for x in (self._mu, actions))
            log_mu, _, _ = distribution.likelihood(mu, taken)
            self.log_mu = log_mu.reshape(self.rewards.shape)
        return self.metrics()

    def _look(self, t: int) -> NDArray[Any]:
        """What the policy gives for what was seen at T, [N, k], which is kept, as is the value."""
        mask = None if self.masks is None else self.masks[t].to(self._device)
        p, value = self._policy.look(self._policy.prepare(self.observations[t]), mask)
        self._p.append(p)
        self._value.append(value)
        return p.cpu().numpy()

    def outputs(self) -> tuple[Tensor, Tensor]:
        """What the policy gave for what was seen, [T, N, k], and all values, [T + 1, N]."""
        if not self._keeps:
            return super().outputs()
        T = len(self.rewards)
        if len(self._value) == T:
            self._look(T)
        return torch.stack(self._p[:T]), torch.stack(self._value)

    def _see(self, t: int, over: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        seen, mask = self._policy.see(self._observation, over, self._steps)
        self.observations[t] = seen
        if mask is not None and self.masks is not None:
            self.masks[t].numpy()[...] = mask
        return mask

    def _count_episodes(self, ends: NDArray[np.bool_]) -> None:
        returns, lengths, begin = [np.zeros(0)], [np.zeros(0, np.int64)], 0
        for t in np.flatnonzero(ends.any(1)).tolist():
            self._count(begin, t + 1)
            returns.append(self._return[ends[t]])
            lengths.append(self._length[ends[t]])
            self._return[ends[t]] = self._length[ends[t]] = 0
            begin = t + 1
        self._count(begin, len(ends))
        self.returns, self.lengths = np.concatenate(returns), np.concatenate(lengths)

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
