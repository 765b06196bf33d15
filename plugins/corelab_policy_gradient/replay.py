"""What has been done, kept to be learned from again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Replay:
    """The newest CAPACITY transitions, one a row: s, a, r, 1 unless terminated, s'."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self._rows = torch.zeros(capacity, width, device=device)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, len(self._rows))

    def add(self, rows: Tensor) -> None:
        """Keep ROWS [n, width] in place of the oldest."""
        at = (self._added + torch.arange(len(rows))) % len(self._rows)
        self._rows[at.to(self._rows.device)] = rows.to(self._rows.device)
        self._added += len(rows)

    def sample(self, n: int, size: int, rng: np.random.Generator) -> Tensor:
        """N minibatches of SIZE rows, uniformly drawn, in one gather: [N, SIZE, width]."""
        index = torch.from_numpy(rng.integers(len(self), size=n * size)).to(self._rows.device)
        return self._rows.index_select(0, index).view(n, size, -1)

    def state_dict(self) -> dict[str, Any]:
        """What has been kept so far."""
        return {"rows": self._rows[: len(self)], "added": self._added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what `state_dict` gave; RuntimeError if that had another shape."""
        self._added = state["added"]
        self._rows[: len(self)] = state["rows"].to(self._rows.device)
