from __future__ import annotations

from xml.etree import ElementTree

import pytest
from corelab_envs.theorem import verb
from corelab_envs.theorem.calculus import Outcome
from corelab_envs.theorem.machinery import machinery
from corelab_envs.theorem.problem_set import SHIPPED
from corelab_envs.theorem.tptp import parse

from corelab import cli


def prove(*words):
    return cli.main(["prove", *map(str, words)])


def test_a_proof_is_printed_between_its_status_lines(capsys):
    assert prove(SHIPPED / "syllogism_barbara.p") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "% SZS status Theorem for syllogism_barbara"
    assert lines[1].startswith("% 7 inferences in ")
    assert lines[1].endswith("paths of up to 3 literals, 4 clauses; cut, comp(7), form conjecture")
    assert lines[2] == "% SZS output start CNFRefutation for syllogism_barbara"
    assert lines[-1] == "% SZS output end CNFRefutation for syllogism_barbara"
    assert str(parse(out).statements[-1].formula) == "$false"


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [
        ("fof(a, axiom, p). fof(g, conjecture, p).", (), "Theorem"),
        ("fof(a, axiom, p). fof(g, conjecture, q).", (), "CounterSatisfiable"),
        ("fof(a, axiom, p & ~ p).", (), "Unsatisfiable"),
        ("fof(a, axiom, p).", (), "Satisfiable"),
        ("fof(a, axiom, p). fof(g, conjecture, q).", ("--comp", "0"), "GaveUp"),
        ("fof(a, axiom, p). fof(g, conjecture, q).", ("--no-cut",), "CounterSatisfiable"),
        ("fof(a, axiom, p). fof(g, conjecture, q).", ("--no-cut", "--conj"), "GaveUp"),
        ("fof(a, axiom, ! [X] : (p(f(X)) => p(X))). fof(g, conjecture, p(a)).",
         ("--inferences", "100"), "ResourceOut"),
        ("fof(a, axiom, ! [X] : (p(f(X)) => p(X))). fof(g, conjecture, p(a)).",
         ("--seconds", "0.05"), "ResourceOut"),
    ],
)  # fmt: skip
def test_each_end_of_a_search_has_its_status(tmp_path, capsys, text, words, status):
    problem = tmp_path / "made.p"
    problem.write_text(text)
    assert prove(problem, *words) == 0
    assert capsys.readouterr().out.startswith(f"% SZS status {status} for made\n% ")


def test_a_spent_budget_tells_what_was_tried(tmp_path, capsys):
    problem = tmp_path / "made.p"
    problem.write_text("fof(a, axiom, ! [X] : (p(f(X)) => p(X))). fof(g, conjecture, p(a)).")
    prove(problem, "--inferences", 100, "--no-cut", "--conj", "--form", "none")
    status, statistics = capsys.readouterr().out.splitlines()
    assert status == "% SZS status ResourceOut for made"
    assert statistics.startswith("% 100 inferences in ")  # 1 + 2 + ... + 13, and 9 of 14
    assert statistics.endswith("s, paths of up to 14 literals, 2 clauses; conj, form none")


def test_bad_input_has_a_status_and_a_sentence(tmp_path, capsys):
    problem = tmp_path / "made.p"
    problem.write_text("fof(a, axiom, p &).")
    assert prove(problem) == 2
    told = capsys.readouterr()
    assert told.out == "% SZS status InputError for made\n"
    assert "made.p:1:18: a formula or a term is expected here" in told.err
    assert prove(tmp_path / "none.p") == 2
    assert "none.p: cannot be read" in capsys.readouterr().err
    problem.write_text("tff(a, type, p: $o).")
    assert prove(problem) == 2
    assert "typed formulas (TFF) are not read" in capsys.readouterr().err
    assert prove(problem, "--inferences", "-1") == 2
    assert "whole number" in capsys.readouterr().err
    assert prove(problem, "--comp", "1001") == 2
    assert "comp is 1001; it must be at least 0 and at most 1000" in capsys.readouterr().err
    assert prove(problem, "--seconds", "0") == 2
    assert "--seconds is 0.0; it must be above 0" in capsys.readouterr().err


def test_an_interrupt_tells_what_was_done_so_far(monkeypatch, capsys):
    searcher = machinery().Search

    class Interrupted(searcher):
        def run(self, limit):
            super().run(limit)
            raise KeyboardInterrupt

    monkeypatch.setattr(machinery(), "Search", Interrupted)
    assert prove(SHIPPED / "agatha.p") == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "% SZS status User for agatha"
    assert lines[1].startswith("% 100 inferences in ")


def test_a_full_memory_and_a_proof_too_large_to_write_are_told(monkeypatch, capsys):
    def exhausted(search, limit):
        search.outcome = Outcome.OUT_OF_MEMORY
        return search.outcome

    with monkeypatch.context() as patch:
        patch.setattr(machinery().Search, "run", exhausted)
        assert prove(SHIPPED / "agatha.p") == 0
    assert capsys.readouterr().out.startswith("% SZS status MemoryOut for agatha\n% 0 inferences")
    monkeypatch.setattr("corelab_envs.theorem.proof.MAX_SYMBOLS", 1)
    assert prove(SHIPPED / "peano_even.p") == 0
    assert capsys.readouterr().out.startswith("% SZS status GaveUp for peano_even\n% 11 inferences")


def test_the_picture_is_written(tmp_path, capsys):
    file = tmp_path / "proof.svg"
    assert prove(SHIPPED / "pelletier_24.p", "--picture", file) == 0
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert prove(SHIPPED / "pelletier_24.p", "--picture", tmp_path / "no" / "proof.svg") == 2
    assert "cannot be written" in capsys.readouterr().err
    unprovable = SHIPPED / "unprovable" / "peano_odd.p"
    assert prove(unprovable, "--picture", tmp_path / "other.svg") == 2
    assert "there is no proof to draw" in capsys.readouterr().err


def test_the_verb_tells_its_options(capsys):
    with pytest.raises(SystemExit):
        verb.prove(["--help"])
    assert "--inferences" in capsys.readouterr().out
