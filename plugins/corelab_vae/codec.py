"""The interface "codec": a network that turns images into grids of vectors, and these into images.

The vectors are rounded to the entries of a codebook on the way, which is not the network's business
but that of the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

Quantise = Callable[[int, Tensor], Tensor]
"""Called as `quantise(level, z)`: the entries of the codebook of LEVEL that are nearest to the
vectors Z, [N, d, h, w], of the same shape; their gradient is handed on to Z."""


class Codec(Protocol):
    """An `nn.Module`, built as `model(shape=(C, H, W), dim=d, levels=L, outputs=k)`."""

    grids: tuple[tuple[int, int], ...]
    """Height and width of the grid of each of the L levels, the coarsest, 0, first. The sides of
    the second are whole multiples of those of the first."""

    def encode(self, x: Tensor, quantise: Quantise) -> list[Tensor]:
        """What QUANTISE makes of the vectors of X, float [N, C, H, W] in [-1, 1], for each level.

        It is called for level 0, 1, … in turn, so that a level can depend on the entries that were
        chosen before it.
        """

    def decode(self, e: Sequence[Tensor]) -> Tensor:
        """Parameters [N, k, C, H, W] of the pixels that the entries E, [N, d, h, w] for each level,
        stand for.

        What they mean is up to the likelihood, which asks for k of them per sub-pixel.
        """
