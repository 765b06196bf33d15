"""What this machine has for corelab, and what is wrong with it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import corelab
from corelab.plugins import ALLOW, Plugins


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    well: bool
    subject: str
    what: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.well else 'FAIL'}  {self.subject:<11}{self.what}"


def examine() -> list[Finding]:
    """Look at everything that a run depends on."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [
        Finding(True, "corelab", f"{corelab.__version__}, API {'.'.join(map(str, corelab.API))}"),
        Finding(True, "python", python),
        Finding(True, "torch", f"{torch.__version__}, {os.cpu_count()} cores"),
        *_gpus(),
        *(_optional(name) for name in ("gymnasium", "pettingzoo", "ray", "pygame")),
        _writable(Path.cwd()),
        *_plugins(),
    ]


def _gpus() -> list[Finding]:
    if not torch.cuda.is_available():
        return [Finding(True, "gpu", "none: runs use the CPU")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [Finding(True, "gpu", f"cuda:{i} {name}") for i, name in enumerate(names)]


def _optional(name: str) -> Finding:
    try:
        return Finding(True, name, version(name))
    except PackageNotFoundError:
        return Finding(True, name, "not installed")


def _writable(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(False, "disk", f"{folder} cannot be written ({error.strerror})")
    if free < 1:
        return Finding(False, "disk", f"{free:.2f} GiB free in {folder}: runs may not fit")
    return Finding(True, "disk", f"{free:.1f} GiB free in {folder}")


def _plugins() -> list[Finding]:
    found = Plugins()
    count = f"{len(found.offers)} components, {len(found.sinks)} sinks"
    if os.environ.get(ALLOW) is not None:
        count += f" (only those that {ALLOW} allows)"
    broken = [
        Finding(False, "plugin", f"{plugin.name} of {plugin}: {why}")
        for plugin, why in found.broken.items()
    ]
    clashes = [
        Finding(False, "plugin", f"{o.component.kind} {o.component.name!r} is {clash}")
        for o in found.offers
        if (clash := found.clash(o))
    ]
    return [Finding(True, "plugins", count), *broken, *clashes]
