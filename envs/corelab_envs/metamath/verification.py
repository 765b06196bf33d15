"""Proofs, checked: by a stack machine of corelab's own, and by the `metamath` program.

`refusal` is the first: it substitutes and compares strings of symbols as chapter 4 of the Metamath
book says, and knows nothing of syntax trees and unification. `refusal_of_program` writes the
theorem with what its proof cites as a database of its own, `excerpt`, for the second.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path

from corelab import DataError
from corelab_envs.metamath.database import Assertion, Database, Hypothesis

_SECONDS = 60
_Symbols = tuple[str, ...]
_SAVE = -1


class _RefusalError(Exception):
    """A proof does not prove its theorem; the message says why."""


def refusal(database: Database, theorem: Assertion, proof: Sequence[str]) -> str:
    """Why PROOF, its words, does not prove THEOREM; "" if it does.

    A proof is a list of labels, or compressed: labels in parentheses and then letters. Variables
    that the theorem does not have count as distinct from all others, since a `$d` can say so.
    """
    try:
        stack = _run(database, theorem, proof)
    except _RefusalError as error:
        return str(error)
    if len(stack) != 1:
        return f"{len(stack)} statements are left instead of one"
    if stack[0] != theorem.symbols:
        return f"it proves {' '.join(stack[0])!r}"
    return ""


def cited(theorem: Assertion) -> list[str]:
    """The labels in the proof that THEOREM has in its database, each once, in order."""
    words = (theorem.proof or "").split()
    if words[:1] == ["("] and ")" in words:
        words = words[1 : words.index(")")]
    return list(dict.fromkeys(words))


def _run(database: Database, theorem: Assertion, proof: Sequence[str]) -> list[_Symbols]:
    """The stack after PROOF."""
    usable = {h.label: h for h in (*theorem.hypotheses, *theorem.scope)}
    dummies = {h.symbols[1] for h in theorem.scope}
    dummies -= {h.symbols[1] for h in theorem.floating}
    variables = {h.symbols[1] for h in theorem.scope}

    def may_meet(x: str, y: str) -> bool:
        """Whether X and Y may be in values that have to be distinct."""
        known = (min(x, y), max(x, y)) in theorem.distinct or x in dummies or y in dummies
        return x != y and known

    stack: list[_Symbols] = []
    saved: list[_Symbols] = []

    def apply(label: str) -> None:
        if label in usable:
            stack.append(usable[label].symbols)
            return
        assertion = database.assertions.get(label)
        if assertion is None or assertion.number >= theorem.number:
            raise _RefusalError(f"{label!r} is no hypothesis of it and no statement before it")
        needed = assertion.hypotheses
        if len(stack) < len(needed):
            raise _RefusalError(
                f"{label}: {len(needed)} statements are needed, {len(stack)} are there"
            )
        given = stack[len(stack) - len(needed) :]
        del stack[len(stack) - len(needed) :]
        stack.append(_applied(assertion, given, variables, may_meet))

    if proof and proof[0] == "(":
        if ")" not in proof:
            raise _RefusalError("the list of labels has no end")
        labels = [h.label for h in theorem.hypotheses] + list(proof[1 : proof.index(")")])
        for number in _numbers("".join(proof[proof.index(")") + 1 :])):
            if number == _SAVE:
                if not stack:
                    raise _RefusalError("there is nothing to keep for a `Z`")
                saved.append(stack[-1])
            elif number < len(labels):
                apply(labels[number])
            elif number < len(labels) + len(saved):
                stack.append(saved[number - len(labels)])
            else:
                raise _RefusalError(f"its step {number + 1} names nothing")
    else:
        for label in proof:
            apply(label)
    return stack


def _applied(
    assertion: Assertion,
    given: Sequence[_Symbols],
    variables: set[str],
    may_meet: Callable[[str, str], bool],
) -> _Symbols:
    """What ASSERTION says if the statements GIVEN are its hypotheses."""
    values: dict[str, _Symbols] = {}
    for hypothesis, statement in zip(assertion.hypotheses, given, strict=True):
        if hypothesis.floating:
            if statement[0] != hypothesis.symbols[0]:
                raise _RefusalError(
                    f"{assertion.label}: {' '.join(statement)!r} is no {hypothesis.symbols[0]}"
                )
            values[hypothesis.symbols[1]] = statement[1:]
    for hypothesis, statement in zip(assertion.hypotheses, given, strict=True):
        if not hypothesis.floating and _substituted(hypothesis.symbols, values) != statement:
            raise _RefusalError(
                f"{assertion.label}: {' '.join(statement)!r} is not what {hypothesis.label} asks"
            )
    for a, b in assertion.distinct:
        for x in variables.intersection(values[a]):
            for y in variables.intersection(values[b]):
                if not may_meet(x, y):
                    raise _RefusalError(
                        f"{assertion.label}: {x} and {y} are not known to be distinct"
                    )
    return _substituted(assertion.symbols, values)


def _substituted(symbols: _Symbols, values: dict[str, _Symbols]) -> _Symbols:
    return tuple(s for symbol in symbols for s in values.get(symbol, (symbol,)))


def _numbers(letters: str) -> Iterator[int]:
    """The numbers, from 0, that the LETTERS of a compressed proof stand for; `_SAVE` for a Z."""
    number = 0
    fresh = True
    for letter in letters:
        if "A" <= letter <= "T":
            yield 20 * number + ord(letter) - ord("A")
            number, fresh = 0, True
        elif "U" <= letter <= "Y":
            number, fresh = 5 * number + ord(letter) - ord("U") + 1, False
        elif letter == "Z" and fresh:
            yield _SAVE
        elif letter == "?":
            raise _RefusalError("it is not complete")
        else:
            raise _RefusalError(f"its letters are wrong at {letter!r}")
    if not fresh:
        raise _RefusalError("its letters end within a number")


def excerpt(database: Database, theorem: Assertion, proof: Sequence[str]) -> str:
    """A database of THEOREM with PROOF, a list of labels, and of what that cites, as axioms.

    Each statement stands in a block of its own with its variables. Variables of the proof that
    the theorem does not have are declared distinct from all.
    """
    named = {h.label: h for h in theorem.scope}
    labels = set(proof)
    used = sorted(
        {database.assertions[x] for x in labels if x in database.assertions},
        key=lambda assertion: assertion.number,
    )
    own = {h.label for h in theorem.hypotheses}
    dummies = [named[x] for x in named if x in labels - own]
    statements = [
        symbols
        for a in (*used, theorem)
        for symbols in (a.symbols, *(h.symbols for h in a.hypotheses))
    ]
    statements += [h.symbols for h in dummies]
    variables = {
        h.symbols[1] for a in (*used, theorem) for h in (*a.floating, *dummies) if h.floating
    }
    constants = sorted({s for symbols in statements for s in symbols} - variables)
    taken = labels | own | variables | {theorem.label} | set(constants)
    fresh = (label for n in count() if (label := f"h{n}") not in taken)
    lines = [f"$c {' '.join(constants)} $."]
    for a in used:
        lines += ["${", *_frame(a.hypotheses, a.distinct, fresh)]
        lines += [f"  {a.label} $a {' '.join(a.symbols)} $.", "$}"]
    lines += ["${", *_frame((*theorem.hypotheses, *dummies), theorem.distinct, None)]
    names = [h.symbols[1] for h in (*theorem.floating, *dummies)]
    for i, dummy in enumerate(dummies, start=len(theorem.floating)):
        lines += [f"  $d {dummy.symbols[1]} {other} $." for other in names[:i]]
    lines += [
        f"  {theorem.label} $p {' '.join(theorem.symbols)} $=",
        *_wrapped(proof),
        "  $.",
        "$}",
    ]
    return "\n".join(lines) + "\n"


def _frame(
    hypotheses: Sequence[Hypothesis],
    distinct: frozenset[tuple[str, str]],
    labels: Iterator[str] | None,
) -> Iterator[str]:
    """The lines that declare variables and HYPOTHESES, with other LABELS if some are given."""
    variables = [h.symbols[1] for h in hypotheses if h.floating]
    if variables:
        yield f"  $v {' '.join(variables)} $."
    for a, b in sorted(distinct):
        yield f"  $d {a} {b} $."
    for h in hypotheses:
        label = next(labels) if labels is not None else h.label
        yield f"  {label} ${'f' if h.floating else 'e'} {' '.join(h.symbols)} $."


def _wrapped(words: Sequence[str]) -> Iterator[str]:
    line = "   "
    for word in words:
        if len(line) + len(word) > 78:
            yield line
            line = "   "
        line += f" {word}"
    yield line


def program() -> str | None:
    """Where the `metamath` program is; None if it is not installed."""
    return shutil.which("metamath")


@lru_cache(maxsize=4096)
def refusal_of_program(text: str) -> str:
    """What the `metamath` program finds wrong with the database TEXT; "" if nothing is.

    `DataError` if it is not installed, or says nothing within a minute.
    """
    found = program()
    if found is None:
        raise DataError("the program `metamath` is not installed, so it cannot check a proof")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "proof.mm").write_text(text, encoding="ascii")
        try:
            said = subprocess.run(
                [found, "read proof.mm", "verify proof *", "exit"],
                cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=_SECONDS, check=False,
            ).stdout  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{found} did not check a proof within {_SECONDS} s") from error
    # That all proofs were verified it says after errors, too; those, and warnings, begin with `?`.
    if "?" not in said and "All proofs in the database were verified" in said:
        return ""
    _, mark, rest = said.partition("?")
    return f"metamath says: {' '.join((mark + rest if mark else said).split())[:500]}"


def check(database: Database, theorem: Assertion, proof: Sequence[str]) -> str:
    """Why PROOF, a list of labels, is refused, by either; "" if both accept it.

    The program is asked where it is installed.
    """
    found = refusal(database, theorem, proof)
    if found or program() is None:
        return found
    return refusal_of_program(excerpt(database, theorem, proof))
