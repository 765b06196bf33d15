"""What the figures of sample quality say of images whose fault is known, and their floors.

    python benchmarks/quality.py [--task fashion-mnist] [-n 2000 10000] [--seed 0]

The "samples" are training images, as they are (a model that has memorised them) or damaged: with
Gaussian noise, blurred by a Gaussian of a standard deviation in pixels, shifted, of the first half
of the classes only, or a few of them again and again. Prints a table in Markdown for each n, whose
last row is the floors, and the CPU seconds of a comparison.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_generative.quality import compare
from torch import Tensor

from corelab.experiments import resolve

FIGURES = (
    *("fid", "kid", "precision", "recall", "density", "coverage"),
    *("two_sample_accuracy", "memorised"),
)


def noise(level: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + level * torch.randn(x.shape)


def blur(sigma: float) -> Callable[[Tensor], Tensor]:
    """Of images [N, C, H, W], with a mirror at the edges."""
    at = torch.arange(-3.0, 4.0)
    g = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = torch.outer(g, g) / g.sum() ** 2

    def blurred(x: Tensor) -> Tensor:
        padded = F.pad(x, (3, 3, 3, 3), mode="reflect").flatten(0, 1)[:, None]
        return F.conv2d(padded, kernel[None, None]).reshape(x.shape)

    return blurred


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "copies of training images": lambda x: x,
    "noise, 4 of 255": noise(4),
    "noise, 8 of 255": noise(8),
    "noise, 16 of 255": noise(16),
    "blur, 0.5 pixels": blur(0.5),
    "blur, 1 pixel": blur(1.0),
    "shift by 1 pixel": lambda x: x.roll(1, 3),
    "shift by 2 pixels": lambda x: x.roll(2, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="fashion-mnist", help="the data set")
    parser.add_argument("-n", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    of_task = resolve("vae", task=options.task)
    task = of_task.plugins.load(of_task.task)(of_task.options.task)
    train = task.split("train")
    first_half = train.images[train.labels < len(task.classes) // 2]

    def measured(images: Tensor, damage: Callable[[Tensor], Tensor], n: int) -> dict[str, float]:
        torch.manual_seed(options.seed + 1)
        order = torch.randperm(len(images)).repeat(1 + n // len(images))
        indices = iter(order.tolist())

        def draw(labels: Tensor) -> Tensor:
            x = images[[next(indices) for _ in labels]].float()
            return damage(x).round().clamp(0, 255).to(torch.uint8)

        return compare(task, draw, n, options.seed, torch.device("cpu"))

    for n in options.n:
        print(f"\n| {options.task}, n = {n:,} | {' | '.join(FIGURES)} |")
        print("|---" * (1 + len(FIGURES)) + "|")
        cases = [
            *((name, train.images, damage) for name, damage in DAMAGES.items()),
            ("half of the classes", first_half, lambda x: x),
            ("100 images again and again", train.images[:100], lambda x: x),
        ]
        for name, images, damage in cases:
            began = time.process_time()
            figures = measured(images, damage, n)
            seconds = time.process_time() - began
            print(f"| {name} | {' | '.join(f'{figures[f]:.3f}' for f in FIGURES)} |", flush=True)
        floors = " | ".join(f"{figures[f'{f}_floor']:.3f}" for f in FIGURES)
        print(f"| **floor** | {floors} |\n\n{seconds:.1f} CPU seconds for the last comparison")


if __name__ == "__main__":
    main()
