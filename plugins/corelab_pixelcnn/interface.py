"""The interface "autoregressive": a network whose output at a sub-pixel knows only earlier ones."""

from __future__ import annotations

from typing import Protocol

from corelab_nets.autoregressive import Autoregressive


class AutoregressiveModel(Protocol):
    """Builds a network for images of symbols, integers [N, C, H, W] from 0 to LEVELS - 1."""

    def __call__(
        self, *, shape: tuple[int, int, int], outputs: int, levels: int, classes: int
    ) -> Autoregressive:
        """For images of SHAPE (C, H, W), with OUTPUTS parameters for each sub-pixel.

        CLASSES is 0, or how many values the labels that it is told can have. `forward` serves
        likelihoods, `cache` the sampler; what they give must be the same.
        """
