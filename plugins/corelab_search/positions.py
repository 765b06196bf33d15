"""Memory of positions to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Positions:
    """The newest CAPACITY positions: what was seen [int8], the search's policy and the outcome."""

    def __init__(self, capacity: int, observation_shape: tuple[int, ...], actions: int) -> None:
        self.size = 0
        self._next = 0
        self.seen = torch.zeros((capacity, *observation_shape), dtype=torch.int8)
        self.policy = torch.zeros((capacity, actions))
        self.outcome = torch.zeros(capacity)

    def add(
        self, seen: NDArray[Any], policy: NDArray[np.floating], outcome: NDArray[np.floating]
    ) -> None:
        """Keep n positions; the oldest ones make room."""
        capacity, n = len(self.outcome), len(outcome)
        rows = (self._next + np.arange(n)) % capacity
        self.seen.numpy()[rows] = seen
        self.policy.numpy()[rows] = policy
        self.outcome.numpy()[rows] = outcome
        self._next = (self._next + n) % capacity
        self.size = min(self.size + n, capacity)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """N of them, drawn evenly."""
        rows = torch.from_numpy(rng.integers(self.size, size=n))
        return self.seen[rows], self.policy[rows], self.outcome[rows]

    def state_dict(self) -> dict[str, Any]:
        """Everything that is kept."""
        columns = {name: getattr(self, name)[: self.size] for name in _COLUMNS}
        return {"size": self.size, "next": self._next, **columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called."""
        self.size, self._next = state["size"], state["next"]
        for name in _COLUMNS:
            getattr(self, name)[: self.size] = state[name]


_COLUMNS = ("seen", "policy", "outcome")
