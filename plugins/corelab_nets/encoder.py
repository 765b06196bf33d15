"""Observations of any kind as one vector of features, images by way of convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from corelab_nets.flatten import Flatten
from corelab_nets.trees import Tree

_LARGE = 36
"""Images at least this high and wide go through the three layers of Mnih et al. 2015."""


class Encoder(nn.Module):
    """From observations [B, ...] of SPACE to features [B, size].

    A Box of three dimensions is an image, as [height, width, channels] or [channels, height,
    width]: the channels are where the shape is smallest. It goes through convolutions to WIDTH
    features. Dicts and Tuples are encoded part by part, and the rest is flattened. `PluginError`,
    naming OF, for what cannot be read.
    """

    def __init__(self, space: spaces.Space[Any], of: str, width: int = 128) -> None:
        super().__init__()
        self._keys = list(space.spaces) if isinstance(space, spaces.Dict) else None
        self.size = width
        """How many features there are."""
        self.parts = nn.ModuleList()
        self.leaf: Convolutions | Flatten | None = None
        match space:
            case spaces.Dict():
                self._of_parts([Encoder(part, of, width) for part in space.spaces.values()])
            case spaces.Tuple():
                self._of_parts([Encoder(part, of, width) for part in space.spaces])
            case spaces.Box(shape=(_, _, _)):
                self.leaf = Convolutions(space, width)
            case _:
                self.leaf = flat = Flatten(space, of, images=True)
                self.size = flat.size

    def _of_parts(self, encoders: list[Encoder]) -> None:
        self.parts.extend(encoders)
        self.size = sum(encoder.size for encoder in encoders)

    def forward(self, observation: Tree) -> Tensor:
        """Features [B, size]."""
        if self.leaf is not None:
            features: Tensor = self.leaf(observation)
            return features
        values = [observation[key] for key in self._keys] if self._keys else observation
        encoded = [part(value) for part, value in zip(self.parts, values, strict=True)]
        return torch.cat(encoded, -1)


class Convolutions(nn.Module):
    """From images [B, ...] of SPACE to WIDTH features.

    Large ones by the layers of Mnih et al. 2015 (8, 4 and 3 wide, strides 4, 2 and 1), smaller ones
    by two layers, 3 wide, and tiny ones by none. They are divided by the largest number that the
    space allows, if there is one.
    """

    def __init__(self, space: spaces.Box, width: int) -> None:
        super().__init__()
        shape = space.shape
        self._last = shape[2] < shape[0]  # whether the channels come last
        channels, *sides = (shape[2], *shape[:2]) if self._last else shape
        high = float(space.high.max())
        scale = 1 / high if np.isfinite(high) and high > 0 else 1.0
        if min(sides) >= _LARGE:
            layers = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
        else:
            layers = [(channels, 16, 3, 1), (16, 32, 3, 1)] if min(sides) > 4 else []
        convolutions: list[nn.Module] = []
        for fan_in, fan_out, kernel, stride in layers:
            convolution = _Convolution(fan_in, fan_out, kernel, stride, scale=scale)
            scale = 1.0  # only the first sees the image
            convolutions += [_drawn(convolution), nn.ReLU(inplace=True)]
            sides = [(side - kernel) // stride + 1 for side in sides]
            channels = fan_out
        self._scale = scale
        self.layers = nn.Sequential(
            *convolutions,
            nn.Flatten(),
            _drawn(nn.Linear(channels * math.prod(sides), width)),
            nn.ReLU(inplace=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Features [B, width]."""
        x = image.permute(0, 3, 1, 2) if self._last else image
        # the layout in which convolutions are fastest, forwards and far more so backwards; bytes
        # are sooner laid out than numbers of four bytes
        x = x.contiguous(memory_format=torch.channels_last).to(next(self.parameters()).dtype)
        features: Tensor = self.layers(x if self._scale == 1 else x * self._scale)
        return features


class _Convolution(nn.Conv2d):
    """A convolution of SCALE times what it is given: there are fewer weights than pixels."""

    def __init__(
        self, fan_in: int, fan_out: int, kernel: int, stride: int, *, scale: float
    ) -> None:
        super().__init__(fan_in, fan_out, kernel, stride)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.scale == 1 else self.weight * self.scale
        return nn.functional.conv2d(x, weight, self.bias, self.stride)


def _drawn(layer: Any) -> Any:
    """LAYER with orthogonal weights and biases of zero."""
    nn.init.orthogonal_(layer.weight, math.sqrt(2))
    nn.init.zeros_(layer.bias)
    return layer
