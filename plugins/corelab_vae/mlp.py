"""The model "mlp" of the interface "autoencoder": two residual multilayer perceptrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab import require
from corelab_vae.conditioning import labelled


class MLP(nn.Module):
    """An encoder and a decoder of residual blocks, for images of any size."""

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        width: int = 512
        """Width of all hidden layers."""
        blocks: int = 1
        """Residual blocks of the encoder, and of the decoder; 0 leaves one hidden layer in each."""

    def __init__(
        self,
        config: Config,
        shape: tuple[int, int, int],
        latent: int,
        outputs: int,
        classes: int = 0,
    ) -> None:
        super().__init__()
        require(config.width >= 1, "model.width", config.width, "at least 1")
        require(config.blocks >= 0, "model.blocks", config.blocks, "at least 0")
        D = math.prod(shape)
        self.encoder = _perceptron(D + classes, config, 2 * latent)
        self.decoder = _perceptron(latent + classes, config, outputs * D)
        self._pixels, self._classes = (outputs, *shape), classes

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log-variances [N, latent] of the codes of X, [N, C, H, W], of classes Y [N]."""
        mean, logit = self.encoder(labelled(x.flatten(1), y, self._classes)).chunk(2, dim=1)
        return mean, F.logsigmoid(logit)  # no code is less certain than the prior

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters [N, outputs, C, H, W] for Z, [N, latent], and classes Y [N]."""
        parameters: Tensor = self.decoder(labelled(z, y, self._classes))
        return parameters.reshape(-1, *self._pixels)


def _perceptron(inputs: int, config: MLP.Config, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, config.width),
        *(Residual(config.width) for _ in range(config.blocks)),
        nn.SiLU(),
        nn.Linear(config.width, outputs),
    )


class Residual(nn.Module):
    """Adds to its input what two layers make of it: nothing, to begin with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, width)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.body = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, h: Tensor) -> Tensor:
        """H plus its correction, [N, width]."""
        correction: Tensor = self.body(h)
        return h + correction
