"""Causal convolutions and attention over images, each with a twin that computes only what is new.

Pixels come in raster order: row by row from the top, each from left to right. A layer is causal if
what it gives at a pixel depends on its input at that pixel and earlier ones alone, and strictly
causal if on earlier ones alone. A network of causal layers behind strictly causal ones can be
trained on whole images at once, and drawn from one pixel at a time.

The twin of a layer remembers what it has seen and is asked for a row or a pixel at a time:
`ByRow` for `Down`, `ByPixel` for `Right` and `Masked`, `AttentionByPixel` for `Attention`. Maps are
[N, C, H, W], a row of a map is [N, C, 1, W], a pixel of it [N, C].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab_nets.attention import attend


class Down(nn.Conv2d):
    """Sees ROWS rows, down to a pixel's own, and COLUMNS columns with its own in the middle.

    Causal only behind a layer that is STRICT: such a one ends with the row above.
    """

    def __init__(
        self, inputs: int, outputs: int, rows: int, columns: int, strict: bool = False
    ) -> None:
        super().__init__(inputs, outputs, (rows, columns))
        side = columns // 2
        self.pads = (side, side, rows - 1 + strict, -int(strict))

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H, W] of X, [N, inputs, H, W]."""
        y: Tensor = self._conv_forward(F.pad(x, self.pads), self.weight, self.bias)
        return y


class Right(nn.Conv2d):
    """Sees ROWS rows down to a pixel's own, and of each COLUMNS columns up to its own.

    STRICT: up to the column on its left.
    """

    def __init__(
        self, inputs: int, outputs: int, rows: int, columns: int, strict: bool = False
    ) -> None:
        super().__init__(inputs, outputs, (rows, columns))
        self.pads = (columns - 1 + strict, -int(strict), rows - 1, 0)
        self.own = columns

    @property
    def kernel(self) -> Tensor:
        """The weights in use, [outputs, inputs, rows, columns]."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H, W] of X, [N, inputs, H, W]."""
        y: Tensor = self._conv_forward(F.pad(x, self.pads), self.kernel, self.bias)
        return y


class Masked(nn.Conv2d):
    """A convolution of SIZE x SIZE whose weights for later pixels are zero (van den Oord et al.
    2016, arXiv:1601.06759, section 3.4): mask B, or if STRICT mask A, which hides its own pixel.

    The rows below, which are all hidden, are left out of the kernel.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, strict: bool = False) -> None:
        half = size // 2
        super().__init__(inputs, outputs, (half + 1, size))
        self.pads = (half, half, half, 0)
        self.own = half + (not strict)
        mask = torch.ones(half + 1, size)
        mask[-1, self.own :] = 0
        self.register_buffer("mask", mask, persistent=False)

    @property
    def kernel(self) -> Tensor:
        """The weights in use, [outputs, inputs, rows, columns]."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H, W] of X, [N, inputs, H, W]."""
        y: Tensor = self._conv_forward(F.pad(x, self.pads), self.kernel, self.bias)
        return y


class ByRow:
    """`Down` for N images of width W, a row at a time."""

    def __init__(self, conv: Down, n: int, width: int) -> None:
        self._conv = conv
        self._side = conv.pads[:2]
        rows = conv.kernel_size[0]
        self._rows = conv.weight.new_zeros(n, conv.in_channels, rows, width)

    def __call__(self, row: Tensor) -> Tensor:
        """The next row of the output, for the next ROW of the input: for a strict layer the row
        above, which is zero at first.
        """
        self._rows = torch.cat([self._rows[:, :, 1:], row], 2)
        return F.conv2d(F.pad(self._rows, self._side), self._conv.weight, self._conv.bias)


class ByPixel:
    """`Right` or `Masked` for N images of width W, a pixel at a time.

    A row begins with `start`. For each pixel x of it, `put` says what the input is there and `at`
    what the output is: in this order, or if the layer is strict in the other.
    """

    def __init__(self, conv: Right | Masked, n: int, width: int) -> None:
        assert conv.bias is not None
        kernel, i = conv.kernel, conv.in_channels
        self._above, self._bias, self._pads = kernel[:, :, :-1], conv.bias, conv.pads
        # what the row itself contributes is one product: its pixels lie side by side in memory
        own = kernel[:, :, -1, : conv.own]
        self._own = own.permute(2, 1, 0).reshape(conv.own * i, conv.out_channels).contiguous()
        self._inputs, self._width, self._window = i, width, conv.own * i
        self._margin = conv.pads[0] * i
        self._rows = kernel.new_zeros(n, i, kernel.shape[2] - 1, width)
        self._line = kernel.new_zeros(n, self._margin + width * i)
        self._given = kernel.new_zeros(n, width, conv.out_channels)

    def start(self, extra: Tensor | float = 0.0) -> None:
        """Begin the next row. EXTRA, a row [N, outputs, 1, W], is added to its output."""
        n, i = self._rows.shape[:2]
        given = extra + self._bias[:, None, None]
        if self._rows.shape[2]:
            line = self._line[:, self._margin :].view(n, 1, self._width, i)
            self._rows = torch.cat([self._rows[:, :, 1:], line.permute(0, 3, 1, 2)], 2)
            given = given + F.conv2d(F.pad(self._rows, self._pads[:2]), self._above)
        self._given = given.expand(n, -1, 1, self._width)[:, :, 0].transpose(1, 2).contiguous()

    def put(self, x: int, pixel: Tensor) -> None:
        """The input at column X is PIXEL, [N, inputs]."""
        start = self._margin + x * self._inputs
        self._line[:, start : start + self._inputs] = pixel

    def at(self, x: int) -> Tensor:
        """The output at column X, [N, outputs]."""
        start = x * self._inputs
        window = self._line[:, start : start + self._window]
        return torch.addmm(self._given[:, x], window, self._own)


class Attention(nn.Module):
    """Each pixel looks at all earlier ones (PixelSNAIL, Chen et al. 2018, arXiv:1712.09763).

    A pixel asks with its features h, which know earlier pixels alone, and is answered with keys and
    values made of h and the input x of strictly earlier ones. What it hears is added to h.
    """

    def __init__(self, channels: int, inputs: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = math.gcd(heads, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.memory = nn.Conv2d(channels + inputs, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)  # to begin with, nothing is heard

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """H, [N, channels, H, W], and what it hears of itself and X, [N, inputs, H, W]."""
        n, c, height, width = h.shape
        q = self._split(self.query(h).flatten(2))
        # a place that says nothing is put before the first, and all others move on by one: a pixel
        # may then look at the places up to its own
        k, v = F.pad(self.memory(torch.cat([h, x], 1)).flatten(2), (1, -1)).chunk(2, 1)
        heard = attend(q, self._split(k), self._split(v), causal=True)
        heard = heard.transpose(2, 3).reshape(n, c, height, width)
        y: Tensor = h + self.out(heard)
        return y

    def _split(self, a: Tensor) -> Tensor:
        """[N, heads, places, channels of a head] of A, [N, channels, places]."""
        n, c, places = a.shape
        return a.reshape(n, self.heads, c // self.heads, places).transpose(2, 3)


class AttentionByPixel:
    """`Attention` for N images of so many PIXELS, a pixel at a time."""

    def __init__(self, attention: Attention, n: int, pixels: int) -> None:
        self._query, self._out = Pointwise(attention.query), Pointwise(attention.out)
        self._memory = Pointwise(attention.memory)
        c, self._heads = attention.query.out_channels, attention.heads
        size = (n, self._heads, 1 + pixels, c // self._heads)
        self._keys, self._values = (attention.out.weight.new_zeros(size) for _ in range(2))
        self._h = attention.out.weight.new_zeros(n, c)
        self._seen = 1  # the place that says nothing

    def at(self, h: Tensor) -> Tensor:
        """The output, [N, channels], at the next pixel, where the features are H."""
        self._h = h
        q = self._query(h).view(len(h), self._heads, 1, -1)
        keys, values = self._keys[:, :, : self._seen], self._values[:, :, : self._seen]
        heard = attend(q, keys, values)
        return h + self._out(heard.flatten(1))

    def put(self, x: Tensor) -> None:
        """The input at that pixel is X, [N, inputs]."""
        memory = self._memory(torch.cat([self._h, x], 1))
        k, v = memory.view(len(x), 2, self._heads, -1).unbind(1)
        self._keys[:, :, self._seen], self._values[:, :, self._seen] = k, v
        self._seen += 1


class Pointwise:
    """A convolution of 1 x 1 at one pixel, [N, inputs] to [N, outputs]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        assert conv.bias is not None
        self._weight, self._bias = conv.weight[:, :, 0, 0].t().contiguous(), conv.bias

    def __call__(self, x: Tensor) -> Tensor:
        """The output at a pixel where the input is X."""
        return torch.addmm(self._bias, x, self._weight)
