"""The one loop: every algorithm, on every runtime, is driven by `drive`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from corelab.contracts import Algorithm, Evaluates, Media
from corelab.errors import ConfigError, CorelabError, DataError, DivergedError, PluginError


@dataclass(frozen=True)
class RunConfig:
    """How the run is made. Only when it ends, and `threads`, can change what is learned."""

    dir: Path = Path("runs")
    """The folder below which the run's own directory is made."""
    name: str = ""
    """The name of the run's directory; made of the time, the algorithm and the task if empty."""
    max_seconds: float = 0.0
    """Stop after so many seconds, those before a resume counted in; 0 for no limit."""
    target: str = ""
    """Stop when an evaluation reaches this, such as "eval/return >= 475"."""
    eval_every: int | None = None
    """Units between two evaluations; a tenth of the budget if not given, 0 for only at the end."""
    eval_n: int | None = None
    """Episodes or examples per evaluation; the algorithm's own choice if not given."""
    log_every: int | None = None
    """Units that one row of training metrics averages over; 1/200 of the budget if not given."""
    checkpoint_every: int = 0
    """Units between two checkpoints, besides those that `checkpoint_seconds` asks for; 0: none."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""
    keep: int = 3
    """How many of the newest checkpoints are kept, besides the best one."""
    threads: int = 1
    """Threads that torch computes with; another number may round differently."""
    sinks: tuple[str, ...] = ("all",)
    """The sinks that hear of this run: all that are installed, or just the ones named."""

    def __post_init__(self) -> None:
        positive = ("keep", "threads", "log_every", "eval_n")
        natural = ("eval_every", "checkpoint_every", "checkpoint_seconds", "max_seconds")
        for name in positive + natural:
            value, least = getattr(self, name), int(name in positive)
            if value is not None and not value >= least:
                raise ConfigError(f"run.{name} is at least {least}, got {value}")
        if self.target:
            parse_target(self.target)


def parse_target(text: str) -> tuple[str, float, float]:
    """("metric", sign, value) of "metric >= value" (sign 1) or "metric <= value" (sign -1)."""
    match = re.fullmatch(r"\s*(\S+?)\s*([<>])=\s*(\S+)\s*", text)
    with suppress(ValueError):
        if match and math.isfinite(value := float(match[3])):
            return match[1], 1.0 if match[2] == ">" else -1.0, value
    raise ConfigError(f'run.target takes a sentence like "eval/return >= 475", got {text!r}')


@dataclass
class Position:
    """Where the loop stands: what a checkpoint keeps besides the algorithm and the streams."""

    elapsed: float = 0.0
    """Seconds of work so far."""
    evaluated: int = -1
    """Progress at the latest evaluation."""
    logged: int = 0
    """Progress at the latest row of training metrics."""
    reached: bool = False
    """Whether the latest evaluation met the target."""
    best: dict[str, Any] = field(default_factory=dict)
    """The best evaluation: metric, value, progress."""
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Of the training metrics since the latest row."""

    def add(self, metrics: Mapping[str, Any], progress: int, unit: str) -> None:
        """Take the METRICS of one step into the row. DivergedError if one is not finite."""
        for name, value in finite(metrics, progress, unit).items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def row(self, progress: int) -> dict[str, float]:
        """The mean of each metric since the latest row; a new row begins."""
        means = {f"train/{name}": total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts, self.logged = {}, {}, progress
        return means


class Recorder(Protocol):
    """Where a run's state comes from and its results go: one for each runtime."""

    def restore(self, algorithm: Algorithm) -> Position:
        """Bring ALGORITHM and the streams to the newest checkpoint, if there is one."""

    def log(
        self,
        progress: int,
        metrics: Mapping[str, float],
        media: Mapping[str, Media],
        position: Position,
    ) -> None:
        """Tell of METRICS and MEDIA at PROGRESS."""

    def save(self, algorithm: Algorithm, position: Position, best: bool) -> None:
        """Make a checkpoint."""

    def rescue(self, algorithm: Algorithm, position: Position) -> None:
        """Make a checkpoint, if that is possible, because a failure is about to end the run."""

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The mean of METRICS over the processes of the run that have them."""

    def stop(self) -> str:
        """Why the run should stop before its end; "" if it should not."""


def finite(metrics: Mapping[str, Any], progress: int, unit: str) -> dict[str, float]:
    """METRICS as floats. DivergedError for one that is NaN or infinite."""
    plain = {name: float(value) for name, value in metrics.items()}
    for name, value in plain.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} became {value} after {progress:,} {unit}: try a smaller learning rate or "
                "clip the gradients, and look at the rows before it in metrics.jsonl"
            )
    return plain


def drive(
    algorithm: Algorithm,
    steps: int,
    run: RunConfig,
    recorder: Recorder,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Step ALGORITHM until STEPS units are done; return why it ended.

    "done" (the budget), "target", "time", or the recorder's reason. What depends on progress is
    decided from progress alone, so a resumed run decides the same.
    """
    log_every = run.log_every or max(1, steps // 200)
    eval_every = max(1, steps // 10) if run.eval_every is None else run.eval_every
    position = recorder.restore(algorithm)
    began = clock() - position.elapsed
    saved = position.elapsed

    def over() -> str:
        position.elapsed = clock() - began
        if reason := recorder.stop():
            return reason
        if position.reached or algorithm.progress >= steps:
            return "target" if position.reached else "done"
        return "time" if 0 < run.max_seconds <= position.elapsed else ""

    reason = over()
    while not reason:
        before = algorithm.progress
        with _keeping(algorithm, recorder, position):
            metrics = algorithm.step()
        progress = algorithm.progress
        if progress <= before:
            raise PluginError(f"{type(algorithm).__name__}.step() counted no {algorithm.unit}")
        position.add(metrics, progress, algorithm.unit)
        if progress - position.logged >= log_every:
            recorder.log(progress, recorder.mean(position.row(progress)), {}, position)
        best = False
        if progress < steps and _crossed(before, progress, eval_every):
            with _keeping(algorithm, recorder, position):
                best = _evaluate(algorithm, run, recorder, position)
        # Asked before a checkpoint is made, so that none stands between a row and the last ones at
        # the same progress: what is logged after a checkpoint is always at a larger progress.
        reason = over()
        due = position.elapsed - saved >= run.checkpoint_seconds
        if not reason and (best or due or _crossed(before, progress, run.checkpoint_every)):
            recorder.save(algorithm, position, best)
            saved = clock() - began

    best = position.best.get("progress") == algorithm.progress
    if reason in ("done", "target", "time"):
        if algorithm.progress > position.logged:
            row = recorder.mean(position.row(algorithm.progress))
            recorder.log(algorithm.progress, row, {}, position)
        if position.evaluated != algorithm.progress:
            with _keeping(algorithm, recorder, position):
                best = _evaluate(algorithm, run, recorder, position)
    recorder.save(algorithm, position, best)
    return reason


@contextmanager
def _keeping(algorithm: Algorithm, recorder: Recorder, position: Position) -> Iterator[None]:
    """Within, a failure of the task costs nothing that was learned: it is saved before it ends."""
    try:
        yield
    except DataError:
        with suppress(CorelabError):
            recorder.rescue(algorithm, position)
        raise


def _crossed(before: int, after: int, every: int) -> bool:
    return every > 0 and before // every != after // every


def _evaluate(algorithm: Algorithm, run: RunConfig, recorder: Recorder, position: Position) -> bool:
    """Evaluate on the validation split and tell of it; return whether it is the best one so far."""
    if not isinstance(algorithm, Evaluates):
        return False
    progress = algorithm.progress
    results = {f"eval/{k}": v for k, v in algorithm.evaluate("validation", run.eval_n).items()}
    media = {k: v for k, v in results.items() if isinstance(v, Media)}
    numbers = {k: v for k, v in results.items() if k not in media}
    metrics = recorder.mean(finite(numbers, progress, algorithm.unit))
    mode, name = algorithm.best.split()
    value, best = metrics.get(name), position.best.get("value")
    better = value is not None and (
        best is None or (value > best if mode == "max" else value < best)
    )
    if better:
        position.best = {"metric": name, "value": value, "progress": progress}
    if run.target:
        metric, sign, bound = parse_target(run.target)
        if metric not in metrics:
            known = ", ".join(metrics)
            raise ConfigError(f"run.target: evaluations have no {metric!r}; they have: {known}")
        position.reached = sign * metrics[metric] >= sign * bound
    position.evaluated = progress
    recorder.log(progress, metrics, media, position)
    return better
