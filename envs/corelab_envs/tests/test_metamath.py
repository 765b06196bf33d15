"""Metamath databases are read, their proofs checked, and syntax trees made and unified."""

from __future__ import annotations

import gzip
import re

import pytest
from corelab_envs.metamath.database import read
from corelab_envs.metamath.derivation import Derivation, Library
from corelab_envs.metamath.grammar import MAX_DEPTH, Grammar, Printer
from corelab_envs.metamath.theorem_set import SHIPPED
from corelab_envs.metamath.unification import TooLarge, resolved, unify
from corelab_envs.metamath.verification import (
    cited,
    excerpt,
    program,
    refusal,
    refusal_of_program,
)

from corelab import DataError

needs_program = pytest.mark.skipif(program() is None, reason="the metamath program is missing")

LOGIC = """
$c ( ) -> A. = |- wff set $.  $v ph ps x y $.
wph $f wff ph $.  wps $f wff ps $.  vx $f set x $.  vy $f set y $.
wi $a wff ( ph -> ps ) $.  wal $a wff A. x ph $.  weq $a wff x = y $.
${ $d x ph $.  ax-5 $a |- ( ph -> A. x ph ) $. $}
"""


@pytest.fixture
def database(tmp_path):
    """Reads a text as a database."""

    def database(text, upto=None):
        path = tmp_path / "own.mm"
        path.write_text(text)
        return read(path, upto)

    return database


def theorems(data):
    return [a for a in data.assertions.values() if a.proof is not None]


def test_every_proof_that_comes_with_corelab_passes_its_check():
    data = read(SHIPPED)
    assert len(theorems(data)) == 59
    for theorem in theorems(data):
        assert refusal(data, theorem, theorem.proof.split()) == ""


@needs_program
def test_every_proof_that_comes_with_corelab_passes_that_of_metamath():
    assert refusal_of_program(SHIPPED.read_text()) == ""


def mutations(proof, i):
    """PROOF without its I-th label, with it twice, with it and the next swapped."""
    yield proof[:i] + proof[i + 1 :]
    yield [*proof[:i], proof[i], *proof[i:]]
    if i + 1 < len(proof) and proof[i] != proof[i + 1]:
        yield [*proof[:i], proof[i + 1], proof[i], *proof[i + 2 :]]


def test_mutated_proofs_are_refused():
    data = read(SHIPPED)
    tried = 0
    for theorem in theorems(data):
        proof = theorem.proof.split()
        for i in range(len(proof)):
            for mutated in mutations(proof, i):
                tried += 1
                assert refusal(data, theorem, mutated), (theorem.label, mutated)
    assert tried > 2000


@needs_program
@pytest.mark.parametrize("label", ["identity", "weaken", "iff-chain", "or-same"])
def test_metamath_refuses_the_same_mutations(label):
    data = read(SHIPPED)
    theorem = data.assertions[label]
    proof = theorem.proof.split()
    assert refusal_of_program(excerpt(data, theorem, proof)) == ""
    for i in (0, len(proof) // 2, len(proof) - 2):
        for mutated in mutations(proof, i):
            assert "Error" in refusal_of_program(excerpt(data, theorem, mutated))
    assert refusal_of_program(excerpt(data, theorem, ["?"]))


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        ("( w-imp ax-weaken mp ) ABADCABEF", ""),
        ("( w-imp ax-weaken mp ) AZBGDCGBEF", ""),
        ("( w-imp ax-weaken mp ) ABADCABE", "2 statements are needed|statements are left|is no"),
        ("( w-imp ax-weaken mp ) ABADCABEH", "names nothing"),
        ("( w-imp ax-weaken mp ) AB?", "not complete"),
        ("( w-imp ax-weaken mp ) ABU", "end within a number"),
        ("( w-imp ax-weaken mp ) ZA", "nothing to keep"),
        ("( w-imp ax-weaken mp ) A!", "wrong at '!'"),
        ("( w-imp ax-weaken mp ABADCABEF", "has no end"),
        ("( w-imp identity ) ABADCABE", "'identity' is no hypothesis of it and no statement"),
        ("wps wph w-imp", "it proves 'wff"),
        ("wps weaken.1 w-imp", "is no wff"),
        ("wph wps wph w-imp weaken.1 wph wph ax-weaken mp", "is not what mp.major asks"),
        ("mp", "4 statements are needed, 0 are there"),
        ("", "0 statements are left"),
    ],
)
def test_a_proof_is_refused_for_a_reason(proof, why):
    data = read(SHIPPED)
    found = refusal(data, data.assertions["weaken"], proof.split())
    assert re.search(why, found) if why else found == ""


def test_the_labels_that_a_proof_cites_are_those_before_its_letters(database):
    text = SHIPPED.read_text().partition("${\n  distribute.1")[0]
    start = text.rindex("$=")
    data = database(text[:start] + "$= ( w-imp ax-weaken mp ) ABADCABEF $. $}\n")
    assert cited(data.assertions["weaken"]) == ["w-imp", "ax-weaken", "mp"]
    assert "ax-weaken" in cited(read(SHIPPED).assertions["weaken"])


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("$c a $.\n$c a $.", 2, "'a' has been declared before"),
        ("$c a $.\n${ $c b $. $}", 2, "constants are declared outside of all blocks"),
        ("${ $v a $. $}\n$c a $.", 2, "'a' has been a variable before"),
        ("$c a\n", 1, r"does not go on to `\$\.`"),
        ("$( a\n\ncomment", 1, "this comment has no end"),
        ("\n${\n", 2, r"this block has no end, no `\$}`"),
        ("\n$}", 2, r"this `\$}` ends no block"),
        ("$c a $.\n\n$a a $.", 3, r"one label must stand before \$a, not 0"),
        ("$c a $.\nx y $a a $.", 2, r"one label must stand before \$a, not 2"),
        ("$c a $.\nx$y $a a $.", 2, "begins a keyword of two characters"),
        ("$c a $.\nx! $a a $.", 2, "'x!' has other characters than"),
        ("$c a $.\nx $a a $.\nx $a a $.", 3, "the label 'x' is taken"),
        ("$c a $.\nx $a b $.", 2, "x: a statement begins with a constant"),
        ("$c a $.\nx $a a b $.", 2, "x: 'b' is no active symbol"),
        ("$c a $. $v b $.\nx $a a b $.", 2, "x: 'b' is a variable without a type"),
        ("$c a $. $v b $.\nx $f a a $.", 2, "x: a `.f` has a type and an active variable"),
        ("$c a $. $v b $. x $f a b $.\ny $f a b $.", 2, "the variable 'b' has a type already"),
        ("$c a $.\n$d a a $.", 2, "a `.d` has two or more variables, all different"),
        ("$c a $.\n$d a b $.", 2, "'a' in a `.d` is not an active variable"),
        ("$c a $.\nx $p a $.", 2, "does not go on to `.=`"),
        ("$c a $.\nx", 2, "'x' is a label of nothing, before the end"),
        ("$c a $.\nx $c b $.", 2, "'x' is a label of nothing, before .c"),
        ("\n$= a $.", 2, ".= is not expected here"),
        ("$c a $. x $a a $.\n$c x $.", 2, "'x' is also a label"),
        ("\n$[ no.mm $]", 2, "there is no file 'no.mm' to include"),
        ("\n${ $[ no.mm $] $}", 2, "a file is included within a block"),
        ("\n$[ a b $]", 2, "the name of one file"),
        ("$c a $.\n$c \u00e4 $.", 2, "is not printable ASCII"),
    ],
)
def test_an_error_is_told_with_its_line(database, text, line, why):
    with pytest.raises(DataError, match=rf"own\.mm:{line}: .*{why}"):
        database(text)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(DataError, match=r"no\.mm: cannot be read \(No such file"):
        read(tmp_path / "no.mm")
    packed = gzip.compress(SHIPPED.read_bytes())
    for broken in (b"$c a $.", packed[:-20], packed[:40] + bytes(20) + packed[60:]):
        tmp_path.joinpath("own.mm.gz").write_bytes(broken)
        with pytest.raises(DataError, match=r"own\.mm\.gz: cannot be read"):
            read(tmp_path / "own.mm.gz")


def test_packed_and_included_files_are_read_as_one(tmp_path):
    text = SHIPPED.read_text()
    head, _, tail = text.partition("w-not $a")
    tmp_path.joinpath("head.mm").write_text(head)
    tmp_path.joinpath("own.mm").write_text("$[ head.mm $] $[ head.mm $]\nw-not $a" + tail)
    tmp_path.joinpath("own.mm.gz").write_bytes(gzip.compress(text.encode()))
    whole = read(SHIPPED)
    for name in ("own.mm", "own.mm.gz"):
        data = read(tmp_path / name)
        assert (data.hypotheses, data.assertions) == (whole.hypotheses, whole.assertions)


def test_reading_ends_with_the_statement_it_is_told(database):
    data = database(SHIPPED.read_text().replace("distribute $p", "$wrong"), "weaken")
    assert list(data.assertions)[-1] == "weaken"
    with pytest.raises(DataError, match="it has no statement 'nonsense' to read up to"):
        read(SHIPPED, "nonsense")


def test_comments_are_left_out_wherever_they_stand(database):
    text = "$c $( $. no ) $) a $. x $( of $) $p a $= $( $= $) ? $( $. $) $."
    assert database(text).assertions["x"].proof == "?"


def test_trees_are_written_as_they_were_read():
    data = read(SHIPPED)
    grammar, show = Grammar(data), Printer(data)
    for assertion in theorems(data):
        for stated in (assertion, *assertion.essential):
            hypothesis = stated if stated is not assertion else None
            assert show(grammar.parse(assertion, hypothesis)) == " ".join(stated.symbols[1:])


def test_a_grammar_may_begin_with_its_own_type(database):
    data = database(
        "$c = + |- wff t 0 $. $v a b p $. ta $f t a $. tb $f t b $. wp $f wff p $. zero $a t 0 $. "
        "plus $a t a + b $. same $a wff a = b $. one $a |- a + 0 + b = 0 $. two $a |- a + = 0 $."
    )
    grammar = Grammar(data)
    tree = grammar.parse(data.assertions["one"])
    assert tree[0] == "same"
    assert Printer(data)(tree) == "a + 0 + b = 0"
    with pytest.raises(DataError, match=r"two: '\|- a \+ = 0' is not `\|-` and a formula"):
        grammar.parse(data.assertions["two"])


def test_grammars_that_are_not_understood_are_told(database):
    with pytest.raises(DataError, match="this database has no variables of that type"):
        Grammar(database("$c a $."))
    for axiom in ("w $a wff $.", "w $a wff p p $.", "${ e $e wff p $. w $a wff a p $. $}"):
        with pytest.raises(DataError, match="the syntax axiom 'w' has a premise, a variable twice"):
            Grammar(database(f"$c wff a $. $v p $. wp $f wff p $. {axiom}"))
    deep = "$c |- wff - $. $v p $. wp $f wff p $. n $a wff - p $. x $a |- " + "- " * 3000 + "p $."
    data = database(deep)
    with pytest.raises(DataError, match=f"x: its formula has more than {MAX_DEPTH} levels"):
        Grammar(data).parse(data.assertions["x"])


def test_what_would_make_a_formula_too_deep_does_not_apply(database):
    deep = "-. " * (MAX_DEPTH - 3) + "ph"
    head = SHIPPED.read_text().partition("${\n  distribute.1")[0]
    data = database(head + f"t $p |- ( ph -> ( ps -> {deep} ) ) $= ? $.")
    derivation, applicable = inferences(data, "t")
    assert applicable == ["weaken"]  # and not "mp"
    derivation.apply(next(derivation.inferences()))
    assert [i.label for i in derivation.inferences()] == ["mp", "weaken"]
    derivation.apply(next(derivation.inferences()))
    assert Printer(data)(derivation.goals[0]) == f"( ?2 -> ( ps -> {deep} ) )"


def test_unified_trees_are_equal_and_no_more_special_than_need_be():
    a, b = ("f", 0, ("g", 0, 1)), ("f", ("h", 2), ("g", 3, 4))
    values = {}
    assert unify(a, b, values)
    assert resolved(a, values) == resolved(b, values)
    shape = resolved(a, values)
    assert shape[1] == ("h", 2)
    assert isinstance(shape[2][2], int)


def test_what_cannot_be_unified_is_not():
    assert not unify(0, ("f", 0), {})
    assert not unify(("f", 0, ("g", 0)), ("f", 1, 1), {})
    assert not unify(("f", 0), ("g", 0), {})
    with pytest.raises(TooLarge):
        resolved(0, {n: ("f", n + 1, n + 1) for n in range(30)})


def inferences(data, label):
    library = Library(data)
    lemmas = [library.lemma(x) for x in data.assertions if data.assertions[x].symbols[0] == "|-"]
    derivation = Derivation(library, data.assertions[label], lemmas[:-1])
    return derivation, [i.label for i in derivation.inferences()]


def test_an_axiom_applies_only_where_its_variables_are_distinct(database):
    data = database(LOGIC + "t $p |- ( ps -> A. y ps ) $= wps vy ax-5 $.")
    theorem = data.assertions["t"]
    assert inferences(data, "t")[1] == []
    assert "ps and y are not known to be distinct" in refusal(data, theorem, theorem.proof.split())
    data = database(LOGIC + "t $p |- ( x = x -> A. x x = x ) $= vx vx weq vx ax-5 $.")
    assert inferences(data, "t")[1] == []
    data = database(LOGIC + "${ $d ps y $. t $p |- ( ps -> A. y ps ) $= wps vy ax-5 $. $}")
    derivation, applicable = inferences(data, "t")
    assert applicable == ["ax-5"]
    derivation.apply(next(derivation.inferences()))
    proof = derivation.proof()
    assert proof == ["wps", "vy", "ax-5"]
    assert refusal(data, data.assertions["t"], proof) == ""


@needs_program
def test_metamath_sees_the_same_variables_in_an_excerpt_as_in_the_database(database):
    for distinct, fine in (("", False), ("$d ps y $.", True)):
        data = database(LOGIC + f"${{ {distinct} t $p |- ( ps -> A. y ps ) $= wps vy ax-5 $. $}}")
        theorem = data.assertions["t"]
        said = refusal_of_program(excerpt(data, theorem, theorem.proof.split()))
        assert (said == "") == fine


UNKNOWN = """
any $a |- ( ph -> ph ) $.
${ min $e |- ( ps -> A. x ps ) $. drop $a |- ph $. $}
"""


def test_unknowns_that_stay_so_become_other_variables(database):
    data = database(LOGIC + UNKNOWN + "t $p |- y = y $= ? $.")
    derivation, applicable = inferences(data, "t")
    assert applicable == ["drop"]
    derivation.apply(next(derivation.inferences()))
    (goal,) = derivation.goals
    assert Printer(data)(goal) == "( ?1 -> A. ?2 ?1 )"
    derivation.apply(next(i for i in derivation.inferences() if i.label == "ax-5"))
    proof = derivation.proof()
    assert proof == ["vy", "vy", "weq", "wph", "vx", "wph", "vx", "ax-5", "drop"]
    assert refusal(data, data.assertions["t"], proof) == ""
    if program() is not None:
        assert refusal_of_program(excerpt(data, data.assertions["t"], proof)) == ""


def test_without_such_variables_there_is_no_proof(database):
    data = database(LOGIC + UNKNOWN + "t $p |- ( x = y -> ( ph -> ps ) ) $= ? $.")
    derivation, _ = inferences(data, "t")
    derivation.apply(next(derivation.inferences()))
    derivation.apply(next(i for i in derivation.inferences() if i.label == "ax-5"))
    assert derivation.goals == []
    assert derivation.proof() is None
