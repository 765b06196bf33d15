"""The command that repeats a run."""

from __future__ import annotations

import shlex
from typing import Any

from corelab import Run
from corelab.config import flatten

_SAID = ("task_name", "model_name", "task.id", "seed", "steps", "run.dir", "run.name")
"""What has a place of its own in the command, or is where the run lies."""


def command(run: Run) -> str:
    """What to type, where the same versions are installed, to get the weights of RUN again.

    Every option that somebody has chosen; those of presets and defaults stay what they were.
    """
    words = ["corelab", "train", run.config["algorithm"]["name"]]
    for kind in ("task", "model"):
        if name := run.config[kind].get("name"):
            words += [f"--{kind}", name]
    words += ["--seed", str(run.seed), "--steps", str(run.config["steps"])]
    values = dict(flatten(run.config))
    for name, source in run.record["sources"].items():
        chosen = source != "default" and not source.startswith("preset for ")
        if chosen and name not in _SAID:
            value = values[name] if name in values else values[f"{name}_"]
            words += [f"--{name.replace('_', '-')}", *_words(value)]
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
