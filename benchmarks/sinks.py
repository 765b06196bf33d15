"""What it costs to write a run down: CPU seconds with all sinks, against the same run with none.

    python benchmarks/sinks.py [--rounds 5] [--steps 60000]

Each round is PPO on CartPole-v1 in a process of its own, with and without sinks in turn (the live
line is drawn as in a terminal). One JSON line is printed: the medians, and the median, least and
greatest share of the CPU time that the sinks took, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

SINKS = {"all": ["all"], "none": []}


def cpu_seconds(sinks: list[str], steps: int, folder: str) -> float:
    """User and system seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["train", "ppo", "--task", "CartPole-v1", "--seed", "1", "--steps", str(steps)]
    words += ["--run.dir", folder, "--run.sinks", *sinks]
    subprocess.run(
        [sys.executable, "-m", "corelab", *words],
        env={**os.environ, "CORELAB_PROGRESS": "rich", "COLUMNS": "160"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60_000)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in SINKS}
    with tempfile.TemporaryDirectory() as folder:
        for n in range(args.rounds):
            for name, sinks in SINKS.items():
                seconds[name].append(cpu_seconds(sinks, args.steps, folder))
            print(f"round {n + 1}: {seconds['all'][-1]:.2f} s, {seconds['none'][-1]:.2f} s without")
    shares = [1 - b / a for a, b in zip(seconds["all"], seconds["none"], strict=True)]
    figures = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    spread = [statistics.median(shares), min(shares), max(shares)]
    print(json.dumps({"cpu_seconds": figures, "share": [round(s, 4) for s in spread]}))


if __name__ == "__main__":
    main()
