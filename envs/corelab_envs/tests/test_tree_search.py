"""Guided searches: the compiled ones against their twins, and both against what they are for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from corelab_envs.theorem import calculus, engine, tree_search
from corelab_envs.theorem.calculus import Outcome, Settings
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.guide import Guide, Pairs, judge, outlook, prices
from corelab_envs.theorem.machinery import depth_first, follow, tree
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import SHIPPED
from corelab_envs.theorem.proof import reward
from corelab_envs.theorem.tptp import parse, read
from corelab_envs.theorem.tree_search import Rules

from corelab import ConfigError, DivergedError

PROBLEMS = sorted(SHIPPED.glob("*.p"))[::8]
UNPROVABLE = "fof(a, axiom, p | q). fof(b, axiom, q => r). fof(g, conjecture, p)."
UNCONNECTED = "fof(a, axiom, q | r). fof(g, conjecture, p)."


def matrix(problem):
    return Matrix.of(clausify(problem, "none", True))


def some_guide():
    rng = np.random.default_rng(0)
    return Guide(rng.normal(0, 0.2, 1000), rng.normal(0, 0.05, 505), 1.3)


def of_pairs(guide):
    """GUIDE and what it might say of pairs of literals."""

    def pairs(m):
        rng = np.random.default_rng(len(m.atom))
        return Pairs(*rng.normal(0, 0.8, (2, len(m.atom), 3)))

    return replace(guide, pairs=pairs)


@pytest.mark.compiled
def test_the_compiled_tree_search_makes_every_playout_of_its_twin():
    outcomes = set()
    unprovable = map(parse, (UNPROVABLE, UNCONNECTED))
    for m in map(matrix, (*map(read, PROBLEMS), *unprovable)):
        for guide in (None, some_guide(), of_pairs(some_guide())):
            for eager in (True, False):
                rules = Rules(1.5, big_step=12, depth=5, eager=eager)
                twin = tree_search.TreeSearch(m, rules, guide)
                compiled = engine.TreeSearch(m, rules, guide)
                for limit in (25, 60):  # in two goes, since a search can be gone on with
                    assert twin.run(limit) == compiled.run(limit)
                    assert twin.inferences == compiled.inferences <= limit
                    assert twin.line() == compiled.line()
                outcomes.add(twin.outcome)
    assert outcomes == {Outcome.RUNNING, Outcome.PROVED, Outcome.EXHAUSTED}


@pytest.mark.compiled
@pytest.mark.parametrize("settings", [Settings(), Settings(cut=True, comp=3)])
def test_the_compiled_guided_search_makes_the_same_inferences_as_its_twin(settings):
    for path in PROBLEMS:
        m = matrix(read(path))
        for guide in (some_guide(), of_pairs(some_guide())):
            twin = calculus.Search(m, settings, guide)
            compiled = engine.Search(m, settings, guide)
            for limit in (20, 60):
                assert twin.run(limit) == compiled.run(limit)
                assert twin.inferences == compiled.inferences
                assert twin.path_limit == compiled.path_limit
                assert twin.steps() == compiled.steps()


@pytest.mark.compiled
def test_both_see_the_same_of_states_and_actions():
    for path in PROBLEMS:
        m = matrix(read(path))
        twin, compiled = calculus.Tableau(m), engine.Tableau(m)
        for _ in range(4):
            for what in ("policy_walks", "value_walks"):
                for a, b in zip(getattr(twin, what)(99), getattr(compiled, what)(99), strict=True):
                    np.testing.assert_array_equal(a, b)
            if not twin.action_count:
                break
            twin.step(twin.action_count - 1)
            compiled.step(compiled.action_count - 1)


def chain(ways):
    """A proof of twelve extensions, each one of so many WAYS of which the first goes on."""
    axioms = (
        f"fof(a{i}w{way}, axiom, ! [X] : (p{i + 1 if way == 0 else f'w{way}'}(X) => p{i}(X)))."
        for i in range(10)
        for way in range(ways)
    )
    last = "fof(last, axiom, ! [X] : p10(X)). fof(g, conjecture, ! [X] : p0(X))."
    return matrix(parse("".join(axioms) + last))


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_with_a_guide_the_limit_is_how_improbable_a_path_may_be(ways):
    plain = depth_first(chain(ways), Settings())
    assert plain.run(10_000) is Outcome.PROVED
    assert plain.path_limit == 12
    guided = depth_first(chain(ways), Settings(), Guide(np.zeros(8), np.zeros(8)))
    assert guided.run(10_000) is Outcome.PROVED
    assert guided.path_limit == math.ceil(12 * 0.5 + 10 * math.log(ways))
    assert guided.steps() == plain.steps()  # without an opinion, the order is as it was


def test_shares_become_prices():
    log_of_sum = math.log(1 + math.exp(-1))
    wanted = [0.5 + log_of_sum, 1.5 + log_of_sum, 252 + log_of_sum]
    assert prices([3.0, 1.0, -500.0], 2.0) == pytest.approx(wanted)
    assert prices([7.0], 1.0) == [0.5]
    assert prices([], 1.0) == []


MAZE = "".join(f"fof(a{i}, axiom, ! [X] : (q{i}(X) => p(X)))." for i in range(20)) + (
    "fof(b, axiom, ! [X] : (r(X) => q13(X))). fof(c, axiom, r(c)). fof(g, conjecture, p(c))."
)
"""Of twenty ways to the goal, one goes on."""


def knowing(m, line):
    """A guide that likes each action of LINE more than the others there."""
    weights = np.zeros(4096)
    at = calculus.Tableau(m, True)
    for action, _ in line:
        walks, lengths = at.policy_walks(len(weights))
        ends = lengths.cumsum()
        mine = walks[ends[action] - lengths[action] : ends[action]]
        others = np.setdiff1d(walks, mine)
        weights[np.setdiff1d(mine, others)] += 1
        at.step(action)
    return Guide(weights, np.zeros(9))


def pairing(m, line):
    """The same, by the literals that are connected."""
    goals, entries = np.zeros((2, len(m.atom), len(line)))
    at = calculus.Tableau(m, True)
    for i, (action, _) in enumerate(line):
        goals[at.goal, i], entries[at.actions[action].other, i] = 2, 3
        at.step(action)
    return Guide(np.zeros(1), np.zeros(6), pairs=lambda _: Pairs(goals, entries))


@pytest.mark.parametrize("taught", [knowing, pairing])
def test_a_guide_that_knows_the_way_saves_inferences(taught):
    m = matrix(parse(MAZE))
    unguided = tree(m, Rules())
    assert unguided.run(1000) is Outcome.PROVED
    assert reward(follow(m, True, unguided.line())) == 1
    guide = taught(m, unguided.line())
    guided = tree(m, Rules(), guide)
    assert guided.run(1000) is Outcome.PROVED
    assert guided.inferences == len(guided.line()) == 4 < unguided.inferences
    plain, led = depth_first(m, Settings()), depth_first(m, Settings(), guide)
    assert plain.run(1000) is led.run(1000) is Outcome.PROVED
    assert led.inferences < plain.inferences


def test_every_proof_of_the_tree_search_passes_the_check():
    proved = 0
    for m in map(matrix, map(read, PROBLEMS)):
        search = tree(m, Rules())
        if search.run(500) is Outcome.PROVED:
            assert reward(follow(m, True, search.line())) == 1
            proved += 1
    assert proved >= 8


@pytest.mark.parametrize("problem", [UNPROVABLE, UNCONNECTED])
def test_a_search_ends_when_all_was_tried(problem):
    search = tree(matrix(parse(problem)), Rules(big_step=1))
    assert search.run(100) is Outcome.EXHAUSTED
    assert search.inferences < 100
    assert search.line() == []


def test_tableaux_deeper_than_the_limit_are_not_extended():
    endless = parse("fof(a, axiom, ! [X] : (p(f(X)) => p(X))). fof(g, conjecture, p(c)).")
    search = tree(matrix(endless), Rules(depth=7))
    assert search.run(100) is Outcome.EXHAUSTED
    assert search.inferences == 7


def test_a_state_is_judged_by_its_size_and_the_weights_of_what_is_seen():
    assert judge(None, [1, 1, 3, 0], []) > judge(None, [1, 1, 9, 0], [])
    assert outlook(0) == pytest.approx(1.2)
    value = [0.5, 0, 0, 0, -1, 2, 4]  # four numbers, a constant, two buckets
    seen = [0, 2**31, 2**32 - 1]
    logit = outlook(1) + 0.5 * math.log1p(6) - 1 + 2 + 4 + 4
    expected = 1 / (1 + math.exp(-logit))
    assert judge(Guide(np.zeros(1), np.array(value)), [6, 1, 1, 1], seen) == pytest.approx(expected)


def test_weights_that_cannot_guide_are_refused():
    with pytest.raises(DivergedError, match="the weights of the policy are not finite"):
        Guide(np.array([np.nan]), np.zeros(6))
    with pytest.raises(ConfigError, match="the length of value is 5; it must be at least 6"):
        Guide(np.zeros(1), np.zeros(5))
    with pytest.raises(ConfigError, match="temperature is 0; it must be positive"):
        Guide(np.zeros(1), np.zeros(6), 0)
    with pytest.raises(DivergedError, match="the vectors of literals as entries are not finite"):
        Pairs(np.zeros((1, 1)), np.array([[np.inf]]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"exploration": -1.0}, "exploration is -1.0"),
        ({"big_step": 0}, "big_step is 0"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_impossible_rules_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Rules(**options)
