"""How fast tableaux are stepped, seen, copied and searched, on one core.

    python benchmarks/tableaux.py                the problems that corelab has
    python benchmarks/tableaux.py FOLDER         the first hundred of a folder

One JSON line: inferences a CPU second of depth-first search without restricted backtracking; random
actions a CPU second on the engine alone, through the vector environment and through Gymnasium (both
with features or graphs, new episodes, and every proof checked); microseconds to save and to restore
a state.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import corelab_envs.registry  # noqa: F401 - registers corelab/Connection-v0
import gymnasium as gym
import numpy as np
from corelab_envs.theorem import engine
from corelab_envs.theorem.calculus import Outcome, Settings
from corelab_envs.theorem.problem_set import ProblemSet

ID, COPIES, STEPS = "corelab/Connection-v0", 64, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as few:
        if folder is not None:
            for file in sorted(folder.glob("*.p"))[:100]:
                shutil.copy(file, few)
        problems = ProblemSet(Path(few) if folder else None, "all")
        path = str(problems.path)
        saved, restored = copying(problems)
        row = {
            "problems": len(problems.names),
            "search": round(searching(problems)),
            "engine": round(native(problems)),
            "vector": round(vector(path, "walks")),
            "vector_graphs": round(vector(path, "graph")),
            "gymnasium": round(single(path, "walks")),
            "gymnasium_graphs": round(single(path, "graph")),
            "save_us": round(saved * 1e6, 1),
            "restore_us": round(restored * 1e6, 1),
        }
    print(json.dumps(row))


def searching(problems: ProblemSet) -> float:
    """Inferences a second of complete depth-first search, up to 100,000 for each problem."""
    inferences, spent = 0, 0.0
    for name in problems.names[::4]:
        search = engine.Search(problems.matrix(name), Settings())
        began = time.process_time()
        search.run(100_000)
        spent += time.process_time() - began
        inferences += search.inferences
    return inferences / spent


def native(problems: ProblemSet) -> float:
    tableaux = [engine.Tableau(problems.matrix(name)) for name in problems.names[:COPIES]]
    n, rng, steps, spent = len(tableaux), np.random.default_rng(0), 0, 0.0
    outcomes, inferences = np.empty((2, n), np.int32)
    for _ in range(STEPS):
        counts = np.array([tableau.action_count for tableau in tableaux])
        actions = rng.integers(0, np.maximum(counts, 1)).astype(np.int32)
        began = time.process_time()
        applied = engine.step_many(tableaux, actions, 10**9, outcomes, inferences)
        spent += time.process_time() - began
        steps += int(applied.sum())
        for i in np.flatnonzero((outcomes != Outcome.RUNNING) | (inferences >= 100)):
            tableaux[i].reset()
    return steps / spent


def vector(path: str, observation: str) -> float:
    envs = gym.make_vec(ID, COPIES, path=path, observation=observation)
    rng = np.random.default_rng(0)
    observations, _ = envs.reset(seed=0)
    for step in range(STEPS):
        if step == STEPS // 4:  # by now, the problems have been read
            began = time.process_time()
        actions = rng.integers(0, np.maximum(observations["action_mask"].sum(1), 1))
        observations, *_ = envs.step(actions)
    return COPIES * (STEPS - STEPS // 4) / (time.process_time() - began)


def single(path: str, observation: str) -> float:
    env, rng = gym.make(ID, path=path, observation=observation), np.random.default_rng(0)
    seen, _ = env.reset(seed=0)
    for step in range(10 * STEPS):
        if step == 5 * STEPS:
            began = time.process_time()
        action = int(rng.integers(seen["action_mask"].sum()))
        seen, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            seen, _ = env.reset()
    return 5 * STEPS / (time.process_time() - began)


def copying(problems: ProblemSet) -> tuple[float, float]:
    """Seconds for one state, after ten random steps in each problem."""
    rng, again = np.random.default_rng(0), 100
    spent = np.zeros(2)
    for name in problems.names:
        tableau = engine.Tableau(problems.matrix(name))
        for _ in range(10):
            if tableau.action_count:
                tableau.step(int(rng.integers(tableau.action_count)))
        times = [time.process_time()]
        for _ in range(again):
            state = tableau.save()
        times.append(time.process_time())
        for _ in range(again):
            tableau.restore(state)
        times.append(time.process_time())
        spent += np.diff(times)
    save, restore = spent / again / len(problems.names)
    return float(save), float(restore)


if __name__ == "__main__":
    main()
