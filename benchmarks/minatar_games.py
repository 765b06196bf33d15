"""DQN and Rainbow on the five games of MinAtar, with their presets: one JSON line for each run.

    python benchmarks/minatar_games.py [--algorithms dqn] [--games Breakout …] [--seeds 0 1 2 3 4]
    python benchmarks/minatar_games.py --table FILE…     # the table of what such runs have printed

A run trains one algorithm on one game with one seed, on one thread of the CPU, without sinks, and
then plays 100 episodes of the test split, always taking the action of the highest value.
`cpu_seconds` are those of training alone. The table shows the mean of the seeds and their range.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from corelab import train

GAMES = ("Breakout", "SpaceInvaders", "Freeway", "Asterix", "Seaquest")


def measure(algorithm: str, game: str, seed: int, steps: int | None) -> dict[str, object]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run = train(
            algorithm,
            task=f"MinAtar/{game}-v1",
            model="cnn",
            steps=steps,
            seed=seed,
            device="cpu",
            run_dir=folder,
            options={
                "run.eval_every": 0,
                "run.eval_n": 1,
                "run.sinks": (),
                "run.checkpoint_seconds": 1e9,
            },
        )
        seconds = time.process_time() - began
        result = run.evaluate(split="test", n=100, device="cpu")
        return {
            "benchmark": "minatar",
            "algorithm": algorithm,
            "game": game,
            "seed": seed,
            "env_steps": run.progress,
            "return": round(result["return"], 2),
            "cpu_seconds": round(seconds, 1),
        }


def table(files: list[Path]) -> str:
    """What the runs in FILES came to, in Markdown."""
    lines = [line for file in files for line in file.read_text().splitlines() if line[:1] == "{"]
    returns: dict[tuple[str, str], list[float]] = defaultdict(list)
    steps: dict[str, set[int]] = defaultdict(set)
    for run in map(json.loads, lines):
        returns[run["game"], run["algorithm"]].append(run["return"])
        steps[run["game"]].add(round(run["env_steps"], -4))  # a step of all copies may be beyond
    rows = ["| Game | Steps | DQN | Rainbow |", "|---|---|---|---|"]
    for game in GAMES:
        cells = [
            f"{sum(r) / len(r):.1f} ({min(r):.1f} to {max(r):.1f})" if r else "-"
            for r in (returns[game, "dqn"], returns[game, "rainbow"])
        ]
        budget = ", ".join(f"{n:,}" for n in sorted(steps[game]))
        rows.append(f"| {game} | {budget} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--algorithms", nargs="+", default=["dqn", "rainbow"])
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--steps", type=int, help="the budget, if not the preset's")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="only the table")
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        return
    for seed in options.seeds:
        for game in options.games:
            for algorithm in options.algorithms:
                print(json.dumps(measure(algorithm, game, seed, options.steps)), flush=True)


if __name__ == "__main__":
    main()
