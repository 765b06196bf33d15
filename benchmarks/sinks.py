"""What the sinks cost: CPU seconds that a run of a given length spends on being written down.

    python benchmarks/sinks.py [--seconds 20]

Training is stood in for by sleeping, so that all CPU time is that of the sinks: the import of what
they need, 200 rows of 12 metrics, 10 grids of 64 random pictures (noise, which compresses worst),
and the live line in a terminal, which is drawn by a thread of its own. One JSON line is printed;
`share` is of one busy core over the length of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from corelab import Images

ROWS, METRICS, GRIDS = 200, 12, 10
SINKS = ("jsonl", "files", "tensorboard", "progress")


def measure(seconds: float) -> dict[str, float]:
    """CPU seconds of each sink, and of the thread that draws the live line ("drawing")."""
    rng = np.random.default_rng(0)
    cost: dict[str, float] = defaultdict(float)

    def tell(hook: str, **facts: object) -> None:
        for name in SINKS:
            before = time.thread_time()
            if told := getattr(import_module(f"corelab_sinks.{name}"), hook, None):
                wanted = told.__code__.co_varnames[: told.__code__.co_argcount]
                told(*(facts[fact] for fact in wanted))
            cost[name] += time.thread_time() - before

    others = time.process_time() - time.thread_time()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"train/metric_{i}" for i in range(METRICS)]
        run = SimpleNamespace(
            path=Path(folder),
            resumed_at=None,
            algorithm="vae",
            task="mnist",
            unit="examples",
            steps=ROWS * 1000,
            highlights=tuple(names[:2]),
            config={"algorithm": {}, "task": {}, "model": {}, "seed": 0, "steps": ROWS * 1000},
        )
        tell("corelab_run_started", run=run)
        for row in range(1, ROWS + 1):
            time.sleep(seconds / ROWS)
            media = {}
            if row % (ROWS // GRIDS) == 0:
                pictures = rng.integers(0, 256, (64, 28, 28, 1), np.uint8)
                media["eval/samples"] = Images(pictures)
            metrics = dict(zip(names, rng.normal(size=METRICS).tolist(), strict=True))
            tell("corelab_run_logged", run=run, progress=row * 1000, metrics=metrics, media=media)
        tell("corelab_run_ended", run=run, error=None)
    cost["drawing"] = time.process_time() - time.thread_time() - others
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the run")
    seconds = parser.parse_args().seconds
    os.environ |= {"CORELAB_PROGRESS": "rich", "COLUMNS": "160"}
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        cost = measure(seconds)
    total = sum(cost.values())
    figures = {name: round(spent, 4) for name, spent in cost.items()}
    result = {"benchmark": "sinks", "seconds": seconds, "rows": ROWS, "metrics": METRICS}
    result |= {"grids": GRIDS, "cpu_s": figures | {"all": round(total, 4)}}
    print(json.dumps(result | {"share": round(total / seconds, 4)}))


if __name__ == "__main__":
    main()
