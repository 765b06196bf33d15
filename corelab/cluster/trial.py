"""A trial of a sweep, in the process where Ray Tune runs it: an ordinary run that reports."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from corelab.contracts import Algorithm, Media
from corelab.errors import ConfigError
from corelab.local import Interrupted, LocalRecorder, resume
from corelab.loop import Position
from corelab.plugins import one_line
from corelab.runs import Run

RECORD = "sweep.json"
LOOK = 1.0
"""Seconds between two looks at whether the sweep goes on."""
RELEASE = 30.0
"""Seconds that the process of a driver that was killed may take to let go of a run."""


class MissingMetricError(ConfigError):
    """The metric of the sweep is none that its trials have."""

    def __init__(self, metric: str, seen: set[str]) -> None:
        super().__init__(
            f"--metric: no trial reports {metric!r}; they report: {', '.join(sorted(seen))}"
        )


def read(folder: Path) -> dict[str, Any]:
    """What sweep.json in FOLDER says."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return record


class Loop(threading.Thread):
    """Brings a run to its end, and waits after each report until it is told to go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.sweep = path.parent
        record = read(self.sweep)
        self.metric: str = record["metric"]
        self.until: int | None = record.get("until")
        """Where the generation ends, of a population."""
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self.ended = False
        """Whether Tune has ended the trial."""
        self._go_on = threading.Semaphore(0)

    def run(self) -> None:
        """Go on with the run; an error of its own ends in its record."""
        last: dict[str, Any] = {"done": True}
        try:
            self._resume()
        except MissingMetricError as error:
            last["missing"] = str(error)
        except Interrupted:
            pass
        except Exception as error:
            run = Run(self.path)
            if run.record["status"] != "failed":  # it had not begun
                run.update(status="failed", error=one_line(error))
        self.reports.put(last)

    def _resume(self) -> None:
        if read(self.sweep)["status"] != "running":
            return
        waited = time.monotonic()
        while Run(self.path).status == "running" and time.monotonic() - waited < RELEASE:
            time.sleep(0.2)
        run = resume(Run(self.path), recorder=partial(TrialRecorder, self))
        rows = run.metrics()
        if not any(self.metric in row for row in rows):
            raise MissingMetricError(self.metric, {name for row in rows for name in row})

    def report(self, progress: int, value: float) -> None:
        """Tell Tune the VALUE of the metric at PROGRESS; return when it says what to do."""
        self.reports.put({"progress": progress, self.metric: value})
        self._go_on.acquire()

    def next(self) -> dict[str, Any]:
        """Begin or go on, and wait for the next report."""
        if self.ident is None:
            self.start()
        else:
            self._go_on.release()
        return self.reports.get()

    def end(self) -> None:
        """Let the run make its checkpoint and end, if it has begun and has not ended."""
        self.ended = True
        self._go_on.release()
        if self.ident is not None:
            self.join()


class TrialRecorder(LocalRecorder):
    """Keeps a run in its directory and reports the metric of the sweep to Tune."""

    def __init__(self, loop: Loop, *args: Any) -> None:
        super().__init__(*args)
        self.loop = loop
        self._looked = time.monotonic()
        self._goes_on = True
        self._grown = False

    def restore(self, algorithm: Algorithm) -> Position:
        """As ever; then Tune hears again what the run had reported before."""
        position = super().restore(algorithm)
        if self.run.resumed_at is not None and (self.run.path / "metrics.jsonl").exists():
            for row in self.run.metrics():
                if self.loop.metric in row:
                    self.loop.report(int(row["progress"]), row[self.loop.metric])
        return position

    def log(
        self,
        progress: int,
        metrics: Mapping[str, float],
        media: Mapping[str, Media],
        position: Position,
    ) -> None:
        """Tell the sinks, and Tune if the metric is there. MissingMetricError if it should be."""
        super().log(progress, metrics, media, position)
        metric = self.loop.metric
        if metric in metrics:
            self._grown = self.loop.until is not None and progress >= self.loop.until
            self.loop.report(progress, metrics[metric])
        elif metric.startswith("eval/") and any(name.startswith("eval/") for name in metrics):
            raise MissingMetricError(metric, set(metrics))

    def stop(self) -> str:
        """Say "interrupted" once the sweep is over, "scheduler" once Tune has ended this trial or
        its generation has ended.
        """
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            self._goes_on = read(self.loop.sweep)["status"] == "running"
        if not self._goes_on:
            return "interrupted"
        return super().stop() or ("scheduler" if self.loop.ended or self._grown else "")


class Trial(tune.Trainable):  # type: ignore[misc]
    """What Tune runs: `config["run"]` is the directory of a run that waits or was stopped."""

    def setup(self, config: dict[str, Any]) -> None:
        """Get ready for the run."""
        self._loop = Loop(Path(config["run"]))

    def step(self) -> dict[str, Any]:
        """Go on to the next report."""
        return self._loop.next()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Get ready for another run in the same process."""
        self._loop.end()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """End the run, after its checkpoint."""
        self._loop.end()
