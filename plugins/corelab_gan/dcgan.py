"""The model "dcgan" of the interface "gan": strided convolutions.

Radford, Metz & Chintala 2016, Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks, arXiv:1511.06434.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from corelab import require
from corelab_gan.layers import Labelled, Projection, resolutions, spectral, widths


class DCGAN(nn.Module):
    """A generator that doubles the resolution and a discriminator that halves it, with strides."""

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional networks."""

        channels: int = 32
        """Channels at half the resolution; there are twice as many at each smaller one."""
        spectral: bool = False
        """Whether the discriminator's matrices are divided by their largest singular values."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        require(config.channels >= 1, "model.channels", config.channels, "at least 1")
        self.generator = Generator(config, shape, latent, classes)
        self.discriminator = Discriminator(config, shape, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.02)  # section 4
        if config.spectral:
            spectral(self.discriminator)


class Generator(nn.Module):
    """Codes to images: batch normalisation and ReLU, and tanh at the end (section 3)."""

    def __init__(
        self, config: DCGAN.Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        self.numbers = latent
        self.code = Labelled(latent, classes)
        sizes = resolutions(shape, "dcgan")
        wide = widths(config.channels, len(sizes) - 1)
        (H, W), first = sizes[0], wide[0]
        layers: list[nn.Module] = [
            nn.Linear(self.code.features, first * H * W),
            nn.Unflatten(1, (first, H, W)),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        ]
        for inputs, outputs in pairwise(wide):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        last = nn.ConvTranspose2d(wide[-1], shape[0], 4, stride=2, padding=1)
        self.body = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] for Z, [N, latent], and Y, [N]."""
        x: Tensor = self.body(self.code(truncation * z, y))
        return x


class Discriminator(nn.Module):
    """Images to logits, by leaky ReLUs."""

    def __init__(self, config: DCGAN.Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        sizes = resolutions(shape, "dcgan")
        wide = [*widths(config.channels, len(sizes) - 1), shape[0]]
        layers: list[nn.Module] = []
        for outputs, inputs in pairwise(wide):
            step = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            layers = [step, nn.LeakyReLU(0.2), *layers]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = Projection(wide[0] * sizes[0][0] * sizes[0][1], classes)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of X, [N, C, H, W], with labels Y, [N]."""
        logits: Tensor = self.head(self.body(x), y)
        return logits
