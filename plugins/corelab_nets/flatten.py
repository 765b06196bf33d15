"""Observations as one vector."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from corelab import PluginError
from corelab_nets.trees import Tree


class Flatten:
    """From observations of SPACE to vectors [..., size]: Discrete and MultiDiscrete as one-hot,
    vectors as they are, boards and other arrays of two dimensions in a row, and Dicts and Tuples of
    these one after the other.

    `PluginError` for spaces with images and whatever else this does not fit, naming OF, which reads
    IMAGES by other means or not at all.
    """

    def __init__(self, space: spaces.Space[Any], of: str, *, images: bool = False) -> None:
        self._space = space
        self._is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
        self.size = _size(space, of, images)
        """The length of the vectors."""

    def __call__(self, observation: Tree, dtype: torch.dtype = torch.float32) -> Tensor:
        """OBSERVATION, [..., *shape] for each part, as vectors [..., size] of DTYPE."""
        if self._is_vector:
            vector: Tensor = observation
            return vector if vector.dtype is dtype else vector.to(dtype)
        parts = _vectors(self._space, observation, dtype)
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _size(space: spaces.Space[Any], of: str, images: bool) -> int:
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.MultiBinary() | spaces.Box() if len(space.shape or ()) <= 2:
            return math.prod(space.shape or ())
        case spaces.Dict():
            return sum(_size(part, of, images) for part in space.spaces.values())
        case spaces.Tuple():
            return sum(_size(part, of, images) for part in space.spaces)
    reads = "images [height, width, channels], vectors" if images else "vectors"
    is_image = isinstance(space, spaces.Box) and len(space.shape) == 3
    raise PluginError(
        f"{of} reads {reads}, Discrete, MultiDiscrete and MultiBinary observations and Dicts and "
        f"Tuples of these, not {space}; "
        + ("for images there is --model cnn" if is_image else "choose another --model or task")
    )


def _vectors(space: spaces.Space[Any], observation: Tree, dtype: torch.dtype) -> list[Tensor]:
    match space:
        case spaces.Discrete():
            index = observation - int(space.start)
            return [nn.functional.one_hot(index, int(space.n)).to(dtype)]
        case spaces.MultiDiscrete():
            chosen = _in_rows(observation - torch.from_numpy(space.start).to(observation), space)
            return [
                nn.functional.one_hot(index, int(n)).to(dtype)
                for index, n in zip(chosen.unbind(-1), space.nvec.ravel(), strict=True)
            ]
        case spaces.Dict():
            return [
                vector
                for key, part in space.spaces.items()
                for vector in _vectors(part, observation[key], dtype)
            ]
        case spaces.Tuple():
            return [
                vector
                for part, value in zip(space.spaces, observation, strict=True)
                for vector in _vectors(part, value, dtype)
            ]
    return [_in_rows(observation, space).to(dtype)]


def _in_rows(observation: Tensor, space: spaces.Space[Any]) -> Tensor:
    """OBSERVATION [..., *shape] of SPACE as [..., product of the shape]."""
    dimensions = len(space.shape or ())
    return observation.flatten(-dimensions) if dimensions else observation.unsqueeze(-1)
