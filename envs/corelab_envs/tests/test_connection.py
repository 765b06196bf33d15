"""The compiled engine against its twin, and both against what is known of problems."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from corelab_envs.theorem import calculus, engine
from corelab_envs.theorem.calculus import Kind, Outcome, Settings
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import SHIPPED
from corelab_envs.theorem.prover import Strategy, attempt
from corelab_envs.theorem.tptp import parse, read

PROBLEMS = sorted(SHIPPED.rglob("*.p"))
HARD = {"agatha", "group_squares_commute"}
OPTIONS = [
    (Settings(), "none", True),
    (Settings(), "none", False),
    (Settings(cut=True), "conjecture", True),
    (Settings(cut=True, comp=3), "conjecture", False),
    (Settings(cut=True, scut=True, comp=2), "full", False),
    (Settings(scut=True), "full", True),
]
MACHINES = [calculus, pytest.param(engine, marks=pytest.mark.compiled)]


def matrix(text, form="none", conj=False):
    return Matrix.of(clausify(parse(text), form, conj))


def agree(problem, limit):
    """Search PROBLEM by the engine and its twin under all options, LIMIT inferences each."""
    for settings, form, conj in OPTIONS:
        m = Matrix.of(clausify(problem, form, conj))
        twin, compiled = calculus.Search(m, settings), engine.Search(m, settings)
        for part in (limit // 3, limit):  # in two goes, since a search can be gone on with
            twin.run(part)
            compiled.run(part)
            for what in ("outcome", "inferences", "path_limit", "is_complete"):
                assert getattr(twin, what) == getattr(compiled, what), (problem.name, what)
            assert twin.steps() == compiled.steps()
            assert twin.inferences <= part


@pytest.mark.compiled
def test_the_engine_makes_the_same_inferences_as_its_twin():
    for path in PROBLEMS:
        agree(read(path), 60)


@pytest.mark.compiled
def test_the_engine_makes_the_same_inferences_as_its_twin_on_mizar_problems():
    folder = os.environ.get("CORELAB_MPTP")
    if not folder:
        pytest.skip("CORELAB_MPTP names no folder of the MPTP problems, which are not corelab's")
    for path in sorted(Path(folder).glob("*.p"))[::100]:
        agree(read(path), 100)


@pytest.mark.compiled
@pytest.mark.parametrize("path", PROBLEMS, ids=lambda path: path.stem)
def test_shipped_problems_have_the_status_that_they_say(path):
    problem = read(path)
    found = attempt(problem, inferences=20_000)
    assert found.status == ("ResourceOut" if problem.name in HARD else problem.status)


def test_the_twin_proves_without_a_compiler(monkeypatch):
    monkeypatch.setattr(engine, "missing", lambda: "there is no compiler")
    problem = read(SHIPPED / "pelletier_24.p")
    found = attempt(problem, inferences=1000)
    assert (found.status, found.inferences) == ("Theorem", 33)


def test_the_engines_inferences_are_leancops():
    # Counted by an implementation of the calculus in Prolog, benchmarks/prover.py.
    counts = {"pelletier_12": 272, "sets_distributive": 6294, "order_dense": 286}
    for name, count in counts.items():
        assert attempt(read(SHIPPED / f"{name}.p")).inferences == count


@pytest.mark.parametrize("machine", MACHINES)
def test_a_budget_is_kept_to_the_inference(machine):
    m = Matrix.of(clausify(read(SHIPPED / "sets_union_commutes.p")))
    for limit in (0, 1, 50):
        search = machine.Search(m, Settings(cut=True, comp=7))
        assert search.run(limit) is Outcome.RUNNING
        assert search.inferences == limit
    needed = attempt(read(SHIPPED / "sets_union_commutes.p")).inferences
    for limit, outcome in ((needed - 1, Outcome.RUNNING), (needed, Outcome.PROVED)):
        assert machine.Search(m, Settings(cut=True, comp=7)).run(limit) is outcome


def test_cut_keeps_the_first_solution_of_a_goal_and_comp_repairs_that():
    text = """cnf(one, axiom, p(a)). cnf(two, axiom, p(b)). cnf(three, axiom, q(b)).
    cnf(goal, negated_conjecture, ~ p(X) | ~ q(X))."""
    problem = parse(text)
    assert attempt(problem, Strategy(Settings(cut=True))).status == "GaveUp"
    assert attempt(problem, Strategy(Settings(cut=True, comp=2))).status == "Unsatisfiable"
    assert attempt(problem, Strategy(Settings())).status == "Unsatisfiable"


def test_scut_keeps_to_the_first_start_clause():
    text = "cnf(no, axiom, ~ p(a)). cnf(yes, axiom, ~ q(a)). cnf(fact, axiom, q(X))."
    assert attempt(parse(text), Strategy(Settings(scut=True))).status == "GaveUp"
    assert attempt(parse(text), Strategy(Settings())).status == "Unsatisfiable"


def test_starting_from_the_conjecture_does_not_decide_if_the_axioms_are_consistent():
    problem = parse("fof(a, axiom, p). fof(b, axiom, ~ p). fof(c, conjecture, q).")
    assert attempt(problem, Strategy(Settings(), "none", conj=True)).status == "GaveUp"
    assert attempt(problem, Strategy(Settings(), "none")).status == "Theorem"


@pytest.mark.parametrize(
    "text",
    [
        "cnf(a, axiom, p | ~ q). cnf(b, axiom, q | ~ p). cnf(c, axiom, ~ p).",
        "cnf(a, axiom, p(a) | ~ p(b)). cnf(b, axiom, p(b) | ~ p(a)). cnf(c, axiom, ~ p(a)).",
    ],
)
def test_a_regular_clause_repeats_nothing_of_its_path(text):
    # Without regularity, the two clauses would call each other forever.
    assert attempt(parse(text), Strategy(Settings()), inferences=50).status == "Satisfiable"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_goal_that_was_closed_is_a_lemma(machine):
    m = matrix("cnf(a, axiom, p). cnf(goal, axiom, ~ q | ~ p). cnf(b, axiom, q | ~ p).")
    search = machine.Search(m, Settings())
    search.run(100)
    kinds = [step.kind for step in search.steps()]
    assert search.outcome is Outcome.PROVED
    assert kinds == [Kind.EXTENSION, Kind.EXTENSION, Kind.EXTENSION, Kind.EXTENSION]
    m = matrix("cnf(a, axiom, p | ~ r). cnf(r, axiom, r). cnf(goal, axiom, ~ p | ~ p2 | ~ q)."
               "cnf(c, axiom, p2). cnf(b, axiom, q | ~ p).")  # fmt: skip
    search = machine.Search(m, Settings())
    search.run(100)
    assert [step.kind for step in search.steps()].count(Kind.LEMMA) == 1


@pytest.mark.parametrize("machine", MACHINES)
def test_no_variable_is_bound_to_a_term_that_it_occurs_in(machine):
    m = matrix("cnf(a, axiom, p(X, f(X))). cnf(goal, axiom, ~ p(Y, Y)).")
    assert machine.Search(m, Settings()).run(100) is Outcome.EXHAUSTED


@pytest.mark.parametrize("machine", MACHINES)
def test_terms_that_double_in_each_step_end_in_incompleteness_not_in_a_hang(machine):
    n = 60
    left = ",".join(f"f(X{i},X{i})" for i in range(n))
    right = ",".join(f"X{i + 1}" for i in range(n))
    m = matrix(f"cnf(a, axiom, p({left},{right},X0)). cnf(goal, axiom, ~ p({right},{left},X{n})).")
    search = machine.Search(m, Settings())
    assert search.run(10) is Outcome.EXHAUSTED
    assert not search.is_complete


@pytest.mark.compiled
def test_deep_terms_and_long_proofs_do_not_overflow_the_stack():
    text = """cnf(a, axiom, p(zero)). cnf(b, axiom, p(s(X)) | ~ p(X)).
    cnf(goal, axiom, ~ p(NUMBER))."""
    number = "s(" * 900 + "zero" + ")" * 900
    m = matrix(text.replace("NUMBER", number))
    tableau = engine.Tableau(m)
    while tableau.action_count:
        outcome = tableau.step(tableau.action_count - 1)
    assert outcome is Outcome.PROVED
    assert tableau.inferences == 902
    tableau = engine.Tableau(matrix(text.replace("NUMBER", "X")))
    for _ in range(2_000):  # ever larger numbers, on a path that never ends
        tableau.step(tableau.action_count - 1)
    assert (tableau.outcome, tableau.inferences) == (Outcome.RUNNING, 2_000)
    search = engine.Search(matrix(text.replace("NUMBER", "X")), Settings(cut=True))
    assert search.run(100) is Outcome.PROVED


def walk(tableau, rng, steps=25):
    """Random steps in TABLEAU; what it was at each of them."""
    for _ in range(steps):
        if not tableau.action_count:
            break
        yield tableau
        tableau.step(int(rng.integers(tableau.action_count)))
    yield tableau


@pytest.mark.compiled
@pytest.mark.parametrize("eager", [False, True])
def test_tableaux_and_their_features_are_the_same_in_both(eager):
    seen = set()
    for path in PROBLEMS[::4]:
        m = Matrix.of(clausify(read(path), "none", True))
        twin, compiled = calculus.Tableau(m, eager), engine.Tableau(m, eager)
        for both in zip(
            walk(twin, np.random.default_rng(1)), walk(compiled, np.random.default_rng(1)),
            strict=True,
        ):  # fmt: skip
            for what in ("outcome", "inferences", "goal", "action_count"):
                assert len({getattr(one, what) for one in both}) == 1, (path.stem, what)
            a, b = (
                [(x.kind, x.other if x.kind == Kind.EXTENSION else None) for x in one.actions]
                for one in both
            )
            assert a == b
            seen |= {(kind, outcome) for kind, _ in a for outcome in {both[0].outcome}}
            np.testing.assert_allclose(*(one.features(64) for one in both), rtol=1e-6)
            np.testing.assert_allclose(*(one.action_features(16, 8) for one in both), rtol=1e-6)
        assert twin.steps() == compiled.steps()
    assert len(seen) == (1 if eager else 2)  # reductions were among the actions, or never


@pytest.mark.parametrize("machine", MACHINES)
def test_a_state_can_be_gone_back_to_and_taken_elsewhere(machine):
    m = Matrix.of(clausify(read(SHIPPED / "sets_union_commutes.p"), "none", True))
    tableau, other = machine.Tableau(m), machine.Tableau(m)
    rng = np.random.default_rng(3)
    for _ in range(6):
        tableau.step(int(rng.integers(tableau.action_count)))
    state, features = tableau.save(), tableau.features(64)
    actions = [int(rng.integers(tableau.action_count))]
    tableau.step(actions[0])
    after = tableau.features(64), tableau.steps(), tableau.action_count
    other.restore(state)
    np.testing.assert_array_equal(other.features(64), features)
    other.step(actions[0])
    np.testing.assert_array_equal(other.features(64), after[0])
    assert (other.steps(), other.action_count) == after[1:]
    tableau.restore(state)  # what was done since has not changed the state
    np.testing.assert_array_equal(tableau.features(64), features)


@pytest.mark.parametrize("machine", MACHINES)
def test_an_action_that_does_not_apply_is_refused(machine):
    tableau = machine.Tableau(matrix("cnf(a, axiom, ~ p). cnf(b, axiom, p)."))
    with pytest.raises(IndexError):
        tableau.step(1)


def test_hashes_of_symbols_are_the_same_in_all_problems():
    one = matrix("fof(a, axiom, p(c) & ? [X] : q(X)).")
    other = matrix("fof(a, axiom, ? [X, Y] : (r(X) & q(Y)) & p(c)).")
    codes = [dict(zip(m.symbols, m.codes, strict=True)) for m in (one, other)]
    for symbol in ("p", "q", "c"):
        assert codes[0][symbol] == codes[1][symbol]
    assert codes[1]["sk1"] == codes[1]["sk2"] == codes[0]["sk1"]
