"""The interface "policy-value": a network that says what to try and who will win."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PolicyValue(Protocol):
    """An `nn.Module`, built as `model(observation_shape, actions)`: the shape is (height, width,
    planes), ACTIONS their number.
    """

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, actions] and values [B], -1 to 1, for who is to move, from OBSERVATIONS
        [B, height, width, planes] of the network's own dtype.
        """
