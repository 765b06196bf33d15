"""Environments side by side: env steps per CPU second with 1 to 4,096 copies and random actions.

    python benchmarks/sampler.py [--seconds 0.5] [--rounds 5] [--only CartPole-v1 ...]
    python benchmarks/sampler.py --replay [--frames 1000000]    # the memory of a replay instead

Each figure is the median over the rounds, in which all tasks and numbers of copies take turns for
so many CPU seconds each; `spread` has the least and the greatest. Steps that only reset are not
counted. `gymnasium` is the same environment as `gymnasium.make_vec` makes it: its own vector
environment for CartPole, its `SyncVectorEnv` for the others. One JSON line is printed.

With `--replay`, the memory of DQN's replay in megabytes: of its `arrays`, and by how much this
process has `grown` (as Linux tells) when 8 copies have filled it; `pairs` is what it would take to
store with each step the observations before and after it, as they are seen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from corelab_envs.atari import AtariTask
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_qlearning.replay import PrioritisedReplay, Replay
from gymnasium.vector.utils import batch_space

SIZES = {
    "CartPole-v1": (1, 8, 64, 512, 4096),
    "Acrobot-v1": (1, 8, 64, 512, 4096),
    "MinAtar/Breakout-v1": (1, 8, 64, 512, 4096),
    "ALE/Pong-v5": (1, 8, 32),
}
COPIES = 8
"""That fill a replay."""
Step = Callable[[Any], Any]


def opened(name: str) -> Any:
    task_class: Any = AtariTask if name.startswith("ALE/") else GymnasiumTask
    return task_class(task_class.Config(id=name))


def ours(name: str, n: int) -> tuple[Step, list[Any]]:
    task = opened(name)
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


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def filled(name: str, kind: type[Replay], frames: int) -> dict[str, Any]:
    """The memory of a replay of KIND with so many FRAMES of the task NAME."""
    task = opened(name)
    space, stack = task.single_observation_space, getattr(task, "stack", 1)
    before = resident()
    replay = kind(space, int(task.single_action_space.n), COPIES, frames, stack=stack)
    shown = np.ones((COPIES, *space.shape), space.dtype)
    going_on = np.zeros(COPIES, np.bool_)
    replay.begin(shown)
    for _ in range(frames // COPIES):
        replay.add(np.zeros(COPIES), np.ones(COPIES), going_on, going_on, shown)
    if isinstance(replay, PrioritisedReplay):
        replay.draw(1, 1, np.random.default_rng(0))  # gives all of them their priorities
    return {
        "benchmark": "replay",
        "task": name,
        "replay": kind.__name__,
        "frames": frames,
        "arrays": round(replay.nbytes / 1e6, 1),
        "grown": round((resident() - before) / 1e6, 1),
        "pairs": round(frames * 2 * shown[0].nbytes / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU seconds for each figure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--replay", action="store_true", help="the memory of a replay instead")
    parser.add_argument("--frames", type=int, default=1_000_000, help="in that replay")
    args = parser.parse_args()
    if args.replay:
        for name in ("CartPole-v1", "MinAtar/Breakout-v1", "ALE/Pong-v5"):
            for kind in (Replay, PrioritisedReplay):
                print(json.dumps(filled(name, kind, args.frames)), flush=True)
        return
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
