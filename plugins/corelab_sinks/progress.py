"""What a person sees while it trains: one live line in a terminal, else a line now and then.

It goes to standard error. The environment variable CORELAB_PROGRESS chooses `rich` (the live line),
`plain` (lines without control characters) or `off`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from corelab import hookimpl

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from corelab import Run

corelab_api = (1, 0)

INTERVAL = 5.0
"""Seconds between plain lines, at least."""
MEMORY = 30.0
"""Seconds after which an observation of the pace has lost 63 % of its weight."""

_meters: dict[Path, Meter] = {}
_lock = Lock()
_live: Live | None = None
"""The display in the terminal, shared by the runs of this process."""


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Show the run, unless nothing is to be shown."""
    mode = _mode()
    if mode != "off":
        meter = _meters[run.path] = Meter(run, live=mode == "rich")
        if meter.live:
            _show()
        else:
            meter.say(meter.line())


@hookimpl
def corelab_run_logged(run: Run, progress: int, metrics: Mapping[str, float]) -> None:
    """Take in the row, and print a plain line if the last one is old enough."""
    if meter := _meters.get(run.path):
        meter.update(progress, metrics)
        if not meter.live and monotonic() - meter.said >= INTERVAL:
            meter.say(meter.line())


@hookimpl
def corelab_run_ended(run: Run, error: BaseException | None) -> None:
    """Take the live line away and leave one that sums up."""
    if meter := _meters.pop(run.path, None):
        if meter.live:
            _hide()
        meter.say(meter.summary(error))


class Meter:
    """How far a run is, how fast it goes, and the words for it."""

    def __init__(self, run: Run, live: bool) -> None:
        self.run = run
        self.live = live
        self.began = self.seen = monotonic()
        self.said = -math.inf
        self.first = self.progress = run.resumed_at or 0
        self.metrics: dict[str, float] = {}
        self._units = self._seconds = 0.0  # of late: sums that decay with MEMORY

    def update(self, progress: int, metrics: Mapping[str, float]) -> None:
        """Take in what was logged just now."""
        now = monotonic()
        decay = math.exp((self.seen - now) / MEMORY)
        self._units = self._units * decay + progress - self.progress
        self._seconds = self._seconds * decay + now - self.seen
        self.progress, self.seen = progress, now
        self.metrics |= {name: metrics[name] for name in self.run.highlights if name in metrics}

    @property
    def name(self) -> str:
        """What runs."""
        return f"{self.run.algorithm} {self.run.task}"

    def line(self) -> str:
        """Where the run stands, on one line."""
        return "  ".join([self.name, *self.standing(), *self._highlights()])

    def status(self) -> str:
        """What the live line says beside its bar."""
        elapsed = f"elapsed {duration(monotonic() - self.began)}"
        return "  ".join([*self.standing(), elapsed, *self._highlights()])

    def summary(self, error: BaseException | None) -> str:
        """What is left to say when it is over."""
        elapsed = monotonic() - self.began
        units = self.progress - self.first
        pace = [f"{short(units / elapsed)}/s"] if units and elapsed else []
        end = "in" if error is None else "stopped after"
        ended = f"{end} {duration(elapsed)}"
        return "  ".join([self.name, *self._done(), *pace, ended, *self._highlights()])

    def standing(self) -> list[str]:
        """How much is done and, once there is a pace to judge by, when the rest will be."""
        if not (self._units and self._seconds):
            return self._done()
        pace = self._units / self._seconds
        left = max(0, self.run.steps - self.progress) / pace - (monotonic() - self.seen)
        return [*self._done(), f"{short(pace)}/s", f"ETA {duration(left)}"]

    def say(self, words: str) -> None:
        """Print WORDS."""
        print(words, file=sys.stderr, flush=True)
        self.said = monotonic()

    def _done(self) -> list[str]:
        percent = min(100, 100 * self.progress // self.run.steps)
        return [f"{self.progress:,}/{self.run.steps:,} {self.run.unit}", f"{percent}%"]

    def _highlights(self) -> list[str]:
        return [
            f"{name} {self.metrics[name]:.4g}"
            for name in self.run.highlights
            if name in self.metrics
        ]


def short(x: float) -> str:
    """X to two or three digits: 2.9, 87, 2.9k, 1.2M."""
    for unit in ("", "k", "M"):
        if x < 999.5:
            return f"{x:.1f}{unit}" if x < 9.95 else f"{x:.0f}{unit}"
        x /= 1000
    return f"{x:,.1f}G"


def duration(seconds: float) -> str:
    """SECONDS as m:ss or h:mm:ss."""
    minutes, s = divmod(round(max(0.0, seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def _mode() -> str:
    """One of rich, plain and off. ConfigError if the environment asks for something else."""
    asked = os.environ.get("CORELAB_PROGRESS", "")
    if asked in ("rich", "plain", "off"):
        return asked
    if asked:
        from corelab import ConfigError

        raise ConfigError(f"CORELAB_PROGRESS is rich, plain or off, not {asked!r}")
    terminal = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return "rich" if terminal else "plain"


def _show() -> None:
    """Begin the live display if there is none."""
    from rich.console import Console
    from rich.live import Live

    global _live
    with _lock:
        if _live is None:
            _live = Live(
                get_renderable=_table,
                console=Console(stderr=True, force_terminal=True),
                refresh_per_second=2,
                transient=True,
                # what the run prints goes above the line, but only where the line is
                redirect_stdout=sys.stdout.isatty(),
            )
            _live.start(refresh=True)
            # A process that is killed cannot bring the cursor back, so it is never hidden.
            _live.console.show_cursor(True)


def _hide() -> None:
    """End the live display if no run is left to show."""
    global _live
    with _lock:
        if _live and not any(meter.live for meter in _meters.values()):
            _live.stop()
            _live = None


def _table() -> Table:
    """One row for each run: its name, a bar, its status."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    table.add_column(no_wrap=True, overflow="ellipsis")
    for meter in list(_meters.values()):
        if meter.live:
            bar = ProgressBar(total=meter.run.steps, completed=meter.progress, width=24)
            table.add_row(meter.name, bar, meter.status())
    return table
