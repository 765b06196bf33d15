"""Proofs as data, in TSTP, and checked by something that knows nothing of tableaux.

A proof is a set of instances of the clauses it refutes. `refusal` asks whether each is one, by
matching from one side, and whether no assignment of truth values to their atoms satisfies all,
which is for a SAT solver to say. If so, the clauses have no model (Herbrand's theorem), whatever
found the instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from corelab import DataError
from corelab_envs.theorem.calculus import Kind, Outcome, Step
from corelab_envs.theorem.clausify import START
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.terms import Application, Clause, Literal, Term, Variable, quoted
from corelab_envs.theorem.tptp import Problem, deep_recursion, show_formula

MAX_SYMBOLS = 10_000
"""A literal of a proof may have so many symbols."""


class TooLarge(DataError):  # noqa: N818 - a finding: the proof exists, but cannot be written
    """A literal of the proof has more than `MAX_SYMBOLS` symbols."""


class Prover(Protocol):
    """A search or a tableau, of either kind, that has inferences to tell."""

    matrix: Matrix

    @property
    def outcome(self) -> Outcome:
        """Where it stands."""

    def steps(self) -> list[Step]:
        """The inferences in the tableau, in order."""

    def write(self, literal: int, offset: int, capacity: int) -> list[int] | None:
        """The atom of a literal, in codes; None if they are more than CAPACITY."""


@dataclass(frozen=True)
class Instance:
    """An instance of a clause."""

    clause: int
    """The number of the clause among those that the proof refutes."""
    literals: tuple[Literal, ...]
    """The clause's literals, in order, with values for its variables."""

    def __str__(self) -> str:
        return " | ".join(map(str, self.literals)) or "$false"


@dataclass(eq=False)
class Node:
    """A literal in a tableau, and what closes it."""

    literal: Literal
    closed: str = ""
    """`extension`, `reduction` or `lemma`; `entry` if it closes the goal above; "" if nothing."""
    source: str = ""
    """Of an extension: the name of the formula that the clause below is from."""
    children: list[Node] = field(default_factory=list)
    """The literals of the clause below."""

    def __str__(self) -> str:
        return "start" if self.literal.atom.symbol == START.symbol else str(self.literal)


def tableau(prover: Prover) -> Node:
    """The tree that PROVER has come to, from the goal that begins every proof. `TooLarge`."""
    matrix = prover.matrix
    root = Node(Literal(True, START))
    nodes = {(0, matrix.begin[-2]): root}
    for number, step in enumerate(prover.steps(), start=1):
        goal = nodes[step.instance, step.literal]
        goal.closed = Kind(step.kind).name.lower()
        if step.kind != Kind.EXTENSION:
            continue
        clause = matrix.clause_of[step.other]
        goal.source = matrix.clauses[clause].source
        for literal in range(*matrix.begin[clause : clause + 2]):
            node = Node(_literal(prover, literal, step.offset))
            node.closed = "entry" if literal == step.other else ""
            nodes[number, literal] = node
            if goal is not root or literal != step.other:  # the root has but a mark to close it
                goal.children.append(node)
    return root


def instances(prover: Prover) -> tuple[Instance, ...]:
    """The instances of clauses that PROVER's tableau consists of, each once. `TooLarge`."""
    matrix = prover.matrix
    found: dict[str, Instance] = {}
    for step in prover.steps():
        if step.kind == Kind.EXTENSION:
            clause = matrix.clause_of[step.other]
            literals = range(*matrix.begin[clause : clause + 2])
            written = [_literal(prover, literal, step.offset) for literal in literals]
            instance = Instance(clause, tuple(x for x in written if x.atom.symbol != START.symbol))
            found.setdefault(str(instance), instance)
    return tuple(found.values())


def _literal(prover: Prover, literal: int, offset: int) -> Literal:
    codes = prover.write(literal, offset, MAX_SYMBOLS)
    if codes is None:
        raise TooLarge(f"a literal of the proof has more than {MAX_SYMBOLS:,} symbols")
    atom = prover.matrix.term(codes)
    assert isinstance(atom, Application)
    return Literal(bool(prover.matrix.key[literal] & 1), atom)


def without_start(clause: Clause) -> tuple[Literal, ...]:
    """The literals of CLAUSE but for `START`, which is no part of what it says."""
    return tuple(literal for literal in clause.literals if literal.atom.symbol != START.symbol)


def refusal(clauses: Sequence[Clause], proof: Sequence[Instance]) -> str:
    """Why the instances in PROOF do not show that CLAUSES have no model; "" if they do.

    `DataError` if there is no SAT solver to ask.
    """
    try:
        from pysat.solvers import Minisat22
    except ImportError as error:
        raise DataError(
            'proofs are checked by a SAT solver that is missing: pip install "corelab-ml[theorem]"'
        ) from error
    numbers: dict[str, int] = {}
    with Minisat22() as solver:
        for instance in proof:
            if not 0 <= instance.clause < len(clauses):
                return f"there is no clause {instance.clause}"
            clause = without_start(clauses[instance.clause])
            if not _is_instance(clause, instance.literals):
                said = " | ".join(map(str, clause))
                return f"{instance} is no instance of clause {instance.clause}: {said}"
            # What variables are left are read as constants.
            solver.add_clause(
                [
                    (-1 if literal.negative else 1)
                    * numbers.setdefault(str(literal.atom), len(numbers) + 1)
                    for literal in instance.literals
                ]
            )
        satisfiable = solver.solve()
    return "the instances can all be true at once" if satisfiable else ""


def _is_instance(clause: Sequence[Literal], literals: Sequence[Literal]) -> bool:
    """Whether LITERALS are those of CLAUSE with one value for all occurrences of a variable."""
    if [x.negative for x in clause] != [x.negative for x in literals]:
        return False
    values: dict[str, str] = {}
    todo: list[tuple[Term, Term]] = [
        (x.atom, y.atom) for x, y in zip(clause, literals, strict=True)
    ]
    while todo:
        pattern, term = todo.pop()
        if isinstance(pattern, Variable):
            text = str(term)
            if values.setdefault(pattern.name, text) != text:
                return False
        elif (
            isinstance(term, Variable)
            or pattern.symbol != term.symbol
            or len(pattern.arguments) != len(term.arguments)
        ):
            return False
        else:
            todo += zip(pattern.arguments, term.arguments, strict=True)
    return True


def reward(prover: Prover) -> float:
    """What a tableau is worth: 1 if it is a proof that passes its check, else 0.

    A proof of terms too large to be written counts as none. `RuntimeError` if one is refused.
    """
    if prover.outcome is not Outcome.PROVED:
        return 0.0
    try:
        proof = instances(prover)
    except TooLarge:
        return 0.0
    if why := refusal(prover.matrix.clauses, proof):
        raise RuntimeError(f"a finished tableau is no proof, because {why}")
    return 1.0


def show_tstp(problem: Problem, clauses: Sequence[Clause], proof: Sequence[Instance]) -> str:
    """PROOF as a derivation in TSTP: the formulas of PROBLEM that it needs, their clauses, the
    instances, and the contradiction between them.
    """
    taken = {statement.name for statement in problem.statements}

    def new(name: str) -> str:
        return name if name not in taken else new(f"{name}_")

    used = sorted({instance.clause for instance in proof})
    sources = {clauses[number].source for number in used}
    needs_goal = any(clauses[number].role == "negated_conjecture" for number in used)
    lines, goals = [], []
    with deep_recursion():
        for s in problem.statements:
            name, is_goal = quoted(s.name), s.role == "conjecture"
            if s.name not in sources and not (is_goal and needs_goal):
                continue
            where = f"file({quoted(problem.name)}, {name})"
            lines.append(f"{s.language}({name}, {s.role}, ({show_formula(s.formula)}), {where}).")
            if is_goal:
                goals.append(s)
        if goals:
            negated = " & ".join(f"({show_formula(goal.formula)})" for goal in goals)
            names = ", ".join(quoted(goal.name) for goal in goals)
            rule = f"inference(assume_negation, [status(cth)], [{names}])"
            lines.append(f"fof({new('negated')}, negated_conjecture, ~ ({negated}), {rule}).")
    for number in used:
        clause, label = clauses[number], new(f"c{number}")
        text = " | ".join(map(str, without_start(clause))) or "$false"
        if clause.source.startswith("equality: "):
            lines.append(f"cnf({label}, axiom, ({text}), theory(equality)).")
            continue
        of_goal = clause.role == "negated_conjecture" and problem.has_conjecture
        parent = new("negated") if of_goal else quoted(clause.source)
        rule = f"inference(clausify, [status(esa)], [{parent}])"
        lines.append(f"cnf({label}, plain, ({text}), {rule}).")
    for i, instance in enumerate(proof):
        rule = f"inference(instantiate, [status(thm)], [{new(f'c{instance.clause}')}])"
        lines.append(f"cnf({new(f'i{i}')}, plain, ({instance}), {rule}).")
    parents = ", ".join(new(f"i{i}") for i in range(len(proof)))
    rule = f"inference(propositional, [status(thm)], [{parents}])"
    lines.append(f"cnf({new('contradiction')}, plain, $false, {rule}).")
    return "".join(f"{line}\n" for line in lines)


def current_goal(root: Node) -> Node | None:
    """The goal in turn: the first open literal, as goals are closed from the left, depth first."""
    todo = [root]
    while todo:
        node = todo.pop()
        if not node.closed:
            return node
        todo += reversed(node.children)
    return None


def show_tableau(root: Node, current: Node | None = None) -> str:
    """The tree below ROOT as indented text; the goal in turn, CURRENT, is marked by `>`."""
    lines = []
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        how = {"": "open", "entry": "closes the goal above"}.get(node.closed, node.closed)
        if node.source:
            how += f" by {node.source}"
        mark = "> " if node is current else "  "
        lines.append(f"{mark}{'  ' * depth}{node}  [{how}]")
        todo += [(child, depth + 1) for child in reversed(node.children)]
    return "\n".join(lines) + "\n"
