"""A sum tree: weights that can be changed and drawn from in logarithmic time, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FAN = 16
"""Children of a node. Wide nodes make few levels, and NumPy pays by the level."""


class SumTree:
    """N weights, none negative, all 0 at first, and the sums above them.

    Each level is an array [nodes, 16] whose rows add up to the entries of the level above.
    """

    def __init__(self, n: int) -> None:
        self._levels: list[NDArray[np.float64]] = []
        while not self._levels or n > 1:
            n = -(-n // _FAN)
            self._levels.append(np.zeros((n, _FAN)))
        self.weights = self._levels[0].reshape(-1)
        """The weights, and zeros up to a multiple of 16. Change them with `set`."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(level.nbytes for level in self._levels)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._levels[-1].sum())

    def set(self, index: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
        """Let the weights at INDEX [K] be WEIGHT [K]; of equal indices the last counts."""
        self.weights[index] = weight
        for level, above in zip(self._levels, self._levels[1:], strict=False):
            index = index // _FAN
            above.reshape(-1)[index] = level[index].sum(1)

    def find(self, mass: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each MASS [K] in [0, total) the index at which the running sum passes it, so that
        uniform masses find an index with a probability in proportion to its weight.
        """
        node = np.zeros(len(mass), np.int64)
        for level in reversed(self._levels):
            sums = level[node].cumsum(1)
            # rounding must not lead past the last weight, to where there is none
            mass = np.minimum(mass, np.nextafter(sums[:, -1], 0))
            child = (sums <= mass[:, None]).sum(1)
            before = np.take_along_axis(sums, np.maximum(child - 1, 0)[:, None], 1)[:, 0]
            mass = np.maximum(mass - np.where(child, before, 0), 0)
            node = node * _FAN + child
        return node
