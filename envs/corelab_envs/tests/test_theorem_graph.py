from __future__ import annotations

import warnings
from pathlib import Path

import corelab_envs.registry  # noqa: F401 - registers corelab/Connection-v0
import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.theorem import calculus, engine
from corelab_envs.theorem.clausify import clausify
from corelab_envs.theorem.environment import ConnectionEnv
from corelab_envs.theorem.graph import Link, Thing, graph_of
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import ProblemSet
from corelab_envs.theorem.tptp import read
from corelab_envs.theorem.walks import Role
from gymnasium.utils.env_checker import check_env, data_equivalence

from corelab import ConfigError

PLAYING = """
fof(someone, axiom, plays(anna) | plays(ben)).
fof(players_practise, axiom, ! [X] : (plays(X) => practises(X))).
fof(goal, conjecture, ? [X] : (plays(X) & practises(X))).
"""
SWIMMING = PLAYING.replace("plays", "swims").replace("practises", "dives").replace("anna", "zoe")


@pytest.fixture
def problem(tmp_path):
    def write(text):
        (tmp_path / "problem.p").write_text(text)
        return str(tmp_path / "problem.p")

    return write


def graphs(machine, tableau, nodes, edges, actions, names=0):
    seen = [np.empty((1, n, 3), np.int32) for n in (nodes, edges)]
    seen += [np.empty((1, actions), np.int32), np.empty((1, actions), np.int8)]
    machine.graph_many([tableau], *seen, names)
    return [array[0] for array in seen]


def test_gymnasiums_checker_finds_nothing_wrong_with_graphs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for names in (0, 8):
            env = gym.make("corelab/Connection-v0", observation="graph", name_buckets=names)
            check_env(env.unwrapped, skip_render_check=True)


def test_a_state_is_the_graph_of_its_literals_and_of_the_clauses_that_can_be_entered(problem):
    env = ConnectionEnv(path=problem(PLAYING), observation="graph", max_nodes=20, max_edges=19)
    env.reset(seed=0)
    seen, *_ = env.step(0)  # the goal is ~plays(X), below the mark that every proof begins with
    goal, path, other, first, second = (0, 1, 2, 3, 6)
    entry, new = Role.ENTRY, Role.NEW
    assert seen["nodes"].tolist() == [
        [Thing.NEGATIVE, Role.GOAL, 0],
        [Thing.NEGATIVE, Role.PATH, 0],
        [Thing.NEGATIVE, Role.OPEN, 0],  # ~practises(X)
        [Thing.CLAUSE, 0, 0],  # plays(anna) | plays(ben), entered by the one or the other
        [Thing.POSITIVE, entry, 0],
        [Thing.POSITIVE, new, 0],
        [Thing.CLAUSE, 0, 0],
        [Thing.POSITIVE, new, 0],
        [Thing.POSITIVE, entry, 0],
        [Thing.PREDICATE, 0, 0],  # plays
        [Thing.VARIABLE, 0, 0],  # X
        [Thing.PREDICATE, 0, 0],  # the mark
        [Thing.PREDICATE, 0, 0],  # practises
        [Thing.TERM, 0, 0],  # anna
        [Thing.TERM, 0, 0],  # ben
        [Thing.FUNCTION, 0, 0],
        [Thing.FUNCTION, 0, 0],
        *[[0, 0, 0]] * 3,
    ]
    plays, x, mark, practises, anna, ben = range(9, 15)
    assert seen["edges"].tolist() == [
        [goal, path, Link.ABOVE],
        *[[first, literal, Link.LITERAL] for literal in (4, 5)],
        *[[second, literal, Link.LITERAL] for literal in (7, 8)],
        [goal, plays, Link.SYMBOL],
        [goal, x, Link.FIRST],
        [path, mark, Link.SYMBOL],
        [other, practises, Link.SYMBOL],
        [other, x, Link.FIRST],
        *[[4, plays, Link.SYMBOL], [4, anna, Link.FIRST]],
        *[[5, plays, Link.SYMBOL], [5, ben, Link.FIRST]],
        *[[7, plays, Link.SYMBOL], [7, anna, Link.FIRST]],
        *[[8, plays, Link.SYMBOL], [8, ben, Link.FIRST]],
        [anna, 15, Link.SYMBOL],
    ]  # and no room for that of ben
    assert seen["actions"].tolist() == [first, second] + [-1] * 30
    assert seen["action_mask"].tolist() == [1, 1] + [0] * 30


@pytest.mark.parametrize("names", [0, 1000])
def test_names_matter_only_if_they_are_asked_for(problem, names):
    played, swum = [], []
    for text, seen in ((PLAYING, played), (SWIMMING, swum)):
        env = ConnectionEnv(path=problem(text), observation="graph", name_buckets=names)
        seen.append(env.reset(seed=0)[0])
        seen += [env.step(0)[0] for _ in range(2)]
    same = [data_equivalence(a, b) for a, b in zip(played, swum, strict=True)]
    assert same == [True] * 3 if not names else not any(same)
    if names:
        named = played[1]["nodes"][:, 2] > 0
        symbols = np.isin(played[1]["nodes"][:, 0], (Thing.PREDICATE, Thing.FUNCTION))
        np.testing.assert_array_equal(named, symbols)


@pytest.mark.compiled
@pytest.mark.parametrize("eager", [False, True])
def test_the_engine_draws_the_same_graphs_as_its_twin(eager):
    rng = np.random.default_rng(0)
    problems, reductions = ProblemSet(None, "all"), 0
    for name in problems.names[::3]:
        matrix = problems.matrix(name)
        compiled, twin = engine.Tableau(matrix, eager), calculus.Tableau(matrix, eager)
        for _ in range(10):
            for room in ((200, 400, 8, 16), (30, 40, 4, 0)):
                ours, theirs = graphs(engine, compiled, *room), graphs(calculus, twin, *room)
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a, b)
            if not twin.action_count:
                break
            action = int(rng.integers(twin.action_count))
            reductions += twin.actions[action].kind == calculus.Kind.REDUCTION
            compiled.step(action)
            twin.step(action)
    assert (reductions > 0) == (not eager)


def test_what_there_is_no_room_for_is_left_out_from_the_end():
    matrix = ProblemSet(None, "all").matrix("group_squares_commute")
    tableau = calculus.Tableau(matrix)
    tableau.step(0)
    nodes, edges, actions, _ = graphs(calculus, tableau, 300, 600, 8)
    few_nodes, few_edges, few_actions, _ = graphs(calculus, tableau, 20, 15, 8)
    np.testing.assert_array_equal(few_nodes, nodes[:20])
    held = edges[(edges[:, 2] > 0) & (edges[:, :2] < 20).all(1)]
    np.testing.assert_array_equal(few_edges, held[:15])
    np.testing.assert_array_equal(few_actions, np.where(actions < 20, actions, -1))
    assert len(held) > 15
    assert nodes[20].any()


def test_a_vector_shows_the_graphs_that_single_environments_do():
    many = gym.make_vec("corelab/Connection-v0", 3, observation="graph")
    one = ConnectionEnv(observation="graph")
    observations, info = many.reset(seed=1)
    assert many.observation_space.contains(observations)
    stepped, *_ = many.step(np.zeros(3, np.int64))
    for i, name in enumerate(info["problem"]):
        seen, _ = one.reset(options={"problem": name})
        assert data_equivalence(seen, {key: value[i] for key, value in observations.items()})
        seen, *_ = one.step(0)
        assert data_equivalence(seen, {key: value[i] for key, value in stepped.items()})


def test_a_problem_is_a_graph_in_which_names_mean_nothing(problem):
    one, other = (
        graph_of(Matrix.of(clausify(read(Path(problem(text)))))) for text in (PLAYING, SWIMMING)
    )
    np.testing.assert_array_equal(one.things, other.things)
    np.testing.assert_array_equal(one.edges, other.edges)
    np.testing.assert_array_equal(one.literals, other.literals)
    assert (one.names != other.names).any()


def test_an_unknown_way_to_show_states_is_refused():
    with pytest.raises(ConfigError, match="observation is tree; it must be walks or graph"):
        ConnectionEnv(observation="tree")
