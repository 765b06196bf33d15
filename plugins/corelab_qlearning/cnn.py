"""The model "cnn" of the interface "q-network": a convolutional network for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from corelab import PluginError, require
from corelab_qlearning.parts import Head

_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel and stride of the layers of Mnih et al. 2015, for pictures of 84 x 84."""
_MINATAR = ((16, 3, 1),)
"""The layer of Young and Tian 2019 (arXiv:1903.03176), for pictures of 10 x 10."""


class CNN(nn.Module):
    """Convolutions with ReLU units, then a fully connected layer, which belongs to the head.

    Pictures may have their channels (or stacked frames) first or last; that is the shorter axis.
    Pictures of at least 36 x 36 are seen through the layers of Mnih et al. 2015, smaller ones
    through the one of MinAtar.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional network."""

        width: int | None = None
        """Units of the fully connected layer; none: 512, or 128 for pictures below 36 x 36."""

    def __init__(
        self,
        config: Config,
        observation_space: spaces.Space[Any],
        actions: int,
        atoms: int,
        *,
        dueling: bool,
        noisy: bool,
    ) -> None:
        super().__init__()
        require(config.width is None or config.width >= 1, "model.width", config.width, "positive")
        shape = observation_space.shape or ()
        if not isinstance(observation_space, spaces.Box) or len(shape) != 3 or max(shape) < 3:
            raise PluginError(
                f"the model cnn reads pictures with channels, not {observation_space}; "
                "for vectors there is --model mlp"
            )
        self._channels_last = shape[2] <= shape[0]
        channels, height, width = (shape[2], *shape[:2]) if self._channels_last else shape
        large = min(height, width) >= 36
        self._scale = 1 / 255 if observation_space.dtype == np.uint8 else 1.0
        layers: list[nn.Module] = []
        for outputs, kernel, stride in _NATURE if large else _MINATAR:
            layers += [nn.Conv2d(channels, outputs, kernel, stride), nn.ReLU()]
            channels = outputs
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        features = self.trunk(torch.zeros(1, *self._channels_first(shape))).shape[1]
        units = config.width or (512 if large else 128)
        self.head = Head(features, units, actions, atoms, dueling=dueling, noisy=noisy)

    def _channels_first(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[2], *shape[:2]) if self._channels_last else shape

    def forward(self, observations: Tensor) -> Tensor:
        """Values [B, actions, atoms]."""
        x = observations.movedim(-1, -3) if self._channels_last else observations
        # the layout in which convolutions are fastest, forwards and far more so backwards
        x = x.to(next(self.parameters()).dtype, memory_format=torch.channels_last)
        if self._scale != 1:
            x = x * self._scale
        return self.head(self.trunk(x))  # type: ignore[no-any-return]
