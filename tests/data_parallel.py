"""A process of several that learn together: what tests/test_data_parallel.py starts.

usage: python data_parallel.py RANK WORLD RENDEZVOUS OUT < CASES

Writes into OUT, for each of CASES (JSON), the weights after some steps and, of algorithms that act,
what they have seen and their progress.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from corelab.context import Context
from corelab.experiments import resolve

Weights = dict[str, torch.Tensor]
UPDATES = 4
EXPERIENCE = ("rewards", "terminations", "truncations", "valid", "actions")
"""What was seen while acting, [T, N] each, beside the observations, [T + 1, N, ...]."""


def build(case: dict[str, Any], kind: type[Context]) -> Any:
    """The algorithm of CASE before its first step."""
    experiment = resolve(
        case["algorithm"], task=case.get("task"), model=case.get("model"), values=case["options"]
    )
    context = experiment.context(kind=kind)
    with context.owning_globals():
        return experiment.build(context)


def learn(case: dict[str, Any], kind: type[Context], updates: int = UPDATES) -> Weights:
    """The weights after so many UPDATES of CASE."""
    algorithm = build(case, kind)
    with algorithm.context.owning_globals():
        for _ in range(updates):
            algorithm.step()
    return weights(algorithm)


def weights(algorithm: Any) -> Weights:
    """The weights and buffers of ALGORITHM."""
    modules = {
        name: getattr(algorithm, name)
        for name in type(algorithm).saved
        if isinstance(getattr(algorithm, name), torch.nn.Module)
    }
    return {
        f"{name}.{key}": value.clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def acted(algorithm: Any) -> dict[str, Any]:
    """What ALGORITHM sees while it acts for a step."""
    algorithm.step()
    rollout = algorithm.rollout
    seen = {key: getattr(rollout, key) for key in EXPERIENCE}
    return seen | {"observations": rollout.observations.tree}


def played(algorithm: Any) -> Any:
    """The episodes that ALGORITHM plays in a step."""
    seen = algorithm._play()
    algorithm._play = lambda: seen
    algorithm.step()
    return seen


def replayed(algorithm: Any) -> list[tuple[Any, ...]]:
    """What ALGORITHM updates itself from until it has done so UPDATES times."""
    seen, update = [], algorithm._update

    def watch(*batch: Any) -> Any:
        seen.append(batch)
        return update(*batch)

    algorithm._update = watch
    while len(seen) < UPDATES:
        algorithm.step()
    return seen


def remembered(algorithm: Any) -> list[tuple[Any, ...]]:
    """Likewise of what it remembers, with its progress; no minibatch is mirrored."""
    seen, draw = [], algorithm.positions.draw

    def watch(*words: Any) -> Any:
        batch = draw(*words)
        seen.append((batch, algorithm.progress))
        return batch

    algorithm.positions.draw = watch
    algorithm._mirrored = lambda s, policy, rng: (s, policy)
    while len(seen) < UPDATES:
        algorithm.step()
    return seen


if __name__ == "__main__":
    from corelab.cluster.parallel import DataParallel

    sees = {"acts": acted, "plays": played, "replays": replayed, "remembers": remembered}
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", f"file://{sys.argv[3]}", rank=rank, world_size=world)
    for name, case in json.load(sys.stdin).items():
        place = Path(sys.argv[4]) / f"{name}-{rank}.pt"
        if "how" in case:
            algorithm = build(case, DataParallel)
            seen = sees[case["how"]](algorithm)
            torch.save((weights(algorithm), seen, algorithm.progress), place)
        else:
            torch.save(learn(case, DataParallel), place)
    dist.destroy_process_group()
