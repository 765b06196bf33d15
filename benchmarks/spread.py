"""PPO on mpe2's simple_spread, judged as publications do: one line of JSON for each run.

    python benchmarks/spread.py [--seeds 0 1 2] [--steps 1200000] [--policies independent]
    python benchmarks/spread.py --random
    python benchmarks/spread.py --picture curves.svg FILE…    # the curves that such runs printed

A run is trained on one thread of the CPU with the preset, for its budget or other STEPS, which are
those of single agents: three for one of the environment. Then 400 episodes of the test split are
played with the likeliest actions. `return` is what mpe2 pays, the mean over the agents, and
`original` what an agent gets for it by the rewards of the first version of the environment, which
publications report (see `originally`); both with standard errors. `curve` is `original` after each
twentieth of the training, in 50 episodes of the validation split. `cpu_seconds` are those of the
training and of these.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from corelab_envs.interface import play
from corelab_envs.pettingzoo_task import PettingZooTask

from corelab import train

TASK = "mpe2/simple_spread_v3"
PUBLISHED = -133.86
"""IPPO with shared parameters (Papoudakis et al. 2021, arXiv:2006.07869): the mean of five seeds at
the best of all evaluations in 20 million env steps."""
_EPISODES = 400
_PARTS = 20
"""Of a run, for its curve."""


def originally(result: float) -> float:
    """What RESULT, a return of mpe2, is in the first version of the environment.

    In a step, mpe2 pays agent i -½ Σ d_l - ½ c_i: d_l is the distance from landmark l to the
    nearest agent, and c_i how many others the agent touches. Lowe et al. 2017 (arXiv:1706.02275)
    pay each the sum over all three of -Σ d_l - c_i - 1, since there an agent touches itself too.
    So the mean over agents, times 6, less 3 for each of the 25 steps, is the same number.
    """
    return 6 * result - 75


def judgement(mean: float, deviation: float) -> dict[str, float]:
    """Both measures of a policy whose returns in the test have this MEAN and DEVIATION."""
    error = deviation / _EPISODES**0.5
    return {
        "return": round(mean, 3),
        "return_error": round(error, 3),
        "original": round(originally(mean), 2),
        "original_error": round(6 * error, 2),
    }


def measure(seed: int, steps: int, policies: Literal["shared", "independent"]) -> dict[str, Any]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "task.policies": policies,
            "run.eval_every": steps // _PARTS,
            "run.eval_n": 50,
            "run.sinks": ("jsonl",),
            "run.checkpoint_seconds": 1e9,
            "run.threads": 1,
        }
        began = time.process_time()
        run = train(
            "ppo",
            task=TASK,
            model="independent" if policies == "independent" else None,
            steps=steps,
            seed=seed,
            device="cpu",
            run_dir=folder,
            options=options,
        )
        seconds = time.process_time() - began
        result = run.evaluate(split="test", n=_EPISODES, device="cpu")
        evaluated = [row for row in run.metrics() if "eval/return" in row]
        return {
            "benchmark": "spread",
            "policies": policies,
            "seed": seed,
            "agent_steps": run.progress,
            "cpu_seconds": round(seconds, 1),
            **judgement(float(result["return"]), float(result["return_std"])),
            "curve": [
                [int(row["progress"]), round(originally(row["eval/return"]), 1)]
                for row in evaluated
            ],
        }


def at_random(seed: int = 0) -> dict[str, Any]:
    """What random actions come to."""
    task = PettingZooTask(PettingZooTask.Config(id=TASK))
    rng = np.random.default_rng(seed)
    played = play(task, lambda seen: rng.integers(5, size=len(seen)), _EPISODES, "test", 0)
    figures = judgement(played.returns.mean(), played.returns.std())
    return {"benchmark": "spread", "policies": "random", **figures}


def draw(files: list[Path], picture: Path) -> None:
    """The curves of the runs in FILES, a line for each, as PICTURE."""
    import matplotlib
    from matplotlib.figure import Figure

    curves: dict[str, list[Any]] = defaultdict(list)
    for line in (line for file in files for line in file.read_text().splitlines()):
        run = json.loads(line)
        curves[run["policies"]].append(run["curve"])
    figure = Figure((6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for i, (policies, runs) in enumerate(curves.items()):
        for k, curve in enumerate(runs):
            steps, returns = np.transpose(curve)
            label = None if k else f"{policies} policy, a line a seed"
            axes.plot(steps / 1e6, returns, color=f"C{i}", linewidth=1, label=label)
    axes.axhline(PUBLISHED, color="0.4", linestyle="--", label="IPPO, published")
    axes.set_xlabel("million agent steps")
    axes.set_ylabel("original return")
    axes.legend(loc="lower right", frameon=False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spread"}):
        figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=range(3))
    parser.add_argument("--steps", type=int, default=3_000_000, help="the budget")
    parser.add_argument("--policies", choices=("shared", "independent"), default="shared")
    parser.add_argument("--random", action="store_true", help="only judge random actions")
    parser.add_argument("--picture", nargs="+", type=Path, metavar=("PICTURE", "FILE"))
    options = parser.parse_args()
    if options.picture:
        draw(options.picture[1:], options.picture[0])
    elif options.random:
        print(json.dumps(at_random()))
    else:
        for seed in options.seeds:
            print(json.dumps(measure(seed, options.steps, options.policies)), flush=True)


if __name__ == "__main__":
    main()
