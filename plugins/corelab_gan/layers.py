"""Layers that several of the networks are made of."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from corelab import PluginError

M = TypeVar("M", bound=nn.Module)


def resolutions(shape: tuple[int, int, int], model: str) -> list[tuple[int, int]]:
    """Heights and widths from the smallest that MODEL works at to that of SHAPE, each the double.

    The smallest side is at least 4: 4, 8, 16, 32 and 7, 14, 28. PluginError if SHAPE is odd.
    """
    _, H, W = shape
    found = [(H, W)]
    while H % 2 == W % 2 == 0 and min(H, W) >= 8:
        H, W = H // 2, W // 2
        found.append((H, W))
    if len(found) < 2:
        raise PluginError(
            f"the model {model} fits images whose height and width are even and at least 8, not "
            f"{H} x {W}; the model mlp fits any"
        )
    return found[::-1]


def widths(channels: int, levels: int, most: int = 4) -> list[int]:
    """Channels of LEVELS resolutions, the smallest first: CHANNELS at the largest, twice as many at
    each smaller one, but not more than MOST times as many.
    """
    return [channels * min(most, 2**i) for i in reversed(range(levels))]


class Projection(nn.Module):
    """The logit of features h: w·h + b, and v_y·h on top if there are classes (Miyato & Koyama
    2018, cGANs with Projection Discriminator, arXiv:1802.05637, eq. 4).
    """

    def __init__(self, features: int, classes: int, layer: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.linear = layer(features, 1)
        self.classes = nn.Embedding(classes, features) if classes else None
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, std=0.02)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of H, [N, features], with labels Y, [N]."""
        logits: Tensor = self.linear(h).squeeze(1)
        if self.classes is None:
            return logits
        of_class: Tensor = self.classes(y)
        return logits + (of_class * h).sum(1)


class Labelled(nn.Module):
    """Puts what stands for a label beside a code."""

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(classes, latent) if classes else None
        self.features = 2 * latent if classes else latent

    def forward(self, z: Tensor, y: Tensor | None) -> Tensor:
        """[N, features] for Z, [N, latent], and Y, [N]."""
        return z if self.classes is None else torch.cat([z, self.classes(y)], 1)


def spectral(network: M) -> M:
    """NETWORK with every matrix divided by its largest singular value, which one step of power
    iteration follows (Miyato et al. 2018, Spectral Normalization for GANs, arXiv:1802.05957).
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            spectral_norm(layer)
    return network


class EqualConv2d(nn.Conv2d):
    """A convolution whose weights are N(0, 1) and scaled by He's constant when they are used
    (Karras et al. 2018, Progressive Growing of GANs, arXiv:1710.10196, section 4.1).

    Adam's steps do not depend on the scale of a gradient, so all layers learn equally fast.
    """

    def __init__(self, inputs: int, outputs: int, size: int, gain: float = 2**0.5) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.scale = gain / math.sqrt(inputs * size**2)
        _equalise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H, W] for X, [N, inputs, H, W]."""
        y: Tensor = self._conv_forward(x, self.weight * self.scale, self.bias)
        return y


class EqualLinear(nn.Linear):
    """A linear layer in the manner of `EqualConv2d`, which learns at SPEED times its pace."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, speed: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        self.scale = gain * speed / math.sqrt(inputs)
        self.speed = speed
        _equalise(self, 1 / speed)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs] for X, [N, inputs]."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias * self.speed)


def _equalise(layer: nn.Conv2d | nn.Linear, std: float = 1.0) -> None:
    nn.init.normal_(layer.weight, std=std)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def pixel_norm(x: Tensor) -> Tensor:
    """X, [N, C, …], divided by its root mean square over C (Karras et al. 2018, section 4.2)."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


GROUP = 4
"""Images whose variety is measured together."""


def add_variety(x: Tensor, training: bool) -> Tensor:
    """X, [N, C, H, W], and a channel with the standard deviation over each group of four images in
    a row, averaged over all features (Karras et al. 2018, section 3).
    """
    N, C, H, W = x.shape
    if training and N % GROUP:
        raise PluginError(
            f"this model compares images in groups of {GROUP}: a minibatch, or the piece of it "
            f"that is computed at once, must be a multiple of {GROUP}, not {N}"
        )
    group = math.gcd(N, GROUP)
    variance = x.view(N // group, group, C, H, W).var(1, unbiased=False)
    std = (variance + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(group)
    return torch.cat([x, std[:, None, None, None].expand(N, 1, H, W)], 1)


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers of these SIZES with leaky ReLUs between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])
