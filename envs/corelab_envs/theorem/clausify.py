"""From formulas to clauses, whose refutation proves the conjecture.

The clause form is that of leanCoP 2.1 (Otten 2010, "Restricting Backtracking in Connection
Calculi", AI Communications 23), so that searches can be compared inference by inference. Its parts:

- Axioms and the negated conjecture are brought to negation normal form and Skolemised from the
  outside in; the arguments of a Skolem function are the universal variables around it, the
  innermost first.
- A conjunction below a disjunction is multiplied out, or given a name by a new predicate
  (Plaisted and Greenbaum 1986). By default, names are given in the conjecture only.
- Of two parts of a conjunction or disjunction, the one with fewer *paths* comes first; a literal
  has one, disjunctions add and conjunctions multiply those of their parts.
- Equality is axiomatised: an equivalence that every symbol of the formulas respects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal as OneOf
from typing import TypeAlias

from corelab import DataError
from corelab_envs.theorem.terms import (
    Application,
    Clause,
    Literal,
    Term,
    Variable,
    subterms,
    variables,
)
from corelab_envs.theorem.tptp import (
    Connective,
    Formula,
    Not,
    Problem,
    Quantifier,
    Statement,
    deep_recursion,
)

Form: TypeAlias = OneOf["conjecture", "none", "full"]
"""Where names are given to parts of formulas: in the conjecture, nowhere, or everywhere."""
START = Application("$start")
"""Every start clause has this literal in front; the goal that begins a proof is its negation. No
file can have a symbol of this name."""
MAX_CLAUSES = 50_000
"""A formula may come to this many clauses."""
_MAX_SIZE = 200_000
"""The normal form of a formula may have this many literals."""


@dataclass(frozen=True, slots=True)
class _Both:
    """Two parts in negation normal form joined by OPERATOR, `&` or `|`."""

    operator: str
    left: _Normal
    right: _Normal


_Normal: TypeAlias = Literal | _Both | bool


def clausify(
    problem: Problem, form: Form = "conjecture", conjecture_starts: bool = False
) -> list[Clause]:
    """The clauses to refute, start clauses marked by the literal `START`.

    A proof may start from any clause whose literals are all negative, since an interpretation
    in which everything is true satisfies all others; or, if CONJECTURE_STARTS and there is a
    conjecture, from those of its negation, which is complete if the axioms have a model.
    `DataError` if there would be more than `MAX_CLAUSES`.
    """
    with deep_recursion():
        return _Clausifier(problem, form, conjecture_starts).clauses()


@dataclass
class _Block:
    """Clauses from some formulas, and the number of paths through them."""

    paths: int
    clauses: list[Clause]
    definitions: list[Clause] = field(default_factory=list)

    def __and__(self, other: _Block) -> _Block:
        first, second = (other, self) if self.paths > other.paths else (self, other)
        return _Block(
            self.paths * other.paths,
            first.clauses + second.clauses,
            self.definitions + other.definitions,
        )

    def all(self) -> list[Clause]:
        return self.definitions[::-1] + self.clauses


class _Clausifier:
    def __init__(self, problem: Problem, form: Form, conjecture_starts: bool) -> None:
        self.problem = problem
        self.form = form
        self.marked = conjecture_starts and problem.has_conjecture
        formulas = [statement.formula for statement in problem.statements]
        self.symbols = _symbols(formulas)
        names = {symbol for symbol, _, _ in self.symbols}
        self.skolem = _unused("sk", names)
        self.defined = _unused("def", names)
        self.numbered = 1
        self.count = 0
        # of the formula at hand
        self.naming = False
        self.definitions: list[_Normal] = []
        self.size = 0

    def clauses(self) -> list[Clause]:
        axioms: list[Statement] = []
        conjectures: list[Statement] = []
        for statement in self.problem.statements:
            (conjectures if statement.role == "conjecture" else axioms).append(statement)
        assumed = _Block(1, [])
        for group in (*_equality(self.symbols), axioms):
            parts = [self.block(s, s.formula, self.form == "full") for s in group]
            if parts:
                block = _conjunction(parts)
                assumed = assumed & block if assumed.clauses else block
        if not conjectures:
            return [self.started(clause) for clause in assumed.all()]
        negated = Not(_all_of([statement.formula for statement in conjectures]))
        goal = replace(conjectures[0], role="negated_conjecture")
        refuted = self.block(goal, negated, self.form != "none", starts=self.marked)
        if self.form == "conjecture":
            found = refuted.all() + assumed.all()
        else:
            found = (assumed & refuted if assumed.clauses else refuted).all()
        return [self.started(clause) for clause in found]

    def started(self, clause: Clause) -> Clause:
        """CLAUSE with the literal `START` in front if a proof may start from it."""
        if self.marked or not all(literal.negative for literal in clause.literals):
            return clause
        return replace(clause, literals=(Literal(False, START), *clause.literals))

    def block(
        self, statement: Statement, formula: Formula, naming: bool, starts: bool = False
    ) -> _Block:
        """The clauses of a STATEMENT's FORMULA, parts of which are given names if NAMING; if it
        STARTS, with the literal `START`.
        """
        self.naming, self.definitions, self.size = naming, [], 0
        environment: dict[str, Term] = {}
        universal: tuple[Variable, ...] = ()
        if statement.language == "cnf":
            names = variables([Literal(False, atom) for atom in _atoms([formula])])
            universal = tuple(self.fresh() for _ in names)
            environment = dict(zip(names, universal, strict=True))
        normal, paths = self.normal(formula, True, environment, universal)
        if starts:
            normal, paths = _joined(
                "|", Literal(False, START), self.named(normal, universal, 0), 1, paths
            )
        role = "negated_conjecture" if statement.role == "negated_conjecture" else "axiom"
        clauses, definitions = (
            [
                self.clause(literals, statement.name, role)
                for part in parts
                for literals in self.multiplied(part)
            ]
            for parts in ([normal], self.definitions)
        )
        return _Block(paths, clauses, definitions)

    def fresh(self) -> Variable:
        self.count += 1
        return Variable(f"V{self.count}")

    def named(self, part: _Normal, universal: tuple[Variable, ...], place: int) -> _Normal:
        """PART, or a literal that stands for it if it is a conjunction and names are given; its
        definition then has this PLACE among the definitions.
        """
        if not self.naming or not _is_conjunction(part):
            return part
        atom = Application(f"{self.defined}{self.numbered}", universal[::-1])
        self.numbered += 1
        self.definitions.insert(place, _Both("|", Literal(False, atom), part))
        return Literal(True, atom)

    def normal(
        self,
        formula: Formula,
        positive: bool,
        environment: dict[str, Term],
        universal: tuple[Variable, ...],
    ) -> tuple[_Normal, int]:
        """FORMULA, or its negation unless POSITIVE, in Skolemised normal form, and its paths.

        Variables stand for what ENVIRONMENT says; UNIVERSAL are those around, the outermost first.
        """
        self.size += 1
        if self.size > _MAX_SIZE:
            raise self.too_large()
        match formula:
            case Not(body):
                return self.normal(body, not positive, environment, universal)
            case Quantifier(operator, bound, body):
                environment = dict(environment)
                for variable in bound:
                    if (operator == "!") == positive:
                        universal = (*universal, self.fresh())
                        environment[variable] = universal[-1]
                    else:
                        skolem = f"{self.skolem}{self.numbered}"
                        environment[variable] = Application(skolem, universal[::-1])
                        self.numbered += 1
                return self.normal(body, positive, environment, universal)
            case Application(symbol):
                if symbol in ("$true", "$false"):
                    return (symbol == "$true") == positive, 1
                return Literal(not positive, _substituted(formula, environment)), 1
            case Connective("=>", (left, right)):
                implication = Connective("|", (Not(left), right))
                return self.normal(implication, positive, environment, universal)
            case Connective("<=>", (left, right)):
                meant = self.equivalence(left, right, positive)
                return self.normal(meant, True, environment, universal)
            case Connective(operator, parts):
                joined = operator if positive else {"&": "|", "|": "&"}[operator]
                return self.junction(joined, parts, positive, environment, universal)

    def equivalence(self, left: Formula, right: Formula, positive: bool) -> Formula:
        """LEFT <=> RIGHT, or its negation unless POSITIVE, by other connectives."""
        if positive:
            halves = Connective("|", (Not(left), right)), Connective("|", (left, Not(right)))
        elif self.naming:  # a disjunction, whose parts will be given names
            halves = Connective("&", (left, Not(right))), Connective("&", (right, Not(left)))
            return Connective("|", halves)
        else:
            halves = Connective("|", (Not(left), Not(right))), Connective("|", (left, right))
        return Connective("&", halves)

    def junction(
        self,
        operator: str,
        parts: Sequence[Formula],
        positive: bool,
        environment: dict[str, Term],
        universal: tuple[Variable, ...],
    ) -> tuple[_Normal, int]:
        """PARTS, or their negations unless POSITIVE, joined by OPERATOR from the right."""
        done = []
        for part in parts:  # from the left, since that is the order in which names are given
            place = len(self.definitions)
            normal, paths = self.normal(part, positive, environment, universal)
            if operator == "|":
                normal = self.named(normal, universal, place)
            done.append((normal, paths))
        normal, paths = done.pop()
        while done:
            left, left_paths = done.pop()
            normal, paths = _joined(operator, left, normal, left_paths, paths)
        return normal, paths

    def multiplied(self, normal: _Normal) -> list[tuple[Literal, ...]]:
        """The literals of each clause of NORMAL, tautologies left out."""
        if _clause_count(normal) > MAX_CLAUSES:
            raise self.too_large()
        flat = []
        todo = [normal]
        while todo:  # conjunctions at the top, without recurring
            match todo.pop():
                case _Both("&", left, right):
                    todo += [right, left]
                case other:
                    flat.append(other)
        clauses = []
        for disjunction in flat:
            for part in self.distributed(disjunction):
                literals = _union(part)
                if literals is not None:
                    clauses.append(tuple(literals))
        return clauses

    def distributed(self, normal: _Normal) -> list[_Normal]:
        """NORMAL as a list of disjunctions that have no conjunctions in them."""
        if normal is True:
            return []
        if isinstance(normal, Literal | bool):
            return [normal]
        left, right = normal.left, normal.right
        if normal.operator == "&":
            return self.distributed(left) + self.distributed(right)
        if isinstance(left, _Both) and left.operator == "&":
            halves = [_Both("|", left.left, right), _Both("|", left.right, right)]
            return [part for half in halves for part in self.distributed(half)]
        if isinstance(right, _Both) and right.operator == "&":
            halves = [_Both("|", left, right.left), _Both("|", left, right.right)]
            return [part for half in halves for part in self.distributed(half)]
        lefts, rights = self.distributed(left), self.distributed(right)
        return [_Both("|", a, b) for a, b in product(lefts, rights)]

    def too_large(self) -> DataError:
        return DataError(
            f"{self.problem.name}: a formula comes to more than {MAX_CLAUSES:,} clauses"
            + (", even" if self.form == "full" else "; there are fewer")
            + " if its parts are given names (the form full)"
        )

    def clause(self, literals: tuple[Literal, ...], source: str, role: str) -> Clause:
        names = {name: Variable(f"X{i}") for i, name in enumerate(variables(literals), start=1)}
        renamed = tuple(
            Literal(literal.negative, _substituted(literal.atom, names)) for literal in literals
        )
        return Clause(renamed, source, role)


def _is_conjunction(normal: _Normal) -> bool:
    return isinstance(normal, _Both) and normal.operator == "&"


def _joined(
    operator: str, left: _Normal, right: _Normal, left_paths: int, right_paths: int
) -> tuple[_Normal, int]:
    """LEFT and RIGHT by OPERATOR, the one with fewer paths first, and the paths of both."""
    paths = left_paths * right_paths if operator == "&" else left_paths + right_paths
    neutral = operator == "&"
    for one, other in ((left, right), (right, left)):
        if isinstance(one, bool):
            return (other if one == neutral else one), paths
    if left_paths > right_paths:
        left, right = right, left
    return _Both(operator, left, right), paths


def _clause_count(normal: _Normal) -> int:
    match normal:
        case _Both("&", left, right):
            return _clause_count(left) + _clause_count(right)
        case _Both(_, left, right):
            return _clause_count(left) * _clause_count(right)
    return 1


def _union(disjunction: _Normal) -> list[Literal] | None:
    """The literals of DISJUNCTION, each once, or none at all if two are complementary."""
    match disjunction:
        case Literal():
            return [disjunction]
        case _Both(_, left, right):
            first, rest = _union(left), _union(right)
            if first is None or rest is None:
                return None
            for literal in first:
                if Literal(not literal.negative, literal.atom) in rest:
                    return None
                if literal not in rest:
                    rest.insert(0, literal)
            return rest
    return []


def _conjunction(blocks: Sequence[_Block]) -> _Block:
    """BLOCKS joined from the right."""
    joined = blocks[-1]
    for block in reversed(blocks[:-1]):
        joined = block & joined
    return joined


def _all_of(formulas: Sequence[Formula]) -> Formula:
    return formulas[0] if len(formulas) == 1 else Connective("&", tuple(formulas))


def _substituted(atom: Application, values: Mapping[str, Term]) -> Application:
    """ATOM with VALUES for its variables."""

    def term(of: Term) -> Term:
        if isinstance(of, Variable):
            return values[of.name]
        return Application(of.symbol, tuple([term(argument) for argument in of.arguments]))

    return Application(atom.symbol, tuple([term(argument) for argument in atom.arguments]))


def _atoms(formulas: Sequence[Formula]) -> Iterable[Application]:
    todo = list(reversed(formulas))
    while todo:
        match todo.pop():
            case Not(body) | Quantifier(_, _, body):
                todo.append(body)
            case Connective(_, parts):
                todo.extend(reversed(parts))
            case Application() as atom:
                yield atom


def _symbols(formulas: Sequence[Formula]) -> set[tuple[str, int, bool]]:
    """Each symbol in FORMULAS: its name, its number of arguments, whether it is a predicate."""
    found = set()
    for atom in _atoms(formulas):
        found.add((atom.symbol, len(atom.arguments), True))
        for term in subterms(atom.arguments):
            if isinstance(term, Application):
                found.add((term.symbol, len(term.arguments), False))
    return found


def _unused(prefix: str, names: Iterable[str]) -> str:
    """PREFIX, or something like it with which none of NAMES begins."""
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _equality(symbols: set[tuple[str, int, bool]]) -> list[list[Statement]]:
    """The axioms of equality, if it occurs in SYMBOLS: that it is an equivalence, that predicates
    respect it, and functions, and that different objects in double quotes are not equal.
    """
    if ("=", 2, True) not in symbols:
        return []
    X, Y, Z = (Variable(name) for name in "XYZ")
    basic = [
        _universal("reflexivity", [], _equal(X, X)),
        _universal("symmetry", [_equal(X, Y)], _equal(Y, X)),
        _universal("transitivity", [_equal(X, Y), _equal(Y, Z)], _equal(X, Z)),
    ]
    predicates, functions, objects = [], [], []
    for symbol, arity, is_predicate in sorted(symbols):
        if symbol[0] == '"':
            objects.append(Application(symbol))
        if arity == 0 or symbol == "=":
            continue
        xs = tuple(Variable(f"X{i}") for i in range(arity))
        ys = tuple(Variable(f"Y{i}") for i in range(arity))
        equations = [_equal(x, y) for x, y in zip(xs, ys, strict=True)]
        left, right = Application(symbol, xs), Application(symbol, ys)
        name = f"substitution in {symbol}"
        if is_predicate:
            predicates.append(_universal(name, [*equations, left], right))
        else:
            functions.append(_universal(name, equations, _equal(left, right)))
    different = [
        Statement("fof", "distinct objects", "axiom", Not(_equal(one, other)))
        for i, one in enumerate(objects)
        for other in objects[i + 1 :]
    ]
    return [basic, predicates, functions, different]


def _equal(left: Term, right: Term) -> Application:
    return Application("=", (left, right))


def _universal(name: str, premises: Sequence[Application], conclusion: Application) -> Statement:
    """The axiom of equality NAME: PREMISES imply CONCLUSION, for all values of the variables."""
    formula: Formula = conclusion
    if premises:
        formula = Connective("=>", (_all_of(premises), conclusion))
    bound = variables([Literal(False, atom) for atom in (*premises, conclusion)])
    return Statement("fof", f"equality: {name}", "axiom", Quantifier("!", tuple(bound), formula))
