"""Databases of Metamath: statements, read as chapter 4 of the Metamath book defines them.

Megill and Wheeler 2019, "Metamath: A Computer Language for Mathematical Proofs". Proofs are kept
as text; `verification` reads them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NoReturn

from corelab import DataError

Pair = tuple[str, str]
"""Two variables, in alphabetical order."""
_LABEL = re.compile(r"[A-Za-z0-9._-]+")
_FOREIGN = re.compile(r"[^\t\n\f\r -~]")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A statement `$f` (floating: the type of a variable) or `$e` (essential: a premise)."""

    label: str
    floating: bool
    symbols: tuple[str, ...]
    """The first is the type."""
    number: int
    """Its place in the database."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A statement `$a` (axiom) or `$p` (theorem) with its frame."""

    label: str
    symbols: tuple[str, ...]
    """The first is the type."""
    hypotheses: tuple[Hypothesis, ...]
    """The mandatory ones, in order."""
    distinct: frozenset[Pair]
    """The mandatory variables that must not be given values with common variables."""
    number: int
    """Its place in the database."""
    proof: str | None
    """The text between `$=` and `$.`; None if it is an axiom."""
    scope: tuple[Hypothesis, ...]
    """All variables that its proof can use: the active `$f`, in order."""

    @property
    def floating(self) -> tuple[Hypothesis, ...]:
        """Its mandatory variables."""
        return tuple(h for h in self.hypotheses if h.floating)

    @property
    def essential(self) -> tuple[Hypothesis, ...]:
        """Its premises."""
        return tuple(h for h in self.hypotheses if not h.floating)


@dataclass
class Database:
    """The statements of a database, in order, by their labels."""

    path: Path
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    assertions: dict[str, Assertion] = field(default_factory=dict)


def read(path: Path, upto: str | None = None) -> Database:
    """The database in the file PATH, unpacked if it ends in `.gz`, and in those it includes.

    Reading ends with the statement labelled UPTO, if it is given; what follows is not looked at.
    `DataError`, with the line, if something is not as the language demands.
    """
    reader = _Reader(path, upto)
    reader.read(path)
    return reader.database


@dataclass
class _Block:
    """What a block, `${` to `$}`, has declared so far, and the blocks around it."""

    position: int
    variables: set[str]
    types: dict[str, Hypothesis]
    """Of each variable: its active `$f`."""
    essential: list[Hypothesis]
    distinct: set[Pair]

    def inner(self, position: int) -> _Block:
        return _Block(
            position,
            set(self.variables),
            dict(self.types),
            list(self.essential),
            set(self.distinct),
        )


class _Source:
    """The text of a file, from one keyword, `$` and a character, to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: cannot be read ({reason})") from error
        self.text = data.decode("latin-1")  # which knows every byte, so `fail` can name it
        self.position = 0
        if foreign := _FOREIGN.search(self.text):
            self.fail(f"the character {foreign[0]!r} is not printable ASCII", foreign.start())

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        """Raise a `DataError` about what stands at POSITION, or at the last keyword."""
        line = self.text.count("\n", 0, self.position if position is None else position) + 1
        raise DataError(f"{self.path}:{line}: {message}")

    def __iter__(self) -> Iterator[tuple[list[str], str]]:
        """The words before each keyword, and the keyword; at the end, words and "".

        Comments are left out. `position` is that of the keyword.
        """
        text, at = self.text, 0
        words: list[str] = []
        while (found := text.find("$", at)) >= 0:
            self.position = found
            words += text[at:found].split()
            keyword = self._keyword(found)
            at = found + 2
            if keyword == "$(":
                at = self._end_of_comment(at)
                continue
            yield words, keyword
            words = []
        self.position = len(text)
        yield words + text[at:].split(), ""

    def _keyword(self, at: int) -> str:
        text = self.text
        keyword = text[at : at + 2]
        if text[at - 1 : at].strip() or text[at + 2 : at + 3].strip() or not keyword[1:].strip():
            self.fail("a `$` begins a keyword of two characters, with space around it")
        return keyword

    def _end_of_comment(self, at: int) -> int:
        text = self.text
        at = text.find("$)", at)
        while at >= 0 and (text[at - 1].strip() or text[at + 2 : at + 3].strip()):
            at = text.find("$)", at + 2)
        if at < 0:
            self.fail("this comment has no end")
        return at + 2


class _Reader:
    """Reads files into a database."""

    def __init__(self, path: Path, upto: str | None) -> None:
        self.database = Database(path)
        self._upto = upto
        self._done = False
        self._files: set[Path] = set()
        self._constants: set[str] = set()
        self._symbols: set[str] = set()
        """Constants and all variables that were ever declared."""
        self._number = 0
        self._blocks = [_Block(0, set(), {}, [], set())]
        self._scope: tuple[Hypothesis, ...] | None = None
        """The active `$f` of the block at hand; None if they have to be collected."""

    def read(self, path: Path) -> None:
        """Read the file PATH, from which on all is as if it stood in the first."""
        self._files.add(path.resolve())
        source = _Source(path)
        depth = len(self._blocks)
        parts = iter(source)
        for words, keyword in parts:
            self._statement(source, parts, words, keyword)
            if self._done:
                return
        if len(self._blocks) > depth:
            source.fail("this block has no end, no `$}`", self._blocks[-1].position)
        if path == self.database.path and self._upto is not None:
            raise DataError(f"{path}: it has no statement {self._upto!r} to read up to")

    def _statement(
        self,
        source: _Source,
        parts: Iterator[tuple[list[str], str]],
        words: list[str],
        keyword: str,
    ) -> None:
        if keyword in ("$f", "$e", "$a", "$p"):
            if len(words) != 1:
                source.fail(f"one label must stand before {keyword}, not {len(words)}")
            self._labelled(source, parts, words[0], keyword)
            return
        if words:
            source.fail(f"{words[0]!r} is a label of nothing, before {keyword or 'the end'}")
        block = self._blocks[-1]
        if keyword == "${":
            self._blocks.append(block.inner(source.position))
            return
        if keyword == "$}":
            if len(self._blocks) == 1:
                source.fail("this `$}` ends no block")
            self._blocks.pop()
            self._scope = None
            return
        if keyword == "$[":
            self._include(source, _body(source, parts, "$]"))
            return
        if keyword not in ("", "$c", "$v", "$d"):
            source.fail(f"{keyword} is not expected here")
        if keyword:
            self._declare(source, keyword, _body(source, parts, "$."))

    def _include(self, source: _Source, words: list[str]) -> None:
        if len(words) != 1:
            source.fail("the name of one file without spaces stands between `$[` and `$]`")
        if len(self._blocks) > 1:
            source.fail("a file is included within a block")
        path = source.path.parent / words[0]
        if not path.is_file():
            source.fail(f"there is no file {words[0]!r} to include")
        if path.resolve() not in self._files:
            self.read(path)

    def _declare(self, source: _Source, keyword: str, words: list[str]) -> None:
        block = self._blocks[-1]
        if keyword == "$d":
            if len(words) < 2 or len(set(words)) < len(words):
                source.fail("a `$d` has two or more variables, all different")
            for word in words:
                if word not in block.variables:
                    source.fail(f"{word!r} in a `$d` is not an active variable")
            block.distinct |= set(combinations(sorted(words), 2))
            return
        if keyword == "$c" and len(self._blocks) > 1:
            source.fail("constants are declared outside of all blocks")
        for word in words:
            if word in self._constants or word in block.variables:
                source.fail(f"the symbol {word!r} has been declared before")
            if keyword == "$c" and word in self._symbols:
                source.fail(f"the symbol {word!r} has been a variable before")
            if word in self.database.hypotheses or word in self.database.assertions:
                source.fail(f"the symbol {word!r} is also a label")
            (self._constants if keyword == "$c" else block.variables).add(word)
            self._symbols.add(word)

    def _labelled(
        self, source: _Source, parts: Iterator[tuple[list[str], str]], label: str, keyword: str
    ) -> None:
        position = source.position
        data, block = self.database, self._blocks[-1]
        if not _LABEL.fullmatch(label):
            source.fail(f"the label {label!r} has other characters than letters, digits and .-_")
        if label in data.hypotheses or label in data.assertions or label in self._symbols:
            source.fail(f"the label {label!r} is taken")
        symbols = tuple(_body(source, parts, "$=" if keyword == "$p" else "$."))
        proof = " ".join(_body(source, parts, "$.")) if keyword == "$p" else None
        source.position = position  # where errors are
        if not symbols or symbols[0] not in self._constants:
            source.fail(f"{label}: a statement begins with a constant, its type")
        if keyword == "$f":
            if len(symbols) != 2 or symbols[1] not in block.variables:
                source.fail(f"{label}: a `$f` has a type and an active variable")
            if symbols[1] in block.types:
                source.fail(f"{label}: the variable {symbols[1]!r} has a type already")
        else:
            for symbol in symbols:
                if symbol not in self._constants and symbol not in block.types:
                    is_variable = symbol in block.variables
                    why = "a variable without a type" if is_variable else "no active symbol"
                    source.fail(f"{label}: {symbol!r} is {why}")
        self._number += 1
        if keyword in ("$f", "$e"):
            hypothesis = Hypothesis(label, keyword == "$f", symbols, self._number)
            data.hypotheses[label] = hypothesis
            if hypothesis.floating:
                block.types[symbols[1]] = hypothesis
                self._scope = None
            else:
                block.essential.append(hypothesis)
        else:
            data.assertions[label] = self._assertion(label, symbols, proof)
        self._done = label == self._upto

    def _assertion(self, label: str, symbols: tuple[str, ...], proof: str | None) -> Assertion:
        block = self._blocks[-1]
        statements = [symbols, *(h.symbols for h in block.essential)]
        variables = {s for statement in statements for s in statement if s in block.types}
        found = [block.types[v] for v in variables] + block.essential
        found.sort(key=lambda hypothesis: hypothesis.number)
        distinct = frozenset(
            pair for pair in block.distinct if pair[0] in variables and pair[1] in variables
        )
        if self._scope is None:
            active = sorted(block.types.values(), key=lambda hypothesis: hypothesis.number)
            self._scope = tuple(active)
        return Assertion(label, symbols, tuple(found), distinct, self._number, proof, self._scope)


def _body(source: _Source, parts: Iterator[tuple[list[str], str]], end: str) -> list[str]:
    """The words up to the keyword END, which has to be the next."""
    position = source.position
    words, keyword = next(parts)
    if keyword != end:
        source.fail(f"this statement does not go on to `{end}`", position)
    return words
