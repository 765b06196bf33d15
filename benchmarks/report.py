"""How long a report of many runs takes to write, in CPU seconds, and to open in Chromium.

The runs are made up: random walks, in groups of five seeds. A page has opened when what is seen of
it has been drawn; that is wall time, so it is the shortest of some attempts that counts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from corelab import Run, cli
from corelab.experiments import resolve

METRICS = 10
SEEDS = 5
ATTEMPTS = 5


def make(folder: Path, runs: int, rows: int) -> list[Path]:
    """Write so many RUNS of so many ROWS; the folders of their groups."""
    first = Run.create(resolve("ppo", values={"run.dir": folder, "run.name": "first"}))
    rng = np.random.default_rng(0)
    for i in range(runs):
        group, seed = divmod(i, SEEDS)
        place = folder / f"group-{group}" / f"seed-{seed}"
        place.mkdir(parents=True)
        record = json.loads((first.path / "run.json").read_text()) | {"status": "done"}
        record["config"]["seed"] = seed
        record["config"]["algorithm"]["lr"] = 0.1 / (group + 1)
        (place / "run.json").write_text(json.dumps(record))
        with (place / "metrics.jsonl").open("w") as file:
            for n, values in enumerate(rng.normal(size=(rows, METRICS)).cumsum(0).tolist(), 1):
                walks = {f"train/metric-{k}": value for k, value in enumerate(values)}
                file.write(json.dumps({"progress": n, "time": n / 10, **walks}) + "\n")
            file.write(json.dumps({"progress": rows, "time": rows / 10, "eval/return": group}))
    return sorted(folder.glob("group-*"))


def open_(page: Path) -> float:
    """Seconds until Chromium has drawn PAGE."""
    chromium = shutil.which("chromium") or "chromium-browser"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--timeout=10000", "--dump-dom"]
    told = subprocess.run(
        [chromium, *flags, page.resolve().as_uri()], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r'data-shown="(\d+)"', told)
    return float("nan") if found is None else int(found[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        groups = make(Path(name), args.runs, args.rows)
        page = Path(name) / "report.html"
        cli.main(["report", str(groups[0]), "-o", str(page)])  # what is imported late is there now
        began = time.process_time()
        cli.main(["report", *map(str, groups), "-o", str(page)])
        facts = {
            "runs": args.runs,
            "values": args.runs * args.rows * METRICS,
            "write_cpu_seconds": round(time.process_time() - began, 1),
            "bytes": page.stat().st_size,
            "open_seconds": min(open_(page) for _ in range(ATTEMPTS)),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
