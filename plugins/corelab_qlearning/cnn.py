"""The model "cnn" of the interface "q-network": a convolutional network for pictures."""

from __future__ import annotations

from collections.abc import Callable
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
_MINATAR = (16, 3)
"""The channels and the kernel of the layer of Young and Tian 2019 (arXiv:1903.03176), for pictures
of 10 x 10; its stride is 1."""


class Patches(nn.Module):
    """A convolution of stride 1 with ReLU units, as one matrix product over all patches.

    For small pictures this takes a fraction of the time of `nn.Conv2d`, backwards above all.
    """

    def __init__(self, channels: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self._kernel = kernel
        bound = (kernel * kernel * channels) ** -0.5
        self.weight = nn.Parameter(torch.empty(outputs, kernel * kernel * channels))
        self.bias = nn.Parameter(torch.empty(outputs))
        for parameter in (self.weight, self.bias):  # as nn.Conv2d has it
            nn.init.uniform_(parameter, -bound, bound)

    def cut(self, pictures: Tensor) -> Tensor:
        """All patches, [B · (H - k + 1) · (W - k + 1), k · k · C], of PICTURES [B, H, W, C]."""
        x, k = pictures.contiguous(), self._kernel
        B, H, W, C = x.shape
        # in a row of a picture the k pixels of a patch lie side by side, with all their channels
        shape = (B, H - k + 1, W - k + 1, k, k * C)
        rows = x.as_strided(shape, (H * W * C, W * C, C, W * C, 1))
        return rows.reshape(-1, k * k * C)

    def forward(self, patches: Tensor) -> Tensor:
        """What the units give for each patch, [patches, outputs]."""
        return nn.functional.linear(patches, self.weight, self.bias).relu()


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
        self.trunk: nn.Module
        if large:
            picture = torch.zeros(1, channels, height, width)
            layers: list[nn.Module] = []
            for outputs, kernel, stride in _NATURE:
                layers += [nn.Conv2d(channels, outputs, kernel, stride), nn.ReLU()]
                channels = outputs
            self.trunk = nn.Sequential(*layers, nn.Flatten())
            features = self.trunk(picture).shape[1]
        else:
            outputs, kernel = _MINATAR
            self.trunk = Patches(channels, outputs, kernel)
            features = (height - kernel + 1) * (width - kernel + 1) * outputs
        units = config.width or (512 if large else 128)
        self.head = Head(features, units, actions, atoms, dueling=dueling, noisy=noisy)

    def _seen(self, observations: Tensor) -> Tensor:
        """OBSERVATIONS as the trunk takes them: patches, or pictures with their channels first."""
        dtype = next(self.parameters()).dtype
        if isinstance(self.trunk, Patches):
            x = observations if self._channels_last else observations.movedim(-3, -1)
            x = self.trunk.cut(x.to(dtype))
        else:
            x = observations.movedim(-1, -3) if self._channels_last else observations
            # the layout in which convolutions are fastest, forwards and far more so backwards
            x = x.to(dtype, memory_format=torch.channels_last)
        return x if self._scale == 1 else x * self._scale

    def forward(self, observations: Tensor) -> Tensor:
        """Values [B, actions, atoms]."""
        features = self.trunk(self._seen(observations))
        return self.head(features.reshape(len(observations), -1))  # type: ignore[no-any-return]

    @property
    def traces(self) -> bool:
        """Whether `trace` can be used: for small pictures."""
        return isinstance(self.trunk, Patches)

    @torch.no_grad()
    def trace(self, observations: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Values as `forward` has them in training, without a graph, and what makes of their
        gradient that of all parameters.
        """
        patches = self._seen(observations)
        units = self.trunk(patches)
        z, pull_head = self.head.trace(units.view(len(observations), -1))

        def pull(dz: Tensor) -> Tensor:
            dx, of_head = pull_head(dz)
            dy = torch.ops.aten.threshold_backward(dx.view_as(units), units, 0)
            of_trunk = [dy.T @ patches, dy.sum(0)]
            return torch.cat([gradient.flatten() for gradient in of_trunk + of_head])

        return z, pull
