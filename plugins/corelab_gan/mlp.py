"""The model "mlp" of the interface "gan": two multilayer perceptrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from corelab import require
from corelab_gan.layers import Labelled, Projection, perceptron, spectral


class MLP(nn.Module):
    """A generator and a discriminator of fully connected layers, for images of any size."""

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        sizes: tuple[int, ...] = (256, 256)
        """Widths of the hidden layers of either network."""
        spectral: bool = False
        """Whether the discriminator's matrices are divided by their largest singular values."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        fits = bool(config.sizes) and min(config.sizes) >= 1
        require(fits, "model.sizes", config.sizes, "one width or more, each at least 1")
        self.generator = Generator(config, shape, latent, classes)
        self.discriminator = Discriminator(config, shape, classes)
        if config.spectral:
            spectral(self.discriminator)


class Generator(nn.Module):
    """Codes to images."""

    def __init__(
        self, config: MLP.Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        self.numbers = latent
        self.code = Labelled(latent, classes)
        self.body = perceptron(self.code.features, *config.sizes, math.prod(shape))
        self._shape = shape

    def forward(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] for Z, [N, latent], and Y, [N]."""
        x: Tensor = self.body(self.code(truncation * z, y))
        return x.tanh().reshape(-1, *self._shape)


class Discriminator(nn.Module):
    """Images to logits."""

    def __init__(self, config: MLP.Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(perceptron(math.prod(shape), *config.sizes), nn.LeakyReLU(0.2))
        self.head = Projection(config.sizes[-1], classes)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of X, [N, C, H, W], with labels Y, [N]."""
        logits: Tensor = self.head(self.body(x.flatten(1)), y)
        return logits
