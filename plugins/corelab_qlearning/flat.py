"""All parameters of a network as one vector: one call for an optimizer, one for a copy."""

from __future__ import annotations

from collections.abc import Callable

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
