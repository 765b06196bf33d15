"""Images one sub-pixel after the other: what all autoregressive networks share, and their samplers.

    p(x) = Π_i p(x_i | x_1, …, x_{i-1}),

the product over the sub-pixels (channels of pixels) in raster order, the channels of a pixel in
theirs. A network gives the parameters of every factor from the whole image at once, which is what
likelihoods and training need. To draw, the factors are needed one after the other: `sample`
computes of each only what is new, by means of the network's `Cache`, and `sample_naively` does as
the formula says, with one pass of the network for each sub-pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab_nets.masked import Pointwise

Levels = Callable[[Tensor, Tensor], Tensor]
"""Log-probabilities [N, levels], up to a constant, of a sub-pixel's levels, from the network's
parameters [N, k] for it and the levels [N, c] of the c channels before it, int64."""


def categorical(parameters: Tensor, before: Tensor) -> Tensor:
    """The parameters are the log-probabilities themselves, up to a constant."""
    return parameters


class Cache(ABC):
    """A network that draws N images: it is told one pixel after the other, and predicts the next.

    For each row `start`, then for each pixel of it `features` and `put`.
    """

    def __init__(self, background: Tensor, inputs: int, n: int) -> None:
        self._inputs = inputs
        self._y = -1
        empty = background.new_zeros(n, inputs, *background.shape[2:])
        self._canvas = torch.cat([empty, background.expand(n, -1, -1, -1)], 1)

    def start(self) -> None:
        """Begin the next row."""
        self._y += 1
        above = self._canvas[:, :, self._y - 1 : self._y] if self._y else self._canvas[:, :, :1] * 0
        self._row(above, self._y)

    def put(self, x: int, pixel: Tensor) -> None:
        """The encoded pixel at column X is PIXEL, [N, inputs]."""
        self._canvas[:, : self._inputs, self._y, x] = pixel
        self._pixel(x, self._canvas[:, :, self._y, x])

    @abstractmethod
    def _row(self, above: Tensor, y: int) -> None:
        """Row Y begins. ABOVE is the input of the row before, [N, inputs + background, 1, W], zero
        for the first.
        """

    @abstractmethod
    def features(self, x: int) -> Tensor:
        """The features [N, F] at column X of the row."""

    @abstractmethod
    def _pixel(self, x: int, pixel: Tensor) -> None:
        """The input at column X is PIXEL, [N, inputs + background]."""


class Head(nn.Module):
    """From the features of a pixel to the parameters of its C sub-pixels.

    The features know earlier pixels alone; the hidden units of a sub-pixel see the sub-pixels
    before it, too, encoded as E numbers each.
    """

    def __init__(self, features: int, hidden: int, channels: int, encoded: int, k: int) -> None:
        super().__init__()
        self.channels, self.encoded, self.k = channels, encoded, k
        self.hidden = nn.Conv2d(features, channels * hidden, 1)
        self.before = nn.ModuleList(
            nn.Conv2d(c * encoded, hidden, 1, bias=False) for c in range(1, channels)
        )
        self.out = nn.Conv2d(channels * hidden, channels * k, 1, groups=channels)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """Parameters [N, k, C, H, W] from the features H [N, F, H, W] and X [N, C E, H, W]."""
        hidden = self.hidden(F.relu(h))
        if self.before:
            seen = [conv(x[:, : (c + 1) * self.encoded]) for c, conv in enumerate(self.before)]
            hidden = hidden + torch.cat([torch.zeros_like(seen[0]), *seen], 1)
        y: Tensor = self.out(F.relu(hidden))
        return y.reshape(len(y), self.channels, self.k, *y.shape[2:]).transpose(1, 2)


class HeadByPixel:
    """`Head` at one pixel, a sub-pixel at a time."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._hidden = Pointwise(head.hidden)
        before = [cast(nn.Conv2d, conv) for conv in head.before]
        self._before = [conv.weight[:, :, 0, 0].t() for conv in before]
        weight, bias = head.out.weight[:, :, 0, 0], head.out.bias
        assert bias is not None
        self._out = [
            (w.t().contiguous(), b)
            for w, b in zip(weight.chunk(head.channels), bias.chunk(head.channels), strict=True)
        ]
        self._units: tuple[Tensor, ...] = ()

    def start(self, h: Tensor) -> None:
        """Go to the pixel with the features H, [N, F]."""
        self._units = self._hidden(F.relu(h)).chunk(self._head.channels, 1)

    def at(self, c: int, x: Tensor) -> Tensor:
        """Parameters [N, k] of sub-pixel C; those before it are, encoded, X [N, c E]."""
        units = self._units[c]
        if c:
            units = torch.addmm(units, x, self._before[c - 1])
        weight, bias = self._out[c]
        return torch.addmm(bias, F.relu(units), weight)


class Autoregressive(nn.Module, ABC):
    """A network for images of symbols [N, C, H, W], integers from 0 to LEVELS - 1.

    What a pixel is told of the others comes by way of `_features`; a subclass says how, on whole
    images there and pixel by pixel in `cache`. SHAPE is (C, H, W); a sub-pixel has OUTPUTS
    parameters. A symbol is encoded as EMBED learned numbers or, if that is 0, as one from -1 to 1.
    With CLASSES there is a label for each image, with CONDITION a map of so many channels; they are
    turned into CONTEXT channels, which the subclass adds where it likes.
    """

    background: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        levels: int,
        embed: int,
        features: int,
        hidden: int,
        classes: int,
        condition: int,
        context: int,
    ) -> None:
        super().__init__()
        C, H, W = shape
        self.shape, self.levels, self.known = shape, levels, context
        self.symbols = nn.Embedding(levels, embed) if embed else None
        encoded = embed or 1
        self.inputs = C * encoded
        """Channels of an encoded image."""
        self.label = nn.Embedding(classes, context) if classes else None
        self.place = nn.Conv2d(condition, context, 1) if condition else None
        if self.label is not None:
            nn.init.zeros_(self.label.weight)
        self.head = Head(features, hidden, C, encoded, outputs)
        # where a pixel is: in the image at all (padding is 0 there), in which row, in which column
        rows = torch.linspace(-1, 1, H)[:, None].expand(H, W)
        columns = torch.linspace(-1, 1, W).expand(H, W)
        background = torch.stack([torch.ones(H, W), rows, columns])[None]
        self.register_buffer("background", background, persistent=False)
        self.seen = self.inputs + 3
        """Channels of an encoded image with the background."""

    def encode(self, symbols: Tensor) -> Tensor:
        """Float [N, inputs, …] for SYMBOLS, integers [N, C, …]."""
        if self.symbols is not None:
            embedded: Tensor = self.symbols(symbols.long())  # [N, C, …, embed]
            return embedded.movedim(-1, 2).flatten(1, 2)
        return symbols.to(self.background.dtype) * (2 / (self.levels - 1)) - 1

    def forward(
        self, symbols: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Parameters [N, outputs, C, H, W] of all sub-pixels of SYMBOLS, integers [N, C, H, W].

        LABELS are int64 [N], CONDITION float [N, condition, H, W]: as the network was made for.
        """
        return self.predict(self.encode(symbols), labels, condition)

    def predict(
        self, x: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """The same for an encoded image X, [N, inputs, H, W]."""
        seen = torch.cat([x, self.background.expand(len(x), -1, -1, -1)], 1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        parameters: Tensor = self.head(self._features(seen, self.context(labels, condition)), x)
        return parameters

    def context(self, labels: Tensor | None, condition: Tensor | None) -> Tensor:
        """What is known beforehand, [N or 1, context, H or 1, W or 1]; zero if it is nothing."""
        context = self.background.new_zeros(1, self.known, 1, 1)
        if self.label is not None:
            assert labels is not None, "this network needs the labels of the images"
            context = context + self.label(labels)[:, :, None, None]
        if self.place is not None:
            assert condition is not None, "this network needs a condition"
            context = context + self.place(condition)
        return context

    @abstractmethod
    def _features(self, x: Tensor, context: Tensor) -> Tensor:
        """Features [N, F, H, W] of X, [N, seen, H, W]: those of a pixel know earlier ones alone."""

    @abstractmethod
    def cache(self, n: int, context: Tensor) -> Cache:
        """What draws N images under CONTEXT."""


@torch.no_grad()
def sample(
    net: Autoregressive,
    uniforms: Tensor,
    *,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    prefix: Tensor | None = None,
    levels: Levels = categorical,
    temperature: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """Symbols int64 [N, C, H, W] from UNIFORMS, [N, C, H, W] in [0, 1), one for each sub-pixel.

    A sub-pixel is the inverse of its distribution function at its uniform, so the same ones give
    the same image. The first rows are those of PREFIX, integers [N, C, rows, W], if there is one.
    The log-probabilities that LEVELS gives are divided by TEMPERATURE; of the TOP_K likeliest
    levels, if that is not 0, one is drawn. Nothing is computed twice, see `Cache`.
    """
    n, C, H, W = uniforms.shape
    symbols, given = _canvas(uniforms, prefix)
    u = below_one(uniforms)
    with torch.autocast(uniforms.device.type, enabled=False):  # the weights' own precision
        cache, head = net.cache(n, net.context(labels, condition)), HeadByPixel(net.head)
        for y in range(H):
            cache.start()
            for x in range(W):
                h = cache.features(x)
                if y < given:
                    pixel = net.encode(symbols[:, :, y, x])
                else:
                    pixel = h.new_empty(n, 0)
                    head.start(h)
                    for c in range(C):
                        logits = levels(head.at(c, pixel), symbols[:, :c, y, x])
                        drawn = draw(logits, u[:, c, y, x], temperature, top_k)
                        symbols[:, c, y, x] = drawn
                        pixel = torch.cat([pixel, net.encode(drawn[:, None])], 1)
                cache.put(x, pixel)
    return symbols


@torch.no_grad()
def sample_naively(
    net: Autoregressive,
    uniforms: Tensor,
    *,
    labels: Tensor | None = None,
    condition: Tensor | None = None,
    prefix: Tensor | None = None,
    levels: Levels = categorical,
    temperature: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """What `sample` does, with a pass of the whole network for each sub-pixel: its reference."""
    symbols, given = _canvas(uniforms, prefix)
    u = below_one(uniforms)
    _, C, H, W = uniforms.shape
    for y in range(given, H):
        for x in range(W):
            for c in range(C):
                parameters = net(symbols, labels, condition)[:, :, c, y, x]
                logits = levels(parameters, symbols[:, :c, y, x])
                symbols[:, c, y, x] = draw(logits, u[:, c, y, x], temperature, top_k)
    return symbols


def draw(logits: Tensor, u: Tensor, temperature: float = 1.0, top_k: int = 0) -> Tensor:
    """Levels int64 [N] at which the distribution functions of LOGITS, [N, levels], pass U, [N]."""
    if top_k:
        least = logits.topk(min(top_k, logits.shape[1]), 1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if temperature != 1:
        logits = logits / temperature
    cdf = torch.softmax(logits, 1).cumsum(1)
    return torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)[:, 0]


def _canvas(uniforms: Tensor, prefix: Tensor | None) -> tuple[Tensor, int]:
    """Symbols to begin with, and how many of their rows are given."""
    symbols = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
    given = 0 if prefix is None else prefix.shape[2]
    if prefix is not None:
        symbols[:, :, :given] = prefix
    return symbols, given


def below_one(uniforms: Tensor) -> Tensor:
    """So that, rounded, no product with a sum of probabilities reaches that sum."""
    return uniforms * (1 - torch.finfo(uniforms.dtype).eps)
