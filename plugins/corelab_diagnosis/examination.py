"""Evidence about a run: what it wrote down, and a few of its updates done again under watch.

The run itself is only read. Its algorithm is built here once more and stepped: first from the
weights that its seed gives, as the run began, then from the newest checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corelab import Context, CorelabError, Run
from corelab.state import load_tree
from corelab_diagnosis.interface import Check, Evidence, Networks, Play
from corelab_diagnosis.watch import Watch

_SECONDS = 5.0
"""Of processor time that either look at the networks may take."""
_STEPS = 512
"""Of random play."""


def examine(run: Run, probe: bool = True) -> tuple[Evidence, tuple[Check, ...]]:
    """What is known of RUN, and the checks that its algorithm brings.

    Without PROBE nothing is built, and only what was written down counts. `RunError` if there is no
    metrics.jsonl.
    """
    facts: dict[str, Any] = {
        "algorithm": run.algorithm,
        "config": run.config,
        "steps": run.steps,
        "rows": run.metrics(),
        "error": run.record["error"] or "",
        "over": run.status != "running",
    }
    if not probe:
        return Evidence(**facts), ()
    experiment = run.experiment(device="cpu", workers=1, gpus=0, rollout_workers=0)
    if not getattr(experiment.plugins.load(experiment.algorithm), "exact", True):
        return Evidence(**facts), ()  # it would not be the same updates
    if experiment.model is not None:
        facts["provides"] = experiment.model.component.provides
    context = experiment.context()
    with context.owning_globals():
        algorithm: Any = experiment.build(context)
        first = _weights(algorithm)
        facts["fresh"], _ = _look(algorithm, updates=1)
        facts["start"], pace = _look(algorithm)
        place, _ = run.checkpoints.newest_whole()
        if place is not None:
            # in the middle of a budget, since many step sizes have fallen to zero at its end
            context = experiment.context()
            context.steps = 2 * max(1, run.progress)
            algorithm = experiment.build(context)
            algorithm.load(place / "algorithm")
            context.load_state_dict(load_tree(place / "loop")["streams"])
            facts["moved"] = _moved(first, _weights(algorithm))
            facts["test"] = _test(algorithm, facts["rows"])
            facts["end"], late_pace = _look(algorithm)
            facts["updates"] = round(run.progress * max(pace, late_pace))
        facts["examples"] = _examples(algorithm)
        facts["play"] = _play(algorithm, context)
    return Evidence(**facts), tuple(getattr(type(algorithm), "checks", ()))


def _look(algorithm: Any, updates: int = 16) -> tuple[Networks | None, float]:
    """Some of ALGORITHM's UPDATES, and how many it makes in a unit of progress."""
    began = time.process_time()
    paces = []
    # a failure ends what can be seen here as it ended the run
    with Watch(updates) as watch, suppress(CorelabError, ValueError, FloatingPointError):
        while not watch.done and time.process_time() - began < _SECONDS:
            seen, at = watch.counted, algorithm.progress
            algorithm.step()
            paces.append((watch.counted - seen) / (algorithm.progress - at))
    networks = watch.seen()
    return (networks if networks.layers else None), max(paces, default=0.0)


def _weights(algorithm: Any) -> dict[str, Tensor]:
    """A copy of every parameter of the modules that ALGORITHM has, but those of biases."""
    found = {}
    for name, value in vars(algorithm).items():
        if isinstance(value, nn.Module):
            for key, p in value.named_parameters():
                if p.dim() >= 2 or key.endswith("flat"):
                    found[f"{name}.{key}"] = p.detach().clone()
    return found


def _moved(first: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float | None:
    """‖W - W₀‖ / ‖W₀‖, the median of the tensors; None if there are none."""
    shares = [
        ((now[name] - w).norm() / w.norm()).item()
        for name, w in first.items()
        if name in now and now[name].shape == w.shape and w.norm() > 0
    ]
    return float(np.median(shares)) if shares else None


def _examples(algorithm: Any) -> int:
    split = getattr(getattr(algorithm, "task", None), "split", None)
    with suppress(Exception):  # a stranger's task may use the name for something else
        return len(split("train"))  # type: ignore[misc]
    return 0


def _test(algorithm: Any, rows: list[dict[str, float]]) -> dict[str, float]:
    """Metrics of the test split, for a run that writes the error rate of the two others."""
    names = set().union(*rows) if rows else set()
    if not ({"train/error", "train/accuracy"} & names and hasattr(algorithm, "evaluate")):
        return {}
    with torch.random.fork_rng(devices=[]):
        figures = algorithm.evaluate("test")
    return {name: float(v) for name, v in figures.items() if isinstance(v, int | float | Tensor)}


def _play(algorithm: Any, context: Context) -> Play | None:
    """What the environment pays for random actions."""
    task = getattr(algorithm, "task", None)
    space = getattr(task, "single_action_space", None)
    if task is None or space is None or not hasattr(task, "make"):
        return None
    space.seed(0)
    envs = task.make(task.num_envs or 1, context.seed_for("diagnosis"))
    envs.reset()
    N = envs.num_envs
    rewards = []
    began = time.process_time()
    with suppress(Exception):  # a stranger's, perhaps one where not every action is always allowed
        for _ in range(-(-_STEPS // N)):
            rewards.append(envs.step(np.array([space.sample() for _ in range(N)]))[1])
            if time.process_time() - began > 1:
                break
    return Play(np.concatenate(rewards), int(getattr(space, "n", 0))) if rewards else None
