"""Learning curves of corelab and another library at the same settings, with intervals over seeds.

    python benchmarks/curves.py run [--only ppo-sb3-zoo dqn-cleanrl] [--seeds 10] > runs.jsonl
                                    [--peers .peers/bin/python] [--cleanrl .peers/cleanrl]
    python benchmarks/curves.py compare runs.jsonl [--picture docs/learning-curves.svg]

`run` trains corelab and the peer of each case as `benchmarks/rl.py` does, and prints a line of JSON
for each seed of each: its curve, the mean return of the training episodes that ended in each
twentieth of the environment steps. It takes half an hour of one CPU.

`compare` prints a line of JSON for each case. What a run is judged by is the area under its curve,
the mean over the twenty parts: `area` gives the interquartile mean over seeds with its 95 %
interval by bootstrap (Agarwal et al. 2021), `p` the probability of a difference between these means
at least as large if it did not matter which library a run is of (permutation test, two-sided).
Curves are means over seeds with 95 % intervals by bootstrap: `apart` counts the parts in which
corelab's interval and the peer's have nothing in common, `inside` those in which corelab's mean
lies in the peer's interval. Of the 20 parts of two equal curves these are about 0.5 and 16 with ten
seeds of each, and 1 and 14 with five.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rl
from numpy.typing import NDArray
from scipy.stats import permutation_test

from corelab.statistics import interval, iqm

Floats = NDArray[np.float64]
PARTS = 20
CASES = {
    name: replace(rl.CASES[name], steps=steps, episodes=0, record=True)
    for name, steps in {
        "ppo-sb3-zoo": 100_000,  # its budget
        "ppo-cleanrl": 102_400,  # of 500,000
        "dqn-sb3-zoo": 10_000,  # of 50,000
        "dqn-cleanrl": 50_000,  # of 500,000
    }.items()
}
TITLES = {
    "ppo-sb3-zoo": "PPO, rl-baselines3-zoo's settings",
    "ppo-cleanrl": "PPO, CleanRL's settings",
    "dqn-sb3-zoo": "DQN, rl-baselines3-zoo's settings",
    "dqn-cleanrl": "DQN, CleanRL's settings",
}
NAMES = {"corelab": "corelab", "sb3": "Stable-Baselines3", "cleanrl": "CleanRL"}
RESAMPLES = 200_000
"""More than the 184,756 ways to divide 20 runs into two tens, so that all of these are tried."""


def curve(ended: Sequence[tuple[int, float]], steps: int) -> list[float]:
    """The mean return of the episodes that ENDED, as (step, return), in each part of STEPS.

    An episode of CartPole-v1 takes at most 500 steps of one copy of the environment, and a part at
    least 500 of each, so episodes end in all of them.
    """
    at, returns = np.array(ended, float).T
    part = np.ceil(at * PARTS / steps) - 1  # step 1 is in the first, the last step in the last
    return [round(float(returns[part == k].mean()), 3) for k in range(PARTS)]


def train(names: Sequence[str], options: argparse.Namespace) -> None:
    """Print a line for each run of the cases of these NAMES."""
    for name in names:
        case = CASES[name]
        if why := rl.missing(case.peer, options):
            raise SystemExit(f"{name}: {case.peer} cannot be run: {why}")
        for seed in range(options.first, options.first + options.seeds):
            for library in ("corelab", case.peer):
                run = rl.trained(library, case, seed, options)
                told = {"case": name, "library": library, "seed": seed}
                told |= {
                    "cpu_seconds": run["cpu_seconds"],
                    "curve": curve(run["ended"], case.steps),
                }
                print(json.dumps(told), flush=True)


def mean(scores: Floats) -> Floats:
    return np.asarray(scores.mean(-1))


def band(curves: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean of CURVES [seeds, PARTS], and its 95 % interval's two ends, [PARTS] each."""
    low, high = np.transpose([interval([part], mean) for part in curves.T.tolist()])
    return curves.mean(0), low, high


def difference(a: Floats, b: Floats, axis: int) -> Floats:
    return iqm(np.moveaxis(a, axis, -1)) - iqm(np.moveaxis(b, axis, -1))


def compared(ours: Floats, theirs: Floats) -> dict[str, Any]:
    """What the curves of two libraries, [seeds, PARTS] each, say of each other."""
    (middle, low, high), (_, their_low, their_high) = band(ours), band(theirs)
    areas = ours.mean(1), theirs.mean(1)
    test = permutation_test(areas, difference, vectorized=True, n_resamples=RESAMPLES, rng=0)
    return {
        "area": [
            [round(float(x), 1) for x in (iqm(area), *interval([area.tolist()]))] for area in areas
        ],
        "p": round(float(test.pvalue), 4),
        "apart": int(((high < their_low) | (low > their_high)).sum()),
        "inside": int(((their_low <= middle) & (middle <= their_high)).sum()),
    }


def draw(cases: dict[str, dict[str, Floats]], path: Path) -> None:
    """A panel for each case: the means of both libraries, with their intervals."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = 2 if len(cases) > 1 else 1
    figure = Figure(figsize=(4.5 * columns, 3 * -(-len(cases) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(cases) // columns), columns, squeeze=False, sharey=True)
    for (name, curves), axes in zip(cases.items(), panels.flat, strict=False):
        x = (np.arange(PARTS) + 0.5) * CASES[name].steps / PARTS
        for library, colour in zip(curves, ("#5c6bc0", "#e07b39"), strict=True):
            middle, low, high = band(curves[library])
            axes.plot(x, middle, color=colour, label=NAMES[library])
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set(title=TITLES[name], xlabel="environment steps", ylim=(0, 510))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="lower right", frameon=False)
    for axes in panels[:, 0]:
        axes.set_ylabel("return in training")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, and print the curves")
    rl.add_options(run, CASES)
    run.add_argument("--seeds", type=int, default=10, help="how many")
    compare = commands.add_parser("compare", help="compare the curves that were printed")
    compare.add_argument("runs", type=Path, help="lines of JSON")
    compare.add_argument("--picture", type=Path, help="a file to draw the curves in")
    options = parser.parse_args()
    if options.command == "run":
        train(options.only, options)
        return
    rows = [json.loads(line) for line in options.runs.read_text().splitlines()]
    cases: dict[str, dict[str, Floats]] = {}
    for name in dict.fromkeys(row["case"] for row in rows):
        curves = {
            library: np.array(
                [r["curve"] for r in rows if (r["case"], r["library"]) == (name, library)]
            )
            for library in ("corelab", CASES[name].peer)
        }
        cases[name] = curves
        seeds = [len(c) for c in curves.values()]
        print(json.dumps({"case": name, "seeds": seeds} | compared(*curves.values())))
    if options.picture is not None:
        draw(cases, options.picture)


if __name__ == "__main__":
    main()
