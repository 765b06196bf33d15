"""Environments side by side: env steps per CPU second with 1 to 4,096 copies and random actions.

    python benchmarks/sampler.py [--seconds 0.5] [--rounds 5] [--only CartPole-v1 ...]

Each figure is the median over the rounds, in which all tasks and numbers of copies take turns for
so many CPU seconds each; `spread` has the least and the greatest. Steps that only reset are not
counted. `gymnasium` is the same environment as `gymnasium.make_vec` makes it: its own vector
environment for CartPole, its `SyncVectorEnv` for the others. One JSON line is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from corelab_envs.atari import AtariTask
from corelab_envs.gymnasium_task import GymnasiumTask
from gymnasium.vector.utils import batch_space

SIZES = {
    "CartPole-v1": (1, 8, 64, 512, 4096),
    "Acrobot-v1": (1, 8, 64, 512, 4096),
    "MinAtar/Breakout-v1": (1, 8, 64, 512, 4096),
    "ALE/Pong-v5": (1, 8, 32),
}
Step = Callable[[Any], Any]


def ours(name: str, n: int) -> tuple[Step, list[Any]]:
    task_class: Any = AtariTask if name.startswith("ALE/") else GymnasiumTask
    task = task_class(task_class.Config(id=name))
    envs = task.make(n, seed=0)
    envs.reset()
    return envs.step, actions(task.single_action_space, n)


def gymnasium(name: str, n: int) -> tuple[Step, list[Any]]:
    native = gym.spec(name).vector_entry_point
    mode = gym.VectorizeMode.VECTOR_ENTRY_POINT if native else gym.VectorizeMode.SYNC
    envs = gym.make_vec(name, n, vectorization_mode=mode)
    envs.reset(seed=0)
    return envs.step, actions(envs.single_action_space, n)


def actions(space: gym.Space[Any], n: int) -> list[Any]:
    batch = batch_space(space, n)
    batch.seed(0)
    return [batch.sample() for _ in range(64)]


def rate(step: Step, chosen: list[Any], seconds: float) -> float:
    """Env steps per CPU second of STEP, over SECONDS or at least one step."""
    count, t, began = 0, 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for _ in range(4):
            _, _, terminations, truncations, _ = step(chosen[t % len(chosen)])
            count += len(terminations) - int((terminations | truncations).sum())
            t += 1
    return count / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds for each figure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=list(SIZES))
    args = parser.parse_args()
    runs = {
        (name, n, maker.__name__): maker(name, n)
        for name in args.only
        for n in SIZES[name]
        for maker in ((ours,) if name.startswith("ALE/") else (ours, gymnasium))
    }
    rates: dict[tuple[str, int, str], list[float]] = {key: [] for key in runs}
    for _ in range(args.rounds):
        for key, (step, chosen) in runs.items():
            rates[key].append(rate(step, chosen, args.seconds))
    figures = [
        {
            "task": name,
            "copies": n,
            "with": maker,
            "env_steps_per_cpu_second": round(statistics.median(found)),
            "spread": [round(min(found)), round(max(found))],
        }
        for (name, n, maker), found in rates.items()
    ]
    for figure in figures:
        print("{task:<20} {copies:>5} {with:<10} {env_steps_per_cpu_second:>12,}".format(**figure))
    print(json.dumps({"benchmark": "sampler", "figures": figures}))


if __name__ == "__main__":
    main()
