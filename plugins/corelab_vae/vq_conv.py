"""The model "vq-conv" of the interface "codec": convolutions and residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from corelab import PluginError, require
from corelab_vae.codec import Quantise
from corelab_vae.conv import Residual


class VQConv(nn.Module):
    """Encoder and decoder that halve and double the resolution, with one grid of vectors or two.

    The first halving takes every 2 x 2 pixels as channels of one, which costs a quarter of
    convolving at full resolution. Of two grids the coarse one has half the sides of the fine one,
    which knows of it (Razavi et al. 2019, algorithm 1 and figure 2a).
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional network."""

        halvings: int = 2
        """How often height and width are halved from the image to the (coarsest) grid of codes."""
        channels: int = 32
        """Channels at half the resolution; there are twice as many at a quarter and below."""
        blocks: int = 1
        """Residual blocks of the encoder, and of the decoder, at the resolution of the codes."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], dim: int, levels: int, outputs: int
    ) -> None:
        super().__init__()
        least = f"at least {levels}, one for each level of codes"
        require(config.halvings >= levels, "model.halvings", config.halvings, least)
        require(config.channels >= 1, "model.channels", config.channels, "at least 1")
        require(config.blocks >= 0, "model.blocks", config.blocks, "zero or positive")
        C, H, W = shape
        side = 2**config.halvings
        if H % side or W % side:
            raise PluginError(
                f"with model.halvings={config.halvings} the model vq-conv fits images whose height "
                f"and width are multiples of {side}, not {H} x {W}"
            )
        self.grids = tuple((H // side * 2**i, W // side * 2**i) for i in range(levels))
        wide = 2 * config.channels
        halvings = config.halvings - (levels - 1)  # to the finest grid
        widths = [config.channels, *[wide] * (halvings - 1)]
        deep = widths[-1]

        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * C, widths[0], 3, padding=1),
            *_between([nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]),
            *(Residual(deep) for _ in range(config.blocks)),
            nn.SiLU(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(levels * dim, deep, 3, padding=1),
            *(Residual(deep) for _ in range(config.blocks)),
            *_between(
                [
                    nn.ConvTranspose2d(b, a, 4, stride=2, padding=1)
                    for a, b in reversed(list(pairwise(widths)))
                ]
            ),
            nn.SiLU(),
            nn.Conv2d(widths[0], 4 * outputs * C, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.to_finest = nn.Conv2d(deep + (levels - 1) * dim, dim, 1)
        if levels == 2:
            self.to_coarse = nn.Sequential(
                nn.Conv2d(deep, wide, 4, stride=2, padding=1),
                *(Residual(wide) for _ in range(config.blocks)),
                nn.SiLU(),
                nn.Conv2d(wide, dim, 1),
            )
            self.for_encoder = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
            self.for_decoder = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
        self._pixels = (outputs, C, H, W)

    def encode(self, x: Tensor, quantise: Quantise) -> list[Tensor]:
        """The entries [N, d, h, w] of each level for X, [N, C, H, W]; the coarse one first."""
        h = self.encoder(x)
        if len(self.grids) == 1:
            return [quantise(0, self.to_finest(h))]
        top = quantise(0, self.to_coarse(h))
        bottom = quantise(1, self.to_finest(torch.cat([h, self.for_encoder(top)], 1)))
        return [top, bottom]

    def decode(self, e: Sequence[Tensor]) -> Tensor:
        """Parameters [N, outputs, C, H, W] for the entries E of each level."""
        *above, finest = e
        parameters: Tensor = self.decoder(
            torch.cat([*(self.for_decoder(t) for t in above), finest], 1)
        )
        return parameters.reshape(-1, *self._pixels)


def _between(layers: list[nn.Module]) -> list[nn.Module]:
    """LAYERS, each with a SiLU before it."""
    return [module for layer in layers for module in (nn.SiLU(), layer)]
