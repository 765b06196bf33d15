"""`Perceptrons` in compiled code: a pass through all layers of all nets is one call.

The numbers are those of `Perceptrons` but for roundings, and the same bits on every processor. It
takes a C++ compiler, see corelab_kernels.
"""

from __future__ import annotations

from ctypes import byref
from typing import Any, Literal

import numpy as np
import torch
from corelab_kernels.build import NoCompiler
from corelab_kernels.perceptron import Task, passes, workspace
from numpy.typing import NDArray
from torch import Tensor

from corelab import ConfigError
from corelab_nets.arrays import ArrayPerceptrons
from corelab_nets.perceptron import Perceptrons

Engine = Literal["arrays", "compiled"]


def engine_of(net: Perceptrons, engine: Engine) -> ArrayPerceptrons | CompiledPerceptrons:
    """The passes of NET, whose parameters are on the CPU, by ENGINE. `ConfigError` if that must be
    compiled and cannot be: another one would round differently.
    """
    if engine == "arrays":
        return ArrayPerceptrons(net)
    try:
        return CompiledPerceptrons(net)
    except NoCompiler as reason:
        raise ConfigError(
            f"model.engine is compiled, which needs a C++ compiler ({reason}); install one, or "
            "choose arrays"
        ) from reason


class CompiledPerceptrons:
    """The passes of NET, whose parameters are on the CPU, on arrays of its own precision.

    What a method returns is overwritten by the next call of the same. `NoCompiler` if they cannot
    be compiled here.
    """

    def __init__(self, net: Perceptrons) -> None:
        self.net = net
        """Whose weights these are."""
        self._flat = torch.empty(0)
        self._refresh()

    def __reduce__(self) -> tuple[type[CompiledPerceptrons], tuple[Perceptrons]]:
        return CompiledPerceptrons, (self.net,)  # all else are addresses

    def _refresh(self) -> None:
        """Look at the parameter as it is: moving or copying a module replaces it."""
        flat = self.net.flat.data
        if self._flat.data_ptr() == flat.data_ptr() and self._flat.dtype is flat.dtype:
            return
        self._flat = flat
        self._dtype = torch.empty(0, dtype=flat.dtype).numpy().dtype
        self._forward, self._backward = passes(flat.dtype)
        self._one, self._all = _Pass(self.net), _Pass(self.net)

    def infer(self, x: NDArray[Any], net: int = 0) -> NDArray[Any]:
        """Outputs [B, outputs] of one NET for X [B, inputs]."""
        self._refresh()
        x = self._seen(x)
        one = self._one
        task = one.of(x)
        task.first, task.last = net, net + 1
        self._forward(byref(task))
        return one.y[net, :, : self.net.outputs[net]]

    def trace(self, x: NDArray[Any]) -> NDArray[Any]:
        """Outputs [G, B, outputs] for X, [B, inputs] or [G, B, inputs], remembered for `pull`."""
        self._refresh()
        self._x = self._seen(x)  # which stays where it is
        self._forward(byref(self._all.of(self._x)))
        return self._all.y

    def pull(self, dy: NDArray[Any]) -> Tensor:
        """From dL/dy, of what `trace` gave last, dL/d`flat`."""
        every = self._all
        if dy.shape != every.y.shape:
            raise ValueError(f"gradients {dy.shape} are not of outputs {every.y.shape}")
        dy = np.ascontiguousarray(dy, self._dtype)
        every.task.dy = dy.ctypes.data
        self._backward(byref(every.task))
        return every.gradient

    def _seen(self, x: NDArray[Any]) -> NDArray[Any]:
        """X in one piece and the net's precision. `ValueError` if its shape is another."""
        nets, inputs = self.net.nets, self.net.widths[0]
        if x.shape[-1] != inputs or x.shape[:-2] not in ((), (nets,)):
            raise ValueError(f"{x.shape} is not the shape of {nets} nets' inputs [rows, {inputs}]")
        return np.ascontiguousarray(x, self._dtype)


class _Pass:
    """What compiled code is told of NET as it is, and memory for one number of rows at a time."""

    def __init__(self, net: Perceptrons) -> None:
        self._net = net
        self._widths = torch.tensor(net.widths, dtype=torch.int32)
        self.task = Task(
            nets=net.nets,
            depth=len(net.widths) - 1,
            widths=self._widths.data_ptr(),
            relus=net.activation == "relu",
            flat=net.flat.data_ptr(),
            last=net.nets,
        )
        self.gradient = torch.zeros_like(net.flat.data)
        self._workspace = self.gradient.new_zeros(workspace(self.task))
        self.task.gradient = self.gradient.data_ptr()
        self.task.workspace = self._workspace.data_ptr()
        self._kept = self.gradient.new_zeros(0)
        self.y: NDArray[Any] = np.zeros(0)
        """What the last layer gave, [G, rows, outputs]."""
        self._rows = -1

    def of(self, x: NDArray[Any]) -> Task:
        """The task with X, whose memory is another if X has other rows than the one before."""
        task, rows = self.task, x.shape[-2]
        if rows != self._rows:
            self._rows = task.rows = rows
            widths = self._net.widths[1:]
            size, last = (self._net.nets * rows * n for n in (sum(widths), widths[-1]))
            if len(self._kept) < size:
                self._kept = self._kept.new_zeros(size)
                task.kept = self._kept.data_ptr()
            y = self._kept[size - last : size].view(self._net.nets, rows, widths[-1])
            self.y = y.numpy()
        task.x = x.ctypes.data
        task.x_net = x[0].size if x.ndim == 3 else 0
        return task
