"""The verb `corelab reproduce`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from corelab import Run, RunError
from corelab_report.groups import Group, siblings, weights
from corelab_report.scores import choose
from corelab_report.words import Parser


def reproduce(argv: list[str]) -> int:
    """Repeat a run from its run.json in a new directory, and compare what comes of it.

    What differs from then is told before: versions, plugins, hardware. The exit code is 0 if the
    weights are bit-identical, or if the score lies within those of the run's other seeds.
    """
    parser = Parser("reproduce", reproduce.__doc__)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="the folder for the new run")
    parser.add_argument("--name", help="of the new run (default: that of RUN, and -again)")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    args = parser.parse_args(argv)

    run = Run(args.run)
    if run.status != "done":
        raise RunError(f"{run.path}: is {run.status}; only a run that is done can be compared")
    name = args.name or f"{_name(run)}-again"
    place = {**run.config["run"], "dir": str(args.dir), "name": name}
    again = Run.create(run.experiment(run=place))
    changed = list(changes(run.record, again.record))
    if not args.json:
        same = ["versions, plugins and hardware are those of then"]
        print(*(changed or same), sep="\n", flush=True)
    result = {"changes": changed} | compare(run, again.resume())
    print(json.dumps(result, indent=2) if args.json else "\n".join(_sentences(result)))
    return 0 if result["identical"] or result["inside"] else 1


def _name(run: Run) -> str:
    """The name of RUN's directory, with that of its folder if it is one of several seeds."""
    path = run.path.absolute()
    return f"{path.parent.name}-{path.name}" if path.name == f"seed-{run.seed}" else path.name


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that is another one in the run.json NOW than in that of THEN."""
    for name in ("corelab", "python"):
        if then[name] != now[name]:
            yield f"{name} was {then[name]}, now it is {now[name]}"
    for kind, was in then["plugins"].items():
        plugin = now["plugins"][kind]
        owner = f"{was['distribution']} {was['version']}"
        if was["version"] != plugin["version"]:
            yield f"the {kind} was that of {owner}, now it is {plugin['version']}"
        elif was.get("sha256", plugin["sha256"]) != plugin["sha256"]:
            yield f"the code of the {kind}, in {owner}, was another one"
    for name in sorted(then["packages"].keys() | now["packages"].keys()):
        was, version = (of["packages"].get(name, "not installed") for of in (then, now))
        if was != version:
            yield f"{name} was {was}, now it is {version}"
    for part, was in then["hardware"].items():
        here = now["hardware"][part]
        if here != was:
            yield f"hardware: {part} was {was or 'none'}, now it is {here or 'none'}"
    if then["git"] != now["git"]:
        was, here = (of["git"] and of["git"]["commit"] for of in (then, now))
        changed = " with changes to it" if (now["git"] or {}).get("changed") else ""
        yield f"the commit was {was or 'none'}, now it is {here or 'none'}{changed}"
    if then.get("stopped_by") == "time":
        yield "it was stopped by its time limit, which no second run meets at the same step"


def compare(run: Run, again: Run) -> dict[str, Any]:
    """Whether AGAIN came to the same as RUN, and if not, whether another seed could have."""
    was, now = weights(run), weights(again)
    group = Group(str(run.path), (run,))
    measure = choose([group])
    seeds = [measure.score(one) for one in siblings(run)]
    known = sorted(score for score in seeds if score is not None)
    score = measure.score(again)
    inside = len(known) > 1 and score is not None and known[0] <= score <= known[-1]
    return {
        "run": str(run.path),
        "again": str(again.path),
        "weights": [was, now],
        "identical": bool(was) and was == now,
        "metric": measure.metric,
        "scores": [measure.score(run), score],
        "seeds": known,
        "inside": inside,
        "parted": _parted(run, again),
    }


def _parted(run: Run, again: Run) -> int | None:
    """The progress at which the metrics of the two differ for the first time; None if nowhere."""
    rows = [
        [{k: v for k, v in row.items() if k != "time"} for row in one.metrics()]
        for one in (run, again)
    ]
    for one, other in zip(*rows, strict=False):
        if one != other:
            return int(min(one["progress"], other["progress"]))
    longer = max(rows, key=len)
    return (
        int(longer[len(min(rows, key=len))]["progress"]) if len(rows[0]) != len(rows[1]) else None
    )


def _sentences(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['again']} repeats {result['run']}"
    if result["identical"]:
        yield f"the weights are bit-identical ({result['weights'][0][:12]})"
    elif all(result["weights"]):
        yield "the weights differ"
    else:
        yield "there are no weights to compare"
    if result["parted"] is None:
        yield "the metrics are the same in every row"
    else:
        yield f"the metrics differ from progress {result['parted']:,} on"
    (was, now), seeds = result["scores"], result["seeds"]
    if not result["identical"] and now is not None:
        yield f"{result['metric']} was {was:.6g}, now it is {now:.6g}"
        if len(seeds) < 2:
            yield "there is no other seed beside the run, so nobody knows how much is luck"
        else:
            n, where = len(seeds), "within" if result["inside"] else "outside"
            yield (
                f"that is {where} those of the {n} seeds, {seeds[0]:.6g} to {seeds[-1]:.6g}, where "
                f"another seed lies with a probability of {n - 1}/{n + 1}"
            )
