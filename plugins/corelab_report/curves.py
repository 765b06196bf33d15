"""Curves: what runs logged as they went on, and what several say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corelab import Run
from corelab.statistics import Floats, iqm, resampled
from corelab_report import usage

_POINTS = 100
"""Points of a curve over several runs, at most."""
_RESAMPLES = 500
_WIDEST = 400
"""Columns of pixels that a curve is drawn in, at most."""
_BUDGET = 400_000
"""Points on the page, about: with many curves each gets fewer columns."""
PACE, MEMORY = "units per second", "memory in MiB"


@dataclass(frozen=True, eq=False)
class Curve:
    """A metric over the progress of a run."""

    x: Floats
    """Progress, increasing."""
    y: Floats


def of_run(run: Run) -> dict[str, Curve]:
    """A curve for each metric of RUN, its pace and, if it was recorded, its memory."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    rows = run.metrics()
    for row in rows:
        progress = row["progress"]
        for name, value in row.items():
            if name not in ("progress", "time"):
                x, y = points.setdefault(name, ([], []))
                x.append(progress)
                y.append(value)
    used = usage.read(run)
    curves = {name: _curve(x, y) for name, (x, y) in points.items()}
    if pace := _pace(rows, [session["began"] for session in run.record["sessions"]]):
        curves[PACE] = _curve(*zip(*pace, strict=True))
    if used:
        curves[MEMORY] = _curve(
            [row["progress"] for row in used], [row["memory_bytes"] / 2**20 for row in used]
        )
    return curves


def _curve(x: Iterable[float], y: Iterable[float]) -> Curve:
    """By progress; of several values at the same one the last counts."""
    latest = dict(zip(x, y, strict=True))
    at = sorted(latest)
    return Curve(np.array(at, float), np.array([latest[p] for p in at], float))


def _pace(rows: Sequence[Mapping[str, float]], begun: Sequence[float]) -> list[tuple[float, float]]:
    """Progress, and units per second since the row before, between rows of the same session."""
    pace, last = [], None
    for row in rows:
        if not any(name.startswith("train/") for name in row):
            continue  # an evaluation stands still
        if last and row["time"] > last["time"] and row["progress"] > last["progress"]:
            seconds = row["time"] - last["time"]
            if not any(last["time"] < began <= row["time"] for began in begun):
                pace.append((row["progress"], (row["progress"] - last["progress"]) / seconds))
        last = row
    return pace


def columns(curves: int) -> int:
    """How many columns of pixels each of so many CURVES is drawn in."""
    return max(50, min(_WIDEST, _BUDGET // (2 * max(1, curves))))


def decimate(curve: Curve, span: tuple[float, float], columns: int) -> Curve:
    """CURVE with no more than the least and the greatest value in each of COLUMNS of SPAN.

    What is drawn in so many columns of pixels looks the same. The first and the last point stay.
    """
    if len(curve.x) <= 2 * columns:
        return curve
    low, high = span
    column = ((curve.x - low) / (high - low) * columns).astype(int).clip(0, columns - 1)
    order = np.lexsort((curve.y, column))
    borders = np.flatnonzero(np.diff(column[order]))
    extremes = order[np.concatenate([[0], borders, borders + 1, [len(order) - 1]])]
    kept = np.unique(np.concatenate([extremes, [0, len(order) - 1]]))
    return Curve(curve.x[kept], curve.y[kept])


def together(curves: Sequence[Curve]) -> tuple[Floats, Floats, Floats, Floats]:
    """Points x, the interquartile mean there over CURVES, and its 95 % interval's two ends.

    Points are where one of them has a value, or evenly spaced if these are many; between its own
    values a curve is a straight line. They end where the shortest curve does.
    """
    begin, end = max(c.x[0] for c in curves), min(c.x[-1] for c in curves)
    x = np.unique(np.concatenate([c.x for c in curves]))
    x = x[(begin <= x) & (x <= end)]
    if len(x) > _POINTS:
        x = np.linspace(begin, end, _POINTS)
    y = np.stack([np.interp(x, c.x, c.y) for c in curves], -1)
    drawn = resampled([list(range(len(curves)))], _RESAMPLES).astype(int)
    low, high = np.quantile(iqm(y[:, drawn]), [0.025, 0.975], axis=-1)
    return x, iqm(y), low, high


def rounded(numbers: NDArray[Any] | Sequence[float]) -> list[float]:
    """NUMBERS to six digits, as JSON has them."""
    return [float(f"{number:.6g}") for number in numbers]
