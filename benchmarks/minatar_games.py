"""DQN and Rainbow on the five games of MinAtar, with their presets: one JSON line for each run.

    python benchmarks/minatar_games.py [--algorithms dqn] [--games Breakout …] [--seeds 0 1 2 3 4]
    python benchmarks/minatar_games.py --table FILE…     # the table of what such runs have printed
    python benchmarks/minatar_games.py --table FILE… --picture curves.svg       # and their curves

A run trains one algorithm on one game with one seed, on one thread of the CPU, and then plays 100
episodes of the test split, always taking the action of the highest value. `cpu_seconds` are those
of training alone, and `curve` is the mean return of the episodes that ended in each twentieth of
it. The table shows the mean of the seeds and their range, and so do the curves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from corelab import train

GAMES = ("Breakout", "SpaceInvaders", "Freeway", "Asterix", "Seaquest")
_PARTS = 20
"""Of a run, for its curve."""


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
                "run.sinks": ("jsonl",),
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
            "curve": curve(run.metrics(), run.progress),
        }


def curve(rows: list[dict[str, float]], steps: int) -> list[float | None]:
    """Mean return in each part of a run of so many STEPS; None where no episode ended."""
    parts: list[list[float]] = [[] for _ in range(_PARTS)]
    for row in rows:
        if "train/return" in row:
            part = int(row["progress"] / (steps + 1) * _PARTS)
            parts[part].append(row["train/return"])
    return [round(float(np.mean(part)), 2) if part else None for part in parts]


def draw(files: list[Path], picture: Path) -> None:
    """The curves of the runs in FILES, one panel for each game, as PICTURE."""
    import matplotlib
    from matplotlib.figure import Figure

    runs = [run for run in read(files) if "curve" in run]
    games = [game for game in GAMES if any(run["game"] == game for run in runs)]
    figure = Figure((2.6 * len(games), 2.6), layout="constrained")
    for axes, game in zip(figure.subplots(1, len(games), squeeze=False)[0], games, strict=True):
        for algorithm, colour in (("dqn", "C1"), ("rainbow", "C0")):
            own = [r for r in runs if (r["game"], r["algorithm"]) == (game, algorithm)]
            curves = np.array([run["curve"] for run in own], float)
            x = (np.arange(_PARTS) + 0.5) / _PARTS * own[0]["env_steps"] / 1000
            known = ~np.isnan(curves).any(0)  # Freeway's episodes are longer than a part
            x, curves = x[known], curves[:, known]
            axes.plot(x, curves.mean(0), color=colour, label=algorithm)
            axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.set_title(game)
        axes.set_xlabel("thousand env steps")
    figure.axes[0].set_ylabel("return of training episodes")
    figure.axes[0].legend(loc="upper left", frameon=False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minatar"}):
        figure.savefig(picture, metadata={"Date": None})


def read(files: list[Path]) -> list[dict[str, Any]]:
    """The runs whose lines are in FILES."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines if line[:1] == "{"]


def table(files: list[Path]) -> str:
    """What the runs in FILES came to, in Markdown."""
    returns: dict[tuple[str, str], list[float]] = defaultdict(list)
    steps: dict[str, set[int]] = defaultdict(set)
    for run in read(files):
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
    parser.add_argument("--picture", type=Path, help="with --table: where to draw the curves")
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
        if options.picture:
            draw(options.table, options.picture)
        return
    for seed in options.seeds:
        for game in options.games:
            for algorithm in options.algorithms:
                print(json.dumps(measure(algorithm, game, seed, options.steps)), flush=True)


if __name__ == "__main__":
    main()
