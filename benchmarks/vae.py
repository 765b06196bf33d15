"""A VAE on Fashion-MNIST for a fixed number of examples: the bound on test images, and the cost.

    python benchmarks/vae.py [--steps 1000000] [--model mlp] [--seed 0] [--samples grid.png]

Trains with the preset of the task on one thread of the CPU, without sinks and with one evaluation
at the end, and prints one JSON line. `cpu_seconds` are those of training, with that evaluation and
the checkpoints; the bound is on all 10,000 test images. It takes the four files of Fashion-MNIST,
such as those of Debian's package `dataset-fashion-mnist`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from corelab import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="examples to train on")
    parser.add_argument("--model", default="mlp", help="the network: mlp or conv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="write a grid of 64 samples to this picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run = train(
            "vae",
            task="fashion-mnist",
            model=options.model,
            steps=options.steps,
            seed=options.seed,
            device="cpu",
            run_dir=folder,
            options={"run.eval_every": 0, "run.sinks": (), "run.threads": 1},
        )
        cpu = time.process_time() - began
        test = run.evaluate(split="test", device="cpu")
        if options.samples:
            run.sample(64, seed=0, device="cpu").save(options.samples)
    figures = {
        "benchmark": "vae fashion-mnist",
        "model": options.model,
        "examples": run.progress,
        "seed": options.seed,
        "test_elbo_nats": round(test["elbo_nats"], 2),
        "test_bits_per_dim": round(test["bits_per_dim"], 4),
        "test_kl_nats": round(test["kl_nats"], 2),
        "cpu_seconds": round(cpu, 1),
        "images_per_cpu_second": round(run.progress / cpu),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
