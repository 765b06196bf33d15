from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.interface import Matrix, Outcome, Rules, graph_of, tableau, tree
from corelab_envs.theorem.task import TheoremsTask
from corelab_envs.theorem.tptp import parse
from corelab_theorem.lessons import Choices, Lessons
from corelab_theorem.linear import Fitting, fit_policy
from corelab_theorem.network import (
    FOLDS,
    Batch,
    GraphNetwork,
    examples_of,
    fit_network,
    network_loss,
)
from corelab_theorem.rlcop import RlCoP

from corelab import ConfigError, Context

FITTING = Fitting(lr=0.01, weight_decay=0.0, updates=30, batch_size=64)
BUCKETS = 4096


def fork(number, ways=8):
    """Of WAYS to the goal, one goes on; which of them, and all names, depend on NUMBER."""
    right = number % ways
    n = number
    text = "".join(f"fof(a{i}, axiom, ! [X] : (w{n}_{i}(X) => p{n}(X))). " for i in range(ways))
    text += f"fof(b, axiom, ! [X] : (r{n}(X) => w{n}_{right}(X))). fof(c, axiom, r{n}(c{n})). "
    return text + f"fof(g, conjecture, p{n}(c{n}))."


def matrix(text):
    return Matrix.of(clausify(parse(text), "none", True))


def network(seed=0):
    torch.manual_seed(seed)
    return GraphNetwork(16, 4)


def proved(m):
    search = tree(m, Rules())
    assert search.run(500) is Outcome.PROVED
    return search.line()


def taught(numbers):
    """Choices in proofs of forks of NUMBERS, the problems they are from, and their graphs."""
    lessons, sources, graphs = Lessons(BUCKETS, 64, 0.9), [], {}
    for number in numbers:
        m = matrix(fork(number))
        lessons.add_proof(m, True, proved(m))
        sources += [str(number)] * (len(lessons.choices.chosen) - len(sources))
        graphs[str(number)] = graph_of(m)
    return lessons.choices, sources, graphs


def test_vectors_do_not_depend_on_what_else_is_in_the_batch():
    net, graphs = network(), [graph_of(matrix(fork(n, ways))) for n, ways in ((1, 3), (2, 5))]
    together = net(Batch(graphs))
    alone = [net(Batch([graph])) for graph in graphs]
    for own, both in zip(zip(*alone, strict=True), together, strict=True):
        torch.testing.assert_close(torch.cat(own), both)


def test_without_names_renamed_problems_and_reordered_clauses_are_the_same():
    net = network()
    text = fork(3, 4)
    renamed = matrix(text.replace("w3_", "v").replace("p3", "z"))
    first, second = net.pairs(matrix(text)), net.pairs(renamed)
    assert np.abs(first.goals - second.goals).max() > 0.01
    with torch.no_grad():
        net.encoder.name.weight.zero_()
    first, second = net.pairs(matrix(text)), net.pairs(renamed)
    np.testing.assert_allclose(first.goals, second.goals, atol=1e-6)
    np.testing.assert_allclose(first.entries, second.entries, atol=1e-6)
    statements = text.split("fof")
    mixed = matrix("fof".join([statements[0], *statements[3:0:-1], *statements[4:]]))
    swapped = net.pairs(mixed)
    order = [str(mixed.clauses[c]) for c in mixed.clause_of[:-1]]
    plain = matrix(text)
    for literal, clause in enumerate(plain.clause_of[:-1]):
        at = order.index(str(plain.clauses[clause])) + literal - plain.begin[clause]
        np.testing.assert_allclose(first.entries[literal], swapped.entries[at], atol=1e-5)


def test_it_learns_which_way_goes_on_where_names_say_nothing():
    choices, sources, graphs = taught(range(24))
    rng = np.random.default_rng(0)
    examples = examples_of(choices, sources, graphs, BUCKETS, FITTING, rng)
    net = network()
    before = network_loss(net, examples)[0].item()
    loss = fit_network(net, examples, 12, 0.01, rng)
    total, count = network_loss(net, examples)
    assert total.item() < 0.1 * before
    assert loss < 0.3
    assert count == pytest.approx(len(choices.chosen))
    policy = fit_policy(choices, BUCKETS, FITTING, rng).weights
    found = {"network": 0, "linear": 0}
    for number in range(100, 116):
        m = matrix(fork(number))
        pairs, at = net.pairs(m), tableau(m, True)
        while at.action_count == 1:
            at.step(0)
        scores = [pairs.score(at.goal, action.other) for action in at.actions]
        found["network"] += int(np.argmax(scores)) == number % 8
        walks, lengths = at.policy_walks(BUCKETS)
        sums = [policy[part].sum() for part in np.split(walks, lengths.cumsum()[:-1])]
        found["linear"] += int(np.argmax(sums)) == number % 8
    assert found["network"] == 16
    assert found["linear"] < 8


def test_logits_are_of_policies_that_did_not_learn_from_the_problem():
    choices, sources, graphs = taught(range(FOLDS + 1))
    rng = np.random.default_rng(0)
    first, *_ = examples_of(choices, sources, graphs, BUCKETS, FITTING, rng)
    others = [i for i, source in enumerate(sources) if source not in ("0", str(FOLDS))]
    expected = fit_policy(choices.part(others), BUCKETS, FITTING, np.random.default_rng(0)).weights
    at = sources.index("0")
    parts = np.split(choices.walks[at], choices.lengths[at].cumsum()[:-1])
    np.testing.assert_allclose(first.logits, [expected[part].sum() for part in parts], atol=1e-5)
    assert first.goals.tolist() == [choices.goals[at]] * 8
    assert first.entries.tolist() == choices.entries[at].tolist()
    assert (first.lengths.tolist(), first.chosen.tolist()) == ([8], [0])


def test_a_reduction_is_left_to_the_logits():
    choices, sources, graphs = taught([0])
    part = choices.part([0])
    changed = Choices(**{**vars(part), "entries": [np.array([-1] * 8)]})
    rng = np.random.default_rng(0)
    (example,) = examples_of(changed, sources[:1], graphs, BUCKETS, FITTING, rng)
    total, count = network_loss(network(), [example])
    assert total.item() / count == pytest.approx(np.log(8))


@pytest.fixture
def folder(tmp_path):
    for number in range(10, 22):
        (tmp_path / f"p{number}.p").write_text(fork(number, 4))
    return tmp_path


def made(folder, **options):
    quick = {"policy": "graph", "graph_width": 8, "graph_epochs": 4, "policy_buckets": BUCKETS}
    quick |= {"inferences": 60, "updates": 20, "batch": 20}
    config = RlCoP.Config(**{**quick, **options})
    task = TheoremsTask(TheoremsTask.Config(path=str(folder)))
    return RlCoP(config, task, None, Context(0, torch.device("cpu"), 1000))


def test_a_run_with_a_network_goes_on_exactly_where_it_was_saved(folder, tmp_path):
    whole, begun, resumed = (made(folder, batch=5) for _ in range(3))
    for algorithm in (whole, begun):
        for _ in range(3):
            algorithm.step()
    begun.save(tmp_path)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(begun.context.state_dict())
    expected = [whole.step() for _ in range(2)]
    assert [resumed.step() for _ in range(2)] == expected
    assert expected[0]["graph_loss"] > 0
    m = matrix(fork(0, 4))
    ours, theirs = whole.guide.pairs(m), resumed.guide.pairs(m)
    np.testing.assert_array_equal(ours.goals, theirs.goals)
    np.testing.assert_array_equal(ours.entries, theirs.entries)


def test_the_network_leads_both_searches(folder):
    algorithm = made(folder)
    assert algorithm.guide is None
    assert set(algorithm.step()) == {"proved", "known", "policy_loss", "graph_loss"}
    plain = made(folder, policy="linear")
    plain.step()
    np.testing.assert_array_equal(plain.policy, algorithm.policy)
    assert plain.guide.pairs is None
    assert algorithm.evaluate() == {"proved": 1.0, "proved_depth_first": 1.0}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"policy": "tree"}, r"algorithm\.policy is tree; it must be linear or graph"),
        ({"graph_width": 1}, r"algorithm\.graph_width is 1; it must be at least 2"),
        ({"graph_epochs": 0}, r"algorithm\.graph_epochs is 0; it must be at least 1"),
        ({"graph_lr": 0.0}, r"algorithm\.graph_lr is 0\.0; it must be positive"),
    ],
)
def test_impossible_options_of_the_network_are_refused(folder, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        made(folder, **options)
