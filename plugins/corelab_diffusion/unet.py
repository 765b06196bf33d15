"""The model "unet" of the interface "denoiser": convolutions with shortcuts across resolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_nets.attention import attend
from torch import Tensor, nn

from corelab import ConfigError, require
from corelab_diffusion.embeddings import Classes, Levels


class UNet(nn.Module):
    """Residual blocks at falling and then rising resolution (Ronneberger et al. 2015; DDPM).

    Any height and width will do: halves are rounded up. The level of the noise and the class set
    the scales and shifts of the second normalisation of every block (Dhariwal & Nichol 2021,
    arXiv:2105.05233, section 3).
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the U-Net."""

        channels: int = 64
        """Channels at the highest resolution."""
        multiples: tuple[int, ...] = (1, 2)
        """How many times as many channels there are at each resolution, from the highest down."""
        blocks: int = 2
        """Residual blocks at each resolution, on the way down and on the way up."""
        attention: int = 1
        """At how many of the lowest resolutions the blocks are followed by self-attention."""
        heads: int = 4
        """Heads of attention."""
        patch: int = 1
        """Side of the squares of pixels that are taken for one: 2 is several times faster. A last
        block at full resolution, of few channels, then keeps the squares from showing."""
        cross_attention: bool = False
        """Whether classes are tokens that the lowest resolutions attend to, as in Stable Diffusion,
        instead of a part of the scales and shifts."""
        dropout: float = 0.0
        """Share of the values in a block that are dropped in training."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], inputs: int, outputs: int, classes: int
    ) -> None:
        super().__init__()
        _check(config, classes)
        c, patch = config.channels, config.patch
        self.patch = patch
        width = 4 * c
        self.levels = Levels(width)
        tokens = width if classes and config.cross_attention else 0
        self.tokens = nn.Embedding(classes + 1, _TOKENS * tokens) if tokens else None
        self.classes = Classes(classes, width) if classes and not tokens else None

        def block(fan_in: int, fan_out: int, depth: int) -> nn.Module:
            attends = depth >= len(config.multiples) - config.attention
            heads = config.heads if attends else 0
            return Block(fan_in, fan_out, width, heads, tokens if attends else 0, config.dropout)

        self.enter = nn.Conv2d(inputs * patch**2, c, 3, padding=1)
        self.down, self.halve, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips = []
        for depth, multiple in enumerate(config.multiples):
            if depth:
                self.halve.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
            blocks = nn.ModuleList()
            for _ in range(config.blocks):
                blocks.append(block(c, c := config.channels * multiple, depth))
                skips.append(c)
            self.down.append(blocks)
        self.middle = block(c, c, len(config.multiples) - 1)
        for depth, multiple in reversed(list(enumerate(config.multiples))):
            blocks = nn.ModuleList()
            for _ in range(config.blocks):
                blocks.append(block(c + skips.pop(), c := config.channels * multiple, depth))
            self.up.append(blocks)
        self.leave = nn.Sequential(_norm(c), nn.SiLU())
        self.last: Sharpen | nn.Conv2d
        if patch > 1:
            self.last = Sharpen(c, inputs, outputs, patch)
        else:
            self.last = _zero(nn.Conv2d(c, outputs, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """See `corelab_diffusion.interface.Network`."""
        image, (height, width) = x, x.shape[2:]
        if self.patch > 1:
            image = _filled(x, self.patch)
            x = F.pixel_unshuffle(image, self.patch)
        embedded, context = self.levels(noise), None
        if self.classes is not None:
            embedded = embedded + self.classes(labels)
        if self.tokens is not None:
            context = self.tokens(labels).unflatten(1, (_TOKENS, -1))
        embedded = F.silu(embedded)

        h = self.enter(x)
        skips = []
        for depth, blocks in enumerate(self.down):
            if depth:
                h = self.halve[depth - 1](h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedded, context)
                skips.append(h)
        h = self.middle(h, embedded, context)
        for blocks in self.up:
            if h.shape[2:] != skips[-1].shape[2:]:
                h = F.interpolate(h, skips[-1].shape[2:], mode="nearest")
            for block in blocks:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), embedded, context)
        h = self.leave(h)
        if self.patch > 1:
            return self.last(h, image)[:, :, :height, :width]  # type: ignore[no-any-return]
        return self.last(h)  # type: ignore[no-any-return]


L = TypeVar("L", nn.Conv2d, nn.Linear)
_TOKENS = 4
"""How many tokens stand for a class."""


class Block(nn.Module):
    """Two convolutions beside the identity, then attention if there are HEADS.

    The attention is to the image itself and, if TOKENS is their width, to those of the class.
    """

    def __init__(
        self, fan_in: int, fan_out: int, width: int, heads: int, tokens: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm_1 = _norm(fan_in)
        self.conv_1 = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.scale_shift = nn.Linear(width, 2 * fan_out)
        self.norm_2 = _norm(fan_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = _zero(nn.Conv2d(fan_out, fan_out, 3, padding=1))
        self.skip = nn.Conv2d(fan_in, fan_out, 1) if fan_in != fan_out else nn.Identity()
        self.attention = Attention(fan_out, heads) if heads else None
        self.cross = Attention(fan_out, heads, tokens) if tokens else None

    def forward(self, x: Tensor, embedded: Tensor, context: Tensor | None) -> Tensor:
        """[N, fan_out, h, w] for X [N, fan_in, h, w], given the level (and class), [N, width]."""
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.scale_shift(embedded)[:, :, None, None].chunk(2, 1)
        h = F.silu(torch.addcmul(shift, self.norm_2(h), 1 + scale))
        h = self.skip(x) + self.conv_2(self.dropout(h))
        if self.attention is not None:
            h = h + self.attention(h)
        if self.cross is not None:
            h = h + self.cross(h, context)
        return h  # type: ignore[no-any-return]


class Attention(nn.Module):
    """From every place to every other one, or to the tokens of a context of WIDTH > 0."""

    def __init__(self, channels: int, heads: int, width: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(width or channels, 2 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """[N, C, h, w] for X of that shape and CONTEXT [N, tokens, width]."""
        places = self.norm(x).flatten(2).mT
        q = self._apart(self.query(places))
        key_value = self.key_value(places if context is None else context)
        k, v = (self._apart(part) for part in key_value.chunk(2, 2))
        h = attend(q, k, v)
        h = self.out(h.transpose(1, 2).flatten(2))
        return h.mT.reshape(x.shape)  # type: ignore[no-any-return]

    def _apart(self, x: Tensor) -> Tensor:
        """[N, heads, places, c] of [N, places, heads · c]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Sharpen(nn.Module):
    """From features at PATCH times less resolution, and what the network was given, to outputs."""

    def __init__(self, channels: int, inputs: int, outputs: int, patch: int) -> None:
        super().__init__()
        width = max(8, outputs)
        self.spread = nn.Conv2d(channels, width * patch**2, 1)
        self.patch = patch
        self.blend = nn.Conv2d(width + inputs, 2 * width, 3, padding=1)
        self.out = _zero(nn.Conv2d(2 * width, outputs, 3, padding=1))

    def forward(self, h: Tensor, image: Tensor) -> Tensor:
        """[N, outputs, H, W] for H [N, channels, H/p, W/p] and IMAGE [N, inputs, H, W]."""
        full = F.pixel_shuffle(self.spread(h), self.patch)
        return self.out(F.silu(self.blend(torch.cat([full, image], 1))))  # type: ignore[no-any-return]


def _norm(channels: int) -> nn.GroupNorm:
    """Groups of 8 channels or more, at most 32 groups."""
    return nn.GroupNorm(math.gcd(max(1, min(32, channels // 8)), channels), channels)


def _zero(layer: L) -> L:
    """LAYER with zeros for weights: what it adds to is the whole of the sum at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _filled(x: Tensor, multiple: int) -> Tensor:
    """X with its last rows and columns repeated until its sides are multiples of MULTIPLE."""
    below, right = (-side % multiple for side in x.shape[2:])
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def _check(config: UNet.Config, classes: int) -> None:
    for option, least in (("channels", 1), ("blocks", 1), ("attention", 0), ("heads", 1)):
        value = getattr(config, option)
        require(value >= least, f"model.{option}", value, f"at least {least}")
    require(config.patch >= 1, "model.patch", config.patch, "at least 1")
    fits = bool(config.multiples) and min(config.multiples, default=0) >= 1
    require(fits, "model.multiples", config.multiples, "one or more numbers from 1 on")
    require(0 <= config.dropout < 1, "model.dropout", config.dropout, "at least 0 and below 1")
    if config.cross_attention and not classes:
        raise ConfigError("model.cross_attention is to classes; add --algorithm.conditional")
    if config.cross_attention and not config.attention:
        raise ConfigError("model.cross_attention needs model.attention at 1 or more resolutions")
    for multiple in config.multiples[-config.attention :] if config.attention else ():
        if config.channels * multiple % config.heads:
            raise ConfigError(
                f"model.heads is {config.heads}; it must divide the {config.channels * multiple} "
                "channels that it attends to"
            )
