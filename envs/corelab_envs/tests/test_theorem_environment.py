from __future__ import annotations

import warnings

import corelab_envs.registry  # noqa: F401 - registers corelab/Connection-v0
import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_envs.theorem import engine
from corelab_envs.theorem.calculus import Outcome
from corelab_envs.theorem.environment import ConnectionEnv
from corelab_envs.theorem.machinery import tableau
from corelab_envs.theorem.problem_set import SHIPPED, ProblemSet
from corelab_envs.theorem.proof import reward
from corelab_envs.theorem.simulator import Simulator
from corelab_envs.theorem.task import TPTPTask
from gymnasium.utils.env_checker import check_env, data_equivalence

import corelab
from corelab import ConfigError, DataError

ID = "corelab/Connection-v0"


def greedy(observation):
    """The first of the inferences that close a goal with the fewest new ones."""
    rows = observation["observation"][256:].reshape(-1, 32)
    return int(np.where(observation["action_mask"], rows[:, 2], np.inf).argmin())


def test_gymnasiums_checker_finds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID).unwrapped)
        check_env(gym.make(ID, render_mode="ansi").unwrapped)


def test_an_episode_ends_with_a_proof_worth_1():
    env = ConnectionEnv()
    observation, info = env.reset(options={"problem": "syllogism_barbara"})
    assert info == {"problem": "syllogism_barbara", "hidden_actions": 0}
    rewards, over = [], False
    while not over:
        observation, gained, over, cut, _ = env.step(greedy(observation))
        rewards.append(gained)
        assert not cut
    assert rewards == [0.0, 0.0, 0.0, 1.0]
    assert not observation["action_mask"].any()


def test_an_action_that_does_not_apply_ends_the_episode_without_a_reward():
    env = ConnectionEnv()
    observation, _ = env.reset(seed=0)
    offered = int(observation["action_mask"].sum())
    _, gained, over, cut, _ = env.step(offered)
    assert (gained, over, cut) == (0.0, True, False)


def test_the_budget_of_inferences_truncates():
    env = ConnectionEnv(path=str(SHIPPED / "group_squares_commute.p"), max_inferences=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_actions_beyond_the_cap_are_counted_and_not_offered():
    env = ConnectionEnv(path=str(SHIPPED / "group_squares_commute.p"), max_actions=2)
    observation, info = env.reset(seed=0)
    for _ in range(3):
        if info["hidden_actions"]:
            break
        observation, *_, info = env.step(0)
    assert observation["action_mask"].tolist() == [1, 1]
    assert info["hidden_actions"] == env.tableau.action_count - 2 > 0


def test_an_unsound_proof_is_an_error_and_never_a_reward(monkeypatch):
    monkeypatch.setattr("corelab_envs.theorem.proof.refusal", lambda *_: "it is made up")
    env = ConnectionEnv(path=str(SHIPPED / "pelletier_06.p"))
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(RuntimeError, match="no proof, because it is made up"):
        env.step(0)


def test_problems_are_drawn_by_the_seed():
    env = ConnectionEnv()
    drawn = [env.reset(seed=seed)[1]["problem"] for seed in (5, 5, *range(30))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 10


def test_render_tells_the_tableau_as_text():
    env = gym.make(ID, render_mode="ansi", path=str(SHIPPED / "syllogism_barbara.p"))
    env.reset(seed=0)
    assert env.render() == "> start  [open]\n"


def test_a_vector_of_tableaux_is_what_single_ones_are():
    many = gym.make_vec(ID, 8)
    one = ConnectionEnv()
    observations, info = many.reset(seed=3)
    names, alive = info["problem"].tolist(), np.ones(8, np.bool_)
    rng = np.random.default_rng(0)
    script = [[] for _ in range(8)]
    shown = [[{k: v[i] for k, v in observations.items()}] for i in range(8)]
    results = [[] for _ in range(8)]
    for _ in range(12):
        actions = rng.integers(0, np.maximum(observations["action_mask"].sum(1), 1))
        observations, rewards, terminations, truncations, _ = many.step(actions)
        for i in np.flatnonzero(alive):
            script[i].append(int(actions[i]))
            shown[i].append({k: v[i] for k, v in observations.items()})
            results[i].append((float(rewards[i]), bool(terminations[i]), bool(truncations[i])))
        alive &= ~(terminations | truncations)
    for i, name in enumerate(names):
        observation, _ = one.reset(options={"problem": name})
        assert data_equivalence(observation, shown[i][0])
        for action, seen, result in zip(script[i], shown[i][1:], results[i], strict=True):
            observation, *told, _ = one.step(action)
            assert data_equivalence(observation, seen)
            assert tuple(told) == result
    assert not alive.all()


def test_a_copy_that_is_over_begins_anew_in_the_next_step():
    many = gym.make_vec(ID, 2, path=str(SHIPPED / "pelletier_06.p"))
    first, _ = many.reset(seed=0)
    over = np.zeros(2, np.bool_)
    while not over.any():
        _, rewards, over, _, _ = many.step(np.zeros(2, np.int64))
    assert rewards.tolist() == [1.0, 1.0]
    again, rewards, over, _, _ = many.step(np.full(2, 7))  # an action that is ignored
    assert data_equivalence(first, again)
    assert (rewards.tolist(), over.tolist()) == ([0.0, 0.0], [False, False])


@pytest.mark.compiled
def test_without_a_compiler_the_twin_is_played(monkeypatch):
    played = []
    for reason in ("", "there is no compiler"):
        monkeypatch.setattr(engine, "missing", lambda reason=reason: reason)
        envs = gym.make_vec(ID, 4, part="dev")
        observations, _ = envs.reset(seed=1)
        for _ in range(5):
            actions = (observations["action_mask"].sum(1) - 1).clip(0)
            observations, *_ = envs.step(actions)
        played.append((type(envs._tableaux[0]).__module__, observations))
    assert [module.rpartition(".")[2] for module, _ in played] == ["engine", "calculus"]
    for key in ("observation", "action_mask"):
        np.testing.assert_allclose(played[0][1][key], played[1][1][key], rtol=1e-6)


def test_problems_are_split_by_a_hash_of_their_names():
    everything, train, dev = (ProblemSet(None, part).names for part in ("all", "train", "dev"))
    assert sorted(train + dev) == everything
    assert 0.03 < len(dev) / len(everything) < 0.25
    assert ProblemSet(SHIPPED / "agatha.p", "dev").names == ["agatha"]


def test_bad_input_is_told(tmp_path):
    with pytest.raises(DataError, match=r"there is no problem in it, no file named \*.p"):
        ProblemSet(tmp_path, "all")
    with pytest.raises(DataError, match="there is no such file or folder of problems"):
        TPTPTask(TPTPTask.Config(path=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="no problem 'hello' among"):
        ConnectionEnv().reset(options={"problem": "hello"})
    tmp_path.joinpath("fine.p").write_text("cnf(a, axiom, p).\n")
    with pytest.raises(
        DataError, match=r"none of its 1 problems is of the part '(dev|train)'; the"
    ):
        TPTPTask(TPTPTask.Config(path=str(tmp_path)))
    with pytest.raises(DataError, match="no problem was found with a clause to begin a proof from"):
        ConnectionEnv(path=str(tmp_path)).reset(seed=0)
    with pytest.raises(DataError, match="fine: no clause begins a proof"):
        ConnectionEnv(path=str(tmp_path)).reset(options={"problem": "fine"})
    for option in ("max_inferences", "max_actions", "state_features", "action_features"):
        with pytest.raises(ConfigError, match=f"{option} is 0"):
            TPTPTask(TPTPTask.Config(**{option: 0}))
    tmp_path.joinpath("fine.p").write_text("fof(a, axiom, p &).\n")
    envs = TPTPTask(TPTPTask.Config(path=str(tmp_path / "fine.p"))).make(1, 0)
    with pytest.raises(DataError, match=r"fine.p:1:18"):
        envs.reset()


def test_a_vector_is_restored_to_where_it_was():
    envs, others = (TPTPTask(TPTPTask.Config()).make(3, seed) for seed in (1, 2))
    observations, _ = envs.reset()
    others.reset()
    for _ in range(9):
        observations, *_ = envs.step(observations["action_mask"].argmax(1))
    state = envs.state_dict()
    others.load_state_dict(state)
    for _ in range(6):
        actions = observations["action_mask"].argmax(1)
        (observations, *told), (same, *as_told) = envs.step(actions), others.step(actions)
        assert data_equivalence(observations, same)
        for a, b in zip(told[:3], as_told[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_its_id_names_a_task_as_any_gymnasium_id_does():
    task = GymnasiumTask(GymnasiumTask.Config(id=ID))
    envs = task.make(2, 0)
    observations, _ = envs.reset()
    observations, *_ = envs.step(observations["action_mask"].argmax(1))
    assert task.replays
    assert observations["observation"].shape == (2, 256 + 32 * 32)


def test_evaluation_is_on_problems_that_are_not_learned_from(tmp_path):
    for name in ("pelletier_06", "pelletier_18"):
        tmp_path.joinpath(f"{name}.p").write_bytes((SHIPPED / f"{name}.p").read_bytes())
    task = TPTPTask(TPTPTask.Config())
    learned, measured = (
        {copy.env._problems.problems.names[0] for copy in t.make(1, 0).copies}
        for t in (task, task.measured)
    )
    assert not learned & measured
    task = TPTPTask(TPTPTask.Config(dev_path=str(tmp_path))).measured
    (copy,) = task.make(1, 0).copies
    assert copy.env._problems.problems.names == ["pelletier_06", "pelletier_18"]


def test_ppo_learns_which_inferences_lead_to_proofs(tmp_path):
    for name in ("syllogism_barbara", "sets_empty_in_all", "peano_even", "graph_path"):
        tmp_path.joinpath(f"{name}.p").write_bytes((SHIPPED / f"{name}.p").read_bytes())
    run = corelab.train(
        "ppo", task="tptp", steps=4_096, seed=0,
        options={
            "task.path": str(tmp_path), "task.dev_path": str(tmp_path), "task.max_inferences": 20,
            "task.num_envs": 8, "task.max_actions": 8, "task.state_features": 64,
            "algorithm.horizon": 64, "algorithm.epochs": 6, "algorithm.lr": 1e-3,
            "run.dir": str(tmp_path / "runs"), "run.eval_every": None,
        },
    )  # fmt: skip
    learned = run.evaluate(n=60)["return"]
    envs = TPTPTask(TPTPTask.Config(path=str(tmp_path), dev_path=str(tmp_path))).make(8, 0)
    rng, proofs, episodes = np.random.default_rng(0), 0.0, 0
    observations, _ = envs.reset()
    while episodes < 200:
        actions = rng.integers(0, np.maximum(observations["action_mask"].sum(1), 1))
        observations, rewards, over, cut, _ = envs.step(actions)
        proofs, episodes = proofs + rewards.sum(), episodes + (over | cut).sum()
    assert learned > 0.2 + proofs / episodes


def test_a_simulated_step_leaves_the_state_it_began_from_as_it_was():
    simulator = Simulator(tableau(ProblemSet(None, "all").matrix("pelletier_24")))
    states = simulator.initial(1)
    after, rewards, over = simulator.step(states, np.zeros(1, np.intp))
    again, *_ = simulator.step(states, np.zeros(1, np.intp))
    seen = []
    for state in (after[0], again[0]):
        simulator.tableau.restore(state)
        seen.append(simulator.tableau.features(64))
    np.testing.assert_array_equal(*seen)
    assert (rewards.tolist(), over.tolist()) == ([0.0], [False])
    assert simulator.tableau.outcome is Outcome.RUNNING
    assert reward(simulator.tableau) == 0.0
