"""The PixelCNN (van den Oord et al. 2016, arXiv:1601.06759): masked convolutions, residual blocks.

Its receptive field has the blind spot of masked convolutions: pixels above a pixel, but far to the
right of it, that it never sees.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab_nets.autoregressive import Autoregressive, Cache
from corelab_nets.masked import ByPixel, Masked, Pointwise


class Block(nn.Module):
    """A residual block (figure 5): 1 x 1 to half the channels, mask B, 1 x 1 back."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.masked = Masked(channels, channels, kernel)
        self.wide = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """H, [N, 2 channels, H, W], and its correction under CONTEXT, [N, channels, H, W]."""
        narrow = F.relu(self.narrow(F.relu(h)))
        y: Tensor = h + self.wide(F.relu(self.masked(narrow) + context))
        return y


class Plain(Autoregressive):
    """A convolution of FIRST x FIRST with mask A, and LAYERS - 1 residual blocks with mask B of
    KERNEL x KERNEL, on maps of 2 CHANNELS. The other arguments are those of `Autoregressive`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        levels: int = 256,
        embed: int = 0,
        layers: int = 8,
        channels: int = 32,
        kernel: int = 3,
        first: int = 7,
        hidden: int = 0,
        classes: int = 0,
        condition: int = 0,
    ) -> None:
        super().__init__(
            shape,
            outputs,
            levels=levels,
            embed=embed,
            features=2 * channels,
            hidden=hidden or 2 * channels,
            classes=classes,
            condition=condition,
            context=channels * (layers + 1),
        )
        self.parts = [2 * channels, *[channels] * (layers - 1)]
        """How many channels of the context each layer gets."""
        self.first = Masked(self.seen, 2 * channels, first, strict=True)
        self.blocks = nn.ModuleList(Block(channels, kernel) for _ in range(layers - 1))

    def _features(self, x: Tensor, context: Tensor) -> Tensor:
        first, *rest = torch.split(context, self.parts, 1)
        h: Tensor = self.first(x) + first
        for block, part in zip(self.blocks, rest, strict=True):
            h = block(h, part)
        return h

    def cache(self, n: int, context: Tensor) -> PlainCache:
        """What draws N images under CONTEXT."""
        return PlainCache(self, n, context)


class PlainCache(Cache):
    """Each masked convolution remembers its input as far up and left as it sees."""

    def __init__(self, net: Plain, n: int, context: Tensor) -> None:
        super().__init__(net.background, net.inputs, n)
        _, H, W = net.shape
        self._context = [part.expand(-1, -1, H, -1) for part in torch.split(context, net.parts, 1)]
        blocks = cast(list[Block], list(net.blocks))
        convs = [net.first, *(block.masked for block in blocks)]
        self._masked = [ByPixel(conv, n, W) for conv in convs]
        self._narrow = [Pointwise(block.narrow) for block in blocks]
        self._wide = [Pointwise(block.wide) for block in blocks]

    def _row(self, above: Tensor, y: int) -> None:
        for masked, part in zip(self._masked, self._context, strict=True):
            masked.start(part[:, :, y : y + 1])

    def features(self, x: int) -> Tensor:
        """The last block at column X."""
        first, *rest = self._masked
        h = first.at(x)
        for narrow, masked, wide in zip(self._narrow, rest, self._wide, strict=True):
            masked.put(x, F.relu(narrow(F.relu(h))))
            h = h + wide(F.relu(masked.at(x)))
        return h

    def _pixel(self, x: int, pixel: Tensor) -> None:
        self._masked[0].put(x, pixel)
