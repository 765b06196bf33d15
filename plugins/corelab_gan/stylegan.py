"""The model "stylegan" of the interface "gan": a style for every layer and noise for every pixel.

Karras, Laine & Aila 2019, A Style-Based Generator Architecture for Generative Adversarial Networks,
arXiv:1812.04948.
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

_MIXED = 0.9
"""Share of training images that are of two codes (section 3.1)."""
_MAPPING_SPEED = 0.1
"""How fast the mapping network learns beside the others; 0.01 in the paper's long runs."""
_CODES = 1000
"""Codes over which the mean style is taken."""


class StyleGAN(nn.Module):
    """A generator that is told its style in every layer, and a discriminator of residual blocks."""

    @dataclass(frozen=True)
    class Config:
        """Options of the style-based generator and its discriminator."""

        channels: int = 32
        """Channels at the full resolution; there are twice as many at each smaller one, up to four
        times."""
        style: int = 64
        """How many numbers a style has."""
        mapping: int = 4
        """Layers between a code and its style; the paper has 8."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        for option in ("channels", "style", "mapping"):
            value = getattr(config, option)
            require(value >= 1, f"model.{option}", value, "at least 1")
        self.generator = Generator(config, shape, latent, classes)
        self.discriminator = Discriminator(config, shape, classes)


class Generator(nn.Module):
    """Codes to styles, and styles and noise to images (figure 1).

    An image is made of its code, of a second code with a number that says from which layer on that
    one gives the style while the network trains, and of noise for every pixel of every layer.
    """

    def __init__(
        self, config: StyleGAN.Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        sizes = resolutions(shape, "stylegan")
        wide = widths(config.channels, len(sizes))
        self.pixels = [H * W for H, W in sizes for _ in range(2)]
        self.parts = [latent, latent, 1, sum(self.pixels)]
        self.numbers = sum(self.parts)
        self.code = Labelled(latent, classes)
        self.mapping = nn.Sequential()
        for inputs in [self.code.features, *[config.style] * (config.mapping - 1)]:
            layer = EqualLinear(inputs, config.style, gain=2**0.5, speed=_MAPPING_SPEED)
            self.mapping += nn.Sequential(layer, nn.LeakyReLU(0.2))
        self.constant = nn.Parameter(torch.ones(1, wide[0], *sizes[0]))
        convolutions: list[nn.Module] = [nn.Identity(), EqualConv2d(wide[0], wide[0], 3)]
        for inputs, outputs in pairwise(wide):
            doubling = nn.Sequential(nn.Upsample(scale_factor=2), EqualConv2d(inputs, outputs, 3))
            convolutions += [doubling, EqualConv2d(outputs, outputs, 3)]
        self.layers = nn.ModuleList(
            Styled(convolution, wide[i // 2], config.style)
            for i, convolution in enumerate(convolutions)
        )
        self.last = EqualConv2d(wide[-1], shape[0], 1, gain=1.0)

    def forward(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] for Z, [N, numbers], and Y, [N]."""
        code, other, cut, noise = torch.split(z, self.parts, 1)
        w = self._style(code, y)
        if truncation < 1:
            w = torch.lerp(self._mean(y, code), w, truncation)  # appendix B
        if not self.training:
            return self._image([w] * len(self.layers), noise)
        # a part of the images takes its second style from one layer on, any but the first
        layers = len(self.layers)
        first = 1 + (torch.special.ndtr(cut) / _MIXED * (layers - 1)).floor()
        w_other = self._style(other, y)
        return self._image([torch.where(i < first, w, w_other) for i in range(layers)], noise)

    def mix(
        self, coarse: Tensor, fine: Tensor, coarse_y: Tensor | None, fine_y: Tensor | None
    ) -> Tensor:
        """Images with the styles of COARSE in the first half of the layers, of FINE in the rest."""
        half, d = len(self.layers) // 2, self.parts[0]
        w_coarse, w_fine = self._style(coarse[:, :d], coarse_y), self._style(fine[:, :d], fine_y)
        noise = torch.split(fine, self.parts, 1)[-1]
        return self._image([w_coarse] * half + [w_fine] * half, noise)

    def _style(self, code: Tensor, y: Tensor | None) -> Tensor:
        """The styles w, [N, style], of codes [N, latent] and labels Y."""
        w: Tensor = self.mapping(pixel_norm(self.code(code, y)))
        return w

    def _mean(self, y: Tensor | None, like: Tensor) -> Tensor:
        """The mean style, [style], or that of each of the classes Y, [N, style]."""
        generator = torch.Generator(like.device).manual_seed(0)
        code = torch.randn(_CODES, self.parts[0], generator=generator, device=like.device)
        if y is None:
            return self._style(code, None).mean(0)
        classes, index = torch.unique(y, return_inverse=True)
        means = [self._style(code, one.expand(_CODES)).mean(0) for one in classes]
        return torch.stack(means)[index]

    def _image(self, styles: list[Tensor], noise: Tensor) -> Tensor:
        """Images for the styles of each layer, [N, style], and noise [N, pixels of all layers]."""
        x = self.constant.expand(len(noise), -1, -1, -1)
        for layer, w, flat in zip(
            self.layers, styles, torch.split(noise, self.pixels, 1), strict=True
        ):
            x = layer(x, w, flat)
        image: Tensor = self.last(x)
        return image


class Styled(nn.Module):
    """A convolution, noise, a leaky ReLU, and adaptive instance normalisation (figure 1b)."""

    def __init__(self, convolution: nn.Module, channels: int, style: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.noise = nn.Parameter(torch.zeros(channels, 1, 1))
        self.style = EqualLinear(style, 2 * channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """X, [N, C, H, W], in the styles W, [N, style], with NOISE, [N, H · W]."""
        x = self.convolution(x)
        x = F.leaky_relu(x + self.noise * noise.view(-1, 1, *x.shape[2:]), 0.2)
        scale, bias = self.style(w)[:, :, None, None].chunk(2, 1)
        adapted: Tensor = (1 + scale) * F.instance_norm(x) + bias  # eq. 1
        return adapted


class Discriminator(nn.Module):
    """Images to logits, by halvings: that of the paper before without its growing (section 2)."""

    def __init__(self, config: StyleGAN.Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        sizes = resolutions(shape, "stylegan")
        wide = widths(config.channels, len(sizes))[::-1]
        self.body = nn.Sequential(EqualConv2d(shape[0], wide[0], 1), nn.LeakyReLU(0.2))
        for inputs, outputs in pairwise(wide):
            self.body += nn.Sequential(
                EqualConv2d(inputs, inputs, 3),
                nn.LeakyReLU(0.2),
                EqualConv2d(inputs, outputs, 3),
                nn.LeakyReLU(0.2),
                nn.AvgPool2d(2),
            )
        last, (H, W) = wide[-1], sizes[0]
        self.last = nn.Sequential(
            EqualConv2d(last + 1, last, 3),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            EqualLinear(last * H * W, last, gain=2**0.5),
            nn.LeakyReLU(0.2),
        )
        self.head = Projection(last, classes, EqualLinear)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of X, [N, C, H, W], with labels Y, [N]."""
        h = add_variety(self.body(x), self.training)
        logits: Tensor = self.head(self.last(h), y)
        return logits
