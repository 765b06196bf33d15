"""Whether the installed files of plugins are those that were installed: `corelab plugins --verify`.

Nothing of a plugin is imported. What is compared are the hashes in each distribution's RECORD, so
this finds a file that was altered, not one that was published with bad intentions.
"""

from __future__ import annotations

import csv
import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from importlib.metadata import Distribution, entry_points
from pathlib import Path

from corelab.plugins import GROUP, identify
from corelab.provenance import origin


@dataclass(frozen=True)
class Verdict:
    """What is known about one distribution that has plugins."""

    distribution: str
    version: str
    origin: str
    """"index", a URL, "editable URL", or "unknown"."""
    plugins: tuple[str, ...]
    verified: int
    """How many files are as RECORD says."""
    altered: tuple[str, ...]
    """The files that are not, and those that are missing."""

    def __str__(self) -> str:
        if self.altered:
            return f"ALTERED: {', '.join(self.altered)}"
        if self.origin.startswith("editable"):
            return "editable: its files may change at any time, so nothing can be verified"
        if not self.verified:
            return "has no hashes in a RECORD, so nothing can be verified"
        return f"{self.verified} files are as they were installed"


def verify() -> list[Verdict]:
    """The verdict on each installed distribution that has plugins, allowed or not, by name."""
    owners: dict[str, Distribution] = {}
    plugins: dict[str, list[str]] = {}
    for entry in entry_points(group=GROUP):
        if entry.dist:
            name = identify(entry.dist)[0]
            owners[name] = entry.dist
            plugins.setdefault(name, []).append(entry.name)
    return [_verdict(owners[name], tuple(sorted(plugins[name]))) for name in sorted(owners)]


def _verdict(distribution: Distribution, plugins: tuple[str, ...]) -> Verdict:
    source = origin(distribution)
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    listed = {row[0]: row[1] for row in rows if len(row) == 3 and row[1]}
    altered = [
        name
        for name, expected in listed.items()
        if _digest(Path(str(distribution.locate_file(name))), expected) != expected
    ]
    name, version = identify(distribution)
    return Verdict(name, version, source, plugins, len(listed) - len(altered), tuple(altered))


def _digest(file: Path, like: str) -> str:
    """The hash of FILE, written as that which it is LIKE; "" if it cannot be read."""
    method = like.partition("=")[0]
    try:
        digest = hashlib.new(method, file.read_bytes()).digest()
    except (OSError, ValueError):
        return ""
    return f"{method}={urlsafe_b64encode(digest).rstrip(b'=').decode()}"
