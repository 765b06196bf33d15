from __future__ import annotations

import pytest
from corelab_envs.theorem.terms import Application, Variable, quoted, show, unquoted
from corelab_envs.theorem.tptp import (
    MAX_DEPTH,
    Connective,
    Not,
    Problem,
    Quantifier,
    Statement,
    parse,
    read,
    show_problem,
)
from hypothesis import given
from hypothesis import strategies as st

from corelab import DataError


def formula(text):
    (statement,) = parse(f"fof(f, axiom, {text}).").statements
    return statement.formula


def atom(symbol, *arguments):
    return Application(symbol, arguments)


p, q, r = atom("p"), atom("q"), atom("r")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("p & q & r", Connective("&", (p, q, r))),
        ("p | q", Connective("|", (p, q))),
        ("p => q", Connective("=>", (p, q))),
        ("p <= q", Connective("=>", (q, p))),
        ("p <=> q", Connective("<=>", (p, q))),
        ("p <~> q", Not(Connective("<=>", (p, q)))),
        ("p ~| q", Not(Connective("|", (p, q)))),
        ("p ~& q", Not(Connective("&", (p, q)))),
        ("~ p & q", Connective("&", (Not(p), q))),
        ("~ ~ p", Not(Not(p))),
        ("a != b", Not(atom("=", atom("a"), atom("b")))),
        ("'p' & $true", Connective("&", (p, atom("$true")))),
        ("p & /* a\n comment */ q % another\n", Connective("&", (p, q))),
    ],
)
def test_every_connective_is_read(text, meaning):
    assert formula(text) == meaning


def test_quantifiers_reach_no_further_than_the_unit_behind_them():
    text = "! [X] : p(X) & ? [Y, Z] : ~ q(Y, Z)"
    assert [part.operator for part in formula(text).parts] == ["!", "?"]


def test_a_quoted_name_is_the_name_unless_that_would_change_what_it_is():
    assert unquoted("a") == "a"
    assert unquoted("it\\'s") == "it's"
    assert unquoted("1") == "'1'"
    assert formula("'='(a, b)") != formula("a = b")
    assert formula("'it\\'s'('A b', \"A b\", 1)") == atom(
        "it's", atom("A b"), atom('"A b"'), atom("1")
    )


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1))
def test_any_symbol_is_read_as_it_was_written(symbol):
    text = quoted(unquoted(symbol.replace("\\", "\\\\").replace("'", "\\'")))
    (argument,) = formula(f"p({text})").arguments
    assert quoted(argument.symbol) == text


terms = st.recursive(
    st.sampled_from([Variable("X"), Variable("Y"), atom("a"), atom("B c"), atom('"o"'), atom("7")]),
    lambda inner: st.builds(lambda a, b: atom("f", a, b), inner, inner),
    max_leaves=6,
)
atoms = st.builds(lambda a, b: atom("p", a, b), terms, terms) | st.builds(
    lambda a, b: atom("=", a, b), terms, terms
)
formulas = st.recursive(
    atoms | st.sampled_from([atom("$true"), atom("$false")]),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Connective, st.sampled_from(["=>", "<=>"]), st.tuples(inner, inner))
        | st.builds(Connective, st.sampled_from("&|"), st.tuples(inner, inner, inner))
    ),
    max_leaves=12,
)


@given(formulas)
def test_what_is_written_reads_the_same(body):
    closed = Quantifier("!", ("X", "Y"), Quantifier("?", ("Z",), body))
    problem = Problem("text", (Statement("fof", "a name", "conjecture", closed),))
    assert parse(show_problem(problem)).statements == problem.statements


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("fof(a, axiom, p &).", "1:18", r"a formula or a term is expected here, not '\)'"),
        ("fof(a, axiom,\n  p q).", "2:5", r"'\)' is expected here, not 'q'"),
        ("fof(a, axiom, p).\nfof(b, axiom, p", "2:16", "the file ends in the middle"),
        ("fof(a, axiom, p & q | r).", "1:21", "& and | need parentheses"),
        ("fof(a, axiom, p => q => r).", "1:22", "=> and => need parentheses"),
        ("fof(a, axiom, p(X)).", "1:15", "the variable X is not bound"),
        ("fof(a, axiom, X).", "1:15", "X is a term, and a formula is expected"),
        ("fof(a, axiom, $less(1, 2)).", "1:15", r"\$less is not read"),
        ("fof(a, axiom, p($start)).", "1:17", r"\$start is not read"),
        ("fof(a, axiom, p # q).", "1:17", "'#' begins nothing that TPTP knows"),
        ("fof(a, guess, p).", "1:8", "the role 'guess' is not one"),
        ("cnf(a, axiom, p & q).", "1:15", "a cnf must be a disjunction of literals"),
        ("hello(a, axiom, p).", "1:1", r"fof\(, cnf\( or include\( is expected here, not 'hello'"),
        ("tff(a, type, p: $o).", "1:1", r"typed formulas \(TFF\) are not read"),
        ("thf(a, axiom, p @ q).", "1:1", r"higher-order formulas \(THF\) are not read"),
        ("fof(a, type, p).", "1:8", "types are not read"),
        ("fof(a, axiom, ! [X: $i] : p(X)).", "1:19", "the variable has a type"),
        ("fof(a, axiom, p @ q).", "1:17", "this is higher order"),
        ("fof(a, axiom, ^ [X] : p).", "1:15", "this is higher order"),
        ("include('nowhere.ax').", "1:9", "the file nowhere.ax is neither in .* nor below"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(text, where, what):
    with pytest.raises(DataError, match=rf"^text:{where}: .*{what}"):
        parse(text)


def test_a_text_without_formulas_is_refused():
    with pytest.raises(DataError, match="there is no formula in it"):
        parse("% nothing\n")


def test_includes_are_found_beside_the_file_and_below_tptp(tmp_path, monkeypatch):
    library = tmp_path / "library" / "Axioms"
    library.mkdir(parents=True)
    library.joinpath("far.ax").write_text("fof(far, axiom, p).\nfof(other, axiom, q).\n")
    tmp_path.joinpath("near.ax").write_text("fof(near, axiom, p).\n")
    problem = tmp_path / "problem.p"
    problem.write_text(
        "% Status   : Theorem\ninclude('near.ax').\ninclude('Axioms/far.ax', [far]).\n"
        "fof(goal, conjecture, p).\n"
    )
    monkeypatch.setenv("TPTP", str(tmp_path / "library"))
    found = read(problem)
    assert [s.name for s in found.statements] == ["near", "far", "goal"]
    assert (found.name, found.status, found.has_conjecture) == ("problem", "Theorem", True)
    problem.write_text("include('near.ax', [far]).")
    with pytest.raises(DataError, match=r"problem.p:1:9: near.ax has no formula 'far'"):
        read(problem)
    problem.write_text("include('problem.p').")
    with pytest.raises(DataError, match="includes itself"):
        read(problem)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.p")
    problem.write_bytes(b"\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        read(problem)


def test_deep_terms_and_formulas_are_read_and_deeper_ones_refused():
    deep = MAX_DEPTH - 10
    term = "f(" * deep + "a" + ")" * deep
    assert show(formula(f"p({term})")) == f"p({term})"
    assert isinstance(formula("~" * deep + "p"), Not)
    assert formula("(" * (deep // 2) + "p" + ")" * (deep // 2)) == p
    with pytest.raises(DataError, match=rf"1:\d+: this is nested more than {MAX_DEPTH} deep"):
        formula("f(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    with pytest.raises(DataError, match=f"nested more than {MAX_DEPTH} deep"):
        formula("~" * 100_000 + "p")
