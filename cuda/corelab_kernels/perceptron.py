"""The passes of small perceptrons, forwards and backwards, each by one call of compiled code.

A pass takes tens of microseconds, so nothing is asked on the way: whoever fills in a `Task` sees to
it that what an address stands for is on the CPU, contiguous, of the right type and as large as it
must be. `corelab_nets.compiled` does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import torch

from corelab_kernels import build


class Task(ctypes.Structure):
    """A pass, in the order of `Task` in perceptron.cpp, which says what the fields are."""

    _fields_ = [
        ("nets", c_int32),
        ("depth", c_int32),
        ("widths", c_void_p),
        ("relus", c_int32),
        ("rows", c_int32),
        ("flat", c_void_p),
        ("first", c_int32),
        ("last", c_int32),
        ("x", c_void_p),
        ("x_net", c_int64),
        ("kept", c_void_p),
        ("dy", c_void_p),
        ("gradient", c_void_p),
        ("workspace", c_void_p),
    ]


Pass = Callable[[Any], None]
"""Is called with a reference to a `Task`."""


def passes(dtype: torch.dtype) -> tuple[Pass, Pass]:
    """Forwards and backwards, on numbers of DTYPE: torch.float32 or torch.float64. `NoCompiler`, in
    a sentence, if there is none.
    """
    bits = {torch.float32: 32, torch.float64: 64}[dtype]
    forward, backward = (
        getattr(_twin(), f"perceptron_{name}{bits}") for name in ("forward", "backward")
    )
    forward.restype = backward.restype = None
    return forward, backward


def workspace(task: Task) -> int:
    """How many numbers of memory the pass backwards of TASK needs."""
    size = _twin().perceptron_workspace
    size.restype = c_int64
    return int(size(ctypes.byref(task)))


@cache
def _twin() -> ctypes.CDLL:
    return build.load("perceptron", build.exact())
