"""How many unseen problems provers prove before and after they learned, at the same inferences.

    python benchmarks/learning_to_prove.py TRAIN DEV --passes 4 --seeds 0 1 2

TRAIN and DEV are folders of problems *.p. Provers without learning come first; then, for each seed
and after each pass of `rlcop` over TRAIN, its tree search, and depth-first search that its policy
leads. Each line of JSON tells of DEV; `checked` is the share of finished tableaux that passed the
check.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from corelab_envs.theorem.calculus import Outcome, Settings
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.guide import Guide
from corelab_envs.theorem.machinery import depth_first, follow, tree
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import ProblemSet
from corelab_envs.theorem.proof import reward
from corelab_envs.theorem.tree_search import Rules

import corelab

COMPLETE, CUT = Settings(), Settings(cut=True, comp=7)
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
    parser.add_argument("--sample", type=int, help="so many problems of DEV")
    parser.add_argument("--passes", type=int, default=4, help="over the problems of TRAIN")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--runs", type=Path, help="where the runs are kept")
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
    for seed in args.seeds:
        for number, guide, rules, seconds in learn(args, seed, runs):
            facts = {"seed": seed, "passes": number, "training_cpu_seconds": round(seconds)}
            if number <= args.skip:
                continue
            by_tree = partial(tree, rules=rules, guide=guide)
            measure("tree search, guided", "conj, form none", by_tree, **facts)
            for form in FORMS:
                depth_first_too = partial(depth_first, settings=CUT, guide=guide)
                measure("depth first, cut, comp(7), guided", form, depth_first_too, **facts)


def learn(
    args: argparse.Namespace, seed: int, runs: Path
) -> Iterator[tuple[int, Guide, Rules, float]]:
    """After each pass: its number, what was learned, how trees are searched, CPU seconds so far."""
    n = len(ProblemSet(args.train, "all").names)
    options = {
        "task.path": str(args.train),
        "task.dev_path": str(args.dev),
        "run.name": f"seed-{seed}",
        "run.checkpoint_every": n,
        "run.keep": args.passes,
        "run.eval_every": 0,
        "run.eval_n": 1,
        "algorithm.learn_value": args.learn_value,
    }
    began = time.process_time()
    run = corelab.train("rlcop", steps=n * args.passes, seed=seed, run_dir=runs, options=options)
    seconds = (time.process_time() - began) / args.passes
    for row in run.metrics():
        print(json.dumps({"seed": seed, **row}), flush=True)
    for number in range(1, args.passes + 1):
        algorithm = run.load(str(n * number), device="cpu")
        yield number, algorithm.guide, algorithm.rules, seconds * number


class Measure:
    """Tries provers on DEV and prints what came of it."""

    def __init__(self, dev: Path, sample: int | None, inferences: int) -> None:
        self.inferences = inferences
        self.problems: dict[str, list[Matrix]] = {}
        for label, (form, conj) in FORMS.items():
            found = ProblemSet(dev, "all", form, conj)
            names = found.names[:: max(1, len(found.names) // (sample or len(found.names)))]
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
        row |= {"problems": len(self.problems[form]), "checked": checked / max(closed, 1)}
        row |= {"inferences": self.inferences, "cpu_seconds": round(seconds, 1)}
        print(json.dumps(row | {"inferences_made": inferences}), flush=True)


if __name__ == "__main__":
    main()
