"""How long something takes on a processor or on an NVIDIA GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed(run: Callable[[], Result], device: str = "cpu") -> tuple[Result, float]:
    """What RUN gives, and its seconds: of this process on a CPU, or between two events on a GPU."""
    if device == "cpu":
        began = time.process_time()
        result = run()
        return result, time.process_time() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    result = run()
    last.record()
    torch.cuda.synchronize()
    return result, first.elapsed_time(last) / 1e3


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """RUN as a CUDA graph: a call starts all of its kernels at once, with the same operands."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()  # what is made at the first call cannot be captured
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
