"""Compile a C++ source of this package to a shared library, once for each machine.

There is nothing to install: the system's compiler makes the library when it is first asked for, in
a few seconds, and it is kept in the user's cache. What it is kept under is a hash of the source,
the flags and the compiler's version, so a library is never older than its source.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from corelab import CorelabError

FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared")
_COMPILERS = ("c++", "g++", "clang++")


class NoCompiler(CorelabError):  # noqa: N818 - what there is, not what went wrong
    """There is no C++ compiler here, or it cannot make a library of the source."""


@cache
def load(name: str) -> ctypes.CDLL:
    """The library made of NAME.cpp. `NoCompiler`, in a sentence, if it cannot be made."""
    library = build(Path(__file__).with_name(f"{name}.cpp"))
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:  # such as a cache from which nothing may be executed
        raise NoCompiler(f"{library} cannot be loaded ({error})") from error


def build(source: Path, folder: Path | None = None) -> Path:
    """Compile SOURCE into FOLDER (default: the user's cache), unless that was done before.

    The environment variable CXX names the compiler; without it, it is the first of c++, g++ and
    clang++ that is installed. Several processes may do this at once: each compiles beside the
    place and renames, so whatever is in the place is whole.
    """
    compiler = _compiler(source)
    folder = folder or _cache()
    version = _run(source, [compiler, "--version"])
    content = [source.read_bytes(), " ".join(FLAGS).encode(), version.encode()]
    key = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    library = folder / f"{source.stem}-{key}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / library.name
            _run(source, [compiler, *FLAGS, "-o", str(made), str(source)])
            made.replace(library)
    except OSError as error:
        raise NoCompiler(
            f"{source.name} cannot be compiled into {folder} ({error.strerror or error})"
        ) from error
    return library


def _compiler(source: Path) -> str:
    wanted = (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS
    found = next((path for name in wanted if (path := shutil.which(name))), None)
    if found is None:
        names = " or ".join(wanted)
        raise NoCompiler(f"{source.name} cannot be compiled: {names} is not installed")
    return found


def _cache() -> Path:
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "corelab" / "kernels"


def _run(source: Path, command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        why = next((line for line in lines if "error" in line), lines[0])
        raise NoCompiler(f"{source.name} cannot be compiled by {command[0]}: {why}")
    return done.stdout
