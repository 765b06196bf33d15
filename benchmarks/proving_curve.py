"""What `learning_to_prove.py` measured, as tables in Markdown and as a picture.

    python benchmarks/learning_to_prove.py TRAIN DEV --passes 4 --seeds 0 1 2 > rows.jsonl
    python benchmarks/proving_curve.py rows.jsonl picture.png [--network more.jsonl]

With --network, the provers of another such file, that `--policy graph` made, are drawn as broken
lines beside those of the first.
Figures are means over the seeds, with the least and the greatest where these differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

Row = dict[str, Any]
UNGUIDED = {
    "tree search, guided": "tree search",
    "depth first by cost, complete, guided": "depth first, complete",
    "depth first by cost, cut, comp(10), guided": "depth first, cut, comp(7)",
}
"""The same provers without learning."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="lines of JSON")
    parser.add_argument("picture", type=Path, nargs="?", help="a file to draw in")
    parser.add_argument("--network", type=Path, help="lines of JSON of the policy graph")
    args = parser.parse_args()
    measured, lessons = read(args.rows)
    tabulate(measured)
    tabulate_lessons(lessons)
    if args.picture is not None:
        draw(measured, read(args.network)[0] if args.network else [], lessons, args.picture)


def read(file: Path) -> tuple[list[Row], list[Row]]:
    """What FILE tells of provers, and of passes."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row for row in rows if "prover" in row], [row for row in rows if "new" in row]


def passes_of(rows: Sequence[Row]) -> list[int]:
    return sorted({row["passes"] for row in rows if "passes" in row})


def curve(rows: Sequence[Row], prover: str, form: str, key: str = "proved") -> list[list[float]]:
    """KEY of PROVER after each pass, one number for each seed."""
    mine = [row for row in rows if (row["prover"], row["form"]) == (prover, form)]
    return [[row[key] for row in mine if row.get("passes") == k] for k in passes_of(rows)]


def tabulate(rows: Sequence[Row]) -> None:
    """Problems proved, by prover, before learning and after each pass."""
    names = passes_of(rows)
    problems, budget = rows[0]["problems"], rows[0]["inferences"]
    print(f"Of {problems} problems, {budget:,} inferences each:\n")
    print("| prover | clauses | before |", " | ".join(f"after {k}" for k in names), "|")
    print("|---|---|---|" + "---|" * len(names))
    for prover, form in dict.fromkeys((row["prover"], row["form"]) for row in rows):
        here = [row for row in rows if (row["prover"], row["form"]) == (prover, form)]
        before = [row["proved"] for row in here if "passes" not in row]
        after = [shown(values) for values in curve(rows, prover, form)]
        print("|", " | ".join([prover, form, shown(before), *after]), "|")


def tabulate_lessons(rows: Sequence[Row]) -> None:
    """What each pass found in the problems that are learned from."""
    print("\n| pass | problems proved by then | new | proofs kept | pass the check | CPU seconds |")
    print("|---|---|---|---|---|---|")
    for k in passes_of(rows):
        here = [row for row in rows if row["passes"] == k]
        columns = ("known", "new", "proofs", "checked", "cpu_seconds")
        print("|", " | ".join([str(k), *(shown([row[x] for row in here]) for x in columns)]), "|")


def shown(values: Sequence[float]) -> str:
    """The mean of VALUES, and from where to where they go."""
    if not values:
        return ""
    least, most = min(values), max(values)
    mean = f"{np.mean(values):.3g}"
    return mean if least == most else f"{mean} ({least:.3g} to {most:.3g})"


def draw(rows: Sequence[Row], network: Sequence[Row], lessons: Sequence[Row], file: Path) -> None:
    """The curves over the passes, with what is reached without learning; new problems per pass."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.6), width_ratios=(2, 1), layout="constrained"
    )
    form, names = "conj, form none", passes_of(rows)
    for number, (prover, without) in enumerate(UNGUIDED.items()):
        (before,) = (
            row["proved"] for row in rows if (row["prover"], row["form"]) == (without, form)
        )
        colour, label = f"C{number}", prover.removesuffix(", guided")
        for learned, line, policy in ((rows, "o-", ""), (network, "s--", ", with the network")):
            if not learned:
                continue
            each = curve(learned, prover, form)
            means = [before, *map(np.mean, each)]
            left.plot([0, *names], means, line, color=colour, label=label + policy, markersize=4)
            ends = [before, *map(min, each)], [before, *map(max, each)]
            left.fill_between([0, *names], *ends, color=colour, alpha=0.2)
    problems, budget = rows[0]["problems"], rows[0]["inferences"]
    left.set(
        xlabel="passes", ylabel=f"proved, of {problems} ({budget:,} inferences)", ylim=(0, None)
    )
    left.legend(frameon=False, fontsize=8)
    new = [[row["new"] for row in lessons if row["passes"] == k] for k in names]
    means = np.array([np.mean(values) for values in new])
    span = np.array([[m - min(v), max(v) - m] for m, v in zip(means, new, strict=True)]).T
    right.bar(names, means, yerr=span, color="C3")
    right.set(xlabel="pass", ylabel="problems proved for the first time")
    for axes in (left, right):
        axes.set_xticks(range(axes is right, names[-1] + 1))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    main()
