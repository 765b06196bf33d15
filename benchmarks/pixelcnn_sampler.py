"""The three samplers of an autoregressive network beside each other: on one thread of the CPU or,
where there is one, on an NVIDIA GPU.

    python benchmarks/pixelcnn_sampler.py [--batch 1 16 64] [--network gated] [--rows 28]
                                          [--threads 2] [--cpu]

Draws images from a network with random weights by `corelab_nets.kernel.Kernel` (compiled), by
`corelab_nets.autoregressive.sample` (PyTorch, cached) and by `sample_naively` (a pass of the
network for each sub-pixel), from the same uniforms and in turns, and prints one JSON line for each
batch size, with medians of CPU seconds for the whole batch. The network `gated` has 7 layers of 64
channels, for images of 28 x 28 pixels of 256 levels; `plusplus` has 5 layers of 32 and a mixture of
5 logistics, for images of 32 x 32 pixels of three channels.

The naive sampler's pixels all cost the same, so with `--rows 2` it draws the last two rows only,
and `naive_seconds` is what that took times 14 (`naive_rows` tells).

What the kernel computes is counted in floating-point operations, two for each term of its
convolutions, and compared with the most that this core does of them, measured in the same turns by
a loop of fused multiply-adds on registers (`peak_gflops`). `pack_seconds` is what it takes to lay
out the weights for the kernel, once for a network, and is in no other figure.

With `--threads 2`, the kernel also draws on two threads, in turns with one; `speed_up` is the
seconds on one, by the clock, divided by those on two, the shortest of each. That needs as many
cores with nothing else to do.

On a GPU the times are medians of milliseconds between two CUDA events, from the call to the images:
of the kernel, of the cached sampler as one CUDA graph (which takes seconds to capture, in no
figure), and of the naive one as PyTorch runs it. `as_on_cpu` is whether the kernel's images are
those of the CPU, all of the first 64 to the last bit. With `--cpu` the GPU is left alone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from clock import DEVICE, captured, timed
from corelab_generative.mixture import Categorical, Mixture, SymbolLikelihood
from corelab_kernels import build
from corelab_nets.autoregressive import Autoregressive, sample, sample_naively
from corelab_nets.gated import Gated
from corelab_nets.kernel import Kernel
from corelab_nets.plusplus import PlusPlus
from torch import Tensor, nn

# Twelve vectors of sums, as wide as the widest register: more than a core works on at once.
_PEAK = """
#include <cstring>
typedef float V __attribute__((vector_size(WIDTH * 4)));
extern "C" float peak(long rounds) {
    V s[12], a, b;
    for (int i = 0; i < WIDTH; ++i) a[i] = 0.999f, b[i] = 0.001f;
    for (int j = 0; j < 12; ++j) s[j] = b * (float)j;
    for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; ++j) s[j] = s[j] * a + b;
    }
    float sum = 0;
    for (V& v : s) sum += v[0];
    return sum;
}
"""


def network(name: str) -> tuple[Autoregressive, SymbolLikelihood]:
    if name == "plusplus":
        mixture = Mixture(5, 3)
        return PlusPlus((3, 32, 32), mixture.parameters), mixture
    return Gated((1, 28, 28), 256, layers=7, channels=64), Categorical(256)


def operations(net: Autoregressive) -> int:
    """Floating-point operations for one image: two for each weight of a convolution and place."""
    _, H, W = net.shape
    weights = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))
    return 2 * H * W * weights


@cache
def peak() -> Callable[[], float]:
    """A measurement of the most GFLOP/s of this core, in float32."""
    width = {"x86-64-v4": 16, "x86-64-v3": 8}.get(build.instructions(), 4)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "peak.cpp"
        source.write_text(_PEAK)
        flags = (*build.exact(), "-ffp-contract=fast", f"-DWIDTH={width}")
        library = ctypes.CDLL(str(build.build(source, Path(folder), flags)))
    rounds = 10_000_000
    loop = partial(library.peak, ctypes.c_long(rounds))
    return lambda: rounds * 12 * width * 2 / timed(loop)[1] / 1e9


def speed_up(draw: Callable[[], Tensor], threads: int, rounds: int = 9) -> float:
    """How much sooner DRAW is done on so many THREADS than on one."""
    shortest = {1: float("inf"), threads: float("inf")}
    for _ in range(rounds):
        for n, seconds in shortest.items():
            torch.set_num_threads(n)
            began = time.perf_counter()
            draw()
            shortest[n] = min(seconds, time.perf_counter() - began)
    torch.set_num_threads(1)
    return shortest[1] / shortest[threads]


def on_cpu(
    net: Autoregressive,
    likelihood: SymbolLikelihood,
    batch: int,
    rows: int,
    repeats: int,
    threads: int,
) -> dict[str, Any]:
    C, H, W = net.shape
    most, logits = peak(), likelihood.levels
    seconds: dict[str, list[float]] = {"kernel": [], "cached": [], "naive": []}
    peaks, packs, same = [], [], []
    sample(net, torch.rand(batch, C, H, W), levels=logits)  # the first call is slower
    for _ in range(repeats):
        u = torch.rand(batch, C, H, W)
        make = partial(Kernel, net, likelihood.components, likelihood.offset)
        kernel, pack = timed(make)
        packs.append(pack)
        kernel(u)  # what it reads is then where it is when many batches are drawn
        several = [timed(partial(kernel, u)) for _ in range(3)]
        images = several[0][0]
        seconds["kernel"].append(statistics.median(s for _, s in several))
        peaks.append(most())
        again, spent = timed(partial(sample, net, u, levels=logits))
        seconds["cached"].append(spent)
        given = again[:, :, : H - rows]
        naive = partial(sample_naively, net, u, prefix=given, levels=logits)
        seconds["naive"].append(timed(naive)[1] * H / rows)
        same.append((images == again).double().mean().item())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    gflops = operations(net) * batch / medians["kernel"] / 1e9
    figures = {
        **{f"{name}_seconds": round(value, 4) for name, value in medians.items()},
        "naive_rows": rows,
        "naive_to_kernel": round(medians["naive"] / medians["kernel"]),
        "cached_to_kernel": round(medians["cached"] / medians["kernel"], 1),
        "pack_seconds": round(statistics.median(packs), 4),
        "kernel_gflops": round(gflops, 1),
        "peak_gflops": round(statistics.median(peaks), 1),
        "of_peak": round(gflops / statistics.median(peaks), 2),
        "same_pixels": round(min(same), 4),
    }
    if threads > 1:
        figures["speed_up"] = round(speed_up(partial(kernel, u), threads), 2)
    return figures


def on_gpu(
    net: Autoregressive, likelihood: SymbolLikelihood, batch: int, rows: int, repeats: int
) -> dict[str, Any]:
    H = net.shape[1]
    u, logits = torch.rand(batch, *net.shape), likelihood.levels
    torch.set_num_threads(os.cpu_count() or 1)  # for what is compared, not timed
    expected = Kernel(net.cpu(), likelihood.components, likelihood.offset)(u[:64])
    torch.set_num_threads(1)
    net, there = net.cuda(), u.cuda()
    likelihood.offset = likelihood.offset.cuda()  # no copy can be captured that begins on the CPU
    kernel = partial(Kernel(net, likelihood.components, likelihood.offset), there)
    images = kernel()
    cached = captured(partial(sample, net, there, levels=logits))
    prefix = images[:, :, : H - rows]
    naive = partial(sample_naively, net, there, prefix=prefix, levels=logits)
    naive()  # the first call is slower
    seconds: dict[str, list[float]] = {"kernel": [], "cached_graph": [], "naive": []}
    for _ in range(repeats):
        seconds["kernel"] += [timed(kernel, "cuda")[1] for _ in range(3)]
        seconds["cached_graph"].append(timed(cached, "cuda")[1])
        seconds["naive"].append(timed(naive, "cuda")[1] * H / rows)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "device": torch.cuda.get_device_name(),
        **{f"{name}_ms": round(1e3 * value, 3) for name, value in medians.items()},
        "naive_rows": rows,
        "naive_to_kernel": round(medians["naive"] / medians["kernel"], 1),
        "cached_graph_to_kernel": round(medians["cached_graph"] / medians["kernel"], 1),
        "images_per_second": round(batch / medians["kernel"]),
        "kernel_gflops": round(operations(net) * batch / medians["kernel"] / 1e9, 1),
        "as_on_cpu": torch.equal(images[:64].cpu(), expected),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 16, 64], help="images at a time"
    )
    parser.add_argument("--cpu", action="store_true", help="on the CPU though there is a GPU")
    parser.add_argument("--network", choices=["gated", "plusplus"], default="gated")
    parser.add_argument(
        "--rows", type=int, help="rows that the naive sampler draws; all if not given"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="threads for `speed_up`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, likelihood = network(options.network)
    with torch.no_grad():
        net.head.out.weight.mul_(30 if options.network == "gated" else 1)  # as narrow as trained
    rows = options.rows or net.shape[1]
    for batch in options.batch:
        operands = (net, likelihood, batch, rows, options.repeats)
        if options.cpu or DEVICE == "cpu":
            figures = on_cpu(*operands, options.threads)
        else:
            figures = on_gpu(*operands)
        begin = {"benchmark": "pixelcnn sampler", "network": options.network, "batch": batch}
        print(json.dumps(begin | figures), flush=True)


if __name__ == "__main__":
    main()
