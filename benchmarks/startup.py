"""CPU seconds of the commands that must be light, and what twenty more plugins add to one.

`python benchmarks/startup.py` prints one JSON line: medians over interleaved runs.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 15
INDEX = """
from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components():
    return [Component("task", "light-{i}", "light_{i}.task:Task", "a task", provides="none")]
"""


def install_light_plugins(folder: Path, n: int) -> None:
    """Write N plugins into FOLDER as pip would leave them."""
    for i in range(n):
        (folder / f"light_{i}.py").write_text(INDEX.format(i=i))
        info = folder / f"light_{i}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: light-{i}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[corelab]\nlight_{i} = light_{i}\n")


def cpu_seconds(words: list[str], folder: Path) -> float:
    """User and system seconds of one `corelab WORDS` that imports from FOLDER, too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "corelab", *words]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as none, tempfile.TemporaryDirectory() as twenty:
        install_light_plugins(Path(twenty), 20)
        cases = {
            "--version": (["--version"], none),
            "--help": (["--help"], none),
            "plugins": (["plugins"], none),
            "plugins, 20 more": (["plugins"], twenty),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, (words, folder) in cases.items():
                seconds[name].append(cpu_seconds(words, Path(folder)))
    medians = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    added = statistics.median(
        b - a for a, b in zip(seconds["plugins"], seconds["plugins, 20 more"], strict=True)
    )
    print(json.dumps({"cpu_seconds": medians, "20_plugins_add_ms": round(1000 * added, 1)}))


if __name__ == "__main__":
    main()
