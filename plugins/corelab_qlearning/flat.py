"""All parameters of a network as one vector: one call for an optimizer, one for a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def flatten(net: nn.Module) -> Tensor:
    """A vector of which the parameters of NET are views from now on, and their gradients of its
    gradient, which therefore must be zeroed in place.
    """
    parameters = list(net.parameters())
    flat = torch.cat([p.detach().flatten() for p in parameters])
    flat.grad = torch.zeros_like(flat)
    begin = 0
    for p in parameters:
        end = begin + p.numel()
        p.data = flat[begin:end].view_as(p)
        p.grad = flat.grad[begin:end].view_as(p)
        begin = end
    return flat


def trace(
    net: nn.Module, theta: Tensor, observations: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What NET, flattened to THETA, gives for OBSERVATIONS, and what makes of the gradient of a
    loss with respect to that the one with respect to THETA, by autograd.
    """
    z = net(observations)

    def pull(dz: Tensor) -> Tensor:
        assert theta.grad is not None
        theta.grad.zero_()
        torch.autograd.backward(z, dz)
        return theta.grad

    return z.detach(), pull


_TINY = 1e-30
"""Moments below this change no weight, since Adam's ε is so much larger."""


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on one vector, by torch's fused kernel.

    It does what `torch.optim.Adam(fused=True)` does, which for a small network spends four times
    as long on what surrounds the kernel as in it. Moments of weights that have no gradient any more
    are set to zero before they become denormal numbers, which processors are very slow with.
    """

    def __init__(self, theta: Tensor, eps: float) -> None:
        self._theta, self._eps = theta, eps
        self._m, self._v = torch.zeros_like(theta), torch.zeros_like(theta)
        self._t = torch.zeros((), device=theta.device)
        self._steps = 0

    def step(self, gradient: Tensor, lr: float) -> None:
        """Go against GRADIENT with the step size LR."""
        self._steps += 1
        if self._steps % 100 == 0:  # β1^100 is 3e-5, so nothing gets from _TINY to 1e-38 in between
            for moment in (self._m, self._v):
                moment.mul_(moment.abs() > _TINY)
        torch._fused_adam_(
            [self._theta],
            [gradient],
            [self._m],
            [self._v],
            [],
            [self._t.add_(1)],
            lr=lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"m": self._m, "v": self._v, "t": self._t, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from STATE."""
        for mine, saved in ((self._m, "m"), (self._v, "v"), (self._t, "t")):
            mine.copy_(state[saved])
        self._steps = state["steps"]
