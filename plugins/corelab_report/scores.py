"""Scores: one number for each run, and what those of two groups say about each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from corelab import ConfigError, PluginError, Run, RunError
from corelab.errors import hint
from corelab.plugins import Plugins, warn
from corelab.statistics import RESAMPLES, Rows
from corelab_report.groups import Group, rows

Mode = Literal["max", "min"]
At = Literal["last", "best"]


@dataclass(frozen=True)
class Measure:
    """What runs are judged by."""

    metric: str
    """As in metrics.jsonl, such as "eval/return"."""
    mode: Mode
    """Whether more or less of it is better."""
    at: At = "last"
    """Which of its values is a run's score."""

    @property
    def name(self) -> str:
        """The metric without what it was measured on."""
        return self.metric.rpartition("/")[2]

    def score(self, run: Run) -> float | None:
        """That of RUN, or None if it has never been measured."""
        values = [row[self.metric] for row in rows(run) if self.metric in row]
        if not values:
            return None
        if self.at == "last":
            return values[-1]
        return max(values) if self.mode == "max" else min(values)


def choose(
    groups: Sequence[Group], metric: str | None = None, mode: Mode | None = None, at: At = "last"
) -> Measure:
    """METRIC, or else the one by which the algorithms of GROUPS tell their best evaluation.

    ConfigError if they do not agree on one, or if no run has it.
    """
    told = {group.runs[0].algorithm: _best(group.runs[0]) for group in groups}
    if metric is None:
        metrics = {best.partition(" ")[2] for best in told.values()}
        metric = metrics.pop()
        if metrics or not metric:
            says = ", ".join(f"{name}: {best or 'unknown'}" for name, best in told.items())
            raise ConfigError(f"--metric: say which one to compare; the algorithms say {says}")
    modes = {best.partition(" ")[0] for best in told.values() if best.partition(" ")[2] == metric}
    known = modes.pop() if len(modes) == 1 else ""
    if mode is None and not known:
        raise ConfigError(f"--mode: say whether more of {metric} is better (max), or less (min)")
    return Measure(metric, mode or ("min" if known == "min" else "max"), at)


def _best(run: Run) -> str:
    """What RUN's algorithm calls the best evaluation, "max eval/return"; "" if nobody knows."""
    plugins = Plugins()
    try:
        return str(plugins.load(plugins.find("algorithm", run.algorithm)).best)
    except PluginError:  # it is not installed here
        return ""


def measured(groups: Sequence[Group], measure: Measure) -> Rows:
    """For each group a row of each run that has been measured; what is left out is told.

    RunError if none is left in a group.
    """
    found: dict[str, list[dict[str, object]]] = {}
    without = []
    for group in groups:
        kept = found[group.name] = []
        for run in group.runs:
            score = measure.score(run)
            if score is None:
                without.append(f"{run.path}: left out, since it has no {measure.metric} yet")
            else:
                kept.append(
                    {"run": str(run.path), "seed": run.seed, "task": run.task}
                    | {"metrics": {measure.name: score}}
                )
        if not kept:
            known = {name for run in group.runs for row in rows(run) for name in row}
            why = hint(measure.metric, known - {"progress", "time"}, "it has")
            raise RunError(f"{group.name}: no run has a metric {measure.metric!r}; {why}")
    for sentence in without:
        warn(sentence)
    return found


def by_task(scored: Sequence[Mapping[str, object]], name: str) -> dict[str, list[float]]:
    """The scores in SCORED, the rows of `measured`, for each task."""
    tasks: dict[str, list[float]] = {}
    for row in scored:
        tasks.setdefault(str(row["task"]), []).append(row["metrics"][name])  # type: ignore[index]
    return tasks


def improvement(
    better: Sequence[Sequence[float]], than: Sequence[Sequence[float]], mode: Mode = "max"
) -> tuple[float, float, float]:
    """P(X > Y), of a run of BETTER and one of THAN on the same task, and its 95 % interval.

    Both give the scores of their runs for each task, and the tasks count alike; a tie counts half
    (Agarwal et al. 2021, arXiv:2108.13264, section 4.3). Runs of both are resampled within tasks.
    """
    rng = np.random.default_rng(0)
    sign = 1.0 if mode == "max" else -1.0
    points, samples = [], []
    for x, y in zip(better, than, strict=True):
        wins = (np.sign(sign * np.subtract.outer(np.asarray(x), np.asarray(y))) + 1) / 2
        n, m = wins.shape
        # how often each run is drawn, as a share of the runs, [resamples, n] and [resamples, m]
        a = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
        b = rng.multinomial(m, np.full(m, 1 / m), RESAMPLES) / m
        points.append(wins.mean())
        samples.append(((a @ wins) * b).sum(1))
    low, high = np.quantile(np.mean(samples, 0), [0.025, 0.975])
    return float(np.mean(points)), float(low), float(high)
