"""Encoder, codebooks and decoder as one network, which reads and writes images and codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_generative.likelihoods import LIKELIHOODS
from torch import Tensor, nn

from corelab_vae.codec import Codec
from corelab_vae.quantiser import Codebook, straight_through

LIKELIHOOD = LIKELIHOODS["logistic"]
"""p(x|e) of a sub-pixel: one of 256 levels."""


class Coded(NamedTuple):
    """What an image becomes, for each level of codes, the coarsest first."""

    z: list[Tensor]
    """The vectors of the encoder, [N, d, h, w]."""
    k: list[Tensor]
    """The numbers of the nearest entries, int64 [N, h, w]."""
    e: list[Tensor]
    """These entries, [N, d, h, w], whose gradient goes to z."""


class QuantisedAutoencoder(nn.Module):
    """Encoder, codebooks and decoder."""

    def __init__(self, net: Codec, books: Sequence[Codebook]) -> None:
        super().__init__()
        self.net = net
        self.books = nn.ModuleList(books)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Coded]:
        """-log p(x|e) in nats and ||z - sg[e]||², a mean over the numbers in z, each [N]; and what
        X, [N, C, H, W], becomes.
        """
        coded = self.encode(x)
        log_p = LIKELIHOOD.log_prob(x, self.net.decode(coded.e).float())
        distances = [(z - e.detach()) ** 2 for z, e in zip(coded.z, coded.e, strict=True)]
        commitment = torch.stack([d.flatten(1).mean(1) for d in distances]).sum(0)
        return -log_p.flatten(1).sum(1), commitment, coded

    def encode(self, x: Tensor) -> Coded:
        """What X, [N, C, H, W], becomes."""
        z: list[Tensor] = []
        k: list[Tensor] = []

        def quantise(level: int, vectors: Tensor) -> Tensor:
            book = self.book(level)
            z.append(vectors.to(book.e))
            k.append(book.nearest(z[-1]))
            return straight_through(z[-1], book.look_up(k[-1]))

        return Coded(z, k, self.net.encode(x, quantise))

    def decode(self, k: Sequence[Tensor]) -> Tensor:
        """Parameters [N, 2, C, H, W] of the pixels for the codes K, [N, h, w] for each level."""
        parameters = self.net.decode([self.book(i).look_up(k_i) for i, k_i in enumerate(k)])
        return parameters.float()

    def latents(self, x: Tensor) -> Tensor:
        """The vectors of X before they are rounded, [N, levels d, h, w] of the finest grid.

        A coarser level, repeated to that size, comes first.
        """
        size = self.net.grids[-1]
        return torch.cat([F.interpolate(z, size) for z in self.encode(x).z], 1)

    def nearest(self, z: Tensor) -> list[Tensor]:
        """The codes [N, h, w] of each level for Z, vectors as `latents` gives them."""
        parts = z.chunk(len(self.books), 1)
        return [
            self.book(level).nearest(F.adaptive_avg_pool2d(part, grid))
            for level, (part, grid) in enumerate(zip(parts, self.net.grids, strict=True))
        ]

    def book(self, level: int) -> Codebook:
        """The codebook of LEVEL."""
        return cast(Codebook, self.books[level])
