"""Groups of runs: those that differ in nothing but their seed belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corelab import CheckpointError, Run, find_runs
from corelab.config import flatten
from corelab.seeds import members

_OWN = ("seed", "run.dir", "run.name")
"""The options in which the runs of a group differ."""


@dataclass(frozen=True)
class Group:
    """Runs of one experiment."""

    name: str
    runs: tuple[Run, ...]
    """By their seeds."""


def find(paths: Iterable[Path]) -> list[Group]:
    """The groups at PATHS, each the directory of a run or a folder of runs.

    A folder of seeds is a group; any other folder is taken apart into those that it holds.
    RunError if there is no run at one of them.
    """
    groups = []
    for path in dict.fromkeys(paths):
        kinds: dict[tuple[Path, str], list[Run]] = {}
        for run in members(path):
            folder = run.path.parent if run.path.name == f"seed-{run.seed}" else path
            kinds.setdefault((folder, json.dumps(settings(run))), []).append(run)
        folders = [folder for folder, _ in kinds]
        for (folder, _), runs in kinds.items():
            alone = folders.count(folder) == 1 and (folder != path or len(kinds) == 1)
            groups.append(Group(_name(folder, runs, alone), tuple(runs)))
    return groups


def _name(folder: Path, runs: Sequence[Run], alone: bool) -> str:
    if alone:
        return str(folder)
    return str(runs[0].path) + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")


def settings(run: Run) -> dict[str, Any]:
    """The options of RUN by their dotted names, but for those that tell it from its group."""
    return {name: value for name, value in flatten(run.config) if name not in _OWN}


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The options in which GROUPS differ, each with its value in every group; None if it has none.

    The runs of a group agree on them, so its first one speaks for all. Where groups differ in
    their algorithm, task or model, only those of its options are told that all of them have.
    """
    each = [settings(group.runs[0]) for group in groups]
    names = dict.fromkeys(name for options in each for name in options)

    def comparable(name: str) -> bool:
        owners = {options.get(f"{name.partition('.')[0]}.name") for options in each}
        return len(owners) == 1 or all(name in options for options in each)

    values = {name: [o.get(name) for o in each] for name in names if comparable(name)}
    return {name: v for name, v in values.items() if any(one != v[0] for one in v)}


def rows(run: Run) -> list[dict[str, float]]:
    """What RUN has logged; nothing if it has not begun to."""
    return run.metrics() if (run.path / "metrics.jsonl").exists() else []


def weights(run: Run) -> str:
    """The hash of the weights in the last checkpoint of RUN; "" if there is none that is whole."""
    if known := run.record.get("weights_sha256"):
        return str(known)
    from corelab.state import tensors_sha256

    try:
        algorithm = run.checkpoints.pick() / "algorithm"
    except CheckpointError:
        return ""
    files = (algorithm / f"{name}.safetensors" for name in ("weights", "state"))
    return next((tensors_sha256(file) for file in files if file.exists()), "")


def unfinished(groups: Iterable[Group]) -> list[str]:
    """A sentence for each run that is not done."""
    return [
        f"{run.path} is {run.status}, at {run.progress:,} of {run.steps:,} {run.unit}"
        for group in groups
        for run in group.runs
        if run.status != "done"
    ]


def siblings(run: Run) -> list[Run]:
    """RUN and the finished runs beside it that differ from it in nothing but their seed."""
    by_seed = {run.seed: run}
    for other in find_runs(run.path.absolute().parent):
        if other.record["status"] == "done" and settings(other) == settings(run):
            by_seed.setdefault(other.seed, other)
    return [by_seed[seed] for seed in sorted(by_seed)]
