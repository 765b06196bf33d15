"""The model "conv" of the interface "autoencoder": convolutions and residual blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab import PluginError, require
from corelab_vae.conditioning import labelled


class Conv(nn.Module):
    """Encoder and decoder that halve and double the resolution twice.

    The first halving takes every 2 x 2 pixels as channels of one, which costs a quarter of
    convolving at full resolution. For images whose height and width are multiples of 4.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional network."""

        channels: int = 32
        """Channels at half the resolution; there are twice as many at a quarter of it."""
        blocks: int = 1
        """Residual blocks of the encoder, and of the decoder, at a quarter of the resolution."""
        hidden: int = 256
        """Width of the layer between the feature maps and the code, on either side."""

    def __init__(
        self,
        config: Config,
        shape: tuple[int, int, int],
        latent: int,
        outputs: int,
        classes: int = 0,
    ) -> None:
        super().__init__()
        for option, least in (("channels", 1), ("blocks", 0), ("hidden", 1)):
            value = getattr(config, option)
            require(value >= least, f"model.{option}", value, f"at least {least}")
        C, H, W = shape
        if H % 4 or W % 4:
            raise PluginError(
                f"the model conv fits images whose height and width are multiples of 4, not "
                f"{H} x {W}; the model mlp fits any"
            )
        half, quarter = config.channels, 2 * config.channels
        features = (quarter, H // 4, W // 4)
        size = quarter * (H // 4) * (W // 4)
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * C, half, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(half, quarter, 4, stride=2, padding=1),
            *(Residual(quarter) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.encoder = nn.Sequential(
            nn.Linear(size + classes, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent + classes, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, size),
            nn.Unflatten(1, features),
            *(Residual(quarter) for _ in range(config.blocks)),
            nn.SiLU(),
            nn.ConvTranspose2d(quarter, half, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(half, 4 * outputs * C, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self._pixels, self._classes = (outputs, C, H, W), classes

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log-variances [N, latent] of the codes of X, [N, C, H, W], of classes Y [N]."""
        h = self.features(x.contiguous(memory_format=torch.channels_last))
        mean, logit = self.encoder(labelled(h, y, self._classes)).chunk(2, dim=1)
        return mean, F.logsigmoid(logit)  # no code is less certain than the prior

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters [N, outputs, C, H, W] for Z, [N, latent], and classes Y [N]."""
        parameters: Tensor = self.decoder(labelled(z, y, self._classes))
        return parameters.reshape(-1, *self._pixels)


class Residual(nn.Module):
    """Adds to its input what two convolutions make of it: nothing, to begin with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.body = nn.Sequential(
            nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """X plus its correction, [N, channels, H, W]."""
        correction: Tensor = self.body(x)
        return x + correction
