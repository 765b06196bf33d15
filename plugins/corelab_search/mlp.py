"""The model "mlp" of the interface "policy-value": a multilayer perceptron with two heads."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from corelab import require


class MLP(nn.Module):
    """A perceptron that sees the board as a vector; the heads share all but the last layer."""

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptron."""

        sizes: tuple[int, ...] = (128, 128)
        """Widths of the hidden layers."""

    def __init__(
        self, config: Config, observation_shape: tuple[int, int, int], actions: int
    ) -> None:
        super().__init__()
        fits = all(width >= 1 for width in config.sizes)
        require(fits, "model.sizes", config.sizes, "widths of at least 1")
        width = prod(observation_shape)
        layers: list[nn.Module] = []
        for size in config.sizes:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.body = nn.Sequential(*layers)
        self.heads = nn.Linear(width, actions + 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, actions] and values [B]."""
        y = self.heads(self.body(observations.flatten(1)))
        return y[:, :-1], y[:, -1].tanh()
