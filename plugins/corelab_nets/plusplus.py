"""The network of PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517), at one resolution.

Two streams of gated residual blocks: u sees the rows above a pixel, ul those and the pixels on its
left; in every layer the first informs the second. The kernels are shifted, not masked.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab_nets.autoregressive import Autoregressive, Cache
from corelab_nets.masked import (
    Attention,
    AttentionByPixel,
    ByPixel,
    ByRow,
    Down,
    Right,
)


def concat_elu(x: Tensor) -> Tensor:
    """ELU of X and of -X, side by side along axis 1."""
    return F.elu(torch.cat([x, -x], 1))


class Block(nn.Module):
    """A gated residual block around convolutions FIRST and SECOND, of twice the channels each."""

    def __init__(self, channels: int, first: nn.Conv2d, second: nn.Conv2d, informed: bool) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.across = nn.Conv2d(2 * channels, channels, 1) if informed else None

    def forward(self, x: Tensor, context: Tensor, u: Tensor | None = None) -> Tensor:
        """X and its correction, [N, channels, H, W], under CONTEXT, [N, 2 channels, H, W], and U,
        the other stream.
        """
        c = self.first(concat_elu(x))
        if self.across is not None and u is not None:
            c = c + self.across(concat_elu(u))
        y: Tensor = x + F.glu(self.second(concat_elu(c)) + context, 1)
        return y


class PlusPlus(Autoregressive):
    """LAYERS layers of two blocks each; ATTENTION blocks are spread evenly over the stream ul.

    The other arguments are those of `Autoregressive`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        levels: int = 256,
        embed: int = 0,
        layers: int = 5,
        channels: int = 32,
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
            hidden=hidden or 2 * channels,
            classes=classes,
            condition=condition,
            context=4 * channels * layers,
        )
        c = channels
        self.above = Down(self.seen, c, 2, 3, strict=True)
        self.row_above = Down(self.seen, c, 1, 3, strict=True)
        self.left = Right(self.seen, c, 2, 1, strict=True)
        self.u = nn.ModuleList(
            Block(c, Down(2 * c, c, 2, 3), Down(2 * c, 2 * c, 2, 3), informed=False)
            for _ in range(layers)
        )
        self.ul = nn.ModuleList(
            Block(c, Right(2 * c, c, 2, 2), Right(2 * c, 2 * c, 2, 2), informed=True)
            for _ in range(layers)
        )
        after = {(i + 1) * layers // attention - 1 for i in range(attention)}
        self.attention = nn.ModuleDict({str(i): Attention(c, self.seen) for i in sorted(after)})

    def _features(self, x: Tensor, context: Tensor) -> Tensor:
        u: Tensor = self.above(x)
        ul: Tensor = self.row_above(x) + self.left(x)
        for i, part in enumerate(context.chunk(len(self.u), 1)):
            for_u, for_ul = part.chunk(2, 1)
            u = self.u[i](u, for_u)
            ul = self.ul[i](ul, for_ul, u)
            if str(i) in self.attention:
                ul = self.attention[str(i)](ul, x)
        return ul

    def cache(self, n: int, context: Tensor) -> PlusPlusCache:
        """What draws N images under CONTEXT."""
        return PlusPlusCache(self, n, context)


class PlusPlusCache(Cache):
    """The stream u of a row is known as soon as the rows above are; ul goes from pixel to pixel."""

    def __init__(self, net: PlusPlus, n: int, context: Tensor) -> None:
        super().__init__(net.background, net.inputs, n)
        _, H, W = net.shape
        self._context = [
            part.expand(-1, -1, H, -1).chunk(2, 1) for part in context.chunk(len(net.u), 1)
        ]
        self._above, self._row_above = ByRow(net.above, n, W), ByRow(net.row_above, n, W)
        self._left = ByPixel(net.left, n, W)
        u, ul = (cast(list[Block], list(stream)) for stream in (net.u, net.ul))
        self._u = [[ByRow(cast(Down, c), n, W) for c in (b.first, b.second)] for b in u]
        self._ul = [[ByPixel(cast(Right, c), n, W) for c in (b.first, b.second)] for b in ul]
        self._across = [cast(nn.Conv2d, block.across) for block in ul]
        self._attention = {
            int(i): AttentionByPixel(cast(Attention, a), n, H * W) for i, a in net.attention.items()
        }

    def _row(self, above: Tensor, y: int) -> None:
        self._left.start(self._row_above(above))
        u = self._above(above)
        for (for_u, for_ul), u_convs, ul_convs, across in zip(
            self._context, self._u, self._ul, self._across, strict=True
        ):
            c = u_convs[0](concat_elu(u))
            u = u + F.glu(u_convs[1](concat_elu(c)) + for_u[:, :, y : y + 1], 1)
            ul_convs[0].start(across(concat_elu(u)))
            ul_convs[1].start(for_ul[:, :, y : y + 1])

    def features(self, x: int) -> Tensor:
        """The stream ul at column X."""
        ul = self._left.at(x)
        for i, (first, second) in enumerate(self._ul):
            first.put(x, concat_elu(ul))
            second.put(x, concat_elu(first.at(x)))
            ul = ul + F.glu(second.at(x), 1)
            if i in self._attention:
                ul = self._attention[i].at(ul)
        return ul

    def _pixel(self, x: int, pixel: Tensor) -> None:
        self._left.put(x, pixel)
        for attention in self._attention.values():
            attention.put(pixel)
