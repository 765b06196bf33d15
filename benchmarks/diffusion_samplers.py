"""Samples against steps: FID of each sampler of one diffusion run, and what it cost.

    python benchmarks/diffusion_samplers.py [RUN] [-n 2000] [--most 1000] [--train 300000]

RUN is the directory of a finished run; without it one is trained here, with the preset of
Fashion-MNIST on TRAIN examples. All samplers start from the same noise. Prints one JSON line for
each and a table in Markdown at the end. `evaluations` counts the calls of the network for an
image, `cpu_seconds` are those of drawing and measuring N samples in one thread. Rows with more than
MOST steps are left out: 1,000 steps cost as much as all others together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from corelab import Run, train

ROWS = [
    *(("ddpm", steps) for steps in (10, 20, 50, 100, 250, 1000)),
    *(("ddim", steps) for steps in (5, 10, 20, 50, 100, 1000)),
    *(("heun", steps) for steps in (5, 9, 18, 25)),
    *(("dpm", steps) for steps in (5, 10, 20, 50)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", type=Path, help="the directory of a diffusion run")
    parser.add_argument("-n", type=int, default=2000, help="samples")
    parser.add_argument("--most", type=int, default=1000, help="the most steps")
    parser.add_argument("--train", type=int, default=300_000, help="examples, without a RUN")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.run) if options.run else trained(options.train, options.seed, folder)
        rows = measured(run, options.n, options.most, options.seed)
    print("\n| sampler | steps | evaluations | FID | precision | recall | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [row["sampler"], str(row["steps"]), str(row["evaluations"])]
        cells += [f"{row[key]:.3g}" for key in ("fid", "precision", "recall", "cpu_seconds")]
        print("|", " | ".join(cells), "|")


def trained(steps: int, seed: int, folder: str) -> Run:
    quiet = {"run.eval_every": 0, "run.sinks": (), "run.threads": 1}
    return train(
        "diffusion",
        task="fashion-mnist",
        steps=steps,
        seed=seed,
        device="cpu",
        run_dir=folder,
        options=quiet,
    )


def measured(run: Run, n: int, most: int, seed: int) -> list[dict[str, Any]]:
    algorithm = run.load(device="cpu")
    algorithm.evaluate("test", 1, seed, quality=10, steps=1)  # the classifier is trained only once
    rows = []
    for sampler, steps in ROWS:
        if steps > most:
            continue
        began = time.process_time()
        found = algorithm.evaluate("test", 1, seed, quality=n, sampler=sampler, steps=steps)
        row: dict[str, Any] = {"sampler": sampler, "steps": steps}
        row["evaluations"] = 2 * steps - 1 if sampler == "heun" else steps
        row |= {key: round(found[key], 4) for key in ("fid", "fid_floor", "precision", "recall")}
        row |= {"n": n, "examples": run.progress, "seed": seed}
        row["cpu_seconds"] = round(time.process_time() - began, 1)
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
