"""Proofs that are built backwards: open goals, and the assertions that apply to the first.

A step unifies a goal with what an assertion says, and the assertion's premises become new goals.
Variables of the premises that do not occur there, such as the minor premise of modus ponens, are
*unknown* at first: numbers, which later steps give values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from corelab_envs.metamath.database import Assertion, Database, Hypothesis
from corelab_envs.metamath.grammar import Grammar, Printer, Term
from corelab_envs.metamath.unification import (
    TooLarge,
    Values,
    leaves,
    renumbered,
    resolved,
    unify,
)


@dataclass(frozen=True)
class Lemma:
    """An assertion as syntax trees, in which variables are numbers: their places in `variables`."""

    assertion: Assertion
    variables: tuple[Hypothesis, ...]
    conclusion: Term
    premises: tuple[Term, ...]
    distinct: tuple[tuple[int, int], ...]

    @property
    def label(self) -> str:
        """What it is called."""
        return self.assertion.label


class Library:
    """The assertions of a database as lemmas, made when they are first asked for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.grammar = Grammar(database)
        self.show = Printer(database)
        self._lemmas: dict[str, Lemma] = {}

    def lemma(self, label: str) -> Lemma:
        """The assertion LABEL. `DataError` if it is no formula by the grammar."""
        found = self._lemmas.get(label)
        if found is None:
            found = self._lemmas[label] = self._made(self.database.assertions[label])
        return found

    def _made(self, assertion: Assertion) -> Lemma:
        variables = assertion.floating
        number = {h.label: i for i, h in enumerate(variables)}
        name = {h.symbols[1]: i for i, h in enumerate(variables)}

        def opened(term: Term) -> Term:
            assert not isinstance(term, int)
            if len(term) == 1 and term[0] in number:
                return number[term[0]]
            return (term[0], *map(opened, term[1:]))

        return Lemma(
            assertion,
            variables,
            opened(self.grammar.parse(assertion)),
            tuple(opened(self.grammar.parse(assertion, h)) for h in assertion.essential),
            tuple(sorted((name[a], name[b]) for a, b in assertion.distinct)),
        )


@dataclass(frozen=True)
class Inference:
    """A way to go on with a goal: by a premise of the theorem, or by a lemma."""

    source: Hypothesis | Lemma
    values: Values
    """What unknowns get by it."""
    premises: tuple[Term, ...]
    """The goals that it brings."""

    @property
    def label(self) -> str:
        """The premise's or the lemma's."""
        return self.source.label


@dataclass
class _Node:
    """A goal and, once it was met, what it was met with."""

    goal: Term
    source: Hypothesis | Lemma | None = None
    values: tuple[Term, ...] = ()
    """Of the lemma's variables, in order."""
    below: list[_Node] = field(default_factory=list)
    """The lemma's premises, in order."""


class Derivation:
    """A proof of THEOREM in the making, from its premises and from LEMMAS, in their order."""

    def __init__(self, library: Library, theorem: Assertion, lemmas: Iterable[Lemma]) -> None:
        self.theorem = theorem
        self.premises = tuple((h, library.grammar.parse(theorem, h)) for h in theorem.essential)
        """The theorem's own."""
        self.steps = 0
        """How many inferences were made."""
        self._lemmas = tuple(lemmas)
        self._root = _Node(library.grammar.parse(theorem))
        self._open = [self._root]
        self._values: Values = {}
        self._types: list[str] = []
        """Of each unknown."""
        self._apart: list[tuple[Term, Term]] = []
        """Trees that must have no variables in common, nor two that are not known distinct."""
        own = {h.symbols[1]: h.label for h in theorem.floating}
        self._fixed = frozenset(own.values())
        self._distinct = {frozenset((own[a], own[b])) for a, b in theorem.distinct}

    @property
    def goals(self) -> list[Term]:
        """The open goals; the first is the one to go on with.

        It is the first, in the order of the proof, that is not just an unknown: what an unknown
        formula is, other goals have to tell.
        """
        return [node.goal for node in self._ordered()]

    def _ordered(self) -> list[_Node]:
        for i, node in enumerate(self._open):
            if not isinstance(node.goal, int):
                return [node, *self._open[:i], *self._open[i + 1 :]]
        return self._open

    def inferences(self) -> Iterator[Inference]:
        """What applies to the first goal: premises of the theorem, then lemmas."""
        if not self._open:
            return
        goal = self._ordered()[0].goal
        for hypothesis, formula in self.premises:
            yield from self._inference(goal, hypothesis, formula)
        for lemma in self._lemmas:
            yield from self._inference(goal, lemma, lemma.conclusion)

    def _inference(
        self, goal: Term, source: Hypothesis | Lemma, conclusion: Term
    ) -> Iterator[Inference]:
        """The one by SOURCE, if it applies."""
        if (
            not isinstance(goal, int)
            and not isinstance(conclusion, int)
            and goal[0] != conclusion[0]
        ):
            return  # which spares most the rest
        first = len(self._types)
        values: Values = {}
        premises: list[Term] = []
        apart = self._apart
        try:
            if isinstance(source, Lemma):
                conclusion = renumbered(conclusion, first)
                premises = [renumbered(premise, first) for premise in source.premises]
                apart = apart + [(a + first, b + first) for a, b in source.distinct]
            if not unify(conclusion, goal, values):
                return
            premises = [resolved(premise, values) for premise in premises]
            if any(unknown < first for unknown in values):  # then other goals change
                for node in self._open:
                    resolved(node.goal, values)
            for a, b in apart:
                if not self._may_be_apart(resolved(a, values), resolved(b, values)):
                    return
        except TooLarge:
            return
        yield Inference(source, values, tuple(premises))

    def _may_be_apart(self, a: Term, b: Term) -> bool:
        """Whether the variables of A and B, as far as they are known, are distinct."""
        right = set(leaves(b))
        for x in set(leaves(a)):
            if isinstance(x, int):
                if x in right:  # whatever variable is in its value will be in both
                    return False
            elif x in self._fixed and any(
                {x, y} not in self._distinct for y in right & self._fixed
            ):
                return False
        return True

    def apply(self, inference: Inference) -> None:
        """Make INFERENCE, one of `inferences`."""
        node = self._ordered()[0]
        at = next(i for i, other in enumerate(self._open) if other is node)
        values = inference.values
        node.source = source = inference.source
        if isinstance(source, Lemma):
            first = len(self._types)
            node.values = tuple(range(first, first + len(source.variables)))
            node.below = [_Node(premise) for premise in inference.premises]
            self._types += [h.symbols[0] for h in source.variables]
            self._apart += [(a + first, b + first) for a, b in source.distinct]
        self._open[at : at + 1] = node.below
        self._values |= values
        for other in self._open:
            other.goal = resolved(other.goal, values)
        self._apart = [(resolved(a, values), resolved(b, values)) for a, b in self._apart]
        self.steps += 1

    def proof(self) -> list[str] | None:
        """The labels of the proof, once no goal is open.

        Unknowns that nothing has given a value become variables that the theorem does not have.
        None if there are too few of those, or the proof's formulas are too large.
        """
        assert not self._open
        todo: list[_Node | Term] = [self._root]
        reversed_labels: list[str] = []
        values = dict(self._values)
        spare = [h for h in self.theorem.scope if h.label not in self._fixed]
        while todo:
            at = todo.pop()
            if isinstance(at, _Node):
                assert at.source is not None
                reversed_labels.append(at.source.label)
                if isinstance(at.source, Lemma):
                    terms, nodes = iter(at.values), iter(at.below)
                    todo += [
                        next(terms) if h.floating else next(nodes)
                        for h in at.source.assertion.hypotheses
                    ]
                continue
            try:
                at = resolved(at, values)
            except TooLarge:
                return None
            for unknown in sorted({x for x in leaves(at) if isinstance(x, int)}):
                dummy = next((h for h in spare if h.symbols[0] == self._types[unknown]), None)
                if dummy is None:
                    return None
                spare.remove(dummy)
                values[unknown] = (dummy.label,)
            reversed_labels += reversed(list(_postorder(resolved(at, values))))
        return reversed_labels[::-1]


def _postorder(term: Term) -> Iterator[str]:
    """The labels that build TERM."""
    assert not isinstance(term, int)
    for child in term[1:]:
        yield from _postorder(child)
    yield term[0]
