"""Checkpoints: whole or not there, checked on the way in, and nothing in them executes.

A checkpoint is a directory named by its progress. It is written beside its place and renamed into
it, so a crash leaves at most a hidden directory that the next write sweeps away. `manifest.json`
holds the hash of every file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corelab.errors import CheckpointError, StorageError

MANIFEST = "manifest.json"


def write_atomically(path: Path, text: str) -> None:
    """Replace the file PATH by one with TEXT: readers see the old one or the new one, whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, directory: Path, keep: int = 3) -> None:
        self.directory = directory
        self.keep = keep

    def all(self) -> list[Path]:
        """Every checkpoint, oldest first, whole or not."""
        if not self.directory.is_dir():
            return []
        return sorted(p for p in self.directory.iterdir() if p.name.isdigit())

    @property
    def best(self) -> Path | None:
        """The checkpoint with the best evaluation so far, if it is still there."""
        return next((p for p in reversed(self.all()) if _manifest(p).get("best")), None)

    def write(self, progress: int, fill: Callable[[Path], None], best: bool = False) -> Path:
        """Make the checkpoint of PROGRESS: FILL writes its files into the directory it is given.

        StorageError if the disk refuses; then everything that was there before still is.
        """
        place = self.directory / f"{progress:012d}"
        beside = self.directory / f".{place.name}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob(".*"):
                _remove(leftover)
            if not self.fault(place):
                if best:
                    manifest = _manifest(place) | {"best": True}
                    write_atomically(place / MANIFEST, json.dumps(manifest, indent=1))
                self._prune()
                return place
            beside.mkdir()
            fill(beside)
            _seal(beside, best)
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)
            _sync(self.directory)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            whole = [p for p in self.all() if not self.fault(p)]
            kept = f"the newest one that is whole is {whole[-1]}" if whole else "there is none yet"
            raise StorageError(
                f"{place}: the checkpoint cannot be written ({error.strerror or error}); {kept}"
            ) from error
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        self._prune()
        return place

    def _prune(self) -> None:
        best = self.best
        for old in self.all()[: -self.keep]:
            if old != best:
                # out of sight first, since half a checkpoint would look like a damaged one
                with contextlib.suppress(OSError):
                    _remove(old.rename(old.with_name(f".{old.name}")))

    def fault(self, checkpoint: Path) -> str:
        """What is wrong with CHECKPOINT; "" if every file is as it was written."""
        try:
            expected = _manifest(checkpoint)["sha256"]
            for name, digest in expected.items():
                if not (checkpoint / name).is_file():
                    return f"{name} is missing"
                if _sha256(checkpoint / name) != digest:
                    return f"{name} is not what was written"
        except (OSError, KeyError, AttributeError):
            there = (checkpoint / MANIFEST).exists()
            return f"{MANIFEST} is {'damaged' if there else 'missing'}"
        return ""

    def pick(self, which: str = "last") -> Path:
        """The checkpoint "last", "best" or of a progress. CheckpointError if it is not whole."""
        found = self.all()
        if not found:
            raise CheckpointError(f"{self.directory}: there is no checkpoint yet")
        if which == "last":
            place = found[-1]
        elif which == "best":
            place = self.best or found[-1]
        else:
            place = self.directory / (f"{int(which):012d}" if which.isdigit() else which)
            if place not in found:
                names = ", ".join(str(int(p.name)) for p in found)
                raise CheckpointError(f"{self.directory}: there is no {which!r}; there is: {names}")
        if fault := self.fault(place):
            whole = [str(int(p.name)) for p in found if not self.fault(p)]
            mend = f"use one of {', '.join(whole)}" if whole else "no other one is whole either"
            raise CheckpointError(f"{place}: the checkpoint is damaged ({fault}); {mend}")
        return place

    def newest_whole(self) -> tuple[Path | None, list[str]]:
        """Where to go on from, and a sentence for each newer one that had to be passed over."""
        passed: list[str] = []
        for place in reversed(self.all()):
            fault = self.fault(place)
            if not fault:
                return place, passed
            passed.append(f"{place}: passed over a damaged checkpoint ({fault})")
        return None, passed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _manifest(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; empty if that cannot be read."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _seal(directory: Path, best: bool) -> None:
    """Write the manifest, then make sure that everything is on the disk and not only on its way."""
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    hashes = {str(p.relative_to(directory)): _sha256(p) for p in files}
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps({"best": best, "sha256": hashes}, indent=1))
    for path in (*files, manifest):
        _sync(path)
    for folder in {p.parent for p in files} | {directory}:
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
