"""Gradient descent on the squared error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from corelab import ConfigError, Context, Saved, Split
from corelab_frozen.line import Line


@dataclass(frozen=True)
class DescentConfig:
    """Options of gradient descent."""

    lr: float = 0.1
    """The step size."""
    batch_size: int = 10
    """How many points a step sees."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"--algorithm.batch-size is {self.batch_size}; it must be positive")


@dataclass(frozen=True)
class Letter:
    """What people would rather look at."""

    text: str

    def save(self, path: Path) -> None:
        """Write it to PATH."""
        if path.suffix != ".txt":
            raise ConfigError(f"{path}: a letter is saved as .txt")
        path.write_text(self.text)


class Descent(Saved):
    """Fits a map to points by gradient descent."""

    Config = DescentConfig
    unit: ClassVar[str] = "points"
    default_task: ClassVar[str] = "frozen-line"
    default_model: ClassVar[str] = "frozen-linear"
    default_steps: ClassVar[int] = 1_000
    best: ClassVar[str] = "min eval/loss"
    highlights: ClassVar[tuple[str, ...]] = ("train/loss", "eval/loss")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"slope-9": {"algorithm.lr": 0.2}}
    saved: ClassVar[tuple[str, ...]] = ("net", "optimizer", "progress")

    def __init__(self, config: DescentConfig, task: Line, model: Any, context: Context) -> None:
        self.config, self.task, self.context = config, task, context
        self.net = model(1, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), config.lr, momentum=0.5)
        self.progress = 0

    def step(self) -> dict[str, torch.Tensor]:
        """One step on new points."""
        x, y = self.task.draw(self.config.batch_size, self.context.rng("points"))
        loss = (self.net(x.to(self.context.device)) - y.to(self.context.device)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.progress += self.config.batch_size
        return {"loss": loss.detach()}

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0, scale: float = 1.0
    ) -> dict[str, float]:
        """The mean squared error on N points of their own, times SCALE."""
        with torch.no_grad():
            x, y = self.task.draw(n or 100, np.random.default_rng((seed, split == "test")))
            error = self.net(x.to(self.context.device)).cpu() - y
        return {"loss": scale * float(error.square().mean())}

    def sample(self, n: int = 3, seed: int = 0) -> Letter:
        """N points of the line that was learned."""
        x = torch.linspace(-1, 1, n)[:, None]
        with torch.no_grad():
            y = self.net(x.to(self.context.device)).cpu()
        return Letter("".join(f"{a:.2f} {b:.2f}\n" for a, b in zip(x[:, 0], y[:, 0], strict=True)))
