from __future__ import annotations

import pytest
from corelab_envs.theorem.clausify import MAX_CLAUSES, START, clausify
from corelab_envs.theorem.terms import Application
from corelab_envs.theorem.tptp import Connective, Not, Problem, Statement, parse
from hypothesis import given
from hypothesis import strategies as st
from pysat.solvers import Minisat22

from corelab import DataError

FORMS = ("conjecture", "none", "full")


def clauses(text, *options):
    return [str(clause) for clause in clausify(parse(text), *options)]


def test_skolem_functions_depend_on_the_universal_variables_around_them_innermost_first():
    text = "fof(a, axiom, ! [X, Y] : ? [Z] : ! [W] : ? [V] : p(X, Y, Z, W, V))."
    assert clauses(text) == ["p(X1,X2,sk1(X2,X1),X3,sk2(X3,X2,X1))"]


def test_start_clauses_are_those_without_a_positive_literal():
    text = "fof(a, axiom, p => q). fof(b, conjecture, p => q)."
    assert clauses(text) == ["p", "$start | ~q", "~p | q"]


def test_start_clauses_can_be_those_of_the_conjecture():
    text = "fof(a, axiom, ~ r). fof(b, conjecture, p => q)."
    assert clauses(text, "none", True) == ["~r", "$start | p", "$start | ~q"]


def test_a_conjunction_in_the_conjecture_is_given_a_name_or_multiplied_out():
    text = "fof(a, conjecture, (p | q) & r)."
    assert clauses(text) == ["def1 | ~q", "def1 | ~p", "$start | ~def1 | ~r"]
    assert clauses(text, "none") == ["$start | ~p | ~r", "$start | ~q | ~r"]


def test_names_of_the_clausifiers_making_are_new():
    text = "fof(a, axiom, ? [X] : p(X, sk1)). fof(b, conjecture, (def1 | q) & r)."
    found = " ".join(clauses(text))
    assert "sk_1" in found
    assert "def_2 | ~def1" in found


def test_equality_is_an_equivalence_that_all_symbols_respect():
    text = "cnf(a, axiom, p(f(X)) | X = a). cnf(b, axiom, q)."
    found = {c.source: str(c) for c in clausify(parse(text))}
    assert found == {
        "a": "p(f(X1)) | X1 = a",
        "b": "q",
        "equality: reflexivity": "X1 = X1",
        "equality: symmetry": "X1 != X2 | X2 = X1",
        "equality: transitivity": "X1 = X2 | X1 != X3 | X3 != X2",
        "equality: substitution in f": "X1 != X2 | f(X1) = f(X2)",
        "equality: substitution in p": "p(X1) | X2 != X1 | ~p(X2)",
    }


def test_objects_in_double_quotes_are_different():
    found = clauses('cnf(a, axiom, X = "b" | X = "c" | X = \'+\' | X = 1).')
    assert [c for c in found if "X" not in c] == ['$start | "b" != "c"']


def test_without_equality_there_are_no_axioms_of_it():
    assert clauses("cnf(a, axiom, p(f(X))).") == ["p(f(X1))"]


def test_tautologies_and_repeated_literals_go():
    assert clauses("cnf(a, axiom, p | ~ p). cnf(b, axiom, q | q).") == ["q"]
    assert clauses("fof(a, axiom, $true & (p | $false)).") == ["p"]
    assert clauses("fof(a, axiom, $false).") == ["$start"]


ATOMS = [Application(name) for name in "pqrs"]
formulas = st.recursive(
    st.sampled_from([*ATOMS, Application("$true"), Application("$false")]),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Connective, st.sampled_from(["=>", "<=>"]), st.tuples(inner, inner))
        | st.builds(Connective, st.sampled_from("&|"), st.tuples(inner, inner, inner))
    ),
    max_leaves=8,
)


def holds(formula, world):
    match formula:
        case Not(body):
            return not holds(body, world)
        case Connective("&", parts):
            return all(holds(part, world) for part in parts)
        case Connective("|", parts):
            return any(holds(part, world) for part in parts)
        case Connective("=>", (a, b)):
            return holds(b, world) or not holds(a, world)
        case Connective("<=>", (a, b)):
            return holds(a, world) == holds(b, world)
    return formula.symbol == "$true" or formula.symbol in world


@given(st.lists(formulas, max_size=2), formulas, st.sampled_from(FORMS), st.booleans())
def test_the_clauses_have_a_model_where_the_conjecture_does_not_follow(axioms, goal, form, conj):
    statements = [Statement("fof", "a", "axiom", axiom) for axiom in axioms]
    problem = Problem("made", (*statements, Statement("fof", "g", "conjecture", goal)))
    worlds = [{name for i, name in enumerate("pqrs") if n >> i & 1} for n in range(16)]
    expected = any(
        all(holds(axiom, world) for axiom in axioms) and not holds(goal, world) for world in worlds
    )
    numbers: dict[str, int] = {}
    with Minisat22() as solver:
        for clause in clausify(problem, form, conj):
            literals = [x for x in clause.literals if x.atom != START]
            solver.add_clause(
                [
                    (-1 if x.negative else 1) * numbers.setdefault(str(x.atom), len(numbers) + 1)
                    for x in literals
                ]
            )
        assert solver.solve() == expected


def test_a_formula_of_too_many_clauses_is_refused_in_a_sentence():
    wide = " | ".join(f"(p{i} & q{i})" for i in range(20))
    with pytest.raises(DataError, match=f"more than {MAX_CLAUSES:,} clauses; there are fewer if"):
        clausify(parse(f"fof(a, axiom, {wide})."))
    assert len(clausify(parse(f"fof(a, axiom, {wide})."), "full")) == 41
    nested = "p0"
    for i in range(1, 30):
        nested = f"({nested} <=> p{i})"
    with pytest.raises(DataError, match="more than"):
        clausify(parse(f"fof(a, axiom, {nested})."))
