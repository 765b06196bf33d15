"""What the algorithms learn with the defaults that are shipped for a task: one line of JSON a cell.

    python benchmarks/learning.py [--only dqn/CartPole-v1 "ppo/*"] [--seeds 5] [--first 0] [--list]
    python benchmarks/learning.py --only "*/ALE/*" --device cuda

A cell is an algorithm on a task. Each seed is what `corelab train ALGORITHM --task TASK --seed N`
does, on one thread and without sinks; then 100 episodes of the test split are played
with the likeliest actions (200 games for alphazero). The line holds the score of each seed, their
interquartile mean with a 95 % interval by bootstrap over the seeds (Agarwal et al. 2021), the env
steps (games' moves for alphazero) and CPU seconds of each run, with one evaluation at its end and
the checkpoints, and whether the target was reached within the steps that it allows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from corelab import train
from corelab.statistics import summary

MINATAR = ("Breakout", "SpaceInvaders", "Freeway", "Asterix", "Seaquest")


@dataclass(frozen=True)
class Cell:
    """An algorithm on a task, and what is asked of it."""

    algorithm: str
    task: str
    target: float | None = None
    """What the interquartile mean should reach; None where there is nothing to compare with."""
    steps: int | None = None
    """In how many env steps."""
    metric: str = "return"
    episodes: int = 100

    @property
    def name(self) -> str:
        """ALGORITHM/TASK."""
        return f"{self.algorithm}/{self.task}"


CELLS = [
    Cell("dqn", "CartPole-v1", 475, 50_000),
    Cell("ppo", "CartPole-v1", 475, 60_000),
    Cell("dqn", "Acrobot-v1", -100, 100_000),
    Cell("ppo", "Acrobot-v1", -100, 300_000),
    Cell("dqn", "LunarLander-v3", 200, 300_000),
    Cell("ppo", "LunarLander-v3", 200, 1_000_000),
    Cell("dqn", "MountainCar-v0", -110, 120_000),
    Cell("ppo", "MountainCar-v0", -110, 1_000_000),
    Cell("ppo", "Pendulum-v1", -200, 100_000),
    Cell("sac", "Pendulum-v1", -200, 20_000),
    *(Cell(a, f"MinAtar/{game}-v1") for game in MINATAR for a in ("dqn", "rainbow")),
    Cell("alphazero", "connect-four", 0.9, metric="minimax_win", episodes=200),
    Cell("ppo", "mpe2/simple_spread_v3", -9.81, 3_000_000),  # published, as spread.py counts
]
ATARI = [Cell(a, f"ALE/{game}-v5") for game in ("Pong", "Breakout") for a in ("dqn", "ppo")]
"""Runs of 10 million steps, for a GPU: only if they are asked for."""


def learned(cell: Cell, seeds: range, device: str) -> dict[str, Any]:
    """Train and judge every seed of CELL."""
    scores, steps, seconds = [], [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            run = train(
                cell.algorithm,
                task=cell.task,
                seed=seed,
                device=device,
                run_dir=folder,
                options={"run.eval_every": 0, "run.sinks": (), "run.threads": 1},
            )
            seconds.append(round(time.process_time() - began, 1))
            judged = run.evaluate(split="test", n=cell.episodes, device=device)
            scores.append(round(float(judged[cell.metric]), 3))
            steps.append(run.progress)
            budget = run.steps
        print(f"{cell.name}, seed {seed}: {scores[-1]} in {seconds[-1]} CPU seconds", flush=True)
    figures = summary([scores])
    result = {
        "benchmark": f"learning {cell.name}",
        "metric": cell.metric,
        "seeds": list(seeds),
        "scores": scores,
        "iqm": round(figures["iqm"], 3),
        "interval": [round(end, 3) for end in figures["interval"]],
        "env_steps": steps,
        "cpu_seconds": seconds,
    }
    if cell.target is not None:
        in_time = cell.steps is None or budget <= cell.steps
        result |= {"target": cell.target, "reached": figures["iqm"] >= cell.target and in_time}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="cells, * standing for anything")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--list", action="store_true", help="only name the cells")
    options = parser.parse_args()
    known = CELLS + ATARI if options.only or options.list else CELLS
    cells = [c for c in known if any(fnmatch(c.name, p) for p in options.only or ["*"])]
    if not cells:
        parser.error("no cell has such a name; --list names them")
    for cell in cells:
        if options.list:
            print(cell.name)
        else:
            seeds = range(options.first, options.first + options.seeds)
            print(json.dumps(learned(cell, seeds, options.device)), flush=True)


if __name__ == "__main__":
    main()
