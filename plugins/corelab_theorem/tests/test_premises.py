from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_envs.theorem.interface import Theorem, graph_of
from corelab_envs.theorem.library import Library
from corelab_envs.theorem.task import PremisesTask
from corelab_envs.theorem.tptp import parse
from corelab_theorem.premises import Neighbours, PremiseSelection, quality, ranks

from corelab import ConfigError, Context, DataError


def library(*texts):
    return Library([parse(text, f"p{i}") for i, text in enumerate(texts)])


CHAIN = (
    "fof(a, axiom, p(c)). fof(t, axiom, $true). fof(g, conjecture, q(c)).",
    "fof(x, axiom, q(c)). fof(g, conjecture, r(c)).",
    "fof(y, axiom, r(c)). fof(z, axiom, p(c)). fof(g, conjecture, s(c)).",
)


def test_a_formula_is_one_whatever_it_is_called():
    found = library(*CHAIN)
    assert len(found.formulas) == 4
    numbers = {t.name: (t.formula, sorted(t.premises)) for t in found.theorems}
    p, q, r, s = range(4)
    assert numbers == {"p0": (q, [p]), "p1": (r, [q]), "p2": (s, [p, r])}


def test_what_needs_a_theorem_is_not_available_to_prove_it():
    found = library(*CHAIN)
    p, q, r = range(3)
    assert [found.available(t) for t in found.theorems] == [[p], [p, q], [p, q, r]]


def test_problems_that_need_each_other_keep_their_own_premises():
    found = library(
        "fof(a, axiom, p). fof(g, conjecture, q).", "fof(b, axiom, q). fof(g, conjecture, p)."
    )
    assert [found.available(t) for t in found.theorems] == [[0], [1]]


def test_a_formula_alone_has_no_axioms_of_equality():
    found = library("fof(a, axiom, f(c) = d). cnf(b, axiom, p(X, f(X))). fof(g, conjecture, q).")
    assert [str(clause) for clause in found.matrix(0).clauses] == ["f(c) = d"]
    assert [str(clause) for clause in found.matrix(1).clauses] == ["p(X1,f(X1))"]


def test_ranks_and_quality_are_what_they_are_called():
    scores = np.array([0.1, 3.0, 2.0, 2.0])
    assert ranks(scores).tolist() == [4, 1, 2, 3]
    found = quality(scores, np.array([True, True, False, False]))
    assert found == {
        "average_precision": (1 / 1 + 2 / 4) / 2,
        "recall_at_32": 1.0,
        "recall_at_128": 1.0,
        "mean_rank": 2.5,
    }
    many = np.arange(200, 0, -1)
    used = np.isin(np.arange(200), [0, 40, 150, 151])
    assert quality(many, used)["recall_at_32"] == 0.25
    assert quality(many, used)["recall_at_128"] == 0.5


def test_neighbours_share_rare_symbols():
    found = library(
        "fof(a, axiom, e(c) | u(c)). fof(g, conjecture, rare(c) & e(c)).",
        "fof(b, axiom, e(c) | v(c)). fof(g, conjecture, other(c) & e(c)).",
        "fof(h, axiom, w(c)). fof(g, conjecture, rare(c) | e(c)).",
    )
    graphs = [graph_of(found.matrix(number)) for number in range(len(found.formulas))]
    first, second, asked = found.theorems
    scores = Neighbours(graphs, [first, second], 2).scores(asked)
    (a,), (b,), (w,) = (theorem.premises for theorem in found.theorems)
    assert scores[a] > scores[b] > scores[w]
    one = Neighbours(graphs, [first, second], 1).scores(asked)
    assert one[a] > one[w]
    assert one[b] < 1e-3 < one[a]
    alone = Neighbours(graphs, [Theorem("p2", asked.formula, asked.premises)], 1).scores(asked)
    assert alone.max() <= 1e-3 * (1 + 1e-6)  # a theorem is no neighbour of its own


def pair(number):
    """A theorem whose premise has a term as deep as its own, and no name in common."""

    def nested(symbol):
        return f"{symbol}{number}(" * (number % 5) + "c" + ")" * (number % 5)

    goal = f"fof(g, conjecture, ~ q{number}({nested('h')}))."
    return f"fof(a, axiom, p{number}({nested('f')})). {goal}"


@pytest.fixture
def folder(tmp_path):
    for number in range(60):
        (tmp_path / f"p{number}.p").write_text(pair(number))
    return str(tmp_path)


def made(path, **options):
    config = PremiseSelection.Config(**{"width": 16, "others": 40, "lr": 0.01, **options})
    task = PremisesTask(PremisesTask.Config(path=path))
    return PremiseSelection(config, task, None, Context(0, torch.device("cpu"), 1000))


def test_the_network_learns_what_premises_look_like_where_names_say_nothing(folder):
    algorithm = made(folder)
    assert len(algorithm.task.theorems) + len(algorithm.task.measured) == 60
    before = algorithm.evaluate()
    losses = [algorithm.step()["loss"] for _ in range(40)]
    after = algorithm.evaluate()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert after["mean_rank"] < 0.4 * before["mean_rank"]
    assert after["mean_rank"] < 0.6 * after["knn_mean_rank"]
    assert after["knn_mean_rank"] == before["knn_mean_rank"]
    assert algorithm.progress == 40 * 16


def test_an_evaluation_of_some_theorems_is_the_same_each_time(folder):
    algorithm = made(folder)
    some = algorithm.evaluate(n=2, seed=1)
    assert some == algorithm.evaluate(n=2, seed=1)
    assert some != algorithm.evaluate()
    assert set(some) == {
        prefix + name
        for prefix in ("", "knn_", "both_")
        for name in ("average_precision", "recall_at_32", "recall_at_128", "mean_rank")
    }


def test_a_run_goes_on_exactly_where_it_was_saved(tmp_path):
    whole, begun, resumed = (made(None) for _ in range(3))
    for algorithm in (whole, begun):
        algorithm.step()
    begun.save(tmp_path)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(begun.context.state_dict())
    assert resumed.step() == whole.step()
    for a, b in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert resumed.progress == whole.progress == 32


def test_bad_options_and_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"algorithm\.neighbours is 0; it must be at least 1"):
        made(None, neighbours=0)
    with pytest.raises(ConfigError, match=r"algorithm\.lr is 0\.0; it must be positive"):
        made(None, lr=0.0)
    (tmp_path / "a.p").write_text("fof(a, axiom, p).")
    with pytest.raises(DataError, match="no problem has a conjecture and formulas beside it"):
        PremisesTask(PremisesTask.Config(path=str(tmp_path), dev_path=str(tmp_path)))
