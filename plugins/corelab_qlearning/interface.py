"""The interface "q-network": a network that says what actions are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor


class QNetwork(Protocol):
    """An `nn.Module`, built as `model(observation_space, actions, atoms, dueling=…, noisy=…)` from
    a Gymnasium space and two numbers.

    With DUELING it has two streams, which `parts.Head` joins; with NOISY it explores by layers of
    `parts.NoisyLinear`, which are found among its modules. It raises `PluginError` when it is built
    for a space that it does not fit. It must not learn statistics of batches.
    """

    def __call__(self, observations: Tensor) -> Tensor:
        """What each action is worth, [B, actions, atoms], for OBSERVATIONS: [B, ...] from a Box,
        int64 [B] from a Discrete space, with the numbers that the space has.
        """


@runtime_checkable
class Traced(QNetwork, Protocol):
    """A Q-network that can be trained without a graph."""

    traces: bool
    """Whether `trace` can be used as it was built."""

    def trace(self, observations: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What a call gives, without a graph, and a function that makes of the gradient with
        respect to it, [B, actions, atoms], that with respect to `parameters()`, one after the
        other in a vector.
        """


@runtime_checkable
class Acting(QNetwork, Protocol):
    """A Q-network that can act without torch."""

    on_arrays: bool
    """Whether `act` can be used as it was built."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What a call gives on the CPU for one atom, [B, actions]."""
