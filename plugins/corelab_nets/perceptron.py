"""Multilayer perceptrons at the price of their arithmetic.

For a small network nearly all of the time goes to the calls around the arithmetic: one graph node
per operation, one optimizer state per weight. `Perceptrons` is G perceptrons of equal hidden layers
whose weights are views of ONE flat parameter, whose pass forwards is one graph node with a backward
pass written by hand, and which run side by side as one batched product.

    critics = Perceptrons(inputs=17 + 6, sizes=(256, 256), outputs=1, nets=2, activation="relu")
    q = critics(torch.cat([state, action], -1))[..., 0]        # [2, B]; differentiable in its input
    optimizer = torch.optim.Adam(critics.parameters(), 3e-4, fused=True)  # one tensor: one call

    q_net = Perceptrons(4, (120, 84), 2, activation="relu", initial="uniform")
    q_net(state)[0]                                            # [B, 2], with a graph
    q_net.infer(state)                                         # [B, 2], without one: to act

All nets may see the same rows [B, inputs], or each its own [G, B, inputs]. `infer` is the pass of
one net without a graph, the fast way to act on a few rows. Whoever knows dL/dy in closed form
saves the graph altogether:

    y, kept = q_net.trace(state)
    q_net.flat.grad, _ = q_net.pull(kept, dL_dy)               # as backward() would have it

On the CPU `arrays.ArrayPerceptrons` does the same on plain arrays, in about half the time, and
`compiled.CompiledPerceptrons` in compiled code, in half of that.

Target networks are copies whose one parameter follows by one operation:
`target.flat.data.lerp_(online.flat.data, tau)`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Activation = Literal["tanh", "relu"]


class Perceptrons(nn.Module):
    """G perceptrons with INPUTS, hidden layers of SIZES and OUTPUTS, equal but for their weights.

    OUTPUTS and GAIN, the factor of the first weights of the last layer, are numbers for all nets or
    one for each; where outputs differ, shorter ones are filled up with zeros. First weights are
    INITIAL: "orthogonal" (Saxe et al. 2013, arXiv:1312.6120), scaled by √2 but for the last layer,
    with biases of zero, or "uniform" between ±1/√inputs, as torch's own layers.
    """

    def __init__(
        self,
        inputs: int,
        sizes: tuple[int, ...],
        outputs: int | tuple[int, ...],
        *,
        nets: int | None = None,
        activation: Activation = "tanh",
        gain: float | tuple[float, ...] = 1.0,
        initial: Literal["orthogonal", "uniform"] = "orthogonal",
    ) -> None:
        super().__init__()
        if nets is None:
            nets = len(outputs) if isinstance(outputs, tuple) else 1
        self.nets = nets
        self.activation: Activation = activation
        self.outputs = outputs if isinstance(outputs, tuple) else (outputs,) * nets
        widths = [inputs, *sizes, max(self.outputs)]
        self.widths = tuple(widths)
        self._shapes: list[tuple[int, int, int]] = []
        for fan_in, fan_out in pairwise(widths):
            self._shapes += [(nets, fan_in, fan_out), (nets, 1, fan_out)]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.flat = nn.Parameter(torch.zeros(sum(self._sizes)))
        """Weights and biases of all nets, layer by layer."""
        self._base = torch.empty(0)
        self._views: list[Tensor] = []
        self._of_net: list[list[tuple[Tensor, Tensor]]] = []
        gains = gain if isinstance(gain, tuple) else (gain,) * nets
        for net in range(nets):
            self._draw(net, gains[net], initial)

    def _draw(self, net: int, gain: float, initial: str) -> None:
        layers = self.layers(net)
        for depth, (weight, bias) in enumerate(layers):
            if depth == len(layers) - 1:  # without what only fills up
                weight, bias = weight[:, : self.outputs[net]], bias[: self.outputs[net]]
            if initial == "uniform":
                bound = 1 / math.sqrt(max(1, len(weight)))  # there may be nothing to see
                weight.uniform_(-bound, bound)
                bias.uniform_(-bound, bound)
            else:
                scale = gain if depth == len(layers) - 1 else math.sqrt(2)
                weight.copy_(nn.init.orthogonal_(torch.empty_like(weight.T), scale).T)

    def layers(self, net: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Weight [fan_in, fan_out] and bias [fan_out] of each layer of NET: views, without a graph.

        Writing to them changes the network.
        """
        self._refresh()
        return self._of_net[net]

    def cut(self, flat: Tensor) -> list[Tensor]:
        """Views of a vector like `flat`: weights [G, in, out], biases [G, 1, out] of each layer."""
        pieces = torch.split(flat, self._sizes)
        return [p.view(shape) for p, shape in zip(pieces, self._shapes, strict=True)]

    def _refresh(self) -> None:
        """Let the views be of the parameter as it is: moving or copying a module replaces it."""
        flat = self.flat.data
        if self._base.data_ptr() == flat.data_ptr() and self._base.dtype is flat.dtype:
            return
        self._base = flat
        self._views = self.cut(flat)
        weights, biases = self._views[::2], self._views[1::2]
        self._of_net = [
            [(W[net], b[net, 0]) for W, b in zip(weights, biases, strict=True)]
            for net in range(self.nets)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [G, B, outputs] for X, [B, inputs] or [G, B, inputs]."""
        y: Tensor = _Pass.apply(x, self.flat, self)  # type: ignore[no-untyped-call]
        return y

    def infer(self, x: Tensor, net: int = 0) -> Tensor:
        """Outputs [B, outputs] of one NET for X [B, inputs], without a graph."""
        *hidden, (weight, bias) = self.layers(net)
        squash = torch.tanh_ if self.activation == "tanh" else torch.relu_
        for W, b in hidden:
            x = squash(torch.addmm(b, x, W))
        y = torch.addmm(bias, x, weight)
        return y if self.outputs[net] == y.shape[1] else y[:, : self.outputs[net]]

    def trace(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs [G, B, outputs] for X without a graph, and what `pull` needs to go back."""
        self._refresh()
        squash = torch.tanh_ if self.activation == "tanh" else torch.relu_
        h = x.expand(self.nets, *x.shape) if x.dim() == 2 else x
        kept = [h]
        for W, b in zip(self._views[:-2:2], self._views[1:-2:2], strict=True):
            h = squash(torch.baddbmm(b, h, W))
            kept.append(h)
        return torch.baddbmm(self._views[-1], h, self._views[-2]), kept

    def pull(self, kept: list[Tensor], dy: Tensor) -> tuple[Tensor, Tensor]:
        """From dL/dy of what `trace` gave: dL/d`flat`, and δ [G, B, width] of the first layer.

        δ is the gradient of what a layer gives before it is squashed.
        """
        pieces: list[Tensor] = []
        delta = dy
        for depth in reversed(range(len(kept))):
            h = kept[depth]
            pieces += [delta.sum(1).view(-1), torch.bmm(h.mT, delta).view(-1)]
            if depth:
                delta = self._unsquash(torch.bmm(delta, self._views[2 * depth].mT), h)
        return torch.cat(pieces[::-1]), delta

    def pull_input(self, kept: list[Tensor], dy: Tensor) -> Tensor:
        """From dL/dy of what `trace` gave: δ of the first layer alone."""
        delta = dy
        for depth in reversed(range(1, len(kept))):
            delta = self._unsquash(torch.bmm(delta, self._views[2 * depth].mT), kept[depth])
        return delta

    def _unsquash(self, gradient: Tensor, h: Tensor) -> Tensor:
        """dL/dz, where h = squash(z), from dL/dh."""
        if self.activation == "tanh":
            return torch.ops.aten.tanh_backward(gradient, h)  # type: ignore[no-any-return]
        return torch.ops.aten.threshold_backward(gradient, h, 0)  # type: ignore[no-any-return]


class _Pass(torch.autograd.Function):
    """The pass through all layers of all nets, as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, module: Perceptrons) -> Tensor:
        """Keeps what each layer was given."""
        y, kept = module.trace(x)
        ctx.save_for_backward(flat, *kept)
        ctx.module, ctx.shared = module, x.dim() == 2
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Back through the layers, as far as asked."""
        _, *kept = ctx.saved_tensors  # the weights too: torch refuses if they have changed since
        module: Perceptrons = ctx.module
        of_input, of_flat, _ = ctx.needs_input_grad
        dx = dflat = None
        if of_flat:
            dflat, delta = module.pull(kept, dy)
        else:
            delta = module.pull_input(kept, dy)
        if of_input:
            dx = torch.bmm(delta, module._views[0].mT)
            dx = dx.sum(0) if ctx.shared else dx
        return dx, dflat, None
