"""What a step of data-parallel training costs beyond its computation and its all-reduce.

usage: python benchmarks/data_parallel.py [STEPS]

Two processes, joined by gloo on this machine, train a VAE with half a minibatch each. A step is
compared with that of one process on such a half, and with a bare all-reduce of as many numbers.
Two smaller all-reduces tell latency and bandwidth, from which the large one is predicted.
The figures are tenth percentiles, in milliseconds, of wall-clock time and of one process's CPU
time: what a machine that does other things adds to the wall-clock time of a step is left out.
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


def measure(act: Callable[[], object], steps: int) -> tuple[float, float]:
    """Milliseconds of wall-clock and of CPU time that ACT takes."""
    times = []
    for _ in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall_ms, cpu_ms = 1000 * np.percentile(np.array(times[5:]), 10, axis=0)
    return float(wall_ms), float(cpu_ms)


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
    rows = {
        "a step of one process, half a minibatch": half.step,
        "a data-parallel step": whole.step,
        "a bare all-reduce": lambda: mean_(flat),
        "rank 0's clock": lambda: broadcast(told),
        "an all-reduce of a 16th": lambda: mean_(small),
        "an all-reduce of a quarter": lambda: mean_(medium),
    }
    found = {}
    for name, act in rows.items():
        dist.barrier()
        found[name] = measure(act, steps)
    if rank == 0:
        print(f"{n:,} parameters, {4 * n / 1e6:.2f} MB of gradients; ms: wall, CPU")
        for name, (wall, cpu) in found.items():
            print(f"{name:42} {wall:7.2f} {cpu:7.2f}")
        times = [np.array(pair) for pair in found.values()]
        alone, together, reduced, clock, of_small, of_medium = times
        wall, cpu = together + clock - alone - reduced
        print(f"{'overhead beyond the all-reduce':42} {wall:7.2f} {cpu:7.2f}")
        wall, cpu = of_small + (of_medium - of_small) * (n - n // 16) / (n // 4 - n // 16)
        print(f"{'the all-reduce as predicted':42} {wall:7.2f} {cpu:7.2f}")
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
