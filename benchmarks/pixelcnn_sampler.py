"""The cached sampler of an autoregressive network against the naive one, on one thread of the CPU.

    python benchmarks/pixelcnn_sampler.py [--batch 1 16] [--layers 7] [--channels 64] [--rows 28]

Draws images of 28 x 28 pixels of 256 levels from a gated PixelCNN with random weights, by
`corelab_nets.autoregressive.sample` and by `sample_naively`, from the same uniforms, in turns, and
prints one JSON line for each batch size, with CPU seconds. Every naive pixel costs one pass of the
whole network whatever the pixel, so with `--rows 2` the naive sampler draws only the last two rows,
after the cached one's others, and `naive_seconds` is what that took times 14: `naive_rows` says so.
By default it draws whole images, which takes half a minute at batch 1 and minutes at 16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from corelab_nets.autoregressive import sample, sample_naively
from corelab_nets.gated import Gated
from torch import Tensor

_SIZE = 28


def timed(draw: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What DRAW gives, and its CPU seconds."""
    began = time.process_time()
    images = draw()
    return images, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="images at a time")
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rows", type=int, default=_SIZE, help="rows that the naive sampler draws")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Gated((1, _SIZE, _SIZE), 256, layers=options.layers, channels=options.channels)
    with torch.no_grad():
        net.head.out.weight.mul_(30)  # distributions as narrow as those of a trained network
    for batch in options.batch:
        cached, naive, ratios, same = [], [], [], []
        sample(net, torch.rand(batch, 1, _SIZE, _SIZE))  # the first call is slower
        for _ in range(options.repeats):
            u = torch.rand(batch, 1, _SIZE, _SIZE)
            images, seconds = timed(partial(sample, net, u))
            given = images[:, :, : _SIZE - options.rows]
            again, slow = timed(partial(sample_naively, net, u, prefix=given))
            cached.append(seconds)
            naive.append(slow * _SIZE / options.rows)
            ratios.append(naive[-1] / seconds)
            drawn = (images == again)[:, :, _SIZE - options.rows :]
            same.append(drawn.double().mean().item())
        figures = {
            "benchmark": "pixelcnn sampler",
            "network": f"gated {options.layers} x {options.channels}",
            "batch": batch,
            "cached_seconds": round(statistics.median(cached), 3),
            "naive_seconds": round(statistics.median(naive), 2),
            "naive_rows": options.rows,
            "ratio": round(statistics.median(ratios), 1),
            "ratios": [round(r, 1) for r in ratios],
            "same_pixels": min(same),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
