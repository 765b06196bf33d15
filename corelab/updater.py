"""From losses to new weights: what everything that is trained by gradients needs, written once."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from corelab.errors import require

if TYPE_CHECKING:
    from corelab.context import Context

Losses = Callable[..., tuple[Tensor, ...]]
"""Means over the rows of a batch, each a scalar; the first is what is to become smaller."""


@dataclass(frozen=True)
class UpdateConfig:
    """How losses become new weights."""

    ema: float = 0.0
    """Width of the average of the weights with which is evaluated and sampled, as a share of the
    updates so far, such as 0.05 (sigma_rel of Karras et al. 2024); 0 for the weights themselves."""
    clip: float = 0.0
    """Greatest norm of the gradient; a longer one is scaled down to it. 0 for no limit."""
    accumulate: int = 1
    """Pieces of a minibatch that are computed one after another, which takes less memory."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the networks compute in; weights and losses stay in float32."""
    channels_last: bool = False
    """Whether images lie in memory pixel by pixel rather than channel by channel."""
    compile: bool = False
    """Whether torch compiles the networks, which pays in long runs on a GPU."""

    def __post_init__(self) -> None:
        require(0 <= self.ema <= 0.28, "update.ema", self.ema, "between 0 and 0.28")
        require(self.clip >= 0, "update.clip", self.clip, "zero or positive")
        require(self.accumulate >= 1, "update.accumulate", self.accumulate, "at least 1")


class Updater:
    """Trains a module with an optimizer, and keeps the average of its weights."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: UpdateConfig,
        context: Context,
        averages: bool = True,
    ) -> None:
        self.config, self.optimizer = config, optimizer
        self._device = context.device.type
        half = config.precision == "float16"
        fits = not half or self._device == "cuda"
        require(fits, "update.precision", config.precision, "float32 or bfloat16 without a GPU")
        if config.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._weights = module
        self._context = context
        self.module: Any = torch.compile(module) if config.compile else module
        """What losses call: the module as it trains here."""
        self.averaged = module
        """The module with the averaged weights, or the module itself if there is no average."""
        if averages and config.ema:
            self.averaged = copy.deepcopy(module).eval().requires_grad_(False)
        self.gradient_norm: Tensor | None = None
        """Of the last gradient before it was clipped, if there is a limit."""
        self._exponent = _exponent(config.ema) if config.ema else 0.0
        self._updates = 0
        self._scaler = torch.amp.GradScaler(self._device, enabled=half)

    def __call__(self, losses: Losses, *batch: Tensor | None) -> tuple[Tensor, ...]:
        """One update with LOSSES(*BATCH), of which the gradient is averaged over all processes;
        return the losses, cut off from the graph.

        The tensors of BATCH have equally many rows; None stays None. With `accumulate` LOSSES is
        called on one piece of it after another, so whatever is random must be part of it.
        """
        # on a CPU each of the smallest numbers, of which gradients may be full, costs 100 others
        torch.set_flush_denormal(True)
        try:
            return self._update(losses, batch)
        finally:
            torch.set_flush_denormal(False)

    def _update(self, losses: Losses, batch: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        self.optimizer.zero_grad()
        totals: list[Tensor] = []
        for share, piece in _pieces(batch, self.config.accumulate):
            with self._autocast():
                values = losses(*piece)
                self._scaler.scale(values[0] * share).backward()  # type: ignore[no-untyped-call]
            shares = [value.detach() * share for value in values]
            totals = [a + b for a, b in zip(totals, shares, strict=True)] if totals else shares
        of_module = (p.grad for p in self._weights.parameters())
        self._context.average(gradient for gradient in of_module if gradient is not None)
        if self.config.clip:
            self._scaler.unscale_(self.optimizer)
            parameters = self._weights.parameters()
            self.gradient_norm = nn.utils.clip_grad_norm_(parameters, self.config.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._updates += 1
        if self.averaged is not self._weights:
            self._average()
        return tuple(totals)

    @contextmanager
    def at_rest(self) -> Iterator[Any]:
        """Within: the module to evaluate and sample with, which neither learns nor is disturbed."""
        training = self.averaged.training
        self.averaged.eval()
        try:
            with torch.no_grad(), self._autocast():
                yield self.averaged
        finally:
            self.averaged.train(training)

    @torch.no_grad()
    def _average(self) -> None:
        """θ̂ ← β θ̂ + (1 - β) θ with β = (1 - 1/t)^(γ+1) after t updates: a power function, whose
        width is a fixed share of the training however long that is (Karras et al. 2024, Analyzing
        and Improving the Training Dynamics of Diffusion Models, arXiv:2312.02696, section 3.1).
        """
        beta = (1 - 1 / self._updates) ** (self._exponent + 1)
        averaged: list[Tensor] = list(self.averaged.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](self._weights.parameters()), 1 - beta)
        for kept, buffer in zip(self.averaged.buffers(), self._weights.buffers(), strict=True):
            kept.copy_(buffer)

    def _autocast(self) -> torch.autocast:
        low = self.config.precision != "float32"
        return torch.autocast(self._device, getattr(torch, self.config.precision), enabled=low)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights themselves."""
        averaged = {} if self.averaged is self._weights else self.averaged.state_dict()
        return {
            "optimizer": self.optimizer.state_dict(),
            "averaged": averaged,
            "updates": self._updates,
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.optimizer.load_state_dict(state["optimizer"])
        # to lie in memory as the weights do, on which the order of sums depends
        for weight, kept in self.optimizer.state.items():
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    kept[name] = torch.empty_like(weight).copy_(value)
        if self.averaged is not self._weights:
            self.averaged.load_state_dict(state["averaged"])
        self._updates = state["updates"]
        self._scaler.load_state_dict(state["scaler"])


def _pieces(
    batch: tuple[Tensor | None, ...], n: int
) -> Iterator[tuple[float, tuple[Tensor | None, ...]]]:
    """BATCH in N pieces of nearly the same size, fewer if there are fewer rows: (share, piece)."""
    rows = next(len(tensor) for tensor in batch if tensor is not None)
    ends = np.linspace(0, rows, min(n, rows) + 1).round().astype(int).tolist()
    for a, b in itertools.pairwise(ends):
        yield (b - a) / rows, tuple(None if t is None else t[a:b] for t in batch)


def _exponent(width: float) -> float:
    """γ of the average that is WIDTH wide: σ² = (γ + 1) / ((γ + 2)² (γ + 3)) (section 3.1)."""
    t = width**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())
