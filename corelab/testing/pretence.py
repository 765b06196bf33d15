"""An algorithm, a task and a picture with nothing in them: sinks are told of runs of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from corelab.components import Component
from corelab.experiments import Empty
from corelab.hooks import hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """Both."""
    return [
        Component("task", "nothing", f"{__name__}:Nothing", "nothing", provides="nothing"),
        Component("algorithm", "pretend", f"{__name__}:Pretend", "nothing", uses=("nothing",)),
    ]


class Nothing:
    """A task without content."""

    Config = Empty

    def __init__(self, config: Empty) -> None:
        pass


class Pretend:
    """An algorithm that counts its steps."""

    Config = Empty
    unit = "steps"
    default_task, default_model, default_steps = "nothing", "", 100
    best = "min eval/loss"
    highlights = ("train/loss", "eval/loss")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, config: Empty, task: Nothing, model: None, context: Any) -> None:
        self.progress = 0

    def step(self) -> dict[str, float]:
        """Count."""
        self.progress += 1
        return {"loss": 1.0}

    def save(self, directory: Path) -> None:
        """Nothing to save but progress."""
        (directory / "progress").write_text(str(self.progress))

    def load(self, directory: Path) -> None:
        """Nothing to load but progress."""
        self.progress = int((directory / "progress").read_text())


class Picture:
    """A medium that is no more than what is promised of one."""

    def save(self, path: Path) -> None:
        """Write an empty file."""
        path.write_bytes(b"")
