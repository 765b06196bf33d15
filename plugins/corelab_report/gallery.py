"""The pictures and videos of runs, as they came while it trained."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from corelab_report.groups import Group

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
_FOLDERS = ("samples", "videos")
_STATIONS = 12
"""Pictures of one name and run, at most."""
_BUDGET = 24 * 2**20
"""Bytes of pictures on the page, at most."""


def galleries(groups: list[Group]) -> tuple[list[dict[str, Any]], int]:
    """A gallery for each name of a picture and each run: its frames, by progress, as data URIs.

    And how many pictures were left out. The first runs of all groups come before the second ones.
    """
    left, omitted = _BUDGET, 0
    found = []
    most = max(len(group.runs) for group in groups)
    runs = [group.runs[i] for i in range(most) for group in groups if i < len(group.runs)]
    for run in runs:
        for name, files in _by_name(run.path).items():
            frames = []
            for progress, file in _spread(files):
                data = file.read_bytes()
                if len(data) > left:
                    break
                left -= len(data)
                source = f"data:{_TYPES[file.suffix]};base64,{base64.b64encode(data).decode()}"
                at = "" if progress is None else f"{progress:,} {run.unit}"
                frames.append({"at": at, "src": source})
            omitted += len(files) - len(frames)
            if frames:
                moves = files[0][1].suffix == ".gif"
                found.append({"run": str(run.path), "name": name, "moves": moves, "frames": frames})
    return found, omitted


def _by_name(run: Path) -> dict[str, list[tuple[int | None, Path]]]:
    """The files of each name with their progress: "eval-samples" and 50,000 are said by the file
    `000050000-eval-samples.png`.

    A file without a number is one of its own: what somebody has put there.
    """
    named: dict[str, list[tuple[int | None, Path]]] = {}
    for file in sorted(file for folder in _FOLDERS for file in (run / folder).glob("*")):
        if file.suffix in _TYPES:
            number, _, name = file.stem.partition("-")
            if number.isdigit() and name:
                named.setdefault(name, []).append((int(number), file))
            else:
                named.setdefault(file.stem, []).append((None, file))
    return named


def _spread(files: list[tuple[int | None, Path]]) -> list[tuple[int | None, Path]]:
    """So many of FILES as are shown, evenly, with the first and the last."""
    n = len(files)
    if n <= _STATIONS:
        return files
    return [files[round(i * (n - 1) / (_STATIONS - 1))] for i in range(_STATIONS)]
