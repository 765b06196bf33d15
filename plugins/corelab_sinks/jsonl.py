"""Metrics as text: one JSON object a line in metrics.jsonl.

A line holds `progress`, `time` (seconds since 1970) and the metrics of one row. Lines stand in the
order of progress, also in a run that was killed and went on: then the file holds what that of an
unbroken run holds, but for the times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from corelab import hookimpl

if TYPE_CHECKING:
    from corelab import Run

corelab_api = (1, 0)

_files: dict[Path, BinaryIO] = {}


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Open the file, without the lines that are about to be written again."""
    path = run.path / "metrics.jsonl"
    if run.resumed_at is not None and path.exists():
        _forget(path, run.resumed_at)
    _files[run.path] = path.open("wb" if run.resumed_at is None else "ab")


@hookimpl
def corelab_run_logged(run: Run, progress: int, metrics: Mapping[str, float]) -> None:
    """Hand a line to the operating system, where a kill of this process cannot reach it."""
    file = _files.get(run.path)
    if file and metrics:
        row = {"progress": progress, "time": round(time.time(), 3), **metrics}
        file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        file.flush()


@hookimpl
def corelab_run_ended(run: Run) -> None:
    """Close the file."""
    if file := _files.pop(run.path, None):
        file.close()


def _forget(path: Path, progress: int) -> None:
    """Keep only the whole lines up to PROGRESS; PATH is the old file until it is the new one."""
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if _holds(line, progress)]
    shorter = path.with_suffix(".tmp")
    with shorter.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    shorter.replace(path)


def _holds(line: bytes, progress: int) -> bool:
    """Whether LINE is whole and tells of nothing after PROGRESS."""
    try:
        return line.endswith(b"\n") and int(json.loads(line)["progress"]) <= progress
    except (ValueError, TypeError, KeyError):
        return False
