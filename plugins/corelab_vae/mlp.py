"""The model "mlp" of the interface "autoencoder": two multilayer perceptrons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab import ConfigError


class MLP(nn.Module):
    """An encoder and a decoder with SiLU between their layers, for images of any size."""

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        sizes: tuple[int, ...] = (512, 512)
        """Widths of the hidden layers of the encoder; the decoder has them in reverse order."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, outputs: int
    ) -> None:
        super().__init__()
        if any(size < 1 for size in config.sizes):
            raise ConfigError(f"model.sizes is {config.sizes}; each must be at least 1")
        D = math.prod(shape)
        self.encoder = _perceptron(D, *config.sizes, 2 * latent)
        self.decoder = _perceptron(latent, *reversed(config.sizes), outputs * D)
        self._pixels = (outputs, *shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances [N, latent] of the codes of X, [N, C, H, W]."""
        mean, logit = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, F.logsigmoid(logit)  # no code is less certain than the prior

    def decode(self, z: Tensor) -> Tensor:
        """Parameters [N, outputs, C, H, W] for Z, [N, latent]."""
        parameters: Tensor = self.decoder(z)
        return parameters.reshape(-1, *self._pixels)


def _perceptron(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
