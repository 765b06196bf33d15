"""How often `corelab diagnose` names what is wrong, how often it cries wolf, and what it costs.

    python benchmarks/diagnosis.py [--set clocks] [--seed 11] [--first 0] [--last 39] [--cost]

Forty short runs, 20 healthy and 20 each sick in one way, on tasks that the checks were not tuned
on: that was done on the digits of scikit-learn, on Fashion-MNIST and on environments of Gymnasium,
and, for each set but the first, on those before it. No threshold of a check may be changed after
somebody has looked at what comes out here: whoever mends a check because of it has to judge on
another set, of other tasks, and leave this one as it is. All results are published.

A line is printed for each run, and at last one JSON line: in how many sick runs the planted fault
is among the first two that are named, how many healthy ones are flagged, and the processor seconds
of a diagnosis. With --cost, instead, what the warnings during training cost: the milliseconds of a
look at the networks, by comparison of runs and by the monitor's own account, and what share of the
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


FEW = {"algorithm.batch_size": 32}
SMALL = FEW | {"model.width": 128}
CODEC = FEW | {"model.halvings": 1, "model.channels": 16, "algorithm.prior_channels": 16}


def shapes(fault: str, steps: int = 24_000, **options: Any) -> Case:
    """A classifier of shapes."""
    named = {name.replace("__", "."): value for name, value in options.items()}
    return Case(fault, "classifier", "shapes", steps, options={"algorithm.batch_size": 64} | named)


BALANCE, REACHER, CHASE = "InvertedPendulum-v5", "Reacher-v5", "patients/Chase-v0"
SHAPES = [
    Case("inputs", "ppo", f"patients/Raw{BALANCE}", 10_000),
    Case("rewards", "a2c", f"patients/Rich{REACHER}", 10_000),
    shapes("last activation", model__ending="sigmoid"),
    shapes("initialisation", model__gain=1e-4, model__sizes=[96, 96, 96]),
    Case("truncation as termination", "ppo", f"patients/Ends{REACHER}", 10_000),
    Case("learning rate too high", "a2c", BALANCE, 10_000, options={"algorithm.lr": 0.5}),
    Case("learning rate too low", "sac", REACHER, 2_500, options={"algorithm.lr": 1e-9}),
    Case("stale replay", "dqn", CHASE, 6_000, options={"algorithm.target_every": 3_500}),
    Case(
        "overestimation",
        "dqn",
        CHASE,
        10_000,
        options={
            "algorithm.target_every": 1,
            "algorithm.double": False,
            "algorithm.clip_error": False,
            "algorithm.n_step": 1,
            "algorithm.updates": 8,
            "algorithm.lr": 0.01,
            "algorithm.anneal_lr": False,
            "algorithm.gamma": 1.0,
        },
    ),
    Case(
        "policy update too large",
        "ppo",
        REACHER,
        10_000,
        options={"algorithm.epochs": 50, "algorithm.lr": 5e-3, "algorithm.clip": 4.0},
    ),
    Case(
        "discriminator",
        "gan",
        "shapes",
        16_000,
        "mlp",
        {
            "algorithm.loss": "minimax",
            "algorithm.penalty": "none",
            "algorithm.discriminator_lr": 0.01,
            "algorithm.n_critic": 3,
        },
    ),
    Case("posterior collapse", "vae", "shapes", 12_000, options=SMALL | {"algorithm.beta": 60.0}),
    Case(
        "codebook",
        "vqvae",
        "shapes",
        4_000,
        options=CODEC | {"algorithm.revive": 0.0, "algorithm.entries": 2048},
    ),
    Case("noise level", "diffusion", "shapes", 12_000, "patient", FEW | {"model.sick": True}),
    shapes("dead units", model__bias=-6.0),
    shapes("vanishing gradients", model__activation="sigmoid", model__sizes=[48] * 9),
    Case("entropy collapse", "ppo", CHASE, 16_000, options={"algorithm.entropy_coef": -2.0}),
    shapes("overfitting", algorithm__examples=100, model__sizes=[96, 96]),
    shapes("too few units", model__sizes=[3, 3], model__activation="tanh"),
    shapes("too many units", algorithm__examples=50, model__sizes=[800, 400]),
    shapes(""),
    shapes("", model__activation="tanh", model__sizes=[64]),
    shapes("", algorithm__batch_size=200, model__sizes=[160, 80, 40]),
    shapes("", algorithm__lr=3e-3, model__sizes=[48, 48]),
    Case("", "ppo", BALANCE, 10_000),
    Case("", "ppo", REACHER, 10_000),
    Case("", "ppo", CHASE, 16_000),
    Case("", "ppo", CHASE, 10_000, "patient", {"model.sizes": [48, 48]}),
    Case("", "a2c", BALANCE, 10_000),
    Case("", "a2c", CHASE, 10_000),
    Case("", "reinforce", BALANCE, 10_000),
    Case("", "reinforce", CHASE, 10_000),
    Case("", "dqn", CHASE, 6_000),
    Case("", "dqn", CHASE, 6_000, options={"algorithm.n_step": 3, "algorithm.dueling": True}),
    Case("", "sac", REACHER, 2_500),
    Case("", "vae", "shapes", 12_000, options=SMALL),
    Case("", "vae", "shapes", 12_000, options=SMALL | {"algorithm.latent": 6}),
    Case("", "gan", "shapes", 16_000, "mlp"),
    Case("", "vqvae", "shapes", 4_000, options=CODEC),
    Case("", "diffusion", "shapes", 12_000, "patient", FEW),
]


def gratings(fault: str, steps: int = 16_000, **options: Any) -> Case:
    """A classifier of gratings."""
    named = {name.replace("__", "."): value for name, value in options.items()}
    return Case(
        fault, "classifier", "gratings", steps, options={"algorithm.batch_size": 50} | named
    )


DOUBLE, DOCK = "InvertedDoublePendulum-v5", "patients/Dock-v0"
GRATINGS = [
    Case("inputs", "a2c", f"patients/Raw{DOUBLE}", 8_000),
    Case("rewards", "ppo", "patients/RichDock-v0", 8_000),
    gratings("last activation", model__ending="relu"),
    gratings("initialisation", model__gain=40.0, model__sizes=[80, 80]),
    Case("truncation as termination", "a2c", "patients/EndsDock-v0", 8_000),
    Case("learning rate too high", "dqn", DOCK, 4_000, options={"algorithm.lr": 0.5}),
    Case("learning rate too low", "vae", "gratings", 8_000, options=SMALL | {"algorithm.lr": 1e-8}),
    Case("stale replay", "dqn", DOCK, 4_000, options={"algorithm.learning_starts": 2_500}),
    Case(
        "overestimation",
        "dqn",
        DOCK,
        6_000,
        options={
            "algorithm.target_every": 1,
            "algorithm.double": False,
            "algorithm.clip_error": False,
            "algorithm.n_step": 2,
            "algorithm.updates": 8,
            "algorithm.lr": 3e-3,
            "algorithm.anneal_lr": False,
            "algorithm.gamma": 1.0,
        },
    ),
    Case(
        "policy update too large",
        "ppo",
        DOUBLE,
        8_000,
        options={"algorithm.epochs": 60, "algorithm.lr": 8e-3, "algorithm.clip": 10.0},
    ),
    Case(
        "discriminator",
        "gan",
        "gratings",
        10_000,
        "mlp",
        {
            "algorithm.loss": "minimax",
            "algorithm.penalty": "none",
            "algorithm.lr": 1e-5,
            "algorithm.n_critic": 4,
        },
    ),
    Case("posterior collapse", "vae", "gratings", 8_000, options=SMALL | {"algorithm.beta": 300.0}),
    Case(
        "codebook",
        "vqvae",
        "gratings",
        2_500,
        options=CODEC | {"algorithm.revive": 0.0, "algorithm.entries": 8192},
    ),
    Case("noise level", "diffusion", "gratings", 10_000, "patient", FEW | {"model.sick": True}),
    gratings("dead units", model__bias=-12.0, model__sizes=[100, 50]),
    gratings("vanishing gradients", model__activation="sigmoid", model__sizes=[40] * 10),
    Case("entropy collapse", "ppo", DOCK, 10_000, options={"algorithm.entropy_coef": -1.5}),
    gratings("overfitting", algorithm__examples=18, model__sizes=[72, 36]),
    gratings("too few units", model__sizes=[2]),
    gratings("too many units", algorithm__examples=18, model__sizes=[600, 600]),
    gratings(""),
    gratings("", model__activation="tanh", model__sizes=[56, 56]),
    gratings("", model__activation="sigmoid", model__sizes=[100]),
    gratings("", algorithm__batch_size=150, algorithm__lr=2e-3),
    Case("", "ppo", DOUBLE, 8_000),
    Case("", "ppo", DOCK, 8_000),
    Case("", "ppo", DOCK, 8_000, options={"model.activation": "relu", "model.sizes": [32, 32]}),
    Case("", "ppo", DOUBLE, 8_000, "patient"),
    Case("", "a2c", DOUBLE, 8_000),
    Case("", "a2c", DOCK, 8_000),
    Case("", "reinforce", DOUBLE, 8_000),
    Case("", "a2c", DOCK, 8_000, options={"algorithm.lam": 1.0, "model.sizes": [40]}),
    Case("", "dqn", DOCK, 4_000),
    Case("", "rainbow", DOCK, 3_000, options={"algorithm.v_min": 0.0, "algorithm.v_max": 80.0}),
    Case("", "sac", DOUBLE, 2_000),
    Case("", "vae", "gratings", 8_000, options=SMALL),
    Case("", "vae", "gratings", 8_000, options=SMALL | {"algorithm.likelihood": "bernoulli"}),
    Case("", "gan", "gratings", 10_000, "mlp"),
    Case("", "vqvae", "gratings", 2_500, options=CODEC),
    Case("", "diffusion", "gratings", 10_000, "patient", FEW),
]


def clocks(fault: str, steps: int = 16_000, **options: Any) -> Case:
    """A classifier of clocks."""
    named = {name.replace("__", "."): value for name, value in options.items()}
    return Case(fault, "classifier", "clocks", steps, options={"algorithm.batch_size": 40} | named)


HOPPER, FORAGE, TRACK = "Hopper-v5", "patients/Forage-v0", "patients/Track-v0"
CLOCKS = [
    Case("inputs", "dqn", "patients/RawForage-v0", 4_000),
    Case("rewards", "ppo", "patients/RichTrack-v0", 6_000),
    clocks("last activation", model__ending="softmax"),
    clocks("initialisation", model__activation="tanh", model__gain=20.0, model__sizes=[64, 64]),
    Case("truncation as termination", "ppo", "patients/EndsTrack-v0", 8_000),
    Case("learning rate too high", "vae", "clocks", 5_000, options=SMALL | {"algorithm.lr": 0.5}),
    Case("learning rate too low", "ppo", FORAGE, 8_000, options={"algorithm.lr": 1e-8}),
    Case("stale replay", "dqn", FORAGE, 5_000, options={"algorithm.learning_starts": 4_400}),
    Case(
        "overestimation",
        "dqn",
        FORAGE,
        5_000,
        options={
            "algorithm.target_every": 1,
            "algorithm.double": False,
            "algorithm.clip_error": False,
            "algorithm.n_step": 8,
            "algorithm.updates": 4,
            "algorithm.lr": 0.01,
            "algorithm.gamma": 1.0,
        },
    ),
    Case(
        "policy update too large",
        "ppo",
        TRACK,
        8_000,
        options={"algorithm.epochs": 40, "algorithm.lr": 6e-3, "algorithm.clip": 6.0},
    ),
    Case(
        "discriminator",
        "gan",
        "clocks",
        10_000,
        "mlp",
        {
            "algorithm.loss": "minimax",
            "algorithm.penalty": "none",
            "algorithm.lr": 5e-5,
            "algorithm.discriminator_lr": 4e-3,
            "algorithm.n_critic": 2,
        },
    ),
    Case("posterior collapse", "vae", "clocks", 6_000, options=SMALL | {"algorithm.beta": 120.0}),
    Case(
        "codebook",
        "vqvae",
        "clocks",
        2_000,
        options=CODEC | {"algorithm.revive": 0.0, "algorithm.entries": 2048},
    ),
    Case("noise level", "diffusion", "clocks", 8_000, "patient", FEW | {"model.sick": True}),
    clocks("dead units", model__bias=-9.0, model__sizes=[80, 60]),
    clocks("vanishing gradients", model__activation="sigmoid", model__sizes=[56] * 9),
    Case("entropy collapse", "a2c", FORAGE, 12_000, "patient", {"model.sharpness": 100.0}),
    clocks("overfitting", algorithm__examples=24, model__sizes=[64, 32]),
    clocks("too few units", model__sizes=[2], model__activation="tanh"),
    clocks("too many units", algorithm__examples=24, model__sizes=[900]),
    clocks(""),
    clocks("", model__activation="tanh", model__sizes=[48]),
    clocks("", model__activation="sigmoid", model__sizes=[64], algorithm__lr=5e-3),
    clocks("", algorithm__batch_size=100, algorithm__lr=2e-3, model__sizes=[120, 60]),
    Case("", "ppo", TRACK, 8_000),
    Case("", "ppo", FORAGE, 8_000),
    Case("", "ppo", HOPPER, 8_000),
    Case("", "ppo", FORAGE, 6_000, "patient", {"model.sizes": [40, 40]}),
    Case("", "a2c", FORAGE, 12_000),
    Case("", "a2c", TRACK, 16_000, options={"algorithm.optimizer": "adam", "algorithm.lr": 2e-3}),
    Case("", "reinforce", FORAGE, 10_000),
    Case("", "reinforce", HOPPER, 5_000),
    Case("", "dqn", FORAGE, 5_000),
    Case("", "rainbow", FORAGE, 3_500, options={"algorithm.v_min": -2.0, "algorithm.v_max": 15.0}),
    Case("", "sac", TRACK, 2_200),
    Case("", "vae", "clocks", 8_000, options=SMALL),
    Case("", "vae", "clocks", 6_000, options=SMALL | {"algorithm.likelihood": "logistic"}),
    Case("", "gan", "clocks", 8_000, "mlp"),
    Case("", "vqvae", "clocks", 2_500, options=CODEC),
    Case("", "diffusion", "clocks", 8_000, "patient", FEW),
]
SETS = {"shapes": SHAPES, "gratings": GRATINGS, "clocks": CLOCKS}
GAMES = ("v0", "v1", "v3", "v5")


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
        "run.eval_n": 2 if case.task.endswith(GAMES) else 200,
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
    parser.add_argument("--set", choices=SETS, default="shapes", help="of runs")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--last", type=int, default=39, help="number of the last run")
    parser.add_argument("--cost", action="store_true")
    args = parser.parse_args()
    every = enumerate(SETS[args.set])
    cases = {n: case for n, case in every if args.first <= n <= args.last}
    with tempfile.TemporaryDirectory() as folder:
        announce(Path(folder))
        runs = Path(folder) / "runs"
        runs.mkdir()
        print(json.dumps(cost(runs) if args.cost else judge(cases, args.seed, runs)))


if __name__ == "__main__":
    main()
