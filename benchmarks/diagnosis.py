"""How often `corelab diagnose` names what is wrong, how often it cries wolf, and what it costs.

    python benchmarks/diagnosis.py [--seed 11] [--first 0] [--last 39] [--cost]

Forty short runs, 20 healthy and 20 each sick in one way, on Fashion-MNIST, Acrobot, MountainCar,
Pendulum and LunarLander; the checks were tuned on the digits of scikit-learn and CartPole. A line
is printed for each run, and at last one JSON line: in how many sick runs the planted fault is among
the first two that are named, how many healthy ones are flagged, and the processor seconds of a
diagnosis. With --cost, instead, what the warnings during training cost: the milliseconds of a look
at the networks, by comparison of runs and by the monitor's own account, and what share of the
processor time they come to, since the monitor keeps its account at a hundredth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["CORELAB_PROGRESS"] = "off"


@dataclass(frozen=True)
class Case:
    """A run, and what is wrong with it."""

    fault: str
    """The check that should name it; "" for a healthy one."""
    algorithm: str
    task: str
    steps: int
    model: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


FASHION, LANDER, ACROBOT = "fashion-mnist", "LunarLander-v3", "Acrobot-v1"
CAR, PENDULUM = "MountainCar-v0", "Pendulum-v1"
DEEP = [64] * 8
FEW = {"algorithm.batch_size": 32}
SMALL = {"algorithm.batch_size": 64, "model.width": 128}


def image(fault: str, **options: Any) -> Case:
    """A classifier of clothes."""
    named = {name.replace("__", "."): value for name, value in options.items()}
    return Case(fault, "classifier", FASHION, 40_000, options=named)


SICK = [
    image("inputs", algorithm__raw=True),
    Case("inputs", "ppo", f"patients/Raw{PENDULUM}", 12_000),
    Case("rewards", "ppo", f"patients/Rich{LANDER}", 8_000),
    image("last activation", model__ending="softmax"),
    image("initialisation", model__gain=1e-3, model__sizes=DEEP),
    Case("truncation as termination", "a2c", f"patients/Ends{PENDULUM}", 12_000),
    Case("learning rate too high", "ppo", ACROBOT, 12_000, options={"algorithm.lr": 0.3}),
    Case("learning rate too high", "vae", FASHION, 16_000, options=SMALL | {"algorithm.lr": 0.5}),
    Case("learning rate too low", "dqn", LANDER, 6_000, options={"algorithm.lr": 1e-8}),
    image("batch too large", algorithm__batch_size=20_000),
    Case("stale replay", "dqn", CAR, 8_000, options={"algorithm.target_every": 4_000}),
    Case(
        "overestimation",
        "dqn",
        LANDER,
        6_000,
        options={
            "algorithm.target_every": 1,
            "algorithm.double": False,
            "algorithm.clip_error": False,
            "algorithm.n_step": 1,
            "algorithm.updates": 4,
            "algorithm.lr": 3e-3,
            "algorithm.gamma": 1.0,
        },
    ),
    Case(
        "policy update too large",
        "ppo",
        PENDULUM,
        12_000,
        options={"algorithm.epochs": 60, "algorithm.lr": 3e-3, "algorithm.clip": 5.0},
    ),
    Case(
        "discriminator",
        "gan",
        FASHION,
        24_000,
        "mlp",
        {
            "algorithm.loss": "minimax",
            "algorithm.penalty": "none",
            "algorithm.discriminator_lr": 5e-3,
            "algorithm.n_critic": 4,
        },
    ),
    Case("posterior collapse", "vae", FASHION, 16_000, options=SMALL | {"algorithm.beta": 100.0}),
    Case(
        "codebook",
        "vqvae",
        FASHION,
        6_000,
        options=FEW | {"algorithm.revive": 0.0, "algorithm.entries": 1024},
    ),
    Case("noise level", "diffusion", FASHION, 12_000, "patient", FEW | {"model.sick": True}),
    image("dead units", model__bias=-4.0),
    image("vanishing gradients", model__activation="sigmoid", model__sizes=DEEP),
    Case("entropy collapse", "ppo", ACROBOT, 20_000, options={"algorithm.entropy_coef": -0.5}),
]
HEALTHY = [
    image(""),
    image("", model__activation="tanh"),
    image("", algorithm__batch_size=256),
    image("", model__sizes=[256, 128, 64]),
    Case("", "ppo", PENDULUM, 12_000),
    Case("", "ppo", ACROBOT, 20_000),
    Case("", "ppo", LANDER, 12_000),
    Case("", "ppo", ACROBOT, 12_000, "patient"),
    Case("", "a2c", ACROBOT, 16_000),
    Case("", "a2c", PENDULUM, 12_000),
    Case("", "ppo", CAR, 12_000),
    Case("", "dqn", LANDER, 6_000),
    Case("", "dqn", CAR, 8_000),
    Case("", "dqn", ACROBOT, 8_000),
    Case("", "vae", FASHION, 16_000, options=SMALL),
    Case("", "vae", FASHION, 16_000, options=SMALL | {"algorithm.likelihood": "bernoulli"}),
    Case("", "gan", FASHION, 24_000, "mlp"),
    Case("", "vqvae", FASHION, 6_000, options=FEW),
    Case("", "diffusion", FASHION, 12_000, "patient", FEW),
    Case("", "sac", PENDULUM, 2_000),
]


def announce(folder: Path) -> None:
    """Let corelab find the plugin `patients`, as if it were installed."""
    place = folder / "patients-0.0.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Name: patients\nVersion: 0.0.0\n")
    (place / "entry_points.txt").write_text("[corelab]\npatients = patients\n")
    sys.path[:0] = [str(folder), str(Path(__file__).parent)]
    import patients  # noqa: F401 - which registers its environments


def train(case: Case, seed: int, folder: Path, **options: Any) -> Any:
    """The run of CASE, whatever became of it."""
    import corelab

    name = f"run-{len(list(folder.iterdir()))}"
    quick = {
        "run.name": name,
        "run.sinks": ["jsonl"],
        "run.eval_every": case.steps // 5,
        "run.eval_n": 2 if case.task.endswith(("v0", "v1", "v3")) else 200,
    }
    with contextlib.suppress(corelab.DivergedError):
        corelab.train(
            case.algorithm,
            task=case.task,
            model=case.model,
            steps=case.steps,
            seed=seed,
            run_dir=folder,
            options=quick | case.options | options,
        )
    return corelab.Run(folder / name)


def judge(cases: dict[int, Case], seed: int, folder: Path) -> dict[str, Any]:
    """Diagnose CASES, by their numbers, and count."""
    from corelab_diagnosis.checks import findings
    from corelab_diagnosis.examination import examine

    hits = alarms = sick = 0
    seconds = []
    for number, case in cases.items():
        run = train(case, seed + number, folder)
        began = time.process_time()
        found = findings(*examine(run))
        named = [finding.check for finding in found]
        seconds.append(time.process_time() - began)
        right = case.fault in named[:2] if case.fault else not named
        sick += bool(case.fault)
        hits += right and bool(case.fault)
        alarms += not right and not case.fault
        what = f"{case.algorithm} {case.task} {case.fault or 'healthy'}"
        print(f"{'ok  ' if right else 'MISS'} {number:2} {what}: {named}", flush=True)
        for finding in found if not right else ():
            print(f"       {finding.check}: {finding.seen}", flush=True)
    return {
        "sick": sick,
        "named": hits,
        "healthy": len(cases) - sick,
        "flagged": alarms,
        "cpu_seconds": round(statistics.median(seconds), 2),
    }


def cost(folder: Path) -> dict[str, Any]:
    """The share of the processor time that warnings take.

    A monitor spends a fixed share, by its own account. What it does not account for shows where it
    looks at every other row: there the run with it is compared with the same run without it.
    """
    from corelab_diagnosis import live

    made: list[Any] = []
    begin = live.Monitor.__init__

    def keep(self: Any, run: Any) -> None:
        begin(self, run)
        made.append(self)

    live.Monitor.__init__ = keep  # type: ignore[method-assign]
    allowed, live._SHARE = live._SHARE, float("inf")
    cases = [
        Case("", "ppo", "CartPole-v1", 10_000, options={"run.eval_every": 0}),
        Case("", "vae", "digits", 10_000, options=FEW | {"run.eval_every": 0}),
    ]
    shares = {}
    for case in cases:
        train(case, 0, folder, steps=1000)  # what the first run loads counts for none
        seconds = []
        for sinks in (["jsonl"], ["jsonl", "diagnosis"]):
            began = time.process_time()
            train(case, 1, folder, **{"run.sinks": sinks})
            seconds.append(time.process_time() - began)
        more, monitor = seconds[1] - seconds[0], made[-1]
        shares[case.algorithm] = {
            "looks": monitor.looks,
            "milliseconds_a_look": round(1000 * more / monitor.looks, 1),
            "accounted": round(1000 * monitor.spent / monitor.looks, 1),
            "share": round(allowed * more / monitor.spent, 4),
        }
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--last", type=int, default=39, help="number of the last run")
    parser.add_argument("--cost", action="store_true")
    args = parser.parse_args()
    every = dict(enumerate([*SICK, *HEALTHY]))
    cases = {n: case for n, case in every.items() if args.first <= n <= args.last}
    with tempfile.TemporaryDirectory() as folder:
        announce(Path(folder))
        runs = Path(folder) / "runs"
        runs.mkdir()
        print(json.dumps(cost(runs) if args.cost else judge(cases, args.seed, runs)))


if __name__ == "__main__":
    main()
