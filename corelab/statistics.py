"""What several runs say together: interquartile means, intervals, performance profiles.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv:2108.13264. Scores are given by stratum (by task), one number for each run. Runs are resampled
within their stratum, so an interval tells what other seeds would have brought, not other tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from corelab.errors import ConfigError

Scores = Sequence[Sequence[float]]
"""The scores of the runs of each stratum."""
Floats = NDArray[np.float64]

RESAMPLES = 2_000


def iqm(scores: Floats) -> Floats:
    """The mean of the middle half of SCORES [..., n]: of n - 2 ⌊n/4⌋ of them (section 4.3)."""
    return np.asarray(trim_mean(scores, 0.25, axis=-1))


def interval(
    scores: Scores,
    statistic: Callable[[Floats], Floats] = iqm,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval that holds LEVEL of the STATISTIC's values over stratified bootstrap RESAMPLES.

    The percentile method (section 4.1). Of a single run in each stratum it is a point: one seed
    says nothing about another.
    """
    low, high = np.quantile(
        statistic(resampled(scores, resamples, seed)), [0.5 - level / 2, 0.5 + level / 2]
    )
    return float(low), float(high)


def resampled(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Runs drawn with replacement within each stratum, [RESAMPLES, runs]."""
    rng = np.random.default_rng(seed)
    strata = [np.asarray(s, float) for s in scores]
    return np.concatenate([s[rng.integers(len(s), size=(resamples, len(s)))] for s in strata], -1)


def profile(scores: Scores, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """The share of runs that score more than each of THRESHOLDS [t], and its 95 % interval's two
    ends, all [t] (score distributions, section 4.2).
    """

    def above(runs: Floats) -> Floats:
        return np.asarray((runs[..., None, :] > thresholds[:, None]).mean(-1))

    low, high = np.quantile(above(resampled(scores, 500)), [0.025, 0.975], axis=0)
    return above(np.concatenate([np.asarray(s, float) for s in scores])), low, high


def summary(scores: Scores) -> dict[str, Any]:
    """IQM with its interval, mean, and how many runs."""
    everything = np.concatenate([np.asarray(s, float) for s in scores])
    low, high = interval(scores)
    return {
        "iqm": float(iqm(everything)),
        "interval": [low, high],
        "mean": float(everything.mean()),
        "runs": len(everything),
    }


Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Groups of evaluated runs, each with its "task" and its "metrics"."""


def compare(groups: Rows) -> list[dict[str, Any]]:
    """The `summary` of each metric of each group, for each task.

    For all tasks of a group together only where a metric's name begins with "normalised_": other
    scores do not mean the same on different tasks.
    """
    listed = []
    for group, rows in groups.items():
        for metric in rows[0]["metrics"]:
            tasks = _by_task(rows, metric)
            parts = {task: [scores] for task, scores in tasks.items()}
            if len(tasks) > 1 and metric.startswith("normalised_"):
                parts["all"] = list(tasks.values())
            for task, scores in parts.items():
                listed.append({"group": group, "task": task, "metric": metric} | summary(scores))
    return listed


def _by_task(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[float]]:
    tasks: dict[str, list[float]] = {}
    for row in rows:
        if metric in row["metrics"]:
            tasks.setdefault(row["task"], []).append(row["metrics"][metric])
    return tasks


def draw_profiles(groups: Rows, path: Path) -> None:
    """Draw the performance profile of each group into the picture PATH.

    Scores are the first metric of the evaluation; with several tasks, the first normalised one.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f'{path}: a picture needs matplotlib: pip install "corelab-ml[plots]"'
        ) from error
    every = [row for rows in groups.values() for row in rows]
    names = list(every[0]["metrics"])
    if len({row["task"] for row in every}) > 1:
        names = [name for name in names if name.startswith("normalised_")]
        if not names:
            raise ConfigError(
                f"{path}: the runs are of different tasks, whose scores cannot be compared: "
                "they have no normalised one"
            )
    metric = names[0]
    scores = {group: list(_by_task(rows, metric).values()) for group, rows in groups.items()}
    values = np.concatenate([np.asarray(s, float) for strata in scores.values() for s in strata])
    margin = 0.02 * (float(np.ptp(values)) or 1.0)
    thresholds = np.linspace(values.min() - margin, values.max() + margin, 200)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for label, strata in scores.items():
        share, low, high = profile(strata, thresholds)
        axes.plot(thresholds, share, label=label)
        axes.fill_between(thresholds, low, high, alpha=0.2)
    axes.set(xlabel=f"{metric} τ", ylabel=f"share of runs with {metric} > τ", ylim=(0, 1.02))
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error
