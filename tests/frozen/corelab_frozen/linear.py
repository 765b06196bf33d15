"""The interface "frozen-map": a network built for numbers of inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LinearConfig:
    """Options of the linear map."""

    bias: bool = True
    """Whether it adds a constant."""


class Linear(torch.nn.Module):
    """y = a x + b."""

    Config = LinearConfig

    def __init__(self, config: LinearConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs, bias=config.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From [n, inputs] to [n, outputs]."""
        y: torch.Tensor = self.layer(x)
        return y
