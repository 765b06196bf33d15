"""How soon a run goes on of which a process was killed.

    python benchmarks/faults.py [--rounds 3]

actor     PPO with two rollout workers: from the kill of one to the end of the next update, and to
          that of the first update which has experience of the actor in its place; in step and
          asynchronously
worker    a VAE with two data-parallel workers: from the kill of one to the first row of metrics
          beyond the last checkpoint

Seconds of wall-clock time, which want 2 free cores. It ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from corelab import train
from corelab.cluster.actors import ActorContext
from corelab.cluster.connection import connected
from corelab.experiments import resolve

VAE = {
    "algorithm.batch_size": 32,
    "model.width": 32,
    "run.checkpoint_every": 64,
    "run.eval_every": 0,
    "run.log_every": 64,
    "run.sinks": ("jsonl",),
    "workers": 2,
}


def workers(name: str) -> list[int]:
    """The processes called NAME that descend from this one."""
    parents, called = {}, []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            words = (process / "stat").read_text().rpartition(")")[2].split()
            parents[int(process.name)] = int(words[1])
            if (process / "cmdline").read_bytes().startswith(name.encode()):
                called.append(int(process.name))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return [pid for pid in called if pid in mine]


def actor(asynchronous: bool) -> dict[str, float]:
    values = {
        "task.num_envs": 8,
        "algorithm.horizon": 256,
        "rollout_workers": 2,
        "steps": 10_000_000,
        "algorithm.rollout.asynchronous": asynchronous,
    }
    experiment = resolve("ppo", task="CartPole-v1", values=values)
    context = experiment.context("cpu", ActorContext)
    said: list[str] = []
    context.say = said.append
    with context.owning_globals():
        algorithm: Any = experiment.build(context)
        for _ in range(3):
            algorithm.step()
        os.kill(workers("ray::_Holder")[0], signal.SIGKILL)
        killed = time.monotonic()
        algorithm.step()
        found = {"next": time.monotonic() - killed}
        while not any("begin new episodes" in sentence for sentence in said):
            algorithm.step()
        found["whole"] = time.monotonic() - killed
        algorithm.rollout._pool.close()
    return found


def worker() -> dict[str, float]:
    found: dict[str, float] = {}

    def watch(folder: Path) -> None:
        wait(lambda: list(folder.glob("*/checkpoints/*[0-9]")))
        os.kill(workers("ray::RayTrainWorker")[-1], signal.SIGKILL)
        killed = time.monotonic()
        (log,) = folder.glob("*/log.txt")
        wait(lambda: "a worker was lost" in log.read_text())
        found["begun"] = time.monotonic() - killed
        told = log.with_name("metrics.jsonl")
        rows = told.stat().st_size
        wait(lambda: told.stat().st_size > rows)
        found["row"] = time.monotonic() - killed

    def wait(happened: Callable[[], Any]) -> None:
        while not happened():
            time.sleep(0.02)

    with tempfile.TemporaryDirectory() as folder:
        watcher = threading.Thread(target=watch, args=(Path(folder),), daemon=True)
        watcher.start()
        train("vae", model="mlp", steps=64 * 100, run_dir=Path(folder), options=VAE)
        watcher.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    os.environ["CORELAB_PROGRESS"] = "off"
    cases: dict[str, Callable[[], dict[str, float]]] = {
        "actor, in step": lambda: actor(asynchronous=False),
        "actor, asynchronous": lambda: actor(asynchronous=True),
        "worker": worker,
    }
    result = {}
    with connected("", ()):
        for name, case in cases.items():
            seen = [case() for _ in range(rounds)]
            for figure in seen[0]:
                seconds = sorted(one[figure] for one in seen)
                result[f"{name}: {figure}"] = {
                    "seconds": round(statistics.median(seconds), 2),
                    "greatest": round(seconds[-1], 2),
                }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
