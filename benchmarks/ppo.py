"""PPO on CartPole-v1 with its preset, for several seeds: the returns it reaches, and the cost.

    python benchmarks/ppo.py [--seeds 10] [--first 0] [--task CartPole-v1]

Trains each seed with the task's preset on one thread of the CPU, without sinks, then plays 100
episodes of the test split, always taking the likeliest action. The last line is JSON. `cpu_seconds`
are those of training alone, with one evaluation of 20 episodes at its end and the checkpoints.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from corelab import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--task", default="CartPole-v1")
    options = parser.parse_args()
    returns, steps, seconds = [], [], []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            run = train(
                "ppo",
                task=options.task,
                seed=seed,
                device="cpu",
                run_dir=folder,
                options={"run.eval_every": 0, "run.sinks": (), "run.threads": 1},
            )
            seconds.append(round(time.process_time() - began, 1))
            returns.append(round(run.evaluate(split="test", n=100, device="cpu")["return"], 2))
            steps.append(run.progress)
        print(
            f"seed {seed}: return {returns[-1]} after {steps[-1]:,} env steps "
            f"in {seconds[-1]} CPU seconds",
            flush=True,
        )
    figures = {
        "benchmark": f"ppo {options.task}",
        "seeds": list(range(options.first, options.first + options.seeds)),
        "returns": returns,
        "env_steps": steps,
        "cpu_seconds": seconds,
        "env_steps_per_cpu_second": round(sum(steps) / sum(seconds)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
