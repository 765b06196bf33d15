"""Experience in the pieces that an optimizer looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from corelab_nets.arrays import Array
from corelab_nets.trees import Tree, map_tree
from torch import Tensor


class Minibatch(NamedTuple):
    """B transitions."""

    inputs: tuple[Any, ...]
    """What the network is called with."""
    rows: Tensor | None
    """Which of its outputs are transitions; None: all."""
    columns: dict[str, Array]
    """[B, ...] each."""


class Transitions:
    """Transitions in any order: those of ROWS of OBSERVATION [n, ...] and of COLUMNS [n, ...].

    Minibatches have their columns as arrays if they go ON_ARRAYS.
    """

    def __init__(
        self, observation: Tree, columns: dict[str, Tensor], rows: Tensor, on_arrays: bool
    ) -> None:
        self.rows = rows
        self._convert: Callable[[Tensor], Array] = _as_array if on_arrays else _as_tensor
        n = len(next(iter(columns.values())))
        every = len(rows) == n

        def take(x: Tensor) -> Tensor:
            return x[:n] if every else x[rows]

        self._observation = map_tree(take, observation)
        self.columns = {name: take(column) for name, column in columns.items()}

    def shuffled(
        self, parts: int, rng: np.random.Generator, exactly: bool = False
    ) -> Iterator[Minibatch]:
        """All of them once, in PARTS of about equal size, or EXACTLY so many, which processes that
        go through theirs together need; one gather makes each contiguous.
        """
        if parts == 1:  # the order within a minibatch changes nothing
            columns = {name: self._convert(column) for name, column in self.columns.items()}
            yield Minibatch((self._observation,), None, columns)
            return
        n = len(self.rows)
        size = -(-n // parts)
        ends = [n * i // parts for i in range(parts + 1)] if exactly else [*range(0, n, size), n]
        order = torch.from_numpy(rng.permutation(n)).to(self.rows.device)
        observation = map_tree(lambda x: x.index_select(0, order), self._observation)
        columns = {name: column.index_select(0, order) for name, column in self.columns.items()}
        for begin, end in pairwise(ends):
            yield Minibatch(
                (map_tree(lambda x, a=begin, b=end: x[a:b], observation),),
                None,
                {name: self._convert(column[begin:end]) for name, column in columns.items()},
            )


class Sequences:
    """Stretches of L steps, for networks that remember: OBSERVATION, STARTS, COLUMNS and VALID are
    [T, N, ...]; MEMORIES [T, N, S] are those from before each step, as they were while acting.
    """

    def __init__(
        self,
        observation: Tree,
        memories: Tensor,
        starts: Tensor,
        columns: dict[str, Tensor],
        valid: Tensor,
        L: int,
    ) -> None:
        def cut(x: Tensor) -> Tensor:  # [T, N, ...] to [L, T / L * N, ...]
            T, N = x.shape[:2]
            return x.reshape(T // L, L, N, *x.shape[2:]).transpose(0, 1).flatten(1, 2)

        self._observation = map_tree(cut, observation)
        self._memory = cut(memories)[0]
        self._starts, self._valid = cut(starts), cut(valid)
        self._columns = {name: cut(column) for name, column in columns.items()}
        self.columns = {name: column[self._valid] for name, column in self._columns.items()}

    def shuffled(
        self, parts: int, rng: np.random.Generator, exactly: bool = False
    ) -> Iterator[Minibatch]:
        """All of them once, in PARTS of about equally many stretches: as many in every process,
        which have as many stretches.
        """
        n = len(self._memory)
        size = -(-n // parts)
        order = torch.from_numpy(rng.permutation(n)).to(self._memory.device)
        for begin in range(0, n, size):
            which = order[begin : begin + size]
            valid = self._valid[:, which]
            yield Minibatch(
                (
                    map_tree(lambda x, i=which: x[:, i], self._observation),
                    self._memory[which],
                    self._starts[:, which],
                ),
                valid.flatten().nonzero().squeeze(1),
                {name: column[:, which][valid] for name, column in self._columns.items()},
            )


def _as_array(x: Tensor) -> Array:
    return x.numpy()


def _as_tensor(x: Tensor) -> Array:
    return x
