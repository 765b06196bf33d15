"""The interface "gan": a network that makes images and one that judges them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Generator(Protocol):
    """An `nn.Module` that makes images of Gaussian numbers."""

    numbers: int
    """How many independent N(0, 1) numbers an image is made of. The first `latent` of them are its
    code; the others, if there are any, decide on details."""

    def __call__(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] for Z, [N, numbers], and labels Y, int64 [N].

        Y is None for a network without classes. TRUNCATION, from 0 to 1, trades variety for
        fidelity: at 0 all codes give the image in the middle, at 1 it does nothing.
        """


class Discriminator(Protocol):
    """An `nn.Module` that tells real images from generated ones."""

    def __call__(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N], larger for more real, of X, [N, C, H, W] in [-1, 1], with labels Y, or None.

        No logit may depend on images outside its group of four, rows 4i to 4i + 3: real and
        generated images share a batch.
        """


class Adversaries(Protocol):
    """An `nn.Module`, built as `model(shape=(C, H, W), latent=d, classes=k)`; k is 0 for none."""

    generator: nn.Module
    """A `Generator`."""
    discriminator: nn.Module
    """A `Discriminator`, without weights in common with the generator."""


@runtime_checkable
class Grows(Protocol):
    """What a generator and its discriminator may also do: begin with small images."""

    def grow(self, share: float) -> None:
        """Take the size that belongs to this SHARE of the budget, from 0 to 1."""

    def fade(self, x: Tensor) -> Tensor:
        """Real images X, [N, C, H, W], with as much detail as generated ones have now."""


@runtime_checkable
class Mixes(Protocol):
    """What a generator may also do: give an image the coarse looks of another."""

    def mix(
        self, coarse: Tensor, fine: Tensor, coarse_y: Tensor | None, fine_y: Tensor | None
    ) -> Tensor:
        """Images with the coarse features of those of COARSE and all else of those of FINE, both
        [N, numbers], and their labels [N].
        """
