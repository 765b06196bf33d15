"""The interface "dataset": labelled images held in memory, and the order in which to visit them.

An algorithm that uses it slices a minibatch out of memory:

    train = task.split("train")
    order = context.seed_for("order", shared=True)
    indices = context.shard(minibatch(len(train), batch_size, self.progress, order))
    x, y = train.take(indices)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. `ValueError` if the tensors are not of these types and shapes."""

    images: torch.Tensor
    """uint8 [N, channels, height, width]; float32, of any size, if they are latents."""
    labels: torch.Tensor
    """int64 [N]: for each image an index into `classes`."""

    def __post_init__(self) -> None:
        x, y = self.images, self.labels
        fits = x.dtype in (torch.uint8, torch.float32) and x.ndim == 4
        if not fits or (y.dtype, y.shape) != (torch.int64, x.shape[:1]):
            raise ValueError(
                "Split takes images uint8 (latents float32) [N, channels, height, width] "
                "and labels int64 [N], "
                f"got {x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images uint8 [n, channels, height, width] and labels int64 [n] at INDICES [n]."""
        # in a tenth of the time of images[indices], which has more general indices in mind
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)


class Dataset(Protocol):
    """A task with labelled images, none of whose splits is empty."""

    shape: tuple[int, int, int]
    """Of one image: (channels, height, width)."""
    classes: tuple[str, ...]
    """The names of the classes; label i means `classes[i]`."""

    def split(self, name: SplitName) -> Split:
        """The part NAME: always the same examples in the same order."""


class Latents(Dataset, Protocol):
    """A task, of the interface "latents", whose images are codes that a trained model gives them.

    The images of its splits are float32 [N, channels, height, width], each channel with mean 0 and
    variance 1 over the training split.
    """

    source: Dataset
    """The images themselves, split by split in the same order."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The images, uint8 [N, C, H, W], that LATENTS, float32 [N, c, h, w], stand for."""


def minibatch(n: int, size: int, progress: int, seed: int) -> torch.Tensor:
    """Which of N examples are the next SIZE ones, when PROGRESS have been visited: int64 [size].

    The visits form one endless sequence, epoch after epoch; each epoch is a permutation of
    0 … n-1 that follows from SEED and its number. A minibatch is the piece of that sequence which
    begins at PROGRESS, so all are full, and one may begin in an epoch and end in the next. Nothing
    but PROGRESS has to be saved for going on, and a change of SIZE changes nothing else.
    """
    pieces = []
    while size > 0:
        epoch, start = divmod(progress, n)
        piece = _permutation(n, seed, epoch)[start : start + size]
        pieces.append(piece)
        progress += len(piece)
        size -= len(piece)
    return torch.cat(pieces)


# room for the two epochs that a minibatch can meet in, for a few orders at a time
@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))
