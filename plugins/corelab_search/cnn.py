"""The model "cnn" of the interface "policy-value": one wide convolution, then dense layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from corelab import require


class CNN(nn.Module):
    """Features of each window of the board, wherever it lies, that dense layers put together.

    A window as long as the lines of a game sees all that matters to one of them. On a small board
    this costs a fraction of a stack of small convolutions.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional network."""

        window: int = 4
        """Height and width of a window in cells; no more than the board has."""
        channels: int = 64
        """Features of each window."""
        sizes: tuple[int, ...] = (256,)
        """Widths of the dense layers."""

    def __init__(
        self, config: Config, observation_shape: tuple[int, int, int], actions: int
    ) -> None:
        super().__init__()
        require(config.window >= 1, "model.window", config.window, "at least 1")
        require(config.channels >= 1, "model.channels", config.channels, "at least 1")
        fits = all(width >= 1 for width in config.sizes)
        require(fits, "model.sizes", config.sizes, "widths of at least 1")
        height, width, planes = observation_shape
        high, wide = min(config.window, height), min(config.window, width)
        self.windows = nn.Conv2d(planes, config.channels, (high, wide))
        inputs = config.channels * (height - high + 1) * (width - wide + 1)
        layers: list[nn.Module] = []
        for size in config.sizes:
            layers += [nn.Linear(inputs, size), nn.ReLU()]
            inputs = size
        self.body = nn.Sequential(*layers)
        self.heads = nn.Linear(inputs, actions + 1)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, actions] and values [B]."""
        features = self.windows(observations.permute(0, 3, 1, 2)).relu()
        y = self.heads(self.body(features.flatten(1)))
        return y[:, :-1], y[:, -1].tanh()
