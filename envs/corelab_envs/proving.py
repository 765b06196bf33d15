"""What the environments of proving show alike: features of the state and of each inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observation = dict[str, NDArray[Any]]
_LARGEST = 25.0
"""All features are log(1 + n), which does not reach this."""


class Spaces:
    """The spaces of one proof in the making, from options that say how many numbers tell what."""

    max_actions: int
    state_features: int
    action_features: int

    def observation_space(self) -> spaces.Dict:
        """What it shows."""
        size = self.state_features + self.max_actions * self.action_features
        return spaces.Dict(
            {
                "observation": spaces.Box(0, _LARGEST, (size,), np.float32),
                "action_mask": spaces.Box(0, 1, (self.max_actions,), np.int8),
            }
        )

    def action_space(self) -> spaces.Discrete[Any]:
        """What it accepts."""
        return spaces.Discrete(self.max_actions)
