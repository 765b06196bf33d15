"""The model "mlp" of the interface "soft-actor-critic": an actor and two critics."""

from __future__ import annotations

from dataclasses import dataclass

from corelab_nets.perceptron import Perceptrons
from gymnasium import spaces
from torch import nn

from corelab import require


class SoftMLP(nn.Module):
    """An actor and two critics: multilayer perceptrons of rectified units that share nothing."""

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        sizes: tuple[int, ...] = (256, 256)
        """Widths of the hidden layers of the actor, and of each critic."""

    def __init__(
        self, config: Config, observation_space: spaces.Box, action_space: spaces.Box
    ) -> None:
        super().__init__()
        fits = all(width >= 1 for width in config.sizes)
        require(fits, "model.sizes", config.sizes, "widths of at least 1")
        (n,), (d,) = observation_space.shape, action_space.shape
        sizes = config.sizes
        self.actor = Perceptrons(n, sizes, 2 * d, activation="relu", initial="uniform")
        self.critics = Perceptrons(n + d, sizes, 1, nets=2, activation="relu", initial="uniform")
