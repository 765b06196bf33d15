"""The verb `corelab card`: a model card (Mitchell et al. 2019, arXiv:1810.03993)."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from corelab import ConfigError, PluginError, Run, RunError
from corelab.runs import RECORD
from corelab.statistics import interval, iqm
from corelab_report import usage
from corelab_report.disaggregation import Table, disaggregate
from corelab_report.groups import siblings, weights
from corelab_report.repeating import command
from corelab_report.words import Parser, write


def card(argv: list[str]) -> int:
    """Write the model card of a run, in Markdown: data, metrics group by group, resources.

    What only the author can know, such as the intended use, is left to write.
    """
    parser = Parser("card", card.__doc__)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("-o", "--output", type=Path, help="the file to write (default: print it)")
    many = "test examples of each class (default: 100), or games (200), or beginnings (50)"
    parser.add_argument("-n", type=int, help=many)
    which = "last, best, or a progress (default: last)"
    parser.add_argument("--checkpoint", default="last", help=which)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    args = parser.parse_args(argv)
    if args.n is not None and args.n < 2:
        raise ConfigError(f"corelab card: -n is {args.n}; it must be at least 2, for an interval")
    if args.run.is_dir() and not (args.run / RECORD).exists() and any(args.run.glob(f"*/{RECORD}")):
        one = min(args.run.glob(f"*/{RECORD}")).parent
        raise RunError(f"{args.run}: a card is of one run; name one in this folder, such as {one}")

    run = Run(args.run)
    algorithm = run.load(args.checkpoint, args.device)
    text = describe(run, algorithm, disaggregate(algorithm, args.n))
    if args.output:
        write(args.output, text)
        print(args.output)
    else:
        print(text, end="")
    return 0


def describe(run: Run, algorithm: Any, found: Table | str) -> str:
    """The card of RUN, whose ALGORITHM was measured group by group with what was FOUND."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").rstrip(".")
    environment.filters["interval"] = lambda ends: f"{ends[0]:.5g} to {ends[1]:.5g}"
    table = found if isinstance(found, Table) else None
    experiment = run.experiment()
    runs = siblings(run)
    taken, git = usage.total(run), run.record["git"]
    plugins = {f"{p['distribution']} {p['version']}" for p in run.record["plugins"].values()}
    session, hardware = run.record["sessions"][0], run.record["hardware"]
    return environment.get_template("card.jinja").render(
        run=run,
        about={offer.component.kind: offer.component for offer in experiment.offers()},
        parameters=_learned(run),
        began=time.strftime("%Y-%m-%d", time.gmtime(session["began"])),
        weights=weights(run),
        versions=", ".join([*sorted(plugins), f"Python {run.record['python']}"]),
        commit=git and git["commit"] + (" and changes to it" if git["changed"] else ""),
        command=command(run),
        best=algorithm.best,
        evaluation=_evaluation(runs, run),
        several=len(runs) if len(runs) > 1 else 0,
        data=_data(algorithm.task),
        table=table,
        reason=found,
        worst=table and table.worst,
        verdict=table and _verdict(table),
        seconds=f"{run.record['elapsed']:,.1f} s of training and evaluation",
        cpu=f"{taken['cpu_seconds']:,.1f} s" if "cpu_seconds" in taken else "unknown",
        memory=f"{taken['memory_bytes'] / 2**20:,.0f} MiB at most"
        if "memory_bytes" in taken
        else "unknown",
        energy=_energy(taken),
        machine=", ".join([hardware["cpu"], f"{hardware['cores']} cores", *hardware["gpus"]]),
        caveats=_caveats(run, len(runs)),
    )


def _learned(run: Run) -> int:
    """How many numbers the weights of the last checkpoint hold; 0 if that is not known."""
    from corelab.state import load_tensors

    file = run.checkpoints.pick() / "algorithm" / "weights.safetensors"
    return sum(tensor.numel() for tensor in load_tensors(file).values())


def _evaluation(runs: list[Run], run: Run) -> list[dict[str, Any]]:
    """Each metric of the last evaluation of RUN, and what it is over all RUNS."""
    last = {one.path: _last(one) for one in runs}
    rows = []
    for name, value in last[run.path].items():
        if re.search(r"_\d+$", name):
            continue  # of a single unit, such as a latent
        scores = [found[name] for found in last.values() if name in found]
        over = {"iqm": float(iqm(_array(scores))), "interval": interval([scores])}
        rows.append({"name": name, "value": value, **over})
    return rows


def _array(scores: list[float]) -> Any:
    import numpy as np

    return np.array(scores, float)


def _last(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in run.metrics():
        found |= {name: value for name, value in row.items() if name.startswith("eval/")}
    return found


def _data(task: Any) -> list[str]:
    """What TASK says of itself."""
    lines = []
    if hasattr(task, "split") and hasattr(task, "classes"):
        channels, height, width = task.shape
        lines.append(
            f"Images of {height} x {width} pixels, {channels} channel{'s' * (channels > 1)}."
        )
        for name in ("train", "validation", "test"):
            part = task.split(name)
            counts = part.labels.bincount(minlength=len(task.classes)).tolist()
            told = ", ".join(f"{c}: {n:,}" for c, n in zip(task.classes, counts, strict=True))
            lines.append(f"{name.capitalize()} split: {len(part):,} examples ({told}).")
    if hasattr(task, "single_observation_space"):
        lines.append(f"Observations: {task.single_observation_space}.")
        lines.append(f"Actions: {task.single_action_space}.")
        lines.append("Test episodes begin from seeds that training and validation do not use.")
    return lines or ["The task does not tell its size."]


def _verdict(table: Table) -> str:
    """The worst group of TABLE in a sentence."""
    worst, everybody = table.worst, table.everybody
    if len(table.rows) == 1:
        return f"The {worst.group} brings {worst.value:.5g} against {everybody.value:.5g} of all."
    low, high = worst.interval
    apart = not low <= everybody.value <= high
    sure = f"its interval {'does not hold' if apart else 'holds'} the value of all"
    return (
        f"The worst {table.attribute} is **{worst.group}**, with {worst.value:.5g} against "
        f"{everybody.value:.5g} of all; {sure}."
    )


def _energy(taken: dict[str, float]) -> str:
    if "energy_joules" not in taken:
        return "unknown: the counters of the processor could not be read while it trained"
    joules = taken["energy_joules"]
    return f"{joules:,.0f} J ({joules / 3.6e6:.3g} kWh) by all processor packages of the machine"


def _caveats(run: Run, seeds: int) -> list[str]:
    lines = []
    if run.status != "done":
        lines.append(f"The run is {run.status}.")
    if seeds == 1:
        lines.append("It is one run; `corelab train --seeds 5` tells how much of this is luck.")
    if run.config["workers"] > 1 or run.config["rollout_workers"]:
        lines.append("Processor time and memory are those of the process that led the others.")
    if run.record["git"] and run.record["git"]["changed"]:
        lines.append("The code had changes that are in no commit.")
    try:
        run.capability("sample")
    except PluginError:
        lines.append("It was measured only; it has no samples to look at.")
    return lines
