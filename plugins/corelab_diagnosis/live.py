"""Warnings while a run learns, and the gradients of its layers in gradients.jsonl.

Rows are kept as they come. From time to time the networks are watched from one row to the next, and
the checks look at what has come together, so seldom that all of it stays below a hundredth of the
processor time of the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from threading import Lock

from corelab import Run
from corelab.plugins import warn
from corelab_diagnosis.checks import findings
from corelab_diagnosis.interface import Evidence, Networks
from corelab_diagnosis.watch import Watch

FILE = "gradients.jsonl"
"""A line for each look: `progress`, and by layer, from the first to the last, the root of the mean
square of its gradient and ‖ΔW‖ / ‖W‖ of an update, each the median of the updates of the look."""
_SHARE = 0.01
"""Of the processor time of the run that it may take."""
_GUESS = 0.1
"""Seconds that the first look will take, perhaps."""
_UPDATES = 4
"""Updates that are watched at a time."""
_ROWS = 400
"""Rows that are kept; of more, every other one is let go."""

_alone = Lock()
"""Held by the monitor that watches: what one sees is of its own run."""


class Monitor:
    """Looks at one run while it learns and tells each finding once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[dict[str, float]] = []
        self._began = time.process_time()
        self.spent = 0.0
        """Seconds of processor time that it has taken."""
        self.looks = 0
        """How often it has looked."""
        self._cost = _GUESS
        self._watch: Watch | None = None
        self._told: set[str] = set()
        # with hooks, torch would compile the networks once more
        self._compiled = bool(run.config.get("update", {}).get("compile"))
        self._evidence = Evidence(run.algorithm, run.config, run.steps, over=False)

    def hear(self, progress: int, metrics: Mapping[str, float]) -> None:
        """Take in a row; begin to watch, or end it and look, if it is time."""
        began = time.process_time()
        self._rows.append({"progress": progress, **metrics})
        if len(self._rows) > _ROWS:
            self._rows = self._rows[::-2][::-1]
        if self._watch is not None:
            watch = self.close()
            self.looks += 1
            seen = watch.seen()
            self._record(progress, seen)
            self._tell(seen)
            self._cost = watch.seconds + time.process_time() - began
            self.spent += watch.seconds
        elif self.spent + self._cost < _SHARE * (began - self._began):
            if self._compiled:
                self._tell(Networks())
            elif _alone.acquire(blocking=False):
                self._watch = Watch(_UPDATES).__enter__()
        self.spent += time.process_time() - began

    def close(self) -> Watch:
        """End what is being watched, if anything is."""
        watch, self._watch = self._watch, None
        if watch is None:
            return Watch()
        watch.__exit__()
        _alone.release()
        return watch

    def _record(self, progress: int, networks: Networks) -> None:
        if not networks.layers:
            return
        layers = [
            [str(layer), float(f"{layer.gradient:.4g}"), float(f"{layer.change:.4g}")]
            for layer in networks.layers
        ]
        with (self._run.path / FILE).open("a") as file:
            file.write(json.dumps({"progress": progress, "layers": layers}) + "\n")

    def _tell(self, networks: Networks) -> None:
        evidence = replace(self._evidence, rows=self._rows, end=networks)
        for finding in findings(evidence):
            if finding.check not in self._told:
                self._told.add(finding.check)
                sentence = f"{finding.check}: {finding.seen}; try {finding.advice}"
                warn(f"{self._run.path}: {sentence}")
                self._run.note(sentence)
