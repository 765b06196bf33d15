"""Running moments of what an environment gives, and what they are used for.

All of it is kept as sums, which processes can add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from corelab_nets.arrays import Array
from corelab_nets.trees import Tree, map_tree
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from corelab import Context

_EPSILON = 1e-8
_LIMIT = 10.0
"""How far from 0 anything normalised can be."""
_ALL = slice(None)


class Moments:
    """How many rows there were, their sum and the sum of their squares."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self._n = 0
        self._sum, self._squares = np.zeros(shape), np.zeros(shape)

    def add(self, rows: NDArray[Any], context: Context) -> None:
        """Count ROWS [B, *shape], and those that the other processes of CONTEXT have."""
        rows = rows.astype(np.float64)
        n, total, squares = context.total(len(rows), rows.sum(0), (rows**2).sum(0))
        self._n += int(n)
        self._sum = self._sum + total
        self._squares = self._squares + squares

    def mean_and_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of all rows so far; 0 and 1 if there were none."""
        if not self._n:
            return np.zeros_like(self._sum), np.ones_like(self._sum)
        mean = self._sum / self._n
        variance = np.maximum(self._squares / self._n - mean**2, 0)
        return mean, np.sqrt(variance + _EPSILON)

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"n": self._n, "sum": self._sum, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with STATE."""
        self._n, self._sum, self._squares = state["n"], state["sum"], state["squares"]


class ObservationNormaliser:
    """Gives each real number of an observation mean 0 and standard deviation 1.

    Only Boxes of real numbers and one dimension are changed, wherever in SPACE they are. The
    moments in use change with `update` alone.
    """

    def __init__(self, space: spaces.Space[Any], device: torch.device) -> None:
        self._moments: Tree = _moments_of(space)
        self._device = device
        self._refresh()

    def __call__(self, observation: Tree) -> Tree:
        """OBSERVATION [..., *shape], normalised and kept within ±10."""
        return map_tree(_normalised, observation, self._in_use)

    def update(self, observation: Tree, context: Context) -> None:
        """Count OBSERVATION [B, *shape] (tensors), and those that the other processes of CONTEXT
        have, and use the new moments from here on.
        """

        def add(x: Tensor, moments: Moments | None) -> None:
            if moments is not None:
                moments.add(x.numpy(), context)

        map_tree(add, observation, self._moments)
        self._refresh()

    def _refresh(self) -> None:
        def of(moments: Moments | None) -> Any:
            if moments is None:
                return None
            mean, std = moments.mean_and_std()
            one = torch.as_tensor(mean, dtype=torch.float32, device=self._device)
            return _Pair(one, torch.as_tensor(1 / std, dtype=torch.float32, device=self._device))

        self._in_use: Tree = map_tree(of, self._moments)

    def state_dict(self) -> dict[str, Any]:
        """The moments."""
        return {"moments": map_tree(lambda m: m and m.state_dict(), self._moments)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with STATE."""

        def load(moments: Moments | None, saved: dict[str, Any] | None) -> None:
            if moments is not None and saved is not None:
                moments.load_state_dict(saved)

        map_tree(load, self._moments, state["moments"])
        self._refresh()


class RewardNormaliser:
    """Divides rewards by the standard deviation of the discounted return that follows them from
    behind, G_t = γ G_{t-1} + r_t, counted anew in each episode (Engstrom et al. 2020, section 3).
    """

    def __init__(self, num_envs: int, gamma: float, context: Context) -> None:
        self._context = context
        self._moments = Moments()
        self._return = np.zeros(num_envs)
        self._gamma = gamma

    def __call__(
        self,
        rewards: NDArray[np.float64],
        ends: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        rows: slice = _ALL,
    ) -> NDArray[np.float64]:
        """Count REWARDS [T, N] of these ROWS of all environments, of which ENDS says where episodes
        end and VALID which are of transitions, and give them back scaled and kept within ±10.
        """
        returns = np.empty_like(rewards)
        G = self._return[rows]
        for t, reward in enumerate(rewards):
            returns[t] = G = self._gamma * G + reward
            G = G * ~ends[t]
        self._return[rows] = G
        self._moments.add(returns[valid], self._context)
        _, std = self._moments.mean_and_std()
        return np.clip(rewards / std, -_LIMIT, _LIMIT)

    def state_dict(self) -> dict[str, Any]:
        """The moments, and the returns so far of the episodes that go on."""
        return {"moments": self._moments.state_dict(), "return": self._return}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with STATE."""
        self._moments.load_state_dict(state["moments"])
        self._return = state["return"]


def mean_of_all(x: Array, context: Context) -> Any:
    """The mean of X [B] over the minibatches of all processes of CONTEXT."""
    if context.world == 1:
        return x.mean()
    total, n = context.total(float(x.sum()), len(x))
    return total / n


def std_of_all(x: Tensor, context: Context) -> Any:
    """The standard deviation of X [B] over the minibatches of all processes of CONTEXT."""
    if context.world == 1:
        return x.std(correction=0)
    return mean_of_all((x - mean_of_all(x, context)) ** 2, context) ** 0.5


class _Pair:
    """A mean and the inverse of a standard deviation: a leaf of a tree, so no tuple."""

    def __init__(self, mean: Tensor, inverse_std: Tensor) -> None:
        self.mean, self.inverse_std = mean, inverse_std


def _normalised(x: Tensor, pair: _Pair | None) -> Tensor:
    if pair is None:
        return x
    return ((x - pair.mean) * pair.inverse_std).clamp_(-_LIMIT, _LIMIT)


def _moments_of(space: spaces.Space[Any]) -> Tree:
    match space:
        case spaces.Dict():
            return {key: _moments_of(part) for key, part in space.spaces.items()}
        case spaces.Tuple():
            return tuple(_moments_of(part) for part in space.spaces)
        case spaces.Box(shape=(_,)) if np.issubdtype(space.dtype, np.floating):
            return Moments(space.shape)
    return None
