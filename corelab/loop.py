"""The one loop: every algorithm, on every runtime, is driven by `drive`."""

from __future__ import annotations

import math
import operator
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from corelab.contracts import Algorithm, Evaluates
from corelab.errors import ConfigError, DivergedError, PluginError
from corelab.media import Images, Video


@dataclass(frozen=True)
class Target:
    """A figure at which a run may stop: "eval/return >= 475"."""

    metric: str
    compare: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read TEXT. ConfigError if it is not a metric, >= or <=, and a number."""
        match = re.fullmatch(r"\s*(\S+?)\s*(>=|<=)\s*(\S+)\s*", text)
        try:
            if match:
                return cls(match[1], match[2], float(match[3]))
        except ValueError:
            pass
        raise ConfigError(f'run.target takes a sentence like "eval/return >= 475", got {text!r}')

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Whether METRICS meet it. ConfigError if they do not have its metric."""
        if self.metric not in metrics:
            raise ConfigError(
                f"run.target: evaluations have no metric {self.metric!r}; they have: "
                + ", ".join(metrics)
            )
        compare = operator.ge if self.compare == ">=" else operator.le
        return compare(metrics[self.metric], self.value)


@dataclass(frozen=True)
class Plan:
    """When to do what. Counts are in the algorithm's unit; 0 means only at the end."""

    steps: int
    log_every: int
    eval_every: int
    eval_n: int | None
    checkpoint_every: int
    checkpoint_seconds: float
    max_seconds: float
    target: Target | None
    best: tuple[str, str]
    """("max" or "min", metric)."""

    @classmethod
    def of(cls, options: Any, algorithm: Any) -> Plan:
        """The plan that the `run` OPTIONS ask for, their gaps filled from the budget."""
        run, steps = options.run, options.steps
        mode, metric = algorithm.best.split()
        return cls(
            steps=steps,
            log_every=run.log_every or max(1, steps // 200),
            eval_every=max(1, steps // 10) if run.eval_every is None else run.eval_every,
            eval_n=run.eval_n,
            checkpoint_every=run.checkpoint_every or 0,
            checkpoint_seconds=run.checkpoint_seconds,
            max_seconds=math.inf if run.max_seconds is None else run.max_seconds,
            target=Target.parse(run.target) if run.target else None,
            best=(mode, metric),
        )

    def better(self, value: float, best: float | None) -> bool:
        """Whether VALUE is a better evaluation than BEST."""
        return best is None or (value > best if self.best[0] == "max" else value < best)


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
        media: Mapping[str, Images | Video],
        position: Position,
    ) -> None:
        """Tell of METRICS and MEDIA at PROGRESS."""

    def save(self, algorithm: Algorithm, position: Position, best: bool) -> None:
        """Make a checkpoint."""

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
    plan: Plan,
    recorder: Recorder,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Step ALGORITHM to the end of PLAN; return why it ended.

    "done" (the budget), "target", "time", or the recorder's reason. Everything that depends on
    progress is decided from progress alone, so a resumed run decides the same.
    """
    position = recorder.restore(algorithm)
    began = clock() - position.elapsed
    saved = clock()
    reason = recorder.stop() or _over(algorithm.progress, plan, position)
    while not reason:
        before = algorithm.progress
        metrics = algorithm.step()
        progress = algorithm.progress
        if progress <= before:
            raise PluginError(f"{type(algorithm).__name__}.step() counted no {algorithm.unit}")
        position.elapsed = clock() - began
        position.add(metrics, progress, algorithm.unit)
        if progress - position.logged >= plan.log_every:
            recorder.log(progress, position.row(progress), {}, position)
        best = False
        if progress < plan.steps and _crossed(before, progress, plan.eval_every):
            best = _evaluate(algorithm, plan, recorder, position)
        # Asked before a checkpoint is made, so that none stands between a row and the last ones at
        # the same progress: what a checkpoint precedes is always at a larger progress.
        reason = recorder.stop() or _over(progress, plan, position)
        due = clock() - saved >= plan.checkpoint_seconds
        if not reason and (best or due or _crossed(before, progress, plan.checkpoint_every)):
            recorder.save(algorithm, position, best)
            saved = clock()

    best = position.best.get("progress") == algorithm.progress
    if reason in ("done", "target", "time"):
        if position.sums:
            recorder.log(algorithm.progress, position.row(algorithm.progress), {}, position)
        if position.evaluated != algorithm.progress:
            best = _evaluate(algorithm, plan, recorder, position)
    recorder.save(algorithm, position, best)
    return reason


def _over(progress: int, plan: Plan, position: Position) -> str:
    if position.reached:
        return "target"
    if progress >= plan.steps:
        return "done"
    return "time" if position.elapsed >= plan.max_seconds else ""


def _crossed(before: int, after: int, every: int) -> bool:
    return every > 0 and before // every != after // every


def _evaluate(algorithm: Algorithm, plan: Plan, recorder: Recorder, position: Position) -> bool:
    """Evaluate on the validation split and tell of it; return whether it is the best one so far."""
    if not isinstance(algorithm, Evaluates):
        return False
    progress = algorithm.progress
    results = {f"eval/{k}": v for k, v in algorithm.evaluate("validation", plan.eval_n).items()}
    media = {k: v for k, v in results.items() if isinstance(v, Images | Video)}
    numbers = {k: v for k, v in results.items() if k not in media}
    metrics = finite(numbers, progress, algorithm.unit)
    name = plan.best[1]
    best = name in metrics and plan.better(metrics[name], position.best.get("value"))
    if best:
        position.best = {"metric": name, "value": metrics[name], "progress": progress}
    position.evaluated = progress
    position.reached = plan.target is not None and plan.target.reached(metrics)
    recorder.log(progress, metrics, media, position)
    return best
