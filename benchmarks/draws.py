"""Fused draws and log-probabilities against the same in plain PyTorch.

    python benchmarks/draws.py [--rounds 15]

For each operation one JSON line is printed: the time of `corelab_kernels.sampling` and of what one
would write in PyTorch, in turns, and their ratio, with its middle half. The times are CPU seconds
of one thread. Where there is an NVIDIA GPU they are its own, by CUDA events, and there is more of
the draws: `graph_ms` is what they take as a CUDA graph, without what starts them and without a look
at what was drawn, and `share` at how much of the bandwidth of a copy from memory to memory they
then read. (The mixtures' draws in PyTorch make their random numbers on the CPU, and wait for them.)
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator

import torch
from clock import DEVICE, captured, timed
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


def seconds(run: Callable[[], object]) -> float:
    return timed(run, DEVICE)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    on_gpu = DEVICE == "cuda"
    bandwidth = 0.0
    if on_gpu:
        there = torch.empty(1 << 28, device=DEVICE)
        here = torch.empty_like(there)
        bandwidth = 2 * there.nbytes / min(seconds(lambda: here.copy_(there)) for _ in range(5))
        del there, here
    for name, read, fused, plain in pairs(DEVICE, 1 << 20 if on_gpu else 1 << 12):
        both = [(seconds(plain), seconds(fused)) for _ in range(options.rounds + 2)]
        both = both[2:]  # the first calls are slower
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
            replay = captured(fused)
            quick = statistics.median(seconds(replay) for _ in range(options.rounds))
            figures["graph_ms"] = round(1e3 * quick, 3)
            figures["share"] = round(read.nbytes / quick / bandwidth, 2)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
