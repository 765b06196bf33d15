"""Several seeds of one experiment: a folder of runs that differ in nothing else."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from corelab.errors import ConfigError, RunError
from corelab.experiments import Experiment
from corelab.local import choose_sinks
from corelab.plugins import warn
from corelab.runs import RECORD, Run, find_runs, make_directory, title


def create(experiment: Experiment, n: int) -> Path:
    """Make a folder with N waiting runs, seeded with the experiment's seed and those after it."""
    choose_sinks(experiment)  # a wrong name is told before anything is made
    options = experiment.options
    name = options.run.name or f"{title(experiment)}-{n}-seeds"
    folder = make_directory(options.run.dir, name, exact=bool(options.run.name))
    for seed in range(options.seed, options.seed + n):
        run = dataclasses.replace(options.run, dir=folder, name=f"seed-{seed}")
        chosen = dataclasses.replace(options, seed=seed, run=run)
        Run.create(dataclasses.replace(experiment, options=chosen))
    return folder


def members(path: Path) -> list[Run]:
    """The run at PATH, or every run in the folder PATH. RunError if there is none."""
    if (path / RECORD).exists() or not path.is_dir():
        return [Run(path)]
    if runs := find_runs(path):
        return sorted(runs, key=lambda run: run.seed)
    raise RunError(f"{path}: is not a run directory (it has no {RECORD}), nor are there runs in it")


def execute(folder: Path, jobs: int = 1, options: Sequence[str] = ()) -> int:
    """Bring every run in FOLDER to its end, JOBS at a time; return the largest exit code.

    Each has a process of its own, so that one which fails leaves the others alone. OPTIONS are
    those of `corelab resume`.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is at least 1, got {jobs}")
    runs = [run for run in members(folder) if run.status != "done" or options]
    children: list[subprocess.Popen[str]] = []
    stopping = Event()

    def work(run: Run) -> int:
        if stopping.is_set():
            return 130
        command = [sys.executable, "-m", "corelab", "resume", str(run.path), *options]
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        safe = {**os.environ, "PYTHONSAFEPATH": "1"}  # no module of the current folder is imported
        if jobs > 1:  # lines of several runs are told apart by their names
            quiet |= {"stderr": subprocess.PIPE}
        # A session of its own: a Ctrl-C reaches it once, from here.
        child = subprocess.Popen(command, text=True, start_new_session=True, env=safe, **quiet)
        children.append(child)
        if stopping.is_set():
            child.send_signal(signal.SIGINT)
        for line in child.stderr or ():
            print(f"{run.path.name}: {line}", end="", file=sys.stderr, flush=True)
        return child.wait()

    def stop(*_: Any) -> None:
        stopping.set()
        for child in children:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(work, runs))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if unfinished := [run.path.name for run, code in zip(runs, codes, strict=True) if code]:
        warn(f"{folder}: not finished: {', '.join(unfinished)}; `corelab resume {folder}` goes on")
    return max((abs(code) for code in codes), default=0)
