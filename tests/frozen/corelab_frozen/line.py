"""The interface "frozen-points": `slope` and `draw`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from corelab import DataError, require


@dataclass(frozen=True)
class LineConfig:
    """Options of a line."""

    slope: float = 2.0
    """How steep it is."""
    noise: float = 0.1
    """The standard deviation of what is added to y."""

    def __post_init__(self) -> None:
        require(self.noise >= 0, "--task.noise", self.noise, "at least 0")


class Line:
    """Points with y = slope * x + 1 + noise."""

    Config = LineConfig

    def __init__(self, config: LineConfig) -> None:
        if not np.isfinite(config.slope):
            raise DataError("a line that is vertical has no slope")
        self.slope = config.slope
        self.noise = config.noise

    def draw(self, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """N points: x and y, float32 [n, 1]."""
        x = rng.uniform(-1, 1, (n, 1))
        y = self.slope * x + 1 + self.noise * rng.normal(size=(n, 1))
        return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


@dataclass(frozen=True)
class SlopeConfig:
    """Options of a line that is named by its slope."""

    id: str = "slope-3"
    """The name it was found by."""


class Slope(Line):
    """Points on a line named by its slope, such as slope-3."""

    Config = SlopeConfig  # type: ignore[assignment]

    def __init__(self, config: SlopeConfig) -> None:
        super().__init__(LineConfig(slope=float(config.id.removeprefix("slope-"))))
