"""Adam (Kingma & Ba 2015, arXiv:1412.6980) without what `torch.optim` spends on each call.

The arithmetic is torch's own fused kernel, or the same on plain arrays; hooks, profiling and
parameter groups are left out. On a network of one small flat parameter that halves the cost of an
update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SMALL = 1 << 16
"""Up to how many numbers a parameter is updated on plain arrays, so that runs of small networks are
what they were before torch's kernel could be called without its surroundings, to the bit."""
_TINY = 1e-30
"""Moments below this change no weight, and processors are very slow with the smallest numbers."""
_FLUSH = 100
"""Steps after which such moments become 0: β1^100 is 3e-5, so none gets to 1e-38 in between."""


class Adam:
    """Adam for PARAMETERS with decay rates BETAS, from their `.grad`; those without are left.

    Small ones on the CPU are updated on plain arrays, others, and all if FUSED, by torch's kernel,
    which rounds differently.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        fused: bool = False,
    ) -> None:
        self._parameters = list(parameters)
        self._betas, self._eps = betas, eps
        self._m = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
        self._v = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
        self._t = [torch.zeros((), device=p.device) for p in self._parameters]  # steps taken
        self._on_cpu = all(p.device.type == "cpu" for p in self._parameters)
        few = all(p.numel() <= _SMALL for p in self._parameters)
        self._on_arrays = self._on_cpu and few and not fused
        # an array is counted up in a fraction of the time that a tensor takes
        self._counts: list[Any] = [t.numpy() for t in self._t] if self._on_cpu else self._t
        self._arrays = [
            (m.numpy(), v.numpy(), count, np.empty_like(m.numpy()))
            for m, v, count in zip(self._m, self._v, self._counts, strict=True)
            if self._on_arrays
        ]

    def step(self, lr: float, max_norm: float | None = None) -> None:
        """One step of size LR, for gradients scaled down, together, to length MAX_NORM."""
        which = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        gradients = [cast(Tensor, self._parameters[i].grad) for i in which]
        if self._on_arrays:
            arrays = [g.numpy() for g in gradients]
            if max_norm is not None:
                _clip_arrays(arrays, max_norm)
            for i, g in zip(which, arrays, strict=True):
                self._step_on_arrays(i, g, lr)
            return
        if max_norm is not None:
            _clip_tensors(gradients, max_norm)
        self._step_fused(which, gradients, lr)

    def _step_fused(self, which: list[int], gradients: list[Tensor], lr: float) -> None:
        """What `torch.optim.Adam(fused=True)` does."""
        for i in which:
            count = self._counts[i]
            count += 1
            if self._on_cpu and float(count) % _FLUSH == 0:
                for moment in (self._m[i], self._v[i]):
                    moment.mul_(moment.abs() > _TINY)
        torch._fused_adam_(
            [self._parameters[i].detach() for i in which],
            gradients,
            [self._m[i] for i in which],
            [self._v[i] for i in which],
            [],
            [self._t[i] for i in which],
            lr=lr,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )

    def _step_on_arrays(self, i: int, g: NDArray[Any], lr: float) -> None:
        """Algorithm 1 of the paper, with its remark on the order of the corrections."""
        beta1, beta2 = self._betas
        theta = self._parameters[i].detach().numpy()
        m, v, count, part = self._arrays[i]
        count += 1
        t = float(count)
        m *= beta1
        m += np.multiply(g, 1 - beta1, out=part)
        v *= beta2
        np.multiply(g, g, out=part)
        part *= 1 - beta2
        v += part
        if t % _FLUSH == 0:
            m *= abs(m) > _TINY
            v *= v > _TINY
        np.sqrt(v, out=part)
        part *= (1 - beta2**t) ** -0.5
        part += self._eps
        np.divide(m, part, out=part)
        part *= lr / (1 - beta1**t)
        theta -= part

    def state_dict(self) -> dict[str, Any]:
        """The moments and the counts."""
        return {"m": self._m, "v": self._v, "t": self._t}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave. `ValueError` if that is of other parameters."""
        for name, own in (("m", self._m), ("v", self._v), ("t", self._t)):
            for mine, saved in zip(own, state[name], strict=True):
                if mine.shape != saved.shape:
                    raise ValueError(f"a moment is {list(saved.shape)}, not {list(mine.shape)}")
                mine.copy_(saved)


def _clip_arrays(gradients: list[NDArray[Any]], max_norm: float) -> None:
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients))
    if norm > max_norm:
        for g in gradients:
            g *= max_norm / (norm + 1e-6)


def _clip_tensors(gradients: list[Tensor], max_norm: float) -> None:
    norms = torch.stack([torch.linalg.vector_norm(g) for g in gradients])
    scale = (torch.linalg.vector_norm(norms) + 1e-6).reciprocal_().mul_(max_norm).clamp_(max=1.0)
    for g in gradients:
        g.mul_(scale)
