"""What a run takes of the machine, in usage.jsonl: processor time, memory, energy.

A line tells the progress, the time, and since the session (the process that began the run or went
on with it) began: processor seconds of this process and its children that ended, the greatest
resident memory in bytes and the greatest memory allocated on the GPU, if it has one. If the
kernel lets this process read its counters of energy (RAPL, below /sys/class/powercap), also the
joules that all processor packages took for everything that the machine did.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corelab import hookimpl

if TYPE_CHECKING:
    from corelab import Run

corelab_api = (1, 0)

FILE = "usage.jsonl"
POWERCAP = Path("/sys/class/powercap")
INTERVAL = 1.0
"""Seconds between two lines, at least."""

_meters: dict[Path, Meter] = {}


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Begin to count."""
    _meters[run.path] = Meter(run, len(run.record["sessions"]))


@hookimpl
def corelab_run_logged(run: Run, progress: int) -> None:
    """Write a line, unless the last one is from just now."""
    if meter := _meters.get(run.path):
        meter.progress = progress
        if time.monotonic() - meter.written >= INTERVAL:
            meter.write()


@hookimpl
def corelab_run_ended(run: Run) -> None:
    """Write the last line of the session."""
    if meter := _meters.pop(run.path, None):
        meter.write()


class Meter:
    """What one session of a run has taken so far."""

    def __init__(self, run: Run, session: int) -> None:
        self.file = run.path / FILE
        self.session = session
        self.progress = run.resumed_at or 0
        self.written = time.monotonic()
        self._began = _processor_seconds()
        self._energy = Energy()

    def write(self) -> None:
        """Append a line."""
        self.written = time.monotonic()
        row: dict[str, Any] = {
            "progress": self.progress,
            "time": round(time.time(), 3),
            "session": self.session,
            "cpu_seconds": round(_processor_seconds() - self._began, 3),
            "memory_bytes": _memory(),
        }
        if (on_gpu := _memory_on_gpu()) is not None:
            row["gpu_memory_bytes"] = on_gpu
        if (joules := self._energy.joules()) is not None:
            row["energy_joules"] = round(joules, 3)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


class Energy:
    """Joules since it was made, if the kernel tells them."""

    def __init__(self) -> None:
        zones = sorted(POWERCAP.glob("intel-rapl:*")) if POWERCAP.is_dir() else []
        # intel-rapl:0 is a package, intel-rapl:0:1 a part of it
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        self._last = self._read()
        self._total = 0.0

    def joules(self) -> float | None:
        """Of all packages; None if they cannot be read."""
        now = self._read()
        if self._last is None or now is None:
            return None
        for (before, _), (after, most) in zip(self._last, now, strict=True):
            self._total += (after - before if after >= before else after - before + most) / 1e6
        self._last = now
        return self._total

    def _read(self) -> list[tuple[int, int]] | None:
        """Microjoules of each package, and where its counter begins again."""
        names = ("energy_uj", "max_energy_range_uj")
        try:
            read = [[int((zone / name).read_text()) for name in names] for zone in self._zones]
        except (OSError, ValueError):  # only root may read them on most machines
            return None
        return [(now, most) for now, most in read] or None


def _processor_seconds() -> float:
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # macOS counts bytes


def _memory_on_gpu() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def read(run: Run) -> list[Mapping[str, float]]:
    """The lines of RUN; none if no sink has written them."""
    file = run.path / FILE
    rows = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:  # cut short by a kill; a later session writes on behind it
            continue
    return rows


def total(run: Run) -> dict[str, float]:
    """What RUN took in all its sessions: "cpu_seconds" and "energy_joules" in sum, the greatest of
    "memory_bytes" and "gpu_memory_bytes"; what is not known of every session is left out.
    """
    last = {row["session"]: row for row in read(run)}
    if len(last) < len(run.record["sessions"]):
        return {}
    combine = {"cpu_seconds": sum, "energy_joules": sum}
    combine |= {"memory_bytes": max, "gpu_memory_bytes": max}  # type: ignore[dict-item]
    return {
        name: how(row[name] for row in last.values())
        for name, how in combine.items()
        if last and all(name in row for row in last.values())
    }
