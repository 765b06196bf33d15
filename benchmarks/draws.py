"""Fused draws and log-probabilities against the same in plain PyTorch.

    python benchmarks/draws.py [--rounds 15]

For each operation one JSON line is printed: the time of `corelab_kernels.sampling` and of what one
would write in PyTorch, in turns, and their ratio, with its middle half. The times are CPU seconds
of one thread. Where there is an NVIDIA GPU they are its own, by CUDA events, and `share` is how
much of the bandwidth of a copy from memory to memory the draws read at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from corelab_kernels import reference
from corelab_kernels.sampling import (
    categorical_log_prob,
    logistic_mixture_log_prob,
    sample_categorical,
    sample_logistic_mixture,
)
from torch import Tensor

Pair = tuple[str, Tensor, Callable[[], object], Callable[[], object]]


def pairs(device: str, rows: int) -> Iterator[Pair]:
    """What is compared, with ROWS times 256 numbers: its name, what it reads, and the two ways."""
    for classes in (256, 32_768):
        x = torch.randn(rows * 256 // classes, classes, device=device)
        chosen = torch.randint(classes, (len(x),), device=device)
        leaf = x.clone().requires_grad_()
        yield (
            f"draw one of {classes}",
            x,
            lambda x=x: sample_categorical(x, 1),
            lambda x=x: torch.multinomial(x.softmax(1), 1),
        )
        yield (
            f"log-probability of one of {classes}, forward and backward",
            x,
            lambda x=leaf, k=chosen: categorical_log_prob(x, k).sum().backward(),
            lambda x=leaf, k=chosen: torch.nn.functional.cross_entropy(
                x, k, reduction="sum"
            ).backward(),
        )
    for components in (5, 10):
        p = torch.randn(rows, 3, components, device=device)
        levels = torch.randint(256, (rows,), device=device)
        leaf = p.clone().requires_grad_()
        yield (
            f"draw from {components} logistics",
            p,
            lambda p=p: sample_logistic_mixture(p, 1),
            lambda p=p: reference.sample_logistic_mixture(p, 1, 0),
        )
        yield (
            f"log-probability under {components} logistics, forward and backward",
            p,
            lambda p=leaf, y=levels: logistic_mixture_log_prob(p, y).sum().backward(),
            lambda p=leaf, y=levels: reference.logistic_mixture_log_prob(p, y).sum().backward(),
        )


def seconds(run: Callable[[], object], on_gpu: bool) -> float:
    """What RUN takes."""
    if not on_gpu:
        began = time.process_time()
        run()
        return time.process_time() - began
    began_event, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began_event.record()
    run()
    ended.record()
    torch.cuda.synchronize()
    return began_event.elapsed_time(ended) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    on_gpu = torch.cuda.is_available()
    device, rows = ("cuda", 1 << 20) if on_gpu else ("cpu", 1 << 12)
    bandwidth = 0.0
    if on_gpu:
        there = torch.empty(1 << 28, device=device)
        here = torch.empty_like(there)
        copies = [seconds(lambda: here.copy_(there), True) for _ in range(5)]
        bandwidth = 2 * there.nbytes / min(copies)
        del there, here
    for name, read, fused, plain in pairs(device, rows):
        both = [
            (seconds(plain, on_gpu), seconds(fused, on_gpu)) for _ in range(options.rounds + 2)
        ][2:]  # the first calls are slower
        low, middle, high = statistics.quantiles((slow / quick for slow, quick in both), n=4)
        quick = statistics.median(pair[1] for pair in both)
        figures = {
            "benchmark": name,
            "device": torch.cuda.get_device_name() if on_gpu else "one CPU thread",
            "rows": len(read),
            "plain_ms": round(1e3 * statistics.median(pair[0] for pair in both), 3),
            "fused_ms": round(1e3 * quick, 3),
            "ratio": round(middle, 2),
            "middle_half": [round(low, 2), round(high, 2)],
        }
        if on_gpu and name.startswith("draw"):
            figures["share"] = round(read.nbytes / quick / bandwidth, 2)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
