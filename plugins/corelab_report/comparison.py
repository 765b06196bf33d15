"""The verb `corelab compare`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corelab import ConfigError
from corelab.statistics import Rows
from corelab.statistics import compare as summaries
from corelab_report import groups as grouping
from corelab_report.groups import Group
from corelab_report.scores import Measure, by_task, choose, improvement, measured
from corelab_report.words import Parser

_WIDE = 1000
"""Columns where nobody reads them off a screen: no cell is folded there."""


def compare(argv: list[str]) -> int:
    """Hold runs against each other by what their evaluations have logged.

    Each RUN is a directory of a run, or a folder of seeds: the interquartile mean over its runs,
    the 95% interval of a stratified bootstrap, the probability that a run of it is better than one
    of the first RUN named, whether weights are identical, and which options differ.
    """
    parser = Parser("compare", compare.__doc__)
    parser.add_runs()
    parser.add_argument("--metric", help="such as eval/return (default: what the algorithm says)")
    parser.add_argument("--mode", choices=("max", "min"), help="whether more or less is better")
    which = "the last value that each run has logged (default), or its best one"
    parser.add_argument("--at", choices=("last", "best"), default="last", help=which)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("--csv", action="store_true", help="the table of scores as CSV")
    args = parser.parse_args(argv)
    if args.json and args.csv:
        raise ConfigError("corelab compare: --json and --csv are two forms of the same; take one")

    found = grouping.find(args.run)
    measure = choose(found, args.metric, args.mode, args.at)
    result = tell(found, measure, measured(found, measure))
    if args.json:
        print(json.dumps(result, indent=2))
    elif args.csv:
        _print_csv(result["summary"])
    else:
        _print(result)
    return 0


def tell(groups: Sequence[Group], measure: Measure, rows: Rows) -> dict[str, Any]:
    """Everything that `corelab compare --json` says of GROUPS, whose scores are in ROWS."""
    summary = summaries(rows)
    first = groups[0].name
    for row in summary:
        row["better"] = None
        if row["group"] != first and (pair := _pair(rows, row, first, measure.name)):
            p, low, high = improvement(*pair, measure.mode)
            row["better"] = {"than": first, "probability": p, "interval": [low, high]}
    hashes = {str(run.path): grouping.weights(run) for group in groups for run in group.runs}
    for row in summary:
        (group,) = (group for group in groups if group.name == row["group"])
        row["weights"] = _in_one_word([hashes[str(run.path)] for run in group.runs])
    return {
        "metric": measure.metric,
        "mode": measure.mode,
        "at": measure.at,
        "summary": summary,
        "runs": rows,
        "weights": hashes,
        "identical": list(_identical(hashes)),
        "differences": {
            name: dict(zip((group.name for group in groups), values, strict=True))
            for name, values in grouping.differences(groups).items()
        },
        "unfinished": grouping.unfinished(groups),
    }


def _pair(
    rows: Rows, row: dict[str, Any], first: str, name: str
) -> tuple[list[list[float]], list[list[float]]] | None:
    """The scores that ROW sums up, task by task, and those of the group FIRST on these tasks."""
    ours, theirs = by_task(rows[row["group"]], name), by_task(rows[first], name)
    tasks = list(ours) if row["task"] == "all" else [row["task"]]
    if not set(tasks) <= set(theirs):
        return None
    return [ours[task] for task in tasks], [theirs[task] for task in tasks]


def _in_one_word(hashes: Sequence[str]) -> str:
    if "" in hashes:
        return "not all known"
    if len(set(hashes)) == 1:
        return hashes[0][:8]
    return "all differ" if len(set(hashes)) == len(hashes) else "some are equal"


def _identical(hashes: dict[str, str]) -> Iterator[list[str]]:
    """The runs whose weights are bit for bit the same."""
    for digest in dict.fromkeys(filter(None, hashes.values())):
        same = [run for run, other in hashes.items() if other == digest]
        if len(same) > 1:
            yield same


def _print_csv(summary: Sequence[dict[str, Any]]) -> None:
    names = "group task metric runs iqm low high mean better better_low better_high weights"
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names.split())
    for row in summary:
        better = row["better"] or {"probability": "", "interval": ["", ""]}
        facts = (row[key] for key in ("group", "task", "metric", "runs", "iqm"))
        odds = (better["probability"], *better["interval"])
        writer.writerow([*facts, *row["interval"], row["mean"], *odds, row["weights"]])


def _print(result: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def table(*columns: str) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            made.add_column(Text(column), overflow="fold")
        return made

    def add(made: Table, *cells: str) -> None:
        made.add_row(*map(Text, cells))  # what looks like markup in a name is none

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    direction = "more" if result["mode"] == "max" else "less"
    scores = table("runs", "task", "n", "IQM", "95% interval", "P(better), 95%", "weights")
    for row in result["summary"]:
        figures = str(row["runs"]), f"{row['iqm']:.6g}", spread(row), odds(row)
        add(scores, row["group"], row["task"], *figures, row["weights"])
    parts = [Text(f"{result['metric']}, {result['at']} value; {direction} is better"), scores]
    if any(row["better"] for row in result["summary"]):
        first = result["summary"][0]["group"]
        parts.append(Text(f"P(better): that a run is better than one of {first}"))
    parts += [Text(f"bit-identical weights: {' = '.join(same)}") for same in result["identical"]]
    parts += [Text(sentence) for sentence in result["unfinished"]]
    if differences := result["differences"]:
        options = table("option", *next(iter(differences.values())))
        for name, values in differences.items():
            add(options, name, *map(show, values.values()))
        parts += [Text(), options]
    with console.capture() as drawn:
        console.print(*parts, sep="\n")
    print(*(line.rstrip() for line in drawn.get().splitlines()), sep="\n")


def spread(row: Mapping[str, Any]) -> str:
    """The interval of a ROW of the summary."""
    low, high = row["interval"]
    return f"{low:.5g} to {high:.5g}" if row["runs"] > 1 else "one run"


def odds(row: Mapping[str, Any]) -> str:
    """The probability of improvement in a ROW of the summary, and its interval."""
    if row["better"] is None:
        return "-"
    low, high = row["better"]["interval"]
    return f"{row['better']['probability']:.2f}, {low:.2f} to {high:.2f}"


def show(value: Any) -> str:
    """An option's VALUE as a person reads it."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)
