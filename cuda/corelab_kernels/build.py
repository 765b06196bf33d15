"""Compile a C++ source of this package to a shared library, once for each machine.

There is nothing to install: the system's compiler makes the library when it is first asked for, in
a few seconds, and it is kept in the user's cache. What it is kept under is a hash of the source and
the headers that it includes, the flags and the compiler's version, so a library is never older than
its source, and machines that share a home do not share what only one of them can run.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from corelab import CorelabError

FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared")
_COMPILERS = ("c++", "g++", "clang++")
_EXACT = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-pthread")
"""For sources that include arithmetic.h: fast, with every rounding where the source has it."""
_LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}
"""What a processor must know for each level of the x86-64 instructions, the best first."""
_CPU = Path("/proc/cpuinfo")


class NoCompiler(CorelabError):  # noqa: N818 - what there is, not what went wrong
    """There is no C++ compiler here, or it cannot make a library of the source."""


@cache
def load(name: str, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library made of NAME.cpp. `NoCompiler`, in a sentence, if it cannot be made."""
    library = build(Path(__file__).with_name(f"{name}.cpp"), flags=flags)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:  # such as a cache from which nothing may be executed
        raise NoCompiler(f"{library} cannot be loaded ({error})") from error


def exact(level: str | None = None) -> tuple[str, ...]:
    """The flags for a source that includes arithmetic.h, at LEVEL of the x86-64 instructions.

    By default at the best that this processor has. The results are the same bits at all of them.
    """
    level = instructions() if level is None else level
    return (*_EXACT, f"-march={level}") if level else _EXACT


@cache
def instructions() -> str:
    """The best level of the x86-64 instructions here, or "" where the compiler's own will do."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    try:
        listed = re.search(r"^flags\s*:(.*)$", _CPU.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return ""
    known = set(listed[1].split()) if listed else set()
    return next((level for level, needed in _LEVELS.items() if needed <= known), "")


def build(source: Path, folder: Path | None = None, flags: tuple[str, ...] = ()) -> Path:
    """Compile SOURCE into FOLDER (default: the user's cache), unless that was done before.

    The environment variable CXX names the compiler; without it, it is the first of c++, g++ and
    clang++ that is installed. Several processes may do this at once: each compiles beside the
    place and renames, so whatever is in the place is whole.
    """
    library = place(source, folder, flags)
    if library.exists():
        return library
    folder = library.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / library.name
            run(source, [compiler(source), *FLAGS, *flags, "-o", str(made), str(source)])
            made.replace(library)
    except OSError as error:
        raise NoCompiler(
            f"{source.name} cannot be compiled into {folder} ({error.strerror or error})"
        ) from error
    return library


def place(source: Path, folder: Path | None = None, flags: tuple[str, ...] = ()) -> Path:
    """Where `build` has, or will have, the library."""
    version = run(source, [compiler(source), "--version"])
    content = [*contents(source), " ".join((*FLAGS, *flags)).encode(), version.encode()]
    key = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    return (folder or cache_folder()) / f"{source.stem}-{key}.so"


def contents(source: Path) -> list[bytes]:
    """What is in SOURCE and in the files that it includes by a path from its own."""
    content = source.read_bytes()
    included = re.findall(rb'^#include "(.+)"', content, re.MULTILINE)
    parts = (contents(source.parent / name.decode()) for name in included)
    return [content, *(text for part in parts for text in part)]


def compiler(source: Path) -> str:
    """The path of the compiler for SOURCE."""
    wanted = (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS
    found = next((path for name in wanted if (path := shutil.which(name))), None)
    if found is None:
        names = " or ".join(wanted)
        raise NoCompiler(f"{source.name} cannot be compiled: {names} is not installed")
    return found


def cache_folder() -> Path:
    """Where libraries are kept."""
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "corelab" / "kernels"


def run(source: Path, command: list[str]) -> str:
    """What COMMAND, which compiles SOURCE, prints. `NoCompiler`, with its error, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        why = next((line for line in lines if "error" in line), lines[0])
        raise NoCompiler(f"{source.name} cannot be compiled by {command[0]}: {why}")
    return done.stdout
