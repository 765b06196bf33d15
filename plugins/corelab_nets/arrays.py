"""`Perceptrons` on plain arrays: for the CPU, where the calls cost more than the arithmetic.

In a training loop a call of torch costs several microseconds, two to three times what a benchmark
of that call alone shows, and NumPy's are a fraction of that. So the passes of small perceptrons are
written here once more, on views of the very same memory; the tests hold them to `Perceptrons` and
to autograd.

    net = Perceptrons(4, (64, 64), (2, 1))
    fast = ArrayPerceptrons(net)
    y = fast.trace(x)                                  # [2, B, 2]
    net.flat.grad = fast.pull(dy)                      # as backward() would have it

Memory that is multiplied belongs to torch, which aligns it: sums must not depend on where an array
happens to lie.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corelab_nets.perceptron import Perceptrons

Array = Any
"""A NumPy array or a torch tensor: what is written with it works on both."""


def module_of(x: Array) -> Any:
    """`torch` or `numpy`, whose functions X is for."""
    return torch if isinstance(x, Tensor) else np


def log_softmax(x: Array, axis: int) -> Array:
    """Log of the softmax over AXIS."""
    if isinstance(x, Tensor):
        return x.log_softmax(axis)
    z = x - x.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


def aligned(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> NDArray[Any]:
    """Zeros in memory that torch has aligned."""
    array: NDArray[Any] = torch.zeros(shape, dtype=dtype).numpy()
    return array


class _Buffers:
    """Memory for what the layers give, for one number of rows at a time."""

    def __init__(self, nets: int, widths: tuple[int, ...], dtype: torch.dtype) -> None:
        self._nets, self._widths, self._dtype = nets, widths, dtype
        self._memory = [aligned((0,), dtype) for _ in widths]
        self._views: list[NDArray[Any]] = []
        self._rows = -1

    def of(self, rows: int) -> list[NDArray[Any]]:
        """[G, ROWS, width] for each layer; what was there before is lost if ROWS are others."""
        if rows != self._rows:
            self._rows = rows
            shapes = [(self._nets, rows, width) for width in self._widths]
            for i, shape in enumerate(shapes):
                if self._memory[i].size < math.prod(shape):
                    self._memory[i] = aligned((math.prod(shape),), self._dtype)
            self._views = [
                memory[: math.prod(shape)].reshape(shape)
                for memory, shape in zip(self._memory, shapes, strict=True)
            ]
        return self._views


class ArrayPerceptrons:
    """The passes of NET, whose parameters are on the CPU, on arrays of its own precision.

    What a method returns is overwritten by the next call of the same.
    """

    def __init__(self, net: Perceptrons) -> None:
        self.net = net
        """Whose weights these are."""
        self._flat = torch.empty(0)
        self._refresh()

    def _refresh(self) -> None:
        """Look at the parameter as it is: moving or copying a module replaces it."""
        flat = self.net.flat.data
        if self._flat.data_ptr() == flat.data_ptr() and self._flat.dtype is flat.dtype:
            return
        self._flat = flat
        self._layers = self._cut(flat)  # [G, in, out] and [G, 1, out]
        self._gradient = torch.zeros_like(flat)
        self._gradients = self._cut(self._gradient)
        nets, widths = self.net.nets, self.net.widths[1:]
        self._one = _Buffers(1, widths, flat.dtype)
        self._all = _Buffers(nets, widths, flat.dtype)
        self._deltas = _Buffers(nets, widths[:-1], flat.dtype)
        self._kept: list[NDArray[Any]] = []

    def _cut(self, flat: Tensor) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        views = [v.numpy() for v in self.net.cut(flat)]
        return list(zip(views[::2], views[1::2], strict=True))

    def infer(self, x: NDArray[Any], net: int = 0) -> NDArray[Any]:
        """Outputs [B, outputs] of one NET for X [B, inputs]."""
        self._refresh()
        layers = [(W[net], b[net]) for W, b in self._layers]
        h = self._forward(x, layers, [rows[0] for rows in self._one.of(len(x))])[-1]
        return h[:, : self.net.outputs[net]]

    def trace(self, x: NDArray[Any]) -> NDArray[Any]:
        """Outputs [G, B, outputs] for X, [B, inputs] or [G, B, inputs], remembered for `pull`."""
        self._refresh()
        self._kept = self._forward(x, self._layers, self._all.of(x.shape[-2]))
        return self._kept[-1]

    def _forward(
        self,
        x: NDArray[Any],
        layers: list[tuple[NDArray[Any], NDArray[Any]]],
        out: list[NDArray[Any]],
    ) -> list[NDArray[Any]]:
        """X and what each of LAYERS gives, written to OUT."""
        tanh = self.net.activation == "tanh"
        kept = [x]
        for depth, ((W, b), h) in enumerate(zip(layers, out, strict=True), 1):
            np.matmul(kept[-1], W, out=h)
            h += b
            if depth < len(layers):
                np.tanh(h, out=h) if tanh else np.maximum(h, 0, out=h)
            kept.append(h)
        return kept

    def pull(self, dy: NDArray[Any]) -> Tensor:
        """From dL/dy, of what `trace` gave last, dL/d`flat`; forgets what `trace` has kept."""
        out = self._deltas.of(dy.shape[1])
        delta = dy  # δ: the gradient of what a layer gives before it is squashed
        for depth in reversed(range(len(self._layers))):
            h, (dW, db) = self._kept[depth], self._gradients[depth]
            np.matmul(h.swapaxes(-1, -2), delta, out=dW)
            np.add.reduce(delta, 1, keepdims=True, out=db)
            if depth:
                W, _ = self._layers[depth]
                delta = np.matmul(delta, W.swapaxes(1, 2), out=out[depth - 1])
                delta *= self._slope(h)
        return self._gradient

    def _slope(self, h: NDArray[Any]) -> NDArray[Any]:
        """dh/dz where h = squash(z), in place of H, which is not needed any more."""
        if self.net.activation == "relu":
            np.greater(h, 0, out=h)
        else:
            np.multiply(h, h, out=h)
            np.subtract(1, h, out=h)
        return h
