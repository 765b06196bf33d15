"""The verb `corelab prove`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, get_args

from corelab import ConfigError, DataError, Run
from corelab_envs.theorem.calculus import Settings
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.interface import Proves
from corelab_envs.theorem.picture import draw
from corelab_envs.theorem.proof import show_tstp
from corelab_envs.theorem.prover import Attempt, Strategy, attempt
from corelab_envs.theorem.tptp import read

_SECONDS = 60.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"corelab prove: {message}; see corelab prove --help")


def prove(argv: list[str]) -> int:
    """Search for a proof of a TPTP problem; print its SZS status and the proof in TSTP."""
    parser = _Parser(prog="corelab prove", description=prove.__doc__, allow_abbrev=False)
    parser.add_argument("problem", type=Path, help="a file of fof and cnf formulas")
    parser.add_argument("--inferences", type=_count, help="stop after so many")
    help_ = f"stop after so many (default: {_SECONDS:.0f}, unless --inferences is given)"
    parser.add_argument("--seconds", type=float, help=help_)
    help_ = "a run of an algorithm that learned to prove: search by what it learned"
    parser.add_argument("--run", type=Path, help=help_)
    own = parser.add_argument_group("the depth-first search")
    help_ = "keep the first solution of each goal (default), or try all"
    own.add_argument("--cut", action=argparse.BooleanOptionalAction, help=help_)
    help_ = "begin with the first start clause only"
    own.add_argument("--scut", action="store_true", default=None, help=help_)
    help_ = "from this length of paths on, search again without cut and scut; 0: never (default: 7)"
    own.add_argument("--comp", type=_count, metavar="N", help=help_)
    help_ = "begin with clauses of the conjecture"
    own.add_argument("--conj", action="store_true", default=None, help=help_)
    help_ = "where parts of formulas are given names (default: conjecture)"
    own.add_argument("--form", choices=get_args(Form), help=help_)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the proof, in SVG")
    args = parser.parse_args(argv)

    if args.seconds is not None and not args.seconds > 0:
        raise ConfigError(f"corelab prove: --seconds is {args.seconds}; it must be above 0")
    seconds = _SECONDS if args.seconds is None and args.inferences is None else args.seconds
    learned, strategy = _learned(args), _strategy(args)
    try:
        problem = read(args.problem)
    except DataError:
        print(f"% SZS status InputError for {args.problem.stem}", flush=True)  # before the sentence
        raise
    if learned is not None:
        found = learned.prove(problem, args.inferences, seconds)
    else:
        found = attempt(problem, strategy, args.inferences, seconds)
    print(f"% SZS status {found.status} for {problem.name}")
    print(_statistics(found))
    if found.proof:
        print(f"% SZS output start CNFRefutation for {problem.name}")
        print(show_tstp(problem, found.clauses, found.proof), end="")
        print(f"% SZS output end CNFRefutation for {problem.name}")
    if args.picture:
        _draw(found, args.picture)
    return 130 if found.status == "User" else 0


def _count(text: str) -> int:
    number = float(text)
    if not number.is_integer() or number < 0:
        raise ValueError
    return int(number)


_count.__name__ = "whole number"  # argparse names the type by it


def _strategy(args: argparse.Namespace) -> Strategy:
    """What the options of the depth-first search say."""
    cut = args.cut is not False
    comp = 7 if args.comp is None else args.comp
    settings = Settings(cut, bool(args.scut), comp if cut or args.scut else 0)
    return Strategy(settings, args.form or "conjecture", bool(args.conj))


def _learned(args: argparse.Namespace) -> Proves | None:
    """The algorithm of --run, as it was last. ConfigError if it is not one that proves."""
    if args.run is None:
        return None
    for name in ("cut", "scut", "comp", "conj", "form"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name} is for the depth-first search, and --run has its own")
    run = Run(args.run)
    algorithm = run.load(device="cpu")
    if not isinstance(algorithm, Proves):
        raise ConfigError(f"{args.run}: {run.algorithm} does not learn to prove problems")
    return algorithm


def _statistics(found: Attempt) -> str:
    most = (
        f"a cost of {found.path_limit}" if found.strategy.guide else f"{found.path_limit} literals"
    )
    return (
        f"% {found.inferences:,} inferences in {found.seconds:.2f} s, paths of up to {most}, "
        f"{len(found.clauses):,} clauses; {found.strategy}"
    )


def _draw(found: Attempt, path: Path) -> None:
    if found.tree is None:
        raise ConfigError(f"{path}: there is no proof to draw")
    try:
        path.write_text(draw(found.tree), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: cannot be written ({reason})") from error
