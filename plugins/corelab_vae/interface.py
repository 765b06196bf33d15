"""The interface "autoencoder": a network that codes images as Gaussians and decodes them."""

from __future__ import annotations

from typing import Protocol

import torch


class Autoencoder(Protocol):
    """An `nn.Module`, built as `model(shape=(C, H, W), latent=d, outputs=k, classes=c)`.

    With c > 0 classes it is told the labels Y of the images, int64 [N]; otherwise they are None.
    """

    def encode(
        self, x: torch.Tensor, y: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance, each [N, d], of the code of X: float [N, C, H, W] in [-1, 1].

        The variance should have a ceiling, such as 1, that of the prior: one unusual image for
        which it is e^30 ruins a run, and the mean over a test set.
        """

    def decode(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Parameters [N, k, C, H, W], of any size, of the pixels that the codes Z [N, d] stand for.

        What they mean is up to the likelihood, which asks for k of them per sub-pixel.
        """
