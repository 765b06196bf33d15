"""A VAE on Fashion-MNIST for a fixed number of examples: the bound on test images, and the cost.

    python benchmarks/vae.py [--steps 1000000] [--model mlp] [--seed 0] [--keep folder]

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
    parser.add_argument("--keep", type=Path, help="a directory for the run, to look at it later")
    options = parser.parse_args()
    if options.keep:
        print(json.dumps(quality(options, options.keep)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(quality(options, Path(folder))))


def quality(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The bound that training reaches, and what that costs."""
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
    return {
        "benchmark": "vae fashion-mnist",
        "model": options.model,
        "examples": run.progress,
        "seed": options.seed,
        "test_elbo_nats": round(test["elbo_nats"], 2),
        "test_bits_per_dim": round(test["bits_per_dim"], 4),
        "test_kl_nats": round(test["kl_nats"], 2),
        "active_units": test["active_units"],
        "cpu_seconds": round(cpu, 1),
        "images_per_cpu_second": round(run.progress / cpu),
    }


if __name__ == "__main__":
    main()
