from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from corelab_envs.theorem import proof
from corelab_envs.theorem.calculus import Settings
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.machinery import machinery
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.picture import draw
from corelab_envs.theorem.problem_set import SHIPPED
from corelab_envs.theorem.proof import Instance, current_goal, refusal, show_tableau, show_tstp
from corelab_envs.theorem.prover import attempt
from corelab_envs.theorem.terms import Application, Clause, Literal, Variable, variables
from corelab_envs.theorem.tptp import parse, read

from corelab import DataError

NAMES = [
    "syllogism_barbara",
    "pelletier_24",
    "pelletier_39",
    "sets_subset_transitive",
    "equality_functions",
    "group_left_solution",
    "barber",
]


def proved(name):
    problem = read(SHIPPED / f"{name}.p")
    return problem, attempt(problem, inferences=10_000)


def test_every_proof_of_a_shipped_problem_passes():
    for path in sorted(SHIPPED.glob("*.p")):
        found = attempt(read(path), inferences=10_000)
        if found.status not in ("ResourceOut", "Satisfiable"):
            assert found.proof
            assert refusal(found.clauses, found.proof) == ""


def needed(found):
    """Which instances of a proof it does not hold without."""
    return [
        i
        for i in range(len(found.proof))
        if refusal(found.clauses, found.proof[:i] + found.proof[i + 1 :])
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_proof_without_one_of_its_instances_is_refused(name):
    _, found = proved(name)
    # Each proof here is as small as can be but for one that says a thing twice.
    assert len(needed(found)) >= len(found.proof) - 1 > 0


def mutations(instance):
    """INSTANCE with each literal negated, left out, and with each of its terms changed."""
    strange = Application("nothing of the kind")
    for i, literal in enumerate(instance.literals):
        before, after = instance.literals[:i], instance.literals[i + 1 :]
        yield "sign", (*before, replace(literal, negative=not literal.negative), *after)
        yield "missing", before + after
        if len(literal.atom.arguments) != 1 or i:
            yield "twice", (*before, literal, literal, *after)
        for j in range(len(literal.atom.arguments)):
            arguments = list(literal.atom.arguments)
            arguments[j] = strange
            atom = Application(literal.atom.symbol, tuple(arguments))
            yield "term", (*before, replace(literal, atom=atom), *after)
        atom = Application("another", literal.atom.arguments)
        yield "predicate", (*before, replace(literal, atom=atom), *after)
    if len(set(map(str, instance.literals))) > 1:
        yield "order", instance.literals[::-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_proof_with_a_mutated_instance_is_refused(name):
    _, found = proved(name)
    refused = kept = 0
    for i in needed(found):
        for what, literals in mutations(found.proof[i]):
            mutated = (*found.proof[:i], Instance(found.proof[i].clause, literals))
            why = refusal(found.clauses, (*mutated, *found.proof[i + 1 :]))
            # A changed term may make another instance, of which all must hold again; a clause that
            # is the same backwards is one.
            assert why or what in ("term", "order"), (what, str(found.proof[i]))
            refused, kept = refused + bool(why), kept + (not why)
    assert refused > 10 * kept


def test_a_changed_value_of_a_variable_is_refused():
    problem, found = proved("sets_subset_transitive")
    for i in needed(found):
        clause = found.clauses[found.proof[i].clause]
        for name in variables(proof.without_start(clause)):
            changed = tuple(
                Literal(x.negative, changed_atom(x.atom, y.atom, name))
                for x, y in zip(found.proof[i].literals, proof.without_start(clause), strict=True)
            )
            assert changed != found.proof[i].literals
            mutated = (*found.proof[:i], Instance(found.proof[i].clause, changed))
            why = refusal(found.clauses, (*mutated, *found.proof[i + 1 :]))
            assert why == "the instances can all be true at once", problem.name


def changed_atom(instance, pattern, name):
    """INSTANCE of PATTERN with another value wherever that has the variable NAME."""
    if isinstance(pattern, Variable):
        return Application("elsewhere") if pattern.name == name else instance
    pairs = zip(instance.arguments, pattern.arguments, strict=True)
    return Application(instance.symbol, tuple(changed_atom(a, b, name) for a, b in pairs))


def test_what_the_check_says_tells_what_is_wrong():
    p, q = Application("p", (Variable("X"),)), Application("q")
    clauses = [Clause((Literal(True, p),), "a"), Clause((Literal(False, p),), "b")]
    a, b = Application("p", (Application("a"),)), Application("p", (Application("b"),))
    whole = [Instance(0, (Literal(True, a),)), Instance(1, (Literal(False, a),))]
    assert refusal(clauses, whole) == ""
    assert "can all be true" in refusal(clauses, [whole[0], Instance(1, (Literal(False, b),))])
    assert "no clause 2" in refusal(clauses, [*whole, Instance(2, ())])
    assert "no instance of clause 1: p(X)" in refusal(clauses, [Instance(1, (Literal(False, q),))])
    assert "can all be true" in refusal(clauses, [])


def test_variables_that_are_left_are_read_as_constants():
    x, y = Application("p", (Variable("X"),)), Application("p", (Variable("Y"),))
    clauses = [Clause((Literal(True, x),), "a"), Clause((Literal(False, x),), "b")]
    not_y = Instance(0, (Literal(True, y),))
    assert not refusal(clauses, [not_y, Instance(1, (Literal(False, y),))])
    assert refusal(clauses, [not_y, Instance(1, (Literal(False, x),))])


def test_a_missing_solver_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    with pytest.raises(DataError, match=r'missing: pip install "corelab-ml\[theorem\]"'):
        refusal([], [])


def test_a_proof_that_fails_its_check_is_an_error_and_no_proof(monkeypatch):
    monkeypatch.setattr("corelab_envs.theorem.prover.refusal", lambda *_: "it is made up")
    with pytest.raises(RuntimeError, match="a proof is refused, because it is made up"):
        proved("pelletier_24")


def test_terms_that_double_are_told_to_be_too_large():
    text = "cnf(a, axiom, p(X) | ~ p(f(X,X))). cnf(goal, axiom, ~ p(a)). cnf(b, axiom, p(Y))."
    tableau = machinery().Tableau(Matrix.of(clausify(parse(text))))
    for _ in range(15):
        clauses = [tableau.matrix.clause_of[action.other] for action in tableau.actions]
        sizes = [len(tableau.matrix.clauses[clause].literals) for clause in clauses]
        tableau.step(sizes.index(max(sizes)))
    with pytest.raises(proof.TooLarge, match="more than 10,000 symbols"):
        proof.instances(tableau)


STEP = re.compile(r"(?:cnf|fof)\(([^,]+), (\w+), (.*?)(?:, (inference|file|theory)\((.*)\))?\)\.")


@pytest.mark.parametrize("name", NAMES)
def test_a_derivation_is_tptp_and_its_last_step_is_the_contradiction(name):
    problem, found = proved(name)
    text = show_tstp(problem, found.clauses, found.proof)
    statements = parse(text).statements
    assert str(statements[-1].formula) == "$false"
    names = {statement.name for statement in statements}
    for line in text.splitlines():
        if inference := re.search(r"inference\(\w+, \[status\(\w+\)\], \[(.*)\]\)\)\.$", line):
            assert set(inference[1].split(", ")) <= names, line


@pytest.mark.skipif(not shutil.which("eprover"), reason="eprover, which checks them, is missing")
@pytest.mark.parametrize("name", NAMES)
def test_e_accepts_each_step_of_a_derivation(name, tmp_path):
    problem, found = proved(name)
    steps = {}
    for line in show_tstp(problem, found.clauses, found.proof).splitlines():
        label, _, formula, kind, of = STEP.fullmatch(line).groups()
        steps[label] = formula
        if kind != "inference" or "status(thm)" not in of:
            continue
        parents = re.search(r"\[([^]]*)\]\)?$", of)[1].split(", ")
        premises = "".join(f"cnf({p}, axiom, {steps[p]}).\n" for p in parents)
        bound = ",".join(sorted(set(re.findall(r"\bX\d+\b", formula))))
        goal = f"! [{bound}] : ({formula})" if bound else formula
        file = tmp_path / "step.p"
        file.write_text(f"{premises}fof(step, conjecture, {goal}).\n")
        command = ["eprover", "--auto", "--silent", "--soft-cpu-limit=5", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert re.search("SZS status (Theorem|ContradictoryAxioms)", said), line


def test_a_tableau_is_shown_with_the_goal_in_turn():
    text = """fof(rule, axiom, ! [X] : (man(X) => mortal(X))). fof(fact, axiom, man(socrates)).
    fof(goal, conjecture, mortal(socrates))."""
    tableau = machinery().Tableau(Matrix.of(clausify(parse(text), "none", True)))
    tableau.step(0)
    tableau.step(0)
    root = proof.tableau(tableau)
    assert show_tableau(root, current_goal(root)) == (
        "  start  [extension by goal]\n"
        "    ~mortal(socrates)  [extension by rule]\n"
        ">     ~man(socrates)  [open]\n"
        "      mortal(socrates)  [closes the goal above]\n"
    )


def test_a_picture_is_xml_with_every_literal_where_it_overlaps_no_other():
    _, found = proved("pelletier_24")
    picture = ElementTree.fromstring(draw(found.tree))
    texts = picture.iter("{http://www.w3.org/2000/svg}text")
    literals = [e for e in texts if e.get("font-size") == "12"]
    nodes, todo = [], [found.tree]
    while todo:
        nodes.append(todo.pop())
        todo += nodes[-1].children
    assert sorted(e.text for e in literals) == sorted(map(str, nodes))
    rows = {}
    for e in literals:
        rows.setdefault(e.get("y"), []).append((float(e.get("x")), len(e.text) * 7.2))
    for row in rows.values():
        row.sort()
        for (x, width), (right, other) in pairwise(row):
            assert x + width / 2 <= right - other / 2


def test_the_picture_in_the_documentation_is_what_is_drawn():
    docs = Path(__file__).parents[3] / "docs" / "tasks"
    page = docs.joinpath("theorem.md").read_text()
    text = re.search(r'```text title="party.p"\n(.*?)```', page, re.DOTALL)[1]
    assert draw(attempt(parse(text, "party")).tree) == docs.joinpath("tableau.svg").read_text()


def test_settings_change_the_proof_but_not_that_it_is_one():
    problem = read(SHIPPED / "sets_power_monotone.p")
    for settings in (Settings(), Settings(cut=True), Settings(cut=True, comp=3)):
        clauses = clausify(problem)
        search = machinery().Search(Matrix.of(clauses), settings)
        search.run(20_000)
        assert refusal(clauses, proof.instances(search)) == ""
