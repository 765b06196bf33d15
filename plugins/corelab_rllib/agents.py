"""A task of several agents as RLlib wants it. Only to be imported where Ray is."""

from __future__ import annotations

from typing import Any

import numpy as np
from corelab_envs.interface import Environment
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from corelab_rllib.environment import observed, seed_of_copy


class Several(MultiAgentEnv):  # type: ignore[misc]
    """One copy of a task with several agents: its rows, by the names "0", "1", ….

    Those that wait, because they are out already or not yet in, are not heard of.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        task: Environment = options["task"]
        space, self._see = observed(task)
        n = task.agents  # type: ignore[attr-defined]
        self.agents = self.possible_agents = [str(i) for i in range(n)]
        self.observation_spaces = dict.fromkeys(self.agents, space)
        self.action_spaces = dict.fromkeys(self.agents, task.single_action_space)
        self._envs = task.make(n, seed_of_copy(options))
        like = task.single_action_space
        self._idle = np.zeros((n, *(like.shape or ())), like.dtype)
        self._over = np.zeros(n, np.bool_)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin the next episode. SEED is not heeded: the run's decides."""
        observation, info = self._envs.reset()
        self._over = info.get("waits", np.zeros(len(self._over), np.bool_))
        return self._by_name(self._see(observation), ~self._over), {}

    def step(self, actions: Any) -> Any:
        """Act."""
        chosen = self._idle.copy()
        for name, action in actions.items():
            chosen[int(name)] = action
        observation, reward, termination, truncation, _ = self._envs.step(chosen)
        acted, self._over = ~self._over, termination | truncation
        terminated = self._by_name(termination, acted) | {"__all__": bool(termination.all())}
        truncated = self._by_name(truncation, acted) | {"__all__": bool(self._over.all())}
        truncated["__all__"] &= not terminated["__all__"]
        seen = self._by_name(self._see(observation), acted | ~self._over)
        return seen, self._by_name(reward, acted), terminated, truncated, {}

    def close(self) -> None:
        """Let go of what it holds."""
        self._envs.close()

    @staticmethod
    def _by_name(rows: Any, which: Any) -> dict[str, Any]:
        return {str(i): rows[i] for i in np.flatnonzero(which)}
