"""The verb `corelab prove`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, get_args

from corelab import ConfigError, DataError
from corelab_envs.theorem.calculus import Settings
from corelab_envs.theorem.clausify import Form
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
    help_ = "keep the first solution of each goal (default), or try all"
    parser.add_argument("--cut", action=argparse.BooleanOptionalAction, default=True, help=help_)
    help_ = "begin with the first start clause only"
    parser.add_argument("--scut", action="store_true", help=help_)
    help_ = "from this length of paths on, search again without cut and scut; 0: never (default: 7)"
    parser.add_argument("--comp", type=_count, default=7, metavar="N", help=help_)
    help_ = "begin with clauses of the conjecture"
    parser.add_argument("--conj", action="store_true", help=help_)
    help_ = "where parts of formulas are given names (default: conjecture)"
    parser.add_argument("--form", choices=get_args(Form), default="conjecture", help=help_)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the proof, in SVG")
    args = parser.parse_args(argv)

    if args.seconds is not None and not args.seconds > 0:
        raise ConfigError(f"corelab prove: --seconds is {args.seconds}; it must be above 0")
    seconds = _SECONDS if args.seconds is None and args.inferences is None else args.seconds
    restricted = args.cut or args.scut
    settings = Settings(args.cut, args.scut, args.comp if restricted else 0)
    strategy = Strategy(settings, args.form, args.conj)
    try:
        problem = read(args.problem)
    except DataError:
        print(f"% SZS status InputError for {args.problem.stem}", flush=True)  # before the sentence
        raise
    found = attempt(problem, strategy, args.inferences, seconds)
    print(f"% SZS status {found.status} for {problem.name}")
    print(_statistics(found, strategy))
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


def _statistics(found: Attempt, strategy: Strategy) -> str:
    return (
        f"% {found.inferences:,} inferences in {found.seconds:.2f} s, paths of up to "
        f"{found.path_limit} literals, {len(found.clauses):,} clauses; {strategy}"
    )


def _draw(found: Attempt, path: Path) -> None:
    if found.tree is None:
        raise ConfigError(f"{path}: there is no proof to draw")
    try:
        path.write_text(draw(found.tree), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: cannot be written ({reason})") from error
