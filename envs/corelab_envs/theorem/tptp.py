"""Problems in TPTP's language: first-order formulas (FOF) and clauses (CNF), read and written.

The grammar is that of Sutcliffe 2017, "The TPTP Problem Library and Associated Infrastructure",
JAR 59, with what later languages added (types, arithmetic, higher order) refused by name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias

from corelab import DataError
from corelab_envs.theorem.terms import Application, Term, Variable, quoted, unquoted

MAX_DEPTH = 1000
"""Formulas and terms may be nested this deep."""
ROLES = {
    "axiom", "hypothesis", "definition", "assumption", "lemma", "theorem", "corollary", "plain",
    "conjecture", "negated_conjecture",
}  # fmt: skip
"""What TPTP calls formulas that a problem may consist of; all but the last two are assumed."""
_TYPED = {
    "thf": "higher-order formulas (THF)",
    "tff": "typed formulas (TFF)",
    "tcf": "typed clauses (TCF)",
    "tpi": "instructions to a prover (TPI)",
}


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a formula."""

    body: Formula


@dataclass(frozen=True, slots=True)
class Connective:
    """`&` or `|` of two or more formulas, `=>` or `<=>` of two."""

    operator: str
    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Quantifier:
    """`!` (for all) or `?` (there is) over variables."""

    operator: str
    variables: tuple[str, ...]
    body: Formula


Formula: TypeAlias = Application | Not | Connective | Quantifier
"""Truth is the atom `$true`, falsehood `$false`."""


@dataclass(frozen=True)
class Statement:
    """A formula with what a file says of it."""

    language: str
    """`fof` or `cnf`; the free variables of a cnf are universal."""
    name: str
    role: str
    formula: Formula


@dataclass(frozen=True)
class Problem:
    """The formulas of a file, includes taken in, in order."""

    name: str
    """The file's name without its ending."""
    statements: tuple[Statement, ...]
    status: str = ""
    """What the header says of it, such as `Theorem`; "" if nothing."""

    @property
    def has_conjecture(self) -> bool:
        """Whether something is to be proved, rather than refuted."""
        return any(statement.role == "conjecture" for statement in self.statements)


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Allow Python's functions to recur as deep as `MAX_DEPTH` asks for."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 20 * MAX_DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def read(path: Path) -> Problem:
    """The problem in the file PATH. `DataError`, with line and column, if it cannot be read.

    An include is looked for beside the file that asks for it, then in the folder that the
    environment variable TPTP names.
    """
    text = _text(path, f"{path}")
    with deep_recursion():
        statements = _Reader(text, str(path), path.parent, (path.resolve(),)).file()
    return _problem(path.stem, text, statements)


def parse(text: str, name: str = "text") -> Problem:
    """The problem in TEXT, which messages call NAME; includes are looked for from here."""
    with deep_recursion():
        statements = _Reader(text, name, Path(), ()).file()
    return _problem(name, text, statements)


def _problem(name: str, text: str, statements: list[Statement]) -> Problem:
    if not statements:
        raise DataError(f"{name}: there is no formula in it")
    status = re.search(r"^% Status\s*:\s*(\w+)", text, re.MULTILINE)
    return Problem(name, tuple(statements), status[1] if status else "")


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 text (byte {error.start})") from error


_TOKEN = re.compile(
    r"(?P<space>\s+|%[^\n]*|/\*.*?\*/)"
    r"|(?P<word>\$\$?\w+|[a-z]\w*)"
    r"|(?P<variable>[A-Z_]\w*)"
    r"|'(?P<single>(?:[^'\\\n]|\\.)+)'"
    r"|(?P<distinct>\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:/\d+)?)"
    r"|(?P<symbol><=>|<~>|=>|<=|~\||~&|!=|!!|\?\?|@[+-]|[][(){}.,:!?~&|=@^>*+<-])",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass
class _Reader:
    """Recursive descent over the tokens of TEXT. OPEN are the files that are being read."""

    text: str
    name: str
    folder: Path
    open: tuple[Path, ...]
    tokens: list[_Token] = field(default_factory=list)
    next: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        position = 0
        while position < len(self.text):
            found = _TOKEN.match(self.text, position)
            if found is None:
                self.fail(f"{self.text[position]!r} begins nothing that TPTP knows", position)
            kind = str(found.lastgroup)
            if kind != "space":
                self.tokens.append(_Token(kind, found[kind], position))
            position = found.end()
        self.tokens.append(_Token("end", "the end of the file", len(self.text)))

    def fail(self, what: str, position: int | None = None) -> NoReturn:
        at = self.tokens[self.next].position if position is None else position
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        raise DataError(f"{self.name}:{line}:{column}: {what}")

    @property
    def ahead(self) -> str:
        """The token ahead if it is a symbol, else ""."""
        token = self.tokens[self.next]
        return token.text if token.kind == "symbol" else ""

    def take(self) -> _Token:
        token = self.tokens[self.next]
        self.next += 1
        if token.kind == "end":
            self.fail("the file ends in the middle of a formula", token.position)
        return token

    def expect(self, symbol: str) -> None:
        token = self.take()
        if (token.kind, token.text) != ("symbol", symbol):
            self.fail(f"{symbol!r} is expected here, not {token.text!r}", token.position)

    def accept(self, symbol: str) -> bool:
        found = self.ahead == symbol
        self.next += found
        return found

    def word(self, what: str) -> str:
        token = self.tokens[self.next]
        if token.kind not in ("word", "single", "number"):
            self.fail(f"{what} is expected here, not {token.text!r}")
        return _unescaped(self.take())

    def file(self) -> list[Statement]:
        statements: list[Statement] = []
        while self.tokens[self.next].kind != "end":
            language = self.tokens[self.next].text
            if language in _TYPED:
                self.fail(f"{_TYPED[language]} are not read, only first-order fof and cnf")
            if language not in ("fof", "cnf", "include"):
                self.fail(f"fof(, cnf( or include( is expected here, not {language!r}")
            self.next += 1
            self.expect("(")
            if language == "include":
                statements += self.include()
            else:
                statements.append(self.statement(language))
            self.expect(")")
            self.expect(".")
        return statements

    def include(self) -> list[Statement]:
        position = self.tokens[self.next].position
        name = self.word("the name of a file")
        places = [self.folder / name]
        if root := os.environ.get("TPTP"):
            places.append(Path(root) / name)
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            self.fail(f"the file {name} is neither in {self.folder} nor below $TPTP", position)
        if path.resolve() in self.open:
            self.fail(f"the file {name} includes itself", position)
        inner = _Reader(
            _text(path, str(path)), str(path), path.parent, (*self.open, path.resolve())
        )
        statements = inner.file()
        if self.accept(","):
            self.expect("[")
            chosen = [self.word("the name of a formula")]
            while self.accept(","):
                chosen.append(self.word("the name of a formula"))
            self.expect("]")
            known = {statement.name for statement in statements}
            for wanted in chosen:
                if wanted not in known:
                    self.fail(f"{name} has no formula {wanted!r}", position)
            statements = [s for s in statements if s.name in chosen]
        return statements

    def statement(self, language: str) -> Statement:
        name = self.word("the name of a formula")
        self.expect(",")
        if self.tokens[self.next].text == "type":
            self.fail("types are not read, only first-order formulas")
        if self.tokens[self.next].text not in ROLES:
            self.fail(f"the role {self.tokens[self.next].text!r} is not one of a problem's")
        role = self.take().text
        self.expect(",")
        position = self.tokens[self.next].position
        formula = self.formula()
        if language == "cnf":
            if not _is_clause(formula):
                self.fail("a cnf must be a disjunction of literals", position)
        elif free := sorted(_free(formula)):
            self.fail(f"the variable {free[0]} is not bound by a quantifier", position)
        if self.ahead == ",":  # the source and what else is known of it
            self.annotations()
        return Statement(language, name, role, formula)

    def annotations(self) -> None:
        level = 0
        while level or self.ahead != ")":
            level += {"(": 1, "[": 1, ")": -1, "]": -1}.get(self.ahead, 0)
            self.take()

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"this is nested more than {MAX_DEPTH} deep, which is the limit")
        yield
        self.depth -= 1

    def formula(self) -> Formula:
        with self.deeper():
            left = self.unit()
            operator = self.ahead
            if operator in ("&", "|"):
                parts = [left]
                while self.accept(operator):
                    parts.append(self.unit())
                if self.ahead in ("&", "|"):
                    self.fail(f"{operator} and {self.ahead} need parentheses between them")
                return Connective(operator, tuple(parts))
            if operator not in ("=>", "<=", "<=>", "<~>", "~|", "~&"):
                return left
            self.next += 1
            right = self.unit()
            if self.ahead in ("=>", "<=", "<=>", "<~>", "~|", "~&", "&", "|"):
                self.fail(f"{operator} and {self.ahead} need parentheses between them")
            match operator:
                case "<=":
                    return Connective("=>", (right, left))
                case "<~>" | "~|" | "~&":
                    inner = {"<~>": "<=>", "~|": "|", "~&": "&"}[operator]
                    return Not(Connective(inner, (left, right)))
            return Connective(operator, (left, right))

    def unit(self) -> Formula:
        with self.deeper():
            if self.accept("~"):
                return Not(self.unit())
            if self.ahead in ("!", "?"):
                return self.quantifier()
            if self.accept("("):
                inner = self.formula()
                self.expect(")")
                return inner
            return self.atom()

    def quantifier(self) -> Quantifier:
        operator = self.take().text
        self.expect("[")
        bound = [self.bound()]
        while self.accept(","):
            bound.append(self.bound())
        self.expect("]")
        self.expect(":")
        return Quantifier(operator, tuple(bound), self.unit())

    def bound(self) -> str:
        if self.tokens[self.next].kind != "variable":
            self.fail(f"a variable is expected here, not {self.tokens[self.next].text!r}")
        name = self.take().text
        if self.ahead == ":":
            self.fail("the variable has a type; typed formulas are not read")
        return name

    def atom(self) -> Formula:
        position = self.next
        if self.tokens[position].text in ("$true", "$false"):
            return Application(self.take().text)
        left = self.term()
        if self.ahead in ("=", "!="):
            negative = self.take().text == "!="
            equation = Application("=", (left, self.term()))
            return Not(equation) if negative else equation
        if self.ahead in ("@", "^"):
            self.fail("this is higher order; only first-order formulas are read")
        if isinstance(left, Variable) or self.tokens[position].kind in ("distinct", "number"):
            self.next = position
            self.fail(f"{left} is a term, and a formula is expected here")
        return left

    def term(self) -> Term:
        with self.deeper():
            token = self.tokens[self.next]
            if token.kind == "variable":
                return Variable(self.take().text)
            if token.kind not in ("word", "single", "distinct", "number"):
                if token.text in ("^", "@", "@+", "@-", "!!", "??"):
                    self.fail("this is higher order; only first-order formulas are read")
                self.fail(f"a formula or a term is expected here, not {token.text!r}")
            if token.kind == "word" and token.text.startswith("$"):
                what = "of what TPTP defines, the formulas $true and $false are"
                self.fail(f"{token.text} is not read; {what}")
            symbol = _unescaped(self.take())
            arguments: list[Term] = []
            if token.kind in ("word", "single") and self.accept("("):
                arguments.append(self.term())
                while self.accept(","):
                    arguments.append(self.term())
                self.expect(")")
            return Application(symbol, tuple(arguments))


def _unescaped(token: _Token) -> str:
    return unquoted(token.text) if token.kind == "single" else token.text


def _is_clause(formula: Formula) -> bool:
    parts = [formula]
    while parts:
        match parts.pop():
            case Connective("|", more):
                parts += more
            case Application() | Not(Application()):
                pass
            case _:
                return False
    return True


def _free(formula: Formula) -> set[str]:
    match formula:
        case Not(body):
            return _free(body)
        case Connective(_, parts):
            return set().union(*[_free(part) for part in parts])
        case Quantifier(_, bound, body):
            return _free(body) - set(bound)
        case Application():
            names: set[str] = set()
            todo: list[Term] = [formula]
            while todo:
                match todo.pop():
                    case Variable(name):
                        names.add(name)
                    case Application(_, arguments):
                        todo += arguments
            return names


def show_formula(formula: Formula) -> str:
    """FORMULA in TPTP's syntax, so that reading it gives the same."""
    match formula:
        case Not(Application("=", (left, right))):
            return f"{left} != {right}"
        case Not(body):
            return f"~ {_unit(body)}"
        case Connective(operator, parts):
            return f" {operator} ".join([_unit(part) for part in parts])
        case Quantifier(operator, bound, body):
            return f"{operator} [{','.join(bound)}] : {_unit(body)}"
        case Application():
            return str(formula)


def _unit(formula: Formula) -> str:
    text = show_formula(formula)
    return f"({text})" if isinstance(formula, Connective) else text


def show_problem(problem: Problem) -> str:
    """PROBLEM as the text of a file without includes."""
    with deep_recursion():
        return "".join(
            f"{s.language}({quoted(s.name)}, {s.role}, ({show_formula(s.formula)})).\n"
            for s in problem.statements
        )
