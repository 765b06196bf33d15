"""The verb `corelab report`: one page that shows runs, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import corelab
from corelab import ConfigError, Run, RunError
from corelab.plugins import warn
from corelab.statistics import Rows, profile
from corelab_report import curves, usage
from corelab_report import groups as grouping
from corelab_report.comparison import odds, show, spread, tell
from corelab_report.curves import MEMORY, PACE, Curve, rounded
from corelab_report.gallery import galleries
from corelab_report.gradients import gradients
from corelab_report.groups import Group
from corelab_report.histograms import histograms
from corelab_report.repeating import command
from corelab_report.scores import Measure, by_task, choose, measured
from corelab_report.words import Parser, write

_THRESHOLDS = 101
_SECTIONS = {
    "Learning curves": "What evaluations measured, and what the algorithm calls its highlights.",
    "Training": "What was logged between evaluations, and of single units.",
    "Pace and memory": "Between two rows of the same session; the greatest resident memory.",
}


def report(argv: list[str]) -> int:
    """Write one page that shows runs: curves, samples, videos, weights, options, commands.

    The page is a single HTML file that loads nothing. Each RUN is a directory of a run, or a folder
    of seeds, whose curves are drawn as one with its interval.
    """
    parser = Parser("report", report.__doc__)
    parser.add_runs()
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write: .html")
    parser.add_argument("--title", help="of the page (default: the names of the runs)")
    parser.add_argument("--metric", help="for scores and profiles, such as eval/return")
    parser.add_argument("--mode", choices=("max", "min"), help="whether more or less is better")
    args = parser.parse_args(argv)
    if args.output.suffix.lower() not in (".html", ".htm"):
        fits = args.output.with_suffix(".html")
        raise ConfigError(f"{args.output}: a report is a page; name it {fits}")

    groups = _begun(grouping.find(args.run))
    page = Page(groups, args.metric, args.mode)
    title = args.title or ", ".join(map(str, args.run[:3])) + (" …" if len(args.run) > 3 else "")
    write(args.output, page.html(title))
    print(args.output)
    return 0


def _begun(groups: Sequence[Group]) -> list[Group]:
    """GROUPS without the runs that have logged nothing, which is told. RunError if none is left."""

    def logged(run: Run) -> bool:
        file = run.path / "metrics.jsonl"
        if file.exists() and file.stat().st_size:
            return True
        warn(f"{run.path}: left out, since it has logged nothing")
        return False

    kept = [replace(group, runs=tuple(filter(logged, group.runs))) for group in groups]
    if not any(group.runs for group in kept):
        raise RunError("corelab report: none of the runs has logged anything")
    return [group for group in kept if group.runs]


class Page:
    """A page about groups of runs."""

    def __init__(
        self, groups: Sequence[Group], metric: str | None = None, mode: Any = None
    ) -> None:
        self.groups = list(groups)
        self.comparison: dict[str, Any] = {}
        self.profiles: list[dict[str, Any]] = []
        self.sentences = grouping.unfinished(groups)
        """What a reader should know beforehand."""
        try:
            measure = choose(groups, metric, mode)
            rows = measured(groups, measure)
        except (ConfigError, RunError) as error:
            if metric:
                raise
            self.sentences.append(f"Scores are not compared: {error}")
        else:
            self.comparison = tell(groups, measure, rows)
            self.profiles = _profiles(self.groups, measure, rows)
        of_runs = [[curves.of_run(run) for run in group.runs] for group in groups]
        self.sections = _sections(self.groups, of_runs)
        self.galleries, omitted = galleries(self.groups)
        if omitted:
            self.sentences.append(f"{omitted} pictures are left out, so that the page stays small.")
        shown = [group.runs[0] for group in groups]
        self.weights = [
            {"run": str(run.path), "checkpoints": found}
            for run in shown
            if (found := histograms(run))
        ]
        self.gradients = [
            {"run": str(run.path), "looks": found} for run in shown if (found := gradients(run))
        ]

    def html(self, title: str) -> str:
        """The page, called TITLE."""
        from jinja2 import Environment, FileSystemLoader

        folder = Path(__file__).parent
        environment = Environment(
            autoescape=True, loader=FileSystemLoader(folder), trim_blocks=True, lstrip_blocks=True
        )
        drawn = [chart for _, _, charts in self.sections for chart in charts] + self.profiles
        data = {
            "groups": [{"name": g.name, "runs": len(g.runs)} for g in self.groups],
            "charts": drawn,
            "galleries": self.galleries,
            "weights": self.weights,
            "gradients": self.gradients,
        }
        return environment.get_template("page.jinja").render(
            title=title,
            version=corelab.__version__,
            data=json.dumps(data).replace("<", "\\u003c"),  # no text can end the script
            css=(folder / "page.css").read_text(),
            js=(folder / "page.js").read_text(),
            groups=self.groups,
            sections=self.sections,
            profiles=self.profiles,
            galleries=self.galleries,
            weights=self.weights,
            gradients=self.gradients,
            comparison=self.comparison,
            sentences=self.sentences,
            runs=[_facts(run) for group in self.groups for run in group.runs],
            differences=grouping.differences(self.groups),
            odds=odds,
            spread=spread,
            show=show,
        )


def _sections(
    groups: Sequence[Group], of_runs: Sequence[Sequence[Mapping[str, Curve]]]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Title, explanation and charts of each section; OF_RUNS has the curves of all runs."""
    every = [one for runs in of_runs for one in runs]
    names = dict.fromkeys(name for one in every for name in one)
    highlights = dict.fromkeys(n for g in groups for n in g.runs[0].highlights if n in names)
    evaluated = (n for n in names if n.startswith("eval/") and not re.search(r"_\d+$", n))
    watched = list(dict.fromkeys([*highlights, *evaluated]))
    machine = [name for name in (PACE, MEMORY) if name in names]
    training = [name for name in names if name not in (*watched, *machine)]
    columns = curves.columns(sum(len(one) for one in every))
    return [
        (title, about, [_chart(name, groups, of_runs, columns) for name in chosen])
        for (title, about), chosen in zip(
            _SECTIONS.items(), (watched, training, machine), strict=True
        )
        if chosen
    ]


def _chart(
    name: str,
    groups: Sequence[Group],
    of_runs: Sequence[Sequence[Mapping[str, Curve]]],
    columns: int,
) -> dict[str, Any]:
    """The metric NAME of all groups: each with its curve, and those of its runs."""
    found = [[(i, one[name]) for i, one in enumerate(runs) if name in one] for runs in of_runs]
    every = [curve for runs in found for _, curve in runs]
    span = min(c.x[0] for c in every), max(c.x[-1] for c in every)
    series = []
    for g, (group, runs) in enumerate(zip(groups, found, strict=True)):
        thin = [(group.runs[i].path.name, curves.decimate(c, span, columns)) for i, c in runs]
        several = len(runs) > 1
        if several:
            x, y, low, high = curves.together([curve for _, curve in runs])
            drawn = {"low": rounded(low), "high": rounded(high)}
        elif runs:
            x, y, drawn = thin[0][1].x, thin[0][1].y, {}
        if runs and len(x):
            single = [{"name": n, "x": rounded(c.x), "y": rounded(c.y)} for n, c in thin]
            line = {"group": g, "x": rounded(x), "y": rounded(y), **drawn}
            series.append(line | {"runs": single if several else []})
    units = dict.fromkeys(g.runs[0].unit for g, runs in zip(groups, found, strict=True) if runs)
    return {"title": name, "x": "/".join(units), "series": series}


def _profiles(groups: Sequence[Group], measure: Measure, rows: Rows) -> list[dict[str, Any]]:
    """A chart for each task: of every group the share of runs that score more than τ."""
    scores = {name: by_task(some, measure.name) for name, some in rows.items()}
    charts = []
    for task in dict.fromkeys(task for tasks in scores.values() for task in tasks):
        of_task = {name: tasks[task] for name, tasks in scores.items() if task in tasks}
        every = np.concatenate(list(of_task.values()))
        if len(every) == len(of_task):  # a share of one run is no share
            continue
        margin = 0.02 * (float(np.ptp(every)) or 1.0)
        thresholds = np.linspace(every.min() - margin, every.max() + margin, _THRESHOLDS)
        series = []
        for g, group in enumerate(groups):
            if group.name in of_task:
                share, low, high = profile([of_task[group.name]], thresholds)
                band = {"low": rounded(low), "high": rounded(high)}
                line = {"group": g, "x": rounded(thresholds), "y": rounded(share), "runs": []}
                series.append(line | band)
        title = f"share of runs with {measure.metric} > τ, {task}"
        charts.append({"title": title, "x": "τ", "series": series})
    return charts


def _facts(run: Run) -> dict[str, Any]:
    """What the table of runs says of RUN."""
    taken, seconds = usage.total(run), float(run.record.get("elapsed", 0))
    hardware, git = run.record["hardware"], run.record["git"]
    plugins = {f"{p['distribution']} {p['version']}" for p in run.record["plugins"].values()}
    machine = ", ".join([hardware["cpu"], f"{hardware['cores']} cores", *hardware["gpus"]])
    return {
        "path": str(run.path),
        "status": run.status,
        "progress": f"{run.progress:,} of {run.steps:,} {run.unit}",
        "seconds": f"{seconds:,.1f}",
        "pace": f"{run.progress / seconds:,.0f}" if seconds else "-",
        "cpu": f"{taken['cpu_seconds']:,.1f}" if "cpu_seconds" in taken else "unknown",
        "memory": f"{taken['memory_bytes'] / 2**20:,.0f}" if "memory_bytes" in taken else "unknown",
        "energy": f"{taken['energy_joules']:,.0f}" if "energy_joules" in taken else "unknown",
        "weights": grouping.weights(run) or "unknown",
        "command": command(run),
        "versions": ", ".join([*sorted(plugins), f"Python {run.record['python']}"]),
        "machine": machine,
        "commit": git and git["commit"] + (" and changes to it" if git["changed"] else ""),
    }
