"""Observations as they come from Gymnasium's spaces: arrays, or dicts and tuples of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from corelab import PluginError

Tree = Any
"""An array or tensor, or a dict or tuple of trees."""


def map_tree(function: Callable[..., Any], tree: Tree, *more: Tree) -> Tree:
    """FUNCTION of each leaf of TREE, and of the leaves at the same places of MORE trees."""
    if isinstance(tree, dict):
        return {k: map_tree(function, v, *(m[k] for m in more)) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_tree(function, *leaves) for leaves in zip(tree, *more, strict=True))
    return function(tree, *more)


def leaves(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """The spaces without parts that make up SPACE, in the order of `map_tree`."""
    parts: Any = ()
    match space:
        case spaces.Dict():
            parts = space.spaces.values()
        case spaces.Tuple():
            parts = space.spaces
        case _:
            yield space
    for part in parts:
        yield from leaves(part)


def tensor_dtype(space: spaces.Space[Any]) -> torch.dtype:
    """The type in which observations of a SPACE without parts are kept: float32 for all floats."""
    dtype = torch.from_numpy(np.empty(0, space.dtype)).dtype
    return torch.float32 if dtype.is_floating_point else dtype


def to_tensors(space: spaces.Space[Any], observation: Tree) -> Tree:
    """OBSERVATION [N, ...] of SPACE as tensors."""
    match space:
        case spaces.Dict():
            return {k: to_tensors(s, observation[k]) for k, s in space.spaces.items()}
        case spaces.Tuple():
            return tuple(to_tensors(s, o) for s, o in zip(space.spaces, observation, strict=True))
    return torch.as_tensor(observation, dtype=tensor_dtype(space))


class Stack:
    """T observations of N copies, [T, N, ...] for each leaf of SPACE.

    Torch owns the memory, because it aligns it: sums must not depend on where an array happens to
    lie. `PluginError`, naming OF, for spaces that are not of numbers of fixed shapes.
    """

    def __init__(self, space: spaces.Space[Any], T: int, N: int, of: str) -> None:
        for leaf in leaves(space):
            if not isinstance(
                leaf, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
            ):
                raise PluginError(
                    f"{of} shows {leaf}; what can be learned from is Box, Discrete, "
                    "MultiDiscrete, MultiBinary, and Dicts and Tuples of these"
                )
        self.tree: Tree = _zeros(space, (T, N))
        """All of them."""
        self._at = [map_tree(lambda x, t=t: x[t], self.tree) for t in range(T)]
        self._arrays = [map_tree(Tensor.numpy, at) for at in self._at]

    def __setitem__(self, t: int, observation: Tree) -> None:
        array = self._arrays[t]
        if isinstance(array, np.ndarray):
            array[...] = observation
        else:
            map_tree(_write, array, observation)

    def __getitem__(self, t: int) -> Tree:
        return self._at[t]


def _write(array: NDArray[Any], value: Any) -> None:
    array[...] = value


def _zeros(space: spaces.Space[Any], shape: tuple[int, ...]) -> Tree:
    match space:
        case spaces.Dict():
            return {k: _zeros(s, shape) for k, s in space.spaces.items()}
        case spaces.Tuple():
            return tuple(_zeros(s, shape) for s in space.spaces)
    return torch.zeros((*shape, *(space.shape or ())), dtype=tensor_dtype(space))
