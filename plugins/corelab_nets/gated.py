"""The gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328, section 2 and figure 2).

A vertical stack of convolutions sees the rows above a pixel, a horizontal one the pixels on its
left, and in every layer the first informs the second: together they see every earlier pixel, where
a stack of masked convolutions has a blind spot on the right.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from corelab_nets.autoregressive import Autoregressive, Cache
from corelab_nets.masked import (
    Attention,
    AttentionByPixel,
    ByPixel,
    ByRow,
    Down,
    Pointwise,
    Right,
)


def gate(a: Tensor) -> Tensor:
    """tanh(a_1) σ(a_2), for the halves of A along axis 1 (eq. 2)."""
    tangent, sigma = a.chunk(2, 1)
    return torch.tanh(tangent) * torch.sigmoid(sigma)


class Layer(nn.Module):
    """Figure 2; the first one is strict, with a kernel of its own, and has no residual."""

    def __init__(self, inputs: int, channels: int, kernel: int, first: bool) -> None:
        super().__init__()
        half = kernel // 2
        # a strict kernel has no middle row and column
        rows = columns = half if first else half + 1
        self.first = first
        self.vertical = Down(inputs, 2 * channels, rows, kernel, strict=first)
        self.horizontal = Right(inputs, 2 * channels, 1, columns, strict=first)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, v: Tensor, h: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The two maps, [N, channels, H, W] each; CONTEXT, [N, 4 channels, H, W], is added."""
        for_v, for_h = context.chunk(2, 1)
        below = self.vertical(v) + for_v
        out = self.out(gate(self.horizontal(h) + self.across(below) + for_h))
        return gate(below), out if self.first else h + out


class Gated(Autoregressive):
    """LAYERS layers, the first with a kernel of FIRST x FIRST, the others of KERNEL x KERNEL.

    ATTENTION blocks are spread evenly over the horizontal stack. The other arguments are those of
    `Autoregressive`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        levels: int = 256,
        embed: int = 0,
        layers: int = 6,
        channels: int = 64,
        kernel: int = 3,
        first: int = 7,
        attention: int = 0,
        hidden: int = 0,
        classes: int = 0,
        condition: int = 0,
    ) -> None:
        super().__init__(
            shape,
            outputs,
            levels=levels,
            embed=embed,
            features=channels,
            hidden=hidden or channels,
            classes=classes,
            condition=condition,
            context=4 * channels * layers,
        )
        self.layers = nn.ModuleList(
            Layer(channels if i else self.seen, channels, kernel if i else first, not i)
            for i in range(layers)
        )
        after = {(i + 1) * layers // attention - 1 for i in range(attention)}
        self.attention = nn.ModuleDict(
            {str(i): Attention(channels, self.seen) for i in sorted(after)}
        )

    def _features(self, x: Tensor, context: Tensor) -> Tensor:
        v = h = x
        for i, (layer, part) in enumerate(
            zip(self.layers, context.chunk(len(self.layers), 1), strict=True)
        ):
            v, h = layer(v, h, part)
            if str(i) in self.attention:
                h = self.attention[str(i)](h, x)
        return h

    def cache(self, n: int, context: Tensor) -> GatedCache:
        """What draws N images under CONTEXT."""
        return GatedCache(self, n, context)


class GatedCache(Cache):
    """The vertical stack of a row is known as soon as the rows above are; the horizontal one goes
    from pixel to pixel.
    """

    def __init__(self, net: Gated, n: int, context: Tensor) -> None:
        super().__init__(net.background, net.inputs, n)
        _, H, W = net.shape
        self._layers = cast(list[Layer], list(net.layers))
        self._context = [
            part.expand(-1, -1, H, -1).chunk(2, 1) for part in context.chunk(len(net.layers), 1)
        ]
        self._vertical = [ByRow(layer.vertical, n, W) for layer in self._layers]
        self._horizontal = [ByPixel(layer.horizontal, n, W) for layer in self._layers]
        self._out = [Pointwise(layer.out) for layer in self._layers]
        self._attention = {
            int(i): AttentionByPixel(cast(Attention, a), n, H * W) for i, a in net.attention.items()
        }

    def _row(self, above: Tensor, y: int) -> None:
        v = above
        for layer, (for_v, for_h), vertical, horizontal in zip(
            self._layers, self._context, self._vertical, self._horizontal, strict=True
        ):
            below = vertical(v) + for_v[:, :, y : y + 1]
            horizontal.start(layer.across(below) + for_h[:, :, y : y + 1])
            v = gate(below)

    def features(self, x: int) -> Tensor:
        """The horizontal stack at column X."""
        h = self._out[0](gate(self._horizontal[0].at(x)))
        if 0 in self._attention:
            h = self._attention[0].at(h)
        for i in range(1, len(self._layers)):
            self._horizontal[i].put(x, h)
            h = h + self._out[i](gate(self._horizontal[i].at(x)))
            if i in self._attention:
                h = self._attention[i].at(h)
        return h

    def _pixel(self, x: int, pixel: Tensor) -> None:
        self._horizontal[0].put(x, pixel)
        for attention in self._attention.values():
            attention.put(pixel)
