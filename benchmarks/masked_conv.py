"""Masked convolution against the dense one with zeros in its kernel.

    python benchmarks/masked_conv.py [--kernel 3 5 7] [--channels 32 64] [--batch 16] [--rounds 25]

Forward and backward, for maps of 28 x 28 with as many channels before and after, channels-last and
with mask B. The two take turns; of each pair the seconds are divided. For each kernel and number of
channels one JSON line is printed, with the medians, and of the ratios the middle half besides. The
times are CPU seconds of one thread or, where there is an NVIDIA GPU, its own, by CUDA events.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from clock import DEVICE, timed
from corelab_kernels.convolution import masked_conv2d
from torch import Tensor

_SIZE = 28


def dense(x: Tensor, weight: Tensor) -> Tensor:
    """What PixelCNNs commonly do: multiply by the mask, then by everything."""
    k = weight.shape[-1]
    seen = weight.new_ones(k, k)
    seen[k // 2, k // 2 + 1 :] = seen[k // 2 + 1 :] = 0
    return F.conv2d(x, weight * seen, padding=k // 2)


def seconds(convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> float:
    """Forward and backward."""
    x.grad = weight.grad = None

    def there_and_back() -> None:
        y = convolve(x, weight)
        y.backward(y.detach())

    return timed(there_and_back, DEVICE)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kernel", type=int, nargs="+", default=[3, 5, 7])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for channels in options.channels:
        for k in options.kernel:
            x = torch.randn(options.batch, channels, _SIZE, _SIZE, device=DEVICE)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(channels, channels, k, k, device=DEVICE) / k
            weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
            pairs = [
                (seconds(dense, x, weight), seconds(partial(masked_conv2d, mask="B"), x, weight))
                for _ in range(options.rounds + 2)
            ][2:]  # the first calls are slower
            ratios = [slow / quick for slow, quick in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            figures = {
                "benchmark": "masked convolution",
                "device": torch.cuda.get_device_name() if x.is_cuda else "one CPU thread",
                "kernel": k,
                "channels": channels,
                "batch": options.batch,
                "dense_ms": round(1e3 * statistics.median(pair[0] for pair in pairs), 2),
                "masked_ms": round(1e3 * statistics.median(pair[1] for pair in pairs), 2),
                "ratio": round(middle, 2),
                "middle_half": [round(low, 2), round(high, 2)],
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
