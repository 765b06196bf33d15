"""How well what was learned does for each group: of the classes, opponents or beginnings of a task.

The form of the table is that of Buolamwini & Gebru 2018, "Gender Shades": a row for each group, and
the worst one named, since a mean over everybody hides whom it does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.stats import binomtest
from scipy.stats import t as student

from corelab.statistics import interval
from corelab_report.scores import Mode

MEANS = ("accuracy", "bits_per_dim", "elbo_nats", "loss")
"""Metrics that are means over examples, so that those of some examples mean the same."""
_BLOCKS = 10
_STARTS = 50
_OPPONENT = re.compile("win_rate_(.+)|(.+)_win")
"""The share of games that are won against an opponent."""


@dataclass(frozen=True)
class Row:
    """What was measured of a group."""

    group: str
    n: int
    value: float
    interval: tuple[float, float]
    """That holds the value with 95 % confidence, if other examples or episodes were taken."""


@dataclass(frozen=True)
class Table:
    """Groups of a kind."""

    attribute: str
    """What the groups differ in, such as "class"."""
    metric: str
    mode: Mode
    rows: list[Row]
    everybody: Row
    method: str
    """How the values and intervals came about."""

    @property
    def worst(self) -> Row:
        """The group with the worst value."""
        sign = 1 if self.mode == "max" else -1
        return min(self.rows, key=lambda row: sign * row.value)


class _Trained(Protocol):
    """An algorithm, as `Run.load` gives it."""

    task: Any
    best: str

    def evaluate(self, split: Any = "test", n: int | None = None, seed: int = 0) -> Any: ...


def disaggregate(algorithm: _Trained, n: int | None = None) -> Table | str:
    """ALGORITHM's test, group by group; a sentence why not, if there are no groups to tell apart.

    N is how many examples of each class are taken (None: 100), or how many episodes or games.
    """
    task = getattr(algorithm, "task", None)
    if not hasattr(algorithm, "evaluate"):
        return "The algorithm has no evaluation."
    if hasattr(task, "classes") and hasattr(task, "split"):
        return _by_class(algorithm, 100 if n is None else n)
    if hasattr(task, "make"):
        return _by_opponent(algorithm, n) or _by_start(algorithm, n or _STARTS)
    return "The task tells of no classes, opponents or beginnings."


class _Part:
    """A data set with few test examples."""

    def __init__(self, task: Any, indices: torch.Tensor) -> None:
        self._task, self._indices = task, indices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def split(self, name: str) -> Any:
        whole = self._task.split(name)
        return type(whole)(*whole.take(self._indices)) if name == "test" else whole


def _by_class(algorithm: _Trained, n: int) -> Table | str:
    """The best metric's mean over N examples of each class, taken in blocks, whose spread gives the
    interval.
    """
    task = algorithm.task
    mode, _, metric = algorithm.best.partition(" eval/")
    if metric not in MEANS:
        return f"{metric} is a figure of all samples together, not a mean over examples."
    if len(task.classes) < 2:
        return "The data have one class only."
    labels = task.split("test").labels
    of_class = [torch.nonzero(labels == c)[:, 0] for c in range(len(task.classes))]
    rows, shares, errors = [], [], []
    algorithm.sample = lambda *_, **__: None  # type: ignore[attr-defined]  # nobody looks at them
    try:
        for name, indices in zip(task.classes, of_class, strict=True):
            taken = indices[:n]
            blocks = torch.tensor_split(taken, max(1, min(_BLOCKS, len(taken))))
            if len(blocks) < 2:
                continue
            values = []
            for seed, block in enumerate(blocks):
                algorithm.task = _Part(task, block)
                values.append(float(algorithm.evaluate("test", len(block), seed)[metric]))
            sizes = list(map(len, blocks))
            value, error = _mean_and_error(values, sizes)
            margin = error * float(student.ppf(0.975, len(blocks) - 1))
            rows.append(Row(name, sum(sizes), value, (value - margin, value + margin)))
            shares.append(len(indices))
            errors.append(error)
    finally:
        algorithm.task = task
        del algorithm.sample  # type: ignore[attr-defined]
    if not rows:
        return "No class has two test examples."
    method = f"Means over the first {n:,} test examples of each class, or all if there are fewer; "
    method += f"intervals by Student's t over {_BLOCKS} blocks of them. All classes together are "
    method += "weighted as in the test split. Each interval is that of its class alone."
    direction: Mode = "max" if mode == "max" else "min"
    return Table("class", metric, direction, rows, _everybody(rows, shares, errors), method)


def _mean_and_error(values: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """The mean over all examples, of which blocks of SIZES have the means VALUES, and its error."""
    weights = np.array(sizes) / sum(sizes)
    mean = float(weights @ values)
    variance = weights @ (np.array(values) - mean) ** 2 / (len(values) - 1)
    return mean, float(np.sqrt(variance))


def _everybody(rows: Sequence[Row], shares: Sequence[int], errors: Sequence[float]) -> Row:
    weights = np.array(shares) / sum(shares)
    value = float(weights @ [row.value for row in rows])
    margin = 1.96 * float(np.linalg.norm(weights * errors))
    return Row("all", sum(row.n for row in rows), value, (value - margin, value + margin))


def _by_opponent(algorithm: _Trained, n: int | None) -> Table | None:
    """How often it wins against each of the task's fixed players; None if there are none."""
    games = n or 200
    found: Mapping[str, Any] = algorithm.evaluate("test", 2, 0)
    shares = {name: _OPPONENT.fullmatch(name) for name in found}
    opponents = {match[1] or match[2]: name for name, match in shares.items() if match}
    if not opponents:
        return None
    found = algorithm.evaluate("test", games, 0)
    rows = [_wins(opponent, float(found[name]), games) for opponent, name in opponents.items()]
    share = float(np.mean([row.value for row in rows]))
    everybody = _wins("all", share, games * len(rows))
    method = f"The share of {games:,} games that are won; Wilson's intervals."
    return Table("opponent", "win", "max", rows, everybody, method)


def _wins(name: str, share: float, games: int) -> Row:
    interval = binomtest(round(share * games), games).proportion_ci(method="wilson")
    return Row(name, games, share, (float(interval.low), float(interval.high)))


def _by_start(algorithm: _Trained, n: int) -> Table:
    """The return from each of N beginnings, one for each seed: of all, and of the worst tenth."""
    found = [float(algorithm.evaluate("test", 1, seed)["return"]) for seed in range(n)]
    tenth = max(1, n // 10)

    def row(name: str, count: int, statistic: Callable[[Any], Any]) -> Row:
        return Row(name, count, float(statistic(np.array(found))), interval([found], statistic))

    worst = row("worst tenth", tenth, lambda r: np.sort(r, axis=-1)[..., :tenth].mean(-1))
    everybody = row("all", n, lambda r: r.mean(-1))
    seed = int(np.argmin(found))
    method = f"One episode from each of {n} beginnings, the seeds 0 to {n - 1}; intervals by "
    method += f"bootstrap. The worst one is that of seed {seed}, with a return of "
    method += f"{found[seed]:.6g}: `corelab eval RUN -n 1 --seed {seed}` plays it."
    return Table("beginning", "return", "max", [worst], everybody, method)
