"""The interface "actor-critic": a network that acts and says what a state is worth."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class ActorCritic(Protocol):
    """An `nn.Module`, built as `model(observation_space, action_space)` from Gymnasium's spaces.

    It raises `PluginError` when it is built for spaces that it does not fit.
    """

    def __call__(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """The policy and the values [B] for OBSERVATIONS: [B, ...] from a Box, int64 [B] from a
        Discrete space, with the numbers that the space has.

        The policy is logits [B, n] for the actions of a Discrete space; for a Box of d numbers it
        is their means and then the logarithms of their standard deviations, [B, 2d].
        """
