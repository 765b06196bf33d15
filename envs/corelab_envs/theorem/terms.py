"""First-order terms, literals and clauses, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_WORD = re.compile(r"[a-z]\w*")
_OTHER = re.compile(
    r"\$\$?\w+|\"(?:[^\"\\]|\\.)*\"|[+-]?\d[\d./eE+-]*|'(?:[^'\\]|\\.)+'", re.DOTALL
)
"""What is written as it is, although it is no word: defined symbols, objects, numbers."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable; its name begins with a capital letter or an underscore."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Application:
    """A function of its arguments, a constant if there are none, or an atom.

    Its symbol is a name without quotes, however a file wrote it (see `unquoted`); `=` is equality.
    """

    symbol: str
    arguments: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return show(self)


Term: TypeAlias = Variable | Application


@dataclass(frozen=True, slots=True)
class Literal:
    """An atom or its negation."""

    negative: bool
    atom: Application

    def __str__(self) -> str:
        if self.atom.symbol == "=" and self.negative:
            left, right = self.atom.arguments
            return f"{left} != {right}"
        return f"{'~' * self.negative}{self.atom}"


@dataclass(frozen=True)
class Clause:
    """A disjunction of literals, whose variables are all universal."""

    literals: tuple[Literal, ...]
    source: str
    """The name of the formula that it is from, or of the axiom of equality."""
    role: str = "axiom"
    """`axiom` or `negated_conjecture`, as TPTP calls them."""

    def __str__(self) -> str:
        return " | ".join(map(str, self.literals)) or "$false"


def unquoted(text: str) -> str:
    """The symbol that a file writes as TEXT in single quotes.

    `'a'` is `a`, but `'1'` is no number: the quotes stay where they make a difference.
    """
    symbol = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
    return f"'{text}'" if _OTHER.fullmatch(symbol) or symbol == "=" else symbol


def quoted(symbol: str) -> str:
    """SYMBOL as TPTP writes it: in single quotes unless it needs none."""
    if _WORD.fullmatch(symbol) or _OTHER.fullmatch(symbol):
        return symbol
    return "'" + symbol.replace("\\", "\\\\").replace("'", "\\'") + "'"


def show(term: Term) -> str:
    """TERM in TPTP's syntax; however deep it is, this does not recur."""
    words: list[str] = []
    todo: list[Term | str] = [term]
    while todo:
        match todo.pop():
            case str(word):
                words.append(word)
            case Variable(name):
                words.append(name)
            case Application("=", (left, right)):
                todo += [right, " = ", left]
            case Application(symbol, ()):
                words.append(quoted(symbol))
            case Application(symbol, (first, *rest)):
                words += [quoted(symbol), "("]
                todo.append(")")
                for argument in reversed(rest):
                    todo += [argument, ","]
                todo.append(first)
    return "".join(words)


def subterms(terms: Sequence[Term]) -> Iterator[Term]:
    """Each of TERMS and what is below, in the order of writing."""
    todo = list(reversed(terms))
    while todo:
        term = todo.pop()
        yield term
        if isinstance(term, Application):
            todo.extend(reversed(term.arguments))


def variables(literals: Sequence[Literal]) -> list[str]:
    """The names of the variables in LITERALS, in the order of their first occurrence."""
    terms = subterms([literal.atom for literal in literals])
    return list(dict.fromkeys(term.name for term in terms if isinstance(term, Variable)))
