"""How many problems are proved, and how fast: corelab's engine, leanCoP's calculus in Prolog, E.

    python benchmarks/prover.py FOLDER --inferences 10000
    python benchmarks/prover.py FOLDER --inferences 200000 --only "cut, comp(7), form conjecture"
    python benchmarks/prover.py FOLDER --sample 300 --seconds 1 --with prolog eprover

FOLDER and further folders hold TPTP problems, `*.p`; with --sample, each n-th of them is taken. One
JSON line for each prover: how many problems, how many proved (corelab counts a proof that has
passed its check, others what they say), CPU seconds, and inferences a CPU second where they are
counted. Reading, clausifying and checking are part of the CPU seconds.

The Prolog program below is leanCoP's calculus (Otten 2010) in a few lines, on the same clauses in
the same order: the yardstick for speed, and a second opinion on the number of inferences.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corelab_envs.theorem.calculus import Settings
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.prover import Strategy, attempt
from corelab_envs.theorem.terms import Application, Clause, Literal, Term, variables
from corelab_envs.theorem.tptp import read

STRATEGIES = (
    Strategy(),
    Strategy(Settings(cut=True), "none", conj=True),
    Strategy(Settings(), "none", conj=True),
    Strategy(Settings(), "none"),
)

PROLOG = """
:- dynamic limited/0, connection/4, budget/1.
opposite(pos(A), neg(A)).
opposite(neg(A), pos(A)).
tick :-
    flag(inferences, N, N), budget(B),
    ( N < B -> flag(inferences, _, N + 1) ; throw(budget) ).
once_if(cut, Goal) :- !, once(Goal).
once_if(_, Goal) :- call(Goal).
close([], _, _, _, _).
close([Goal|Goals], Path, Limit, Lemmas, Cut) :-
    \\+ ( member(G, [Goal|Goals]), member(P, Path), G == P ),
    opposite(Goal, Other),
    once_if(Cut, solve(Goal, Other, Path, Limit, Lemmas, Cut)),
    close(Goals, Path, Limit, [Goal|Lemmas], Cut).
solve(Goal, _, _, _, Lemmas, _) :- member(L, Lemmas), L == Goal.
solve(_, Other, Path, _, _, _) :-
    member(P, Path), unify_with_occurs_check(P, Other), tick.
solve(Goal, Other, Path, Limit, Lemmas, Cut) :-
    functor_of(Other, Key), connection(Key, Other1, Rest, Ground),
    unify_with_occurs_check(Other1, Other),
    ( Ground == true -> true
    ; length(Path, K), K < Limit -> true
    ; limited -> fail
    ; assertz(limited), fail ),
    tick,
    close(Rest, [Goal|Path], Limit, Lemmas, Cut).
functor_of(pos(A), pos(F/N)) :- functor(A, F, N).
functor_of(neg(A), neg(F/N)) :- functor(A, F, N).
deepen(Limit, Cut, _) :- retractall(limited), close([neg('$start')], [], Limit, [], Cut), !.
deepen(Comp, _, Comp) :- !, deepen(1, all, 0).
deepen(Limit, Cut, Comp) :- ( Comp > 0 -> true ; limited ), L is Limit + 1, deepen(L, Cut, Comp).
run(Cut, Comp, Budget, Seconds) :-
    assertz(budget(Budget)), flag(inferences, _, 0),
    ( catch(call_with_time_limit(Seconds, deepen(1, Cut, Comp)), _, fail)
    -> R = proved ; R = failed ),
    flag(inferences, N, N), statistics(process_cputime, T),
    format("~w ~w ~w~n", [R, N, T]).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of problems *.p")
    parser.add_argument("--inferences", type=int, default=10_000, help="for each problem")
    parser.add_argument("--seconds", type=float, help="for each problem, instead")
    parser.add_argument("--sample", type=int, help="so many of the problems")
    parser.add_argument("--only", help="one strategy, by the words in which it is printed")
    parser.add_argument("--with", dest="rivals", nargs="*", default=[])
    options = parser.parse_args()
    files = sorted(file for folder in options.folders for file in folder.glob("*.p"))
    if options.sample:
        files = files[:: max(1, len(files) // options.sample)][: options.sample]
    budget = None if options.seconds else options.inferences
    for strategy in STRATEGIES:
        if options.only in (None, str(strategy)):
            report(
                str(strategy), files, budget, options.seconds,
                lambda file, strategy=strategy: ours(file, strategy, budget, options.seconds),
            )  # fmt: skip
    if "prolog" in options.rivals:
        report("leanCoP's calculus in SWI-Prolog, cut, comp(7), form conjecture", files, budget,
               options.seconds, lambda file: prolog(file, budget, options.seconds))  # fmt: skip
    if "eprover" in options.rivals:
        seconds = options.seconds or 5.0
        report("E --auto", files, None, seconds, lambda file: eprover(file, seconds))


def report(
    prover: str, files: list[Path], budget: int | None, seconds: float | None,
    prove: Callable[[Path], tuple[bool, int]],
) -> None:  # fmt: skip
    began = cpu()
    results = [prove(file) for file in files]
    spent = cpu() - began
    proved, inferences = sum(p for p, _ in results), sum(n for _, n in results)
    row: dict[str, Any] = {"prover": prover, "problems": len(files), "proved": proved}
    row |= {"inferences": budget, "seconds": seconds, "cpu_seconds": round(spent, 1)}
    row |= {"inferences_per_cpu_second": round(inferences / spent) if inferences else None}
    print(json.dumps(row), flush=True)


def cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ours(
    file: Path, strategy: Strategy, budget: int | None, seconds: float | None
) -> tuple[bool, int]:
    found = attempt(read(file), strategy, budget, seconds)
    return bool(found.proof), found.inferences  # a proof has passed its check


def prolog(file: Path, budget: int | None, seconds: float | None) -> tuple[bool, int]:
    facts = [":- use_module(library(time)).\n" + PROLOG]
    for clause in clausify(read(file)):
        facts += connections(clause)
    with tempfile.NamedTemporaryFile("w", suffix=".pl") as program:
        program.write("".join(facts))
        program.flush()
        goal = f"run(cut, 7, {budget or 10**12}, {seconds or 600})"
        command = ["swipl", "-O", "--stack-limit=4g", "-q", "-g", goal, "-t", "halt", program.name]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return (said[0] == "proved", int(said[1])) if said else (False, 0)


def connections(clause: Clause) -> list[str]:
    """CLAUSE as facts, one for each of its literals."""
    facts = []
    ground = "false" if variables(clause.literals) else "true"
    for i, literal in enumerate(clause.literals):
        rest = clause.literals[:i] + clause.literals[i + 1 :]
        sign = "neg" if literal.negative else "pos"
        name = f"{sign}('{escaped(literal.atom.symbol)}'/{len(literal.atom.arguments)})"
        others = ",".join(map(in_prolog, rest))
        facts.append(f"connection({name}, {in_prolog(literal)}, [{others}], {ground}).\n")
    return facts


def in_prolog(literal: Literal) -> str:
    return f"{'neg' if literal.negative else 'pos'}({term(literal.atom)})"


def term(of: Term) -> str:
    if not isinstance(of, Application):
        return of.name
    arguments = ",".join(map(term, of.arguments))
    return f"'{escaped(of.symbol)}'({arguments})" if arguments else f"'{escaped(of.symbol)}'"


def escaped(symbol: str) -> str:
    return symbol.replace("\\", "\\\\").replace("'", "\\'")


def eprover(file: Path, seconds: float) -> tuple[bool, int]:
    command = ["eprover", "--auto", "--silent", f"--soft-cpu-limit={max(1, round(seconds))}"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    return "SZS status Theorem" in done.stdout, 0


if __name__ == "__main__":
    main()
