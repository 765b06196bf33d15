from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from corelab_envs.theorem import engine
from corelab_envs.theorem.interface import (
    Outcome,
    Rules,
    Settings,
    depth_first,
    follow,
    outlook,
    tableau,
    tree,
)
from corelab_envs.theorem.problem_set import SHIPPED
from corelab_envs.theorem.task import TheoremsTask
from corelab_mcts import Search
from corelab_theorem.lessons import Choices, Lessons, Outlooks
from corelab_theorem.linear import Fitting, fit_policy, fit_value
from corelab_theorem.rlcop import RlCoP

import corelab
from corelab import ConfigError, Context, DataError, cli

QUICK = {
    "algorithm.inferences": 60,
    "algorithm.eval_inferences": 60,
    "algorithm.policy_buckets": 4096,
    "algorithm.value_buckets": 512,
    "algorithm.updates": 40,
    "algorithm.batch": 20,
}
FITTING = Fitting(lr=0.05, weight_decay=0.0, updates=400, batch_size=64)


def made(path, seed=0, **options):
    names = {name.removeprefix("algorithm."): value for name, value in QUICK.items()}
    config = RlCoP.Config(**{**names, **options})
    task = TheoremsTask(TheoremsTask.Config(path=str(path) if path else None))
    return RlCoP(config, task, None, Context(seed, torch.device("cpu"), 1000))


def puzzle(ways, right):
    """Of so many WAYS to the goal, the one called RIGHT goes on."""
    return "".join(f"fof(a{i}, axiom, ! [X] : (w{i}(X) => p(X))). " for i in range(ways)) + (
        f"fof(b, axiom, ! [X] : (r(X) => w{right}(X))). fof(c, axiom, r(c)). "
        "fof(g, conjecture, p(c))."
    )


@pytest.fixture
def folder(tmp_path):
    """Problems in which the same one of thirty ways is right, each with a symbol of its own."""
    for i in range(10, 22):  # of these names, p13, p17 and p18 are for measuring
        text = puzzle(30, 25).replace("(c)", f"(c{i})")
        (tmp_path / f"p{i}.p").write_text(text)
    return tmp_path


def inferences_of(algorithm):
    problems = algorithm.task.measured
    found = []
    for name in problems.names:
        search = tree(problems.matrix(name), algorithm.rules, algorithm.guide)
        assert search.run(500) is Outcome.PROVED
        found.append(search.inferences)
    return np.mean(found)


def test_what_was_learned_shortens_the_search_for_proofs_never_seen(folder):
    algorithm = made(folder)
    assert algorithm.guide is None
    before = inferences_of(algorithm)
    metrics = algorithm.step()
    assert metrics["proved"] == metrics["known"] == 1.0
    after = inferences_of(algorithm)
    assert before > 25
    assert after < 10
    assert algorithm.progress == len(algorithm.task.names)


def test_depth_first_search_is_led_by_the_same_scores_at_a_temperature_of_its_own(folder):
    algorithm = made(folder, depth_first_temperature=3.0)
    assert algorithm.depth_first_guide is None
    algorithm.step()
    guide = algorithm.depth_first_guide
    assert guide.temperature == 3.0
    np.testing.assert_array_equal(guide.policy, algorithm.guide.policy)
    m = algorithm.task.measured.matrix("p13")
    spent = []
    for led_by in (None, guide):
        search = depth_first(m, Settings(cut=True), led_by)
        assert search.run(500) is Outcome.PROVED
        spent.append(search.inferences)
    assert spent[0] > 25
    assert spent[1] < 10


def test_a_pass_tries_each_problem_once_and_ends_with_a_lesson():
    algorithm = made(None, batch=30)
    n = len(algorithm.task.names)
    tried, lessons = [], 0
    while algorithm.progress < n:
        tried.append(algorithm.progress)
        lessons += "policy_loss" in algorithm.step()
    assert (len(tried), lessons, algorithm.progress) == (-(-n // 30), 1, n)
    assert set(algorithm.proofs) | set(algorithm.failures) == set(algorithm.task.names)
    for name, proofs in algorithm.proofs.items():
        for proof in proofs:
            closed = follow(algorithm.task.matrix(name), True, proof)
            assert closed.outcome is Outcome.PROVED


@pytest.mark.compiled
def test_the_same_is_learned_without_a_compiler_from_the_search_that_alphazero_uses(
    folder, monkeypatch
):
    compiled, plain = made(folder, learn_value=True), made(folder, learn_value=True)
    compiled.step()
    searches = []
    begin = Search.begin
    monkeypatch.setattr(Search, "begin", lambda self, at: (searches.append(self), begin(self, at)))
    monkeypatch.setattr(engine, "missing", lambda: "there is no compiler")
    plain.step()
    assert len(searches) == len(plain.task.names)
    assert plain.proofs == compiled.proofs
    np.testing.assert_array_equal(plain.policy, compiled.policy)
    np.testing.assert_array_equal(plain.value, compiled.value)


def test_the_value_is_learned_only_if_asked_for(folder):
    without, with_value = made(folder), made(folder, learn_value=True)
    assert "value_loss" not in without.step()
    assert not without.value.any()
    assert with_value.step()["value_loss"] < math.log(2)
    assert with_value.value.any()
    np.testing.assert_array_equal(without.policy, with_value.policy)


def test_another_seed_takes_the_problems_in_another_order():
    one, same, other = made(None, 0), made(None, 0), made(None, 1)
    for algorithm in (one, same, other):
        algorithm.step()
    assert one.turns == same.turns != other.turns
    assert one.proofs == same.proofs != other.proofs


def test_only_different_proofs_are_kept_and_no_more_than_asked_for(folder):
    algorithm = made(folder, proofs=2)
    for _ in range(3):
        algorithm.step()
    for proofs in algorithm.proofs.values():
        actions = [[action for action, _ in proof] for proof in proofs]
        assert len(actions) <= 2
        assert all(a != b for i, a in enumerate(actions) for b in actions[:i])


def test_a_run_goes_on_exactly_where_it_was_saved(tmp_path):
    whole, begun, resumed = (made(None, batch=40) for _ in range(3))
    whole.step()
    whole.step()
    begun.step()
    begun.save(tmp_path)
    resumed.load(tmp_path)
    assert resumed.proofs == begun.proofs
    metrics = resumed.step()
    assert "policy_loss" in metrics
    assert metrics == begun.step()
    np.testing.assert_array_equal(resumed.policy, whole.policy)


def test_a_proof_teaches_its_actions_and_how_far_each_state_is_from_the_end(folder):
    m = made(folder).task.matrix("p10")
    search = tree(m, Rules())
    search.run(500)
    line = search.line()
    lessons = Lessons(1024, 64, 0.5)
    lessons.add_proof(m, True, line)
    at, chosen = tableau(m, True), []
    for action, _ in line:
        if at.action_count > 1:
            chosen.append(action)
            assert len(lessons.choices.lengths[len(chosen) - 1]) == at.action_count
        at.step(action)
    assert lessons.choices.chosen == chosen
    proved = [target for target in lessons.outlooks.targets if target]
    assert proved == [0.5**left for left in range(len(line), 0, -1)]
    lessons.add_failure(m, True, line[:2])
    assert lessons.outlooks.targets[-2:] == [0.0, 0.0]


def test_the_policy_learns_how_often_each_action_was_chosen():
    choices = Choices()
    for i in range(64):
        choices.walks.append(np.array([1, 5, 3], np.int32))  # the second action has two walks
        choices.lengths.append(np.array([1, 2], np.int32))
        choices.chosen.append(int(i % 4 == 0))
        choices.weights.append(1.0)
    fitted = fit_policy(choices, 8, FITTING, np.random.default_rng(0))
    w = fitted.weights
    assert w[5] + w[3] - w[1] == pytest.approx(math.log(1 / 3), abs=0.02)
    assert fitted.loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=0.01)
    assert not w[[0, 2, 4, 6, 7]].any()


def test_the_value_learns_what_states_were_worth():
    outlooks = Outlooks()
    for i in range(64):
        outlooks.walks.append(np.array([2 + i % 2], np.int32))
        outlooks.numbers.append(np.zeros(4, np.float32))
        outlooks.targets.append(0.9 if i % 2 else 0.2)
    w = fit_value(outlooks, 8, FITTING, np.random.default_rng(0)).weights
    for bucket, target in ((2, 0.2), (3, 0.9)):
        logit = outlook(0) + float(w[4] + w[5 + bucket])
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(target, abs=0.02)


def test_a_trained_run_proves_a_problem_for_the_command_line(folder, capsys):
    path = str(folder)
    options = {**QUICK, "task.path": path, "task.dev_path": path, "run.name": "taught"}
    run = corelab.train("rlcop", steps=12, run_dir=folder, options=options)
    assert run.metrics()[-1]["eval/proved"] == 1.0
    assert set(run.evaluate(3)) == {"proved", "proved_depth_first"}
    capsys.readouterr()

    unseen = folder / "unseen.txt"
    unseen.write_text(puzzle(30, 25).replace("(c)", "(d)"))
    assert cli.main(["prove", str(unseen), "--run", str(run.path), "--inferences", "100"]) == 0
    status, statistics, *proof = capsys.readouterr().out.splitlines()
    assert status == "% SZS status Theorem for unseen"
    assert statistics.endswith("33 clauses; cut, comp(10), conj, form none, guided")
    assert int(statistics.split()[1]) < 10
    assert proof[-2].startswith("cnf(contradiction, plain, $false")

    assert cli.main(["prove", str(unseen), "--run", str(run.path), "--no-cut"]) == 2
    assert "--cut is for the depth-first search, and --run has its own" in capsys.readouterr().err


def test_runs_that_cannot_prove_are_named(tmp_path, capsys):
    problem = SHIPPED / "pelletier_24.p"
    assert cli.main(["prove", str(problem), "--run", str(tmp_path / "none")]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    run = corelab.train("qlearning", steps=10, run_dir=tmp_path)
    capsys.readouterr()
    assert cli.main(["prove", str(problem), "--run", str(run.path)]) == 2
    assert "qlearning does not learn to prove problems" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"inferences": 0}, r"algorithm\.inferences is 0; it must be at least 1"),
        ({"exploration": -1.0}, r"algorithm\.exploration is -1\.0"),
        ({"temperature": 0.0}, r"algorithm\.temperature is 0\.0; it must be positive"),
        ({"discount": 1.5}, r"algorithm\.discount is 1\.5"),
        ({"updates": 0}, r"algorithm\.updates is 0"),
        ({"policy_buckets": 2**40}, r"algorithm\.policy_buckets is \d+; it must be at most 2\^26"),
    ],
)
def test_impossible_options_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        made(None, **options)


def test_missing_and_damaged_problems_are_named(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder of problems"):
        made(tmp_path / "none")
    (tmp_path / "wrong.p").write_text("fof(a, axiom, p &).")
    with pytest.raises(DataError, match=r"wrong\.p:1:18: a formula or a term is expected"):
        made(tmp_path / "wrong.p").step()


def test_nothing_is_learned_where_nothing_is_proved(tmp_path):
    (tmp_path / "open.p").write_text("fof(a, axiom, p => q). fof(g, conjecture, q).")
    algorithm = made(tmp_path / "open.p")
    assert algorithm.step() == {"proved": 0.0, "known": 0.0}
    assert algorithm.guide is None
