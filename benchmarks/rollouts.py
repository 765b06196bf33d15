"""What rollout workers cost and bring, with PPO.

    python benchmarks/rollouts.py [--only overhead speedup rllib] [--rounds 5]

overhead  CartPole-v1, 2,048 steps an iteration, by one worker and by two: CPU seconds of an
          iteration with Ray actors, theirs and this process's, over those with the same workers
          in this process, some iterations of each in turn. Two workers compute at the same time,
          so a third turn is in this process beside another that does the same and has nothing to
          do with Ray: what that adds is the machine's.
speedup   an environment whose every step computes for some 0.3 ms: env steps per second on the
          wall of 2 actors over those of 1, in step and asynchronously. It needs 2 free cores.
rllib     RLlib's PPO (new API) beside ours at equal settings, in one process and with a worker:
          env steps per CPU second of this process and the workers.

Ray has processes of its own, which cost some CPU even at rest: they are told apart, as cpu_of_ray.
CPU seconds are those of every thread, after two iterations or more: no start of a process counts.
Rounds are interleaved, each in a process of its own; ratios are medians of rounds, with the least
and the greatest. It ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from corelab.context import Context
from corelab.experiments import resolve

CARTPOLE = {
    "task.num_envs": 8,
    "algorithm.horizon": 256,
    "algorithm.epochs": 4,
    "algorithm.batch_size": 256,
    "algorithm.lr": 3e-4,
}
"""2,048 steps an iteration, 8 minibatches, 4 epochs, two perceptrons of 64 x 64."""
SLOW = CARTPOLE | {"algorithm.epochs": 1}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "overhead": {
        "one worker": {"kind": "turns", "workers": 1},
        "two workers": {"kind": "turns", "workers": 2},
    },
    "speedup": {
        "one": {"kind": "actors", "workers": 1, "slow": True},
        "two": {"kind": "actors", "workers": 2, "slow": True},
        "two asynchronous": {"kind": "actors", "workers": 2, "slow": True, "asynchronous": True},
    },
    "rllib": {
        "corelab": {"kind": "here", "workers": 0},
        "rllib": {"kind": "rllib", "workers": 0},
        "corelab worker": {"kind": "actors", "workers": 1},
        "rllib worker": {"kind": "rllib", "workers": 1},
    },
}
RATIOS = {
    "overhead": [
        (f"{workers}, {text}", (workers, above), (workers, "cpu_here"))
        for workers in ("one worker", "two workers")
        for text, above in (
            ("actors / here, CPU seconds", "cpu_actors"),
            ("here beside another process / here, CPU seconds", "cpu_beside"),
        )
    ],
    "speedup": [
        ("2 / 1 workers, steps per second", ("two", "wall_rate"), ("one", "wall_rate")),
        (
            "2 asynchronous / 1, steps per second",
            ("two asynchronous", "wall_rate"),
            ("one", "wall_rate"),
        ),
    ],
    "rllib": [
        (
            "one process, steps per CPU second",
            ("corelab", "cpu_rate"),
            ("rllib", "cpu_rate"),
        ),
        (
            "a worker, steps per CPU second",
            ("corelab worker", "cpu_rate"),
            ("rllib worker", "cpu_rate"),
        ),
    ],
}
"""What is divided by what: a case, and which of its figures."""
NEIGHBOUR = {"kind": "here", "workers": 1}
"""What a process beside this one does."""
TURN = 5
"""Iterations in a turn."""


class Slow(gym.Wrapper):
    """Computes for some 0.3 ms in each step."""

    def step(self, action: Any) -> Any:
        """A step, and the arithmetic before it."""
        x = 0.5
        for _ in range(6_000):
            x = math.sin(x) + 0.5
        return super().step(action)


def slow_cartpole() -> gym.Env:
    return Slow(gym.make("CartPole-v1", disable_env_checker=True).unwrapped)


def cpu_seconds() -> tuple[float, float, float]:
    """Of this process, of the workers that it has, and of Ray's own processes."""
    parents, workers = {}, set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            _, _, rest = (path / "stat").read_text().rpartition(")")
            command = (path / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        parents[int(path.name)] = int(rest.split()[1])
        if command.startswith(b"ray::") and not command.startswith(b"ray::IDLE"):
            workers.add(int(path.name))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    learner = {os.getpid()}
    parts = learner, workers & mine, mine - workers - learner
    return tuple(sum(map(cpu_seconds_of, pids)) for pids in parts)  # type: ignore[return-value]


def cpu_seconds_of(pid: int) -> float:
    """Of all threads of the process PID, to the nanosecond; its file `stat` counts hundredths."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # it has just ended
            total += int(thread.read_text().split()[0])
    return 1e-9 * total


def measure(step: Any, seconds: float) -> dict[str, float]:
    """What STEP, which returns how many env steps it took, costs once it is warm."""
    for _ in range(2):
        step()
    wall, cpu, iterations, steps = time.perf_counter(), cpu_seconds(), 0, 0
    while time.perf_counter() - wall < seconds:
        steps += step()
        iterations += 1
    wall = time.perf_counter() - wall
    parts = (after - before for after, before in zip(cpu_seconds(), cpu, strict=True))
    learner, workers, ray = parts
    work = learner + workers
    return {
        "cpu": work / iterations,
        "cpu_of_ray": ray / iterations,
        "wall_rate": steps / wall,
        "cpu_rate": steps / work,
    }


def build(case: dict[str, Any], kind: type[Context]) -> Any:
    """Our PPO, with its workers where KIND puts them."""
    task = "CartPole-v1"
    values = (SLOW if case.get("slow") else CARTPOLE) | {"rollout_workers": case["workers"]}
    if case.get("slow"):
        task = "SlowCartPole-v1"
        gym.register(task, slow_cartpole, max_episode_steps=500)
    if case.get("asynchronous"):
        values |= {"algorithm.rollout.asynchronous": True}
    experiment = resolve("ppo", task=task, values=values | {"steps": 10_000_000})
    return experiment.build(experiment.context("cpu", kind))


def ours(case: dict[str, Any], seconds: float) -> dict[str, float]:
    if case["kind"] == "here":
        kind = Context
    else:
        from corelab.cluster.actors import ActorContext

        kind = ActorContext
    with Context(0, torch.device("cpu"), 1).owning_globals():
        algorithm = build(case, kind)

        def step() -> int:
            before = algorithm.progress
            algorithm.step()
            return algorithm.progress - before

        return measure(step, seconds)


def turns(case: dict[str, Any], seconds: float) -> dict[str, float]:
    """CPU seconds of an iteration here, with actors, and here beside another process."""
    from corelab.cluster.actors import ActorContext

    command = [sys.executable, __file__, "--round", "overhead/neighbour", "--seconds", "1e9"]
    with Context(0, torch.device("cpu"), 1).owning_globals():
        here, there = build(case, Context), build(case, ActorContext)
        steps(here), steps(there)
        beside = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        told = []
        end = time.perf_counter() + 3 * seconds
        try:
            while time.perf_counter() < end:
                beside.send_signal(signal.SIGSTOP)
                cpu_here, before = steps(here), cpu_seconds()
                steps(there)
                parts = zip(cpu_seconds(), before, strict=True)
                learner, workers, ray = ((now - then) / TURN for now, then in parts)
                beside.send_signal(signal.SIGCONT)
                told.append((cpu_here, steps(here), learner + workers, learner, workers, ray))
        finally:
            beside.kill()
            beside.wait()
    names = "cpu_here", "cpu_beside", "cpu_actors", "cpu_learner", "cpu_workers", "cpu_of_ray"
    return dict(zip(names, map(statistics.median, zip(*told, strict=True)), strict=True))


def steps(algorithm: Any) -> float:
    """A turn of ALGORITHM: CPU seconds that an iteration takes of this thread."""
    before = time.thread_time()
    for _ in range(TURN):
        algorithm.step()
    return (time.thread_time() - before) / TURN


def rllibs(case: dict[str, Any], seconds: float) -> dict[str, float]:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    model = DefaultModelConfig(
        fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False
    )
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_env_runners=case["workers"], num_envs_per_env_runner=CARTPOLE["task.num_envs"]
        )
        .training(
            train_batch_size_per_learner=2_048,
            minibatch_size=CARTPOLE["algorithm.batch_size"],
            num_epochs=CARTPOLE["algorithm.epochs"],
            lr=CARTPOLE["algorithm.lr"],
        )
        .rl_module(model_config=model)
        .debugging(log_level="ERROR")
    )
    algorithm = config.build_algo()
    done = 0

    def step() -> int:
        nonlocal done
        before, done = done, int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        return done - before

    return measure(step, seconds)


def one(case: dict[str, Any], seconds: float) -> dict[str, float]:
    """A round of CASE in this process."""
    if case["kind"] == "here":
        return ours(case, seconds)
    import ray

    import corelab.cluster  # noqa: F401 - for its settings

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "CRITICAL"}
    ray.init("local", num_cpus=4, object_store_memory=300_000_000, **quiet)
    try:
        return {"rllib": rllibs, "turns": turns, "actors": ours}[case["kind"]](case, seconds)
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each round")
    parser.add_argument("--round", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.round:
        warnings.simplefilter("ignore")
        kind, name = args.round.split("/")
        case = NEIGHBOUR if name == "neighbour" else CASES[kind][name]
        print(json.dumps(one(case, args.seconds)))
        return
    result: dict[str, Any] = {"rounds": args.rounds}
    for kind in args.only:
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in CASES[kind]}
        for _ in range(args.rounds):
            for name, found in seen.items():
                command = [sys.executable, __file__, "--round", f"{kind}/{name}"]
                command += ["--seconds", str(args.seconds)]
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                run = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                found.append(json.loads(run.stdout.splitlines()[-1]))
                print(kind, name, found[-1], file=sys.stderr)
        for text, (above, figure), (below, other) in RATIOS[kind]:
            pairs = zip(seen[above], seen[below], strict=True)
            ratios = sorted(a[figure] / b[other] for a, b in pairs)
            result[f"{kind}: {text}"] = {
                "ratio": round(statistics.median(ratios), 3),
                "least": round(ratios[0], 3),
                "greatest": round(ratios[-1], 3),
            }
        for name, found in seen.items():
            result[f"{kind}: {name}"] = {
                figure: float(f"{statistics.median(f[figure] for f in found):.4g}")
                for figure in found[0]
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
