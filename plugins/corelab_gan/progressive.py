"""The model "progressive" of the interface "gan": networks that grow while they train.

Karras, Aila, Laine & Lehtinen 2018, Progressive Growing of GANs for Improved Quality, Stability,
and Variation, arXiv:1710.10196.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab import require
from corelab_gan.layers import (
    EqualConv2d,
    EqualLinear,
    Labelled,
    Projection,
    add_variety,
    pixel_norm,
    resolutions,
    widths,
)


class Progressive(nn.Module):
    """A generator and a discriminator that begin with tiny images and fade in larger ones."""

    @dataclass(frozen=True)
    class Config:
        """Options of the growing networks."""

        channels: int = 32
        """Channels at the full resolution; there are twice as many at each smaller one, up to four
        times."""
        grown: float = 0.5
        """Share of the budget after which the networks have their full size."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        require(config.channels >= 1, "model.channels", config.channels, "at least 1")
        fits = 0 < config.grown <= 1
        require(fits, "model.grown", config.grown, "more than 0 and at most 1")
        self.generator = Generator(config, shape, latent, classes)
        self.discriminator = Discriminator(config, shape, classes)


class Growing(nn.Module):
    """What the two networks have in common: how far they have grown."""

    def __init__(self, config: Progressive.Config, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = resolutions(shape, "progressive")
        self.widths = widths(config.channels, len(self.sizes))
        self.level, self.alpha = 0, 1.0
        """The resolution, by its number, and how much of it is faded in, from 0 to 1."""
        self._grown = config.grown

    def grow(self, share: float) -> None:
        """Take the size that belongs to this SHARE of the budget, from 0 to 1."""
        self.level, self.alpha = schedule(share / self._grown, len(self.sizes))

    def fade(self, x: Tensor) -> Tensor:
        """Real images X, [N, C, H, W], with the detail of this resolution and fade (figure 2)."""
        now = self._reduced(x, self.level)
        if self.alpha < 1:
            now = torch.lerp(_doubled(F.avg_pool2d(now, 2)), now, self.alpha)
        return self._enlarged(now)

    def _reduced(self, x: Tensor, level: int) -> Tensor:
        """Images X of full size at the resolution number LEVEL."""
        factor = 2 ** (len(self.sizes) - 1 - level)
        return F.avg_pool2d(x, factor) if factor > 1 else x

    def _enlarged(self, x: Tensor) -> Tensor:
        """Images X of the present resolution at full size."""
        factor = 2 ** (len(self.sizes) - 1 - self.level)
        return F.interpolate(x, scale_factor=factor) if factor > 1 else x


def schedule(share: float, levels: int) -> tuple[int, float]:
    """Level and α when SHARE of the time to grow has passed: each of the LEVELS but the last is
    held for as long as it takes to fade in the next one (section 2).
    """
    done = min(share, 1.0) * (levels - 1)
    level = min(int(done), levels - 2)
    fading = 2 * (done - level) - 1
    return (level, 1.0) if fading <= 0 else (level + 1, fading)


class Generator(Growing):
    """Codes to images of full size, with the detail of the present resolution (table 2)."""

    def __init__(
        self, config: Progressive.Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__(config, shape)
        self.numbers = latent
        self.code = Labelled(latent, classes)
        (H, W), first = self.sizes[0], self.widths[0]
        self.first = EqualLinear(self.code.features, first * H * W, gain=2**0.5 / 4)
        self.blocks = nn.ModuleList([nn.Sequential(Normed(first, first))])
        for inputs, outputs in pairwise(self.widths):
            self.blocks.append(nn.Sequential(Normed(inputs, outputs), Normed(outputs, outputs)))
        self.pixels = nn.ModuleList(
            EqualConv2d(width, shape[0], 1, gain=1.0) for width in self.widths
        )

    def forward(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] for Z, [N, latent], and Y, [N]."""
        h: Tensor = self.first(self.code(truncation * pixel_norm(z), y))
        h = pixel_norm(F.leaky_relu(h.view(-1, self.widths[0], *self.sizes[0]), 0.2))
        h = self.blocks[0](h)
        for level in range(1, self.level + 1):
            before, h = h, self.blocks[level](_doubled(h))
        x: Tensor = self.pixels[self.level](h)
        if self.alpha < 1:
            x = torch.lerp(_doubled(self.pixels[self.level - 1](before)), x, self.alpha)
        return self._enlarged(x)


class Discriminator(Growing):
    """Images of full size, looked at in the present resolution, to logits (table 2)."""

    def __init__(
        self, config: Progressive.Config, shape: tuple[int, int, int], classes: int
    ) -> None:
        super().__init__(config, shape)
        (H, W), last = self.sizes[0], self.widths[0]
        self.pixels = nn.ModuleList(EqualConv2d(shape[0], width, 1) for width in self.widths)
        self.blocks = nn.ModuleList([nn.Sequential(*_activated(last + 1, last))])
        for outputs, inputs in pairwise(self.widths):
            block = [*_activated(inputs, inputs), *_activated(inputs, outputs), nn.AvgPool2d(2)]
            self.blocks.append(nn.Sequential(*block))
        self.last = nn.Sequential(
            nn.Flatten(), EqualLinear(last * H * W, last, gain=2**0.5), nn.LeakyReLU(0.2)
        )
        self.head = Projection(last, classes, EqualLinear)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of X, [N, C, H, W], with labels Y, [N]."""
        x = self._reduced(x, self.level)
        h = self._features(x, self.level)
        for level in range(self.level, 0, -1):
            h = self.blocks[level](h)
            if level == self.level and self.alpha < 1:
                h = torch.lerp(self._features(F.avg_pool2d(x, 2), level - 1), h, self.alpha)
        h = self.blocks[0](add_variety(h, self.training))
        logits: Tensor = self.head(self.last(h), y)
        return logits

    def _features(self, x: Tensor, level: int) -> Tensor:
        """The first features of images X in the resolution number LEVEL."""
        return F.leaky_relu(self.pixels[level](x), 0.2)


class Normed(nn.Module):
    """A convolution, a leaky ReLU, and a norm for every pixel (section 4.2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = EqualConv2d(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H, W] for X, [N, inputs, H, W]."""
        return pixel_norm(F.leaky_relu(self.convolution(x), 0.2))


def _activated(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return EqualConv2d(inputs, outputs, 3), nn.LeakyReLU(0.2)


def _doubled(x: Tensor) -> Tensor:
    """X, [N, C, H, W], with every pixel four times."""
    return F.interpolate(x, scale_factor=2)
