"""How many unseen problems provers prove before and after they learned, at the same inferences.

    python benchmarks/learning_to_prove.py TRAIN DEV --passes 4 --seeds 0 1 2

TRAIN and DEV are folders of problems *.p. Provers without learning come first; then, for each seed
and after each pass of `rlcop` over TRAIN, its tree search, and depth-first search that its policy
leads. Each line of JSON tells of DEV, but for those of passes, which tell how many problems of
TRAIN were proved by then, how many of them in this pass for the first time, and what it took.
`checked` is the share of proofs that passed the check. Runs that are in the folder of `--runs`
already are measured, not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corelab_envs.theorem.calculus import Outcome, Settings
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.guide import Guide
from corelab_envs.theorem.machinery import depth_first, follow, tree
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import ProblemSet
from corelab_envs.theorem.proof import reward
from corelab_envs.theorem.tree_search import Rules
from corelab_envs.theorem.walks import STATE_NUMBERS

import corelab

COMPLETE, CUT, GUIDED = Settings(), Settings(cut=True, comp=7), Settings(cut=True, comp=10)
INDIFFERENT = Guide(np.zeros(1, np.float32), np.zeros(STATE_NUMBERS + 2, np.float32))
"""A policy that likes all inferences alike: what prices do without learning."""
PRICED = {COMPLETE: "depth first by cost, complete", GUIDED: "depth first by cost, cut, comp(10)"}
FORMS: dict[str, tuple[Form, bool]] = {
    "conj, form none": ("none", True),
    "form conjecture": ("conjecture", False),
}
"""How problems become clauses, and whether proofs begin with the conjecture's."""
Make = Callable[[Matrix], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", type=Path, help="a folder to learn from")
    parser.add_argument("dev", type=Path, help="a folder to measure on")
    parser.add_argument("--inferences", type=int, default=10_000, help="for each problem of DEV")
    parser.add_argument("--sample", type=int, help="at most so many problems of DEV")
    parser.add_argument("--passes", type=int, default=4, help="over the problems of TRAIN")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--runs", type=Path, help="where the runs are kept")
    parser.add_argument("--policy", default="linear", help="as the option of rlcop says")
    parser.add_argument("--learn-value", action="store_true", help="as the option of rlcop says")
    parser.add_argument("--skip", type=int, default=0, help="so many passes are not measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as beside:
        compare(args, args.runs or Path(beside))


def compare(args: argparse.Namespace, runs: Path) -> None:
    measure = Measure(args.dev, args.sample, args.inferences)
    measure("tree search", "conj, form none", partial(tree, rules=Rules()))
    for form in FORMS:
        measure("depth first, complete", form, partial(depth_first, settings=COMPLETE))
        measure("depth first, cut, comp(7)", form, partial(depth_first, settings=CUT))
        for settings in (COMPLETE, GUIDED):
            prover = partial(depth_first, settings=settings, guide=INDIFFERENT)
            measure(f"{PRICED[settings]}, indifferent", form, prover)
    for seed in args.seeds:
        for number, learned in learn(args, seed, runs):
            facts = {"seed": seed, "passes": number}
            if number <= args.skip:
                continue
            by_tree = partial(tree, rules=learned.rules, guide=learned.guide)
            measure("tree search, guided", "conj, form none", by_tree, **facts)
            for form in FORMS:
                for settings in (COMPLETE, GUIDED):
                    guide = learned.depth_first_guide
                    prover = partial(depth_first, settings=settings, guide=guide)
                    measure(f"{PRICED[settings]}, guided", form, prover, **facts)


def learn(args: argparse.Namespace, seed: int, runs: Path) -> Iterator[tuple[int, Any]]:
    """After each pass: its number, and the algorithm as it was then."""
    n = len(ProblemSet(args.train, "all").names)
    options = {
        "task.path": str(args.train),
        "task.dev_path": str(args.dev),
        "run.name": f"seed-{seed}",
        "run.checkpoint_every": n,
        "run.checkpoint_seconds": 1e9,
        "run.keep": args.passes,
        "run.eval_every": 0,
        "run.eval_n": 1,
        "algorithm.policy": args.policy,
        "algorithm.learn_value": args.learn_value,
    }
    if (runs / f"seed-{seed}").exists():
        run = corelab.Run(runs / f"seed-{seed}")
    else:
        run = corelab.train(
            "rlcop", steps=n * args.passes, seed=seed, run_dir=runs, options=options
        )
    known, seconds = 0, 0.0
    for number in range(1, args.passes + 1):
        algorithm = run.load(str(n * number), device="cpu")
        checks = [
            reward(follow(algorithm.task.matrix(name), algorithm.config.eager, proof)) > 0
            for name, proofs in algorithm.proofs.items()
            for proof in proofs
        ]
        row = {"seed": seed, "passes": number, "known": len(algorithm.proofs)}
        row |= {"new": row["known"] - known, "proofs": len(checks)}
        now = cpu_seconds(run, n * number)
        row |= {"checked": sum(checks) / len(checks), "cpu_seconds": round(now - seconds, 1)}
        print(json.dumps(row), flush=True)
        known, seconds = row["known"], now
        yield number, algorithm


def cpu_seconds(run: corelab.Run, progress: int) -> float:
    """What RUN, made by one process, had taken when it had come to PROGRESS."""
    rows = [json.loads(row) for row in (run.path / "usage.jsonl").read_text().splitlines()]
    return next(row["cpu_seconds"] for row in rows if row["progress"] >= progress)


class Measure:
    """Tries provers on DEV and prints what came of it."""

    def __init__(self, dev: Path, sample: int | None, inferences: int) -> None:
        self.inferences = inferences
        self.problems: dict[str, list[Matrix]] = {}
        for label, (form, conj) in FORMS.items():
            found = ProblemSet(dev, "all", form, conj)
            names = found.names[:: math.ceil(len(found.names) / (sample or len(found.names)))]
            self.problems[label] = [found.matrix(name) for name in names]

    def __call__(self, prover: str, form: str, make: Make, **facts: Any) -> None:
        """Print how many problems the searches that MAKE makes prove, along with FACTS."""
        closed = checked = inferences = 0
        began = time.process_time()
        for matrix in self.problems[form]:
            search = make(matrix)
            if search.run(self.inferences) is Outcome.PROVED:
                closed += 1
                is_tree = hasattr(search, "line")
                checked += reward(follow(matrix, True, search.line()) if is_tree else search) > 0
            inferences += search.inferences
        seconds = time.process_time() - began
        row = {"prover": prover, "form": form, **facts, "proved": checked}
        row |= {
            "problems": len(self.problems[form]),
            "checked": checked / closed if closed else 1.0,
        }
        row |= {"inferences": self.inferences, "cpu_seconds": round(seconds, 1)}
        print(json.dumps(row | {"inferences_made": inferences}), flush=True)


if __name__ == "__main__":
    main()
