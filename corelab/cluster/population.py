"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846).

The runs of a sweep learn side by side, and from time to time the worst of them go on from the state
of the best, with options a little changed. Who inherits what follows from the seed and from the
figures alone, and is written down before it is done; so a sweep gives the same runs again, and one
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from corelab import config
from corelab.checkpoints import write_atomically
from corelab.cluster.search import LISTS, Search
from corelab.context import derive
from corelab.runs import Run

if TYPE_CHECKING:
    from corelab.cluster.sweep import Sweep

BEGINNING = {"generation": 0, "bequests": {"generation": 0, "heirs": {}}}
"""What sweep.json says of a population that has not begun."""
GENERATIONS = 10
"""In how many equal parts the budget is learned."""
SHARE = 0.2
"""The part of the population that is replaced, and the part that it inherits from (section 4.1)."""
RESAMPLE = 0.25
"""How often an option is drawn anew instead of being changed."""
FACTORS = (0.8, 1.2)
"""What a number is multiplied with when it is changed (section 4.1)."""


def grow(sweep: Sweep, learn: Callable[[], None]) -> None:
    """Bring the runs of SWEEP through what is left of their generations; LEARN takes them through
    one of them.
    """
    steps = sweep.base.options.steps
    for generation in range(sweep.record["generation"], GENERATIONS):
        if generation:
            evolve(sweep, generation)
        sweep.update(generation=generation, until=-(-steps * (generation + 1) // GENERATIONS))
        learn()
        if sweep.record["status"] != "running":
            return


def evolve(sweep: Sweep, generation: int) -> None:
    """Let the worst runs of SWEEP inherit before GENERATION begins."""
    if sweep.record["bequests"]["generation"] < generation:
        sweep.update(bequests={"generation": generation, "heirs": choose(sweep, generation)})
    if sweep.record["bequests"]["generation"] == generation:
        for name, bequest in sweep.record["bequests"]["heirs"].items():
            inherit(Run(sweep.path / name), generation, **bequest)


def choose(sweep: Sweep, generation: int) -> dict[str, Any]:
    """Who inherits from whom, with which values, by the newest figures of the runs."""
    rng = np.random.default_rng(derive(sweep.base.options.seed, "population", generation))
    sign = 1 if sweep.mode == "max" else -1

    def figure(run: Run) -> float:
        told = sweep.reports(run)
        return sign * told[-1][1] if told and run.record["status"] != "failed" else -np.inf

    ranked = sorted(sweep.runs(), key=figure, reverse=True)
    n = min(len(ranked) // 2, max(1, round(SHARE * len(ranked))))
    best = [run for run in ranked[:n] if np.isfinite(figure(run))]
    heirs = {}
    for run in ranked[len(ranked) - n :] if best else []:
        parent = best[rng.integers(len(best))]
        checkpoint, _ = parent.checkpoints.newest_whole()
        assert checkpoint
        values = sweep.values(parent)
        changed = {s.name: explore(s, values[s.name], rng) for s in sweep.searches}
        heirs[run.path.name] = {
            "parent": parent.path.name,
            "checkpoint": checkpoint.name,
            "values": {name: config.to_plain(value) for name, value in changed.items()},
        }
    return heirs


def explore(search: Search, value: Any, rng: np.random.Generator) -> Any:
    """A value near VALUE within what SEARCH covers, or at times one from anywhere in it."""
    if rng.random() < RESAMPLE:
        state = np.random.RandomState(rng.integers(2**32))
        return search.value(search.domain().sample(random_state=state))
    if search.kind in LISTS:
        there = search.point(value) + rng.choice([-1, 1])
        return search.arguments[min(max(there, 0), len(search.arguments) - 1)]
    lower, upper, *step = search.arguments
    changed = value * rng.choice(FACTORS)
    if search.kind == "randint":
        # at least by one, and below the upper bound
        changed = round(changed) if round(changed) != value else value + rng.choice([-1, 1])
        return int(min(max(changed, lower), upper - 1))
    if step:
        steps = round((changed - value) / step[0]) or rng.choice([-1, 1])
        changed = round(value / step[0] + steps) * step[0]
    return type(value)(min(max(changed, lower), upper))


def inherit(
    heir: Run, generation: int, parent: str, checkpoint: str, values: dict[str, Any]
) -> None:
    """Make HEIR go on from the CHECKPOINT of PARENT with VALUES, unless it has done so already."""
    inherited = heir.record.get("inherited", [])
    if inherited and inherited[-1]["generation"] == generation:
        return
    source = Run(heir.path.with_name(parent))
    place = heir.checkpoints.directory
    shutil.rmtree(place, ignore_errors=True)
    copied = place.with_name(".inherited")
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(source.checkpoints.directory / checkpoint, copied / checkpoint)
    copied.rename(place)
    write_atomically(heir.path / "metrics.jsonl", (source.path / "metrics.jsonl").read_text())
    chosen = deepcopy(heir.config)
    for name, value in values.items():
        part, option = name.split(".")
        chosen[part][option] = value
    facts = {"generation": generation, "progress": int(checkpoint), "parent": parent}
    heir.update(
        status="interrupted",
        error=None,
        config=chosen,
        inherited=[*inherited, facts | {"values": values}],
        **{name: source.record[name] for name in ("progress", "elapsed", "best")},
    )
