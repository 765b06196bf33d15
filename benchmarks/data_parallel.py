"""What a step of data-parallel training costs beyond its computation and its all-reduce.

usage: python benchmarks/data_parallel.py [STEPS]

Two processes, joined by gloo on this machine, train a VAE with half a minibatch each. A step is
compared with that of one process on such a half, and with a bare all-reduce of as many numbers.
What the mean of the gradients and rank 0's clock take beyond that is work of ours; what a step
takes beyond both is also that computation and sums drive each other out of the caches. Two smaller
all-reduces tell latency and bandwidth, from which the large one is predicted.
The figures are tenth percentiles of what came in turns, in milliseconds, of wall-clock time and of
one process's CPU time: what a machine that does other things adds to a step is left out.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from corelab.cluster.parallel import DataParallel, broadcast, mean_
from corelab.context import Context
from corelab.experiments import resolve

BATCH = 128
TURNS = 4


def measure(act: Callable[[], object], steps: int) -> list[tuple[float, float]]:
    """Milliseconds of wall-clock and of CPU time that ACT takes, each time."""
    times = []
    for _ in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        times.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
    return times[5:]


def build(batch: int, kind: type[Context] | None) -> Any:
    values = {"algorithm.batch_size": batch, "device": "cpu"}
    experiment = resolve("vae", task="digits", model="mlp", values=values)
    return experiment.build(experiment.context(kind=kind))


def work(rank: int, rendezvous: str, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    half, whole = build(BATCH // 2, None), build(BATCH, DataParallel)
    n = sum(p.numel() for p in whole.net.parameters())
    flat, told = torch.zeros(n), torch.zeros(2, dtype=torch.float64)
    small, medium = torch.zeros(n // 16), torch.zeros(n // 4)
    whole.step()
    gradients = [p.grad for p in whole.net.parameters()]
    rows = {
        "a step of one process, half a minibatch": half.step,
        "a data-parallel step": whole.step,
        "the mean of its gradients": lambda: whole.context.average(gradients),
        "a bare all-reduce": lambda: mean_(flat),
        "rank 0's clock": lambda: broadcast(told),
        "an all-reduce of a 16th": lambda: mean_(small),
        "an all-reduce of a quarter": lambda: mean_(medium),
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(TURNS):
        for name, act in rows.items():
            dist.barrier()
            seen[name] += measure(act, 5 + steps // TURNS)
    if rank == 0:
        found = {name: np.percentile(times, 10, axis=0) for name, times in seen.items()}
        print(f"{n:,} parameters, {4 * n / 1e6:.2f} MB of gradients; ms: wall, CPU")
        for name, (wall, cpu) in found.items():
            print(f"{name:46} {wall:7.2f} {cpu:7.2f}")
        alone, together, averaged, reduced, clock, of_small, of_medium = found.values()
        wall, cpu = averaged + clock - reduced
        print(f"{'the mean and the clock beyond the all-reduce':46} {wall:7.2f} {cpu:7.2f}")
        wall, cpu = together + clock - alone - reduced
        print(f"{'a step and the clock beyond both':46} {wall:7.2f} {cpu:7.2f}")
        wall, cpu = of_small + (of_medium - of_small) * (n - n // 16) / (n // 4 - n // 16)
        print(f"{'the all-reduce as predicted':46} {wall:7.2f} {cpu:7.2f}")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        spawn = multiprocessing.get_context("spawn")
        arguments = str(Path(folder) / "rendezvous"), steps
        processes = [spawn.Process(target=work, args=(rank, *arguments)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
