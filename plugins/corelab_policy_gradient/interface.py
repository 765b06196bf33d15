"""The interface "actor-critic": a network that acts and says what a state is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor

Observations = Any
"""[B, ...] for each part of the space: int64 from Discrete and MultiDiscrete, float32 from a Box of
real numbers, whole numbers as the space has them; in a dict or tuple where the space is one."""


class ActorCritic(Protocol):
    """An `nn.Module`, built as `model(observation_space, action_space)` from Gymnasium's spaces.

    It raises `PluginError` when it is built for spaces that it does not fit. An action mask is not
    among what it sees: forbidden actions are taken out of what it gives.
    """

    def __call__(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """The policy and the values [B] for OBSERVATIONS.

        The policy is logits [B, n] for the actions of a Discrete space, and logits side by side
        [B, n_1 + n_2 + …] for those of a MultiDiscrete (MultiBinary: each n_i is 2); for a Box of d
        numbers it is their means and then the logarithms of their standard deviations, [B, 2d].
        """


class RecurrentActorCritic(Protocol):
    """An actor-critic that remembers."""

    memory: int
    """How many numbers it remembers: S."""

    def __call__(
        self, observations: Observations, memory: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The policy [L, B, ...], the values [L, B] and the memory afterwards [B, S].

        OBSERVATIONS are sequences [L, B, ...], MEMORY [B, S] is that from before them, and STARTS
        [L, B] says which of them begin an episode: there, memory is zero.
        """


@runtime_checkable
class FastActorCritic(Protocol):
    """What an actor-critic may offer besides, for the CPU: its passes on plain arrays."""

    def act(self, observations: Observations) -> NDArray[Any]:
        """The policy alone for OBSERVATIONS (tensors)."""

    def trace(
        self, observations: Observations
    ) -> tuple[NDArray[Any], NDArray[Any], Callable[[NDArray[Any], NDArray[Any]], None]]:
        """The policy, the values, and what takes the gradients of a loss with respect to both and
        sets the gradients of the parameters. All may be overwritten by the next call.
        """
