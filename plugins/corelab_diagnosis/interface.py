"""The interface of a check: what it is given, and what it says.

A check is a function from `Evidence` to a `Finding`, or to None where there is nothing to say. An
algorithm brings its own in the class attribute `checks`:

    from corelab_diagnosis.interface import Evidence, Finding

    def temperature(evidence: Evidence) -> Finding | None:
        t = evidence.late("train/temperature")
        if t is None or t < 10:
            return None
        return Finding("temperature", f"it is {t:.3g} late in the run", "…", "…", "…")

    class Annealer:
        checks = (temperature,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SURE = 1.64
"""The standard score that chance exceeds once in twenty times."""


@dataclass(frozen=True)
class Finding:
    """Something that may be wrong, in sentences."""

    check: str
    """The name of the check."""
    seen: str
    """What was seen, with figures."""
    why: str
    """Why it matters."""
    advice: str
    """What to try."""
    source: str
    """Where that is written: paper and section."""


@dataclass(frozen=True)
class Layer:
    """What a layer with weights was given, and what it learned, in some updates."""

    name: str
    network: str
    """The network that it is part of."""
    first: bool = False
    """Whether it is the first one there."""
    data: bool = False
    """Whether what it is given comes from no other layer."""
    rows: int = 0
    """Rows of a pass."""
    seen: int = 0
    """Rows of all passes that were looked at."""
    units: int = 0
    """Numbers in a row of what a hidden layer is given; 0 for a convolution, where a unit is at
    many places."""
    used: float = 0.0
    """Effective rank of what it is given, as a share of its units; 0 if that is not known."""
    rms: float = 1.0
    """Root of the mean square of what it is given."""
    mean: float = 0.0
    """Greatest absolute mean of a unit."""
    std: float = 1.0
    """Greatest standard deviation of a unit."""
    largest: float = 1.0
    """Greatest absolute value."""
    dead: float = 0.0
    """Share of the units that were 0 all the time."""
    saturated: float = 0.0
    """Share of values at the flat ends of a tanh or sigmoid."""
    alike: bool = False
    """Whether all units were the same."""
    gradient: float = 0.0
    """Root of the mean square of the weights' gradient, the median of the updates."""
    change: float = 0.0
    """‖ΔW‖ / ‖W‖ in an update, the median of the updates."""
    updates: int = 0
    """How many updates changed it."""

    def __str__(self) -> str:
        return f"{self.name} of {self.network}"


@dataclass(frozen=True)
class Networks:
    """What was seen of the networks in some updates."""

    layers: Sequence[Layer] = ()
    endings: Mapping[str, str] = field(default_factory=dict)
    """By network: what bounds its output, such as "softmax"; those that nothing bounds are left
    out."""
    updates: int = 0

    @property
    def change(self) -> float | None:
        """‖ΔW‖ / ‖W‖ of an update, the median of the layers; None if none was seen."""
        changes = [layer.change for layer in self.layers if layer.updates]
        return float(np.median(changes)) if changes else None

    def hidden(self) -> list[Layer]:
        """The layers that are given what others make."""
        return [x for x in self.layers if x.seen and not x.first and not x.data]


@dataclass(frozen=True)
class Play:
    """What an environment does when actions are random."""

    rewards: NDArray[np.float64]
    """Of all steps."""
    actions: int = 0
    """How many there are to choose from; 0 if they are no mere choice."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a run."""

    algorithm: str
    config: Mapping[str, Any]
    """Every option, nested as in run.json."""
    steps: int
    """The budget."""
    rows: Sequence[Mapping[str, float]] = ()
    """The rows of metrics.jsonl."""
    error: str = ""
    """What ended the run, if an error did."""
    over: bool = True
    """Whether the run is at its end."""
    provides: str = ""
    """The interface of its model."""
    fresh: Networks | None = None
    """The very first update of the run, repeated."""
    start: Networks | None = None
    """The updates after that, likewise."""
    end: Networks | None = None
    """The updates that would have come after the newest checkpoint."""
    moved: float | None = None
    """‖W - W₀‖ / ‖W₀‖ of the weights since the start, the median of the tensors."""
    updates: int = 0
    """How many updates the run has made, about; 0 if that is not known."""
    examples: int = 0
    """How many examples there are to learn from; 0 if they are no data set."""
    play: Play | None = None
    test: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the test split, where error rates are compared."""

    def option(self, name: str, default: Any = None) -> Any:
        """The algorithm's option NAME; DEFAULT if it has none, or leaves it open."""
        value = self.config.get("algorithm", {}).get(name)
        return default if value is None else value

    @property
    def progress(self) -> float:
        """Which share of the budget the rows reach, 0 to 1."""
        return self.rows[-1]["progress"] / self.steps if self.rows else 0.0

    def series(self, name: str) -> NDArray[np.float64]:
        """The values of the metric NAME, in the order of progress; empty if there are none."""
        return np.array([row[name] for row in self.rows if name in row], np.float64)

    def when(self, name: str) -> NDArray[np.float64]:
        """At which share of the budget each of these was."""
        found = [row["progress"] for row in self.rows if name in row]
        return np.array(found, np.float64) / self.steps

    def late(self, name: str) -> float | None:
        """The median of the metric NAME in the second half of its rows; None for fewer than 4."""
        values = self.series(name)
        return float(np.median(values[len(values) // 2 :])) if len(values) >= 4 else None

    def trend(self, name: str, since: float = 0.0) -> float:
        """How surely the metric NAME rises, or falls, from the share SINCE of the budget on: the
        standard score of Kendall's S against the hypothesis that its order says nothing (Mann 1945,
        Nonparametric Tests Against Trend). Chance goes beyond `SURE` once in twenty times, and as
        often below its negative; fewer than 4 values never do.
        """
        values = self.series(name)[self.when(name) >= since]
        n = len(values)
        S = float(np.triu(np.sign(values - values[:, None])).sum())
        spread = (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
        return float(np.sign(S) * max(0.0, abs(S) - 1) / spread) if n > 1 else 0.0


Check = Callable[[Evidence], Finding | None]
