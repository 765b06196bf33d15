"""Levels of noise and classes as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WAVES = 32


class Levels(nn.Module):
    """ln σ / 4 as WIDTH numbers, by way of waves of many lengths (Vaswani et al. 2017, 3.5)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # from less than one wave over all levels to one where σ grows by a quarter
        frequencies = torch.exp(torch.linspace(math.log(1.0), math.log(100.0), _WAVES))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * _WAVES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """[N, width] for NOISE [N]."""
        phase = noise[:, None] * self.frequencies
        return self.layers(torch.cat([phase.sin(), phase.cos()], 1))  # type: ignore[no-any-return]


class Classes(nn.Module):
    """Classes as WIDTH numbers; the number CLASSES stands for "none in particular"."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, labels: Tensor) -> Tensor:
        """[N, width] for LABELS, int64 [N]."""
        return self.table(labels)  # type: ignore[no-any-return]
