"""The models "gated", "plain" and "plusplus" of the interface "autoregressive"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corelab_nets import gated, plain, plusplus

from corelab import require


class Gated(gated.Gated):
    """Gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328)."""

    @dataclass(frozen=True)
    class Config:
        """Options of the gated PixelCNN."""

        layers: int = 6
        """Layers of both stacks."""
        channels: int = 64
        """Channels of each stack."""
        kernel: int = 3
        """Height and width of a kernel before half of it is cut away; odd."""
        first: int = 7
        """The same of the first layer's kernel."""
        attention: int = 0
        """Blocks of causal attention, spread evenly over the layers."""

    def __init__(self, config: Config, **shapes: Any) -> None:
        _check(config, "layers", "channels", "kernel", "first")
        super().__init__(
            **shapes,
            layers=config.layers,
            channels=config.channels,
            kernel=config.kernel,
            first=config.first,
            attention=config.attention,
        )


class Plain(plain.Plain):
    """PixelCNN (van den Oord et al. 2016, arXiv:1601.06759)."""

    @dataclass(frozen=True)
    class Config:
        """Options of the PixelCNN."""

        layers: int = 8
        """Layers: the first, with mask A, and residual blocks, with mask B."""
        channels: int = 32
        """Channels within the blocks; between them there are twice as many."""
        kernel: int = 3
        """Height and width of the masked kernels of the blocks; odd."""
        first: int = 7
        """The same of the first layer's kernel."""

    def __init__(self, config: Config, **shapes: Any) -> None:
        _check(config, "layers", "channels", "kernel", "first")
        super().__init__(
            **shapes,
            layers=config.layers,
            channels=config.channels,
            kernel=config.kernel,
            first=config.first,
        )


class PlusPlus(plusplus.PlusPlus):
    """The network of PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517), at one resolution."""

    @dataclass(frozen=True)
    class Config:
        """Options of the network of PixelCNN++."""

        layers: int = 5
        """Layers, each a gated residual block in both streams."""
        channels: int = 32
        """Channels of each stream."""
        attention: int = 0
        """Blocks of causal attention, spread evenly over the layers."""

    def __init__(self, config: Config, **shapes: Any) -> None:
        _check(config, "layers", "channels")
        super().__init__(
            **shapes,
            layers=config.layers,
            channels=config.channels,
            attention=config.attention,
        )


def _check(config: Any, *options: str) -> None:
    for option in options:
        value = getattr(config, option)
        if option in ("kernel", "first"):
            require(value >= 3 and value % 2 == 1, f"model.{option}", value, "odd and at least 3")
        else:
            require(value >= 1, f"model.{option}", value, "at least 1")
    if hasattr(config, "attention"):
        fits = 0 <= config.attention <= config.layers
        require(fits, "model.attention", config.attention, "between 0 and the number of layers")
