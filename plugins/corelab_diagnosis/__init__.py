"""Diagnosis: says, while a run learns and afterwards, why it may not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from corelab import Component, hookimpl

if TYPE_CHECKING:
    from corelab import Run
    from corelab_diagnosis.live import Monitor

corelab_api = (1, 0)

_monitors: dict[Path, Monitor] = {}


@hookimpl
def corelab_components() -> list[Component]:
    """The verb."""
    return [
        Component(
            "verb",
            "diagnose",
            "corelab_diagnosis.verb:diagnose",
            "say why a run is not learning",
        )
    ]


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Begin to watch the run."""
    from corelab_diagnosis.live import Monitor

    _monitors[run.path] = Monitor(run)


@hookimpl
def corelab_run_logged(run: Run, progress: int, metrics: Mapping[str, float]) -> None:
    """Take in the row and, now and then, look at what has come together."""
    if monitor := _monitors.get(run.path):
        monitor.hear(progress, metrics)


@hookimpl
def corelab_run_ended(run: Run) -> None:
    """Let go of it."""
    if monitor := _monitors.pop(run.path, None):
        monitor.close()
