"""Theorems of Metamath databases are proved as a Gymnasium environment."""

from __future__ import annotations

import warnings
from pathlib import Path

import corelab_envs.registry  # noqa: F401 - registers corelab/Metamath-v0
import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.metamath.environment import MetamathEnv
from corelab_envs.metamath.task import MetamathTask
from corelab_envs.metamath.theorem_set import SHIPPED, TheoremSet
from corelab_envs.metamath.verification import (
    excerpt,
    program,
    refusal,
    refusal_of_program,
)
from gymnasium.utils.env_checker import check_env, data_equivalence

import corelab
from corelab import ConfigError, DataError

ID = "corelab/Metamath-v0"
SET = Path("/usr/share/metamath/databases/set.mm")


def labels(env):
    """What can be chosen, in order."""
    return [inference.label for inference in env.inferences]


def play(env, theorem, *chosen):
    """Prove THEOREM by these labels; the rewards, and how it ended."""
    env.reset(options={"theorem": theorem})
    told = [env.step(labels(env).index(label))[1:4] for label in chosen]
    return [gained for gained, *_ in told], told[-1][1:]


def test_gymnasiums_checker_finds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID).unwrapped)
        check_env(gym.make(ID, render_mode="ansi").unwrapped)


def test_an_episode_ends_with_a_proof_worth_1():
    env = MetamathEnv(render_mode="ansi")
    env.reset(options={"theorem": "chain"})
    assert env.render() == "given |- ( ph -> ps )\ngiven |- ( ps -> ch )\n> |- ( ph -> ch )\n"
    rewards, ended = play(env, "chain", "mp-under", "chain.1", "weaken", "chain.2")
    assert (rewards, ended) == ([0.0, 0.0, 0.0, 1.0], (True, False))
    found = "wph wps wch chain.1 wps wch w-imp wph chain.2 weaken mp-under"
    assert " ".join(env.proof) == found
    assert env.render() == f"chain $p |- ( ph -> ch ) $= {found} $.\n"
    data = env.theorems.database
    assert refusal(data, data.assertions["chain"], env.proof) == ""


def test_a_goal_that_is_only_an_unknown_waits_for_the_others():
    env = MetamathEnv(render_mode="ansi")
    env.reset(options={"theorem": "identity"})
    env.step(labels(env).index("mp"))
    assert env.render() == "> |- ( ?0 -> ( ph -> ph ) )\n  |- ?0\n"


def test_premises_come_first_and_then_assertions_with_few_premises():
    env = MetamathEnv()
    observation, info = env.reset(options={"theorem": "chain-3"})
    assert labels(env) == ["weaken", "mp", "mp-under", "chain", "mp-twice"]
    env.step(labels(env).index("chain"))
    assert labels(env)[:3] == ["chain-3.1", "ax-weaken", "ax-and"]
    assert observation["action_mask"].tolist() == [1] * 5 + [0] * 43
    assert info == {"theorem": "chain-3", "more_actions": False}


def test_only_what_stands_before_a_theorem_applies():
    env = MetamathEnv()
    numbers = env.theorems.database.assertions
    for theorem in env.theorems.labels:
        env.reset(options={"theorem": theorem})
        for label in labels(env):
            if label in numbers:
                assert numbers[label].number < numbers[theorem].number


def test_an_action_that_does_not_apply_ends_the_episode_without_a_reward():
    env = MetamathEnv()
    observation, _ = env.reset(seed=0)
    _, gained, over, cut, _ = env.step(int(observation["action_mask"].sum()))
    assert (gained, over, cut) == (0.0, True, False)


def test_a_goal_to_which_nothing_applies_ends_the_episode(tmp_path):
    head = SHIPPED.read_text().partition("${")[0]
    lemma = "${ e $e |- ( ph -> ph ) $. lemma $a |- -. ph $. $}\n"
    tmp_path.joinpath("own.mm").write_text(head + lemma + "two $p |- -. ps $= ? $.\n")
    env = MetamathEnv(path=str(tmp_path / "own.mm"))
    assert play(env, "two", "lemma") == ([0.0], (True, False))


def test_the_budget_of_steps_truncates():
    env = MetamathEnv(max_steps=3)
    env.reset(options={"theorem": "identity"})
    told = [env.step(labels(env).index("mp"))[1:4] for _ in range(3)]
    assert told == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]


def test_actions_beyond_the_cap_are_told_and_not_offered():
    env = MetamathEnv(max_actions=2)
    observation, info = env.reset(options={"theorem": "or-same"})
    assert observation["action_mask"].tolist() == [1, 1]
    assert info["more_actions"]
    _, gained, over, _, _ = env.step(2)
    assert (gained, over) == (0.0, True)


def test_an_unsound_proof_is_an_error_and_never_a_reward(monkeypatch):
    env = MetamathEnv()
    monkeypatch.setattr(
        "corelab_envs.metamath.derivation.Derivation.proof", lambda _: ["wph", "wps", "ax-weaken"]
    )
    with pytest.raises(RuntimeError, match="weaken: what was found is no proof: it proves"):
        play(env, "weaken", "mp", "ax-weaken", "weaken.1")


@pytest.mark.skipif(program() is None, reason="the metamath program is missing")
def test_what_metamath_refuses_is_an_error_though_corelab_accepts_it(monkeypatch):
    env = MetamathEnv()
    monkeypatch.setattr("corelab_envs.metamath.verification.refusal", lambda *_: "")
    monkeypatch.setattr(
        "corelab_envs.metamath.derivation.Derivation.proof", lambda _: ["wph", "wps", "ax-weaken"]
    )
    with pytest.raises(
        RuntimeError, match=r"weaken: .* is no proof: metamath says: .Error on line"
    ):
        play(env, "weaken", "mp", "ax-weaken", "weaken.1")


def test_without_the_program_the_own_check_counts(monkeypatch):
    monkeypatch.setattr("corelab_envs.metamath.verification.shutil.which", lambda _: None)
    env = MetamathEnv()
    assert play(env, "weaken", "mp", "ax-weaken", "weaken.1")[0] == [0.0, 0.0, 1.0]
    with pytest.raises(DataError, match="the program `metamath` is not installed"):
        refusal_of_program("$c it_is_not_asked $.")


def test_most_theorems_are_proved_by_chance_from_what_its_proof_cites():
    env = MetamathEnv(premises="cited")
    rng = np.random.default_rng(0)
    proved = set()
    for theorem in env.theorems.labels * 20:
        if theorem in proved:
            continue
        env.reset(options={"theorem": theorem})
        over = False
        while not over and env.derivation.steps < 12:
            _, gained, over, _, _ = env.step(int(rng.integers(len(env.inferences))))
            if gained:
                proved.add(theorem)
    assert len(proved) > 45


def test_theorems_are_drawn_by_the_seed():
    env = MetamathEnv()
    drawn = [env.reset(seed=seed)[1]["theorem"] for seed in (5, 5, *range(30))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 10


def test_theorems_are_split_by_a_hash_of_their_labels():
    everything, train, dev = (TheoremSet(None, part=p).labels for p in ("all", "train", "dev"))
    assert sorted(train + dev) == sorted(everything)
    assert 0.03 < len(dev) / len(everything) < 0.25
    short = TheoremSet(None, "chain", "dev").labels
    assert short == [label for label in dev if label in TheoremSet(None, "chain").labels]


def test_evaluation_is_on_theorems_that_are_not_learned_from():
    task = MetamathTask(MetamathTask.Config())
    learned, measured = (
        {label for copy in t.make(1, 0).copies for label in copy.env.theorems.labels}
        for t in (task, task.measured)
    )
    assert learned
    assert measured
    assert not learned & measured


def test_bad_input_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.mm: cannot be read"):
        MetamathTask(MetamathTask.Config(path=str(tmp_path / "nowhere.mm")))
    with pytest.raises(DataError, match="it has no statement 'hello' to read up to"):
        MetamathTask(MetamathTask.Config(upto="hello"))
    with pytest.raises(DataError, match="none of its 1 theorems is of the part 'dev'"):
        MetamathTask(MetamathTask.Config(upto="weaken"))
    with pytest.raises(DataError, match="there is no theorem 'hello' among 59"):
        MetamathEnv().reset(options={"theorem": "hello"})
    for option in ("max_steps", "max_actions", "state_features", "action_features"):
        with pytest.raises(ConfigError, match=f"{option} is 0"):
            MetamathTask(MetamathTask.Config(**{option: 0}))
    with pytest.raises(ConfigError, match=r"task\.num_envs is 0"):
        MetamathTask(MetamathTask.Config(num_envs=0))
    with pytest.raises(ConfigError, match="premises is few; it must be all or cited"):
        MetamathEnv(premises="few")
    head = SHIPPED.read_text().partition("${")[0]
    tmp_path.joinpath("own.mm").write_text(head + "alone $p |- ( ph -> ph ) $= ? $.")
    env = MetamathEnv(path=str(tmp_path / "own.mm"))
    with pytest.raises(DataError, match="no theorem was found to which something before it"):
        env.reset(seed=0)
    with pytest.raises(DataError, match="alone: nothing before it applies to it"):
        env.reset(options={"theorem": "alone"})


def test_a_vector_is_restored_to_where_it_was():
    envs, others = (MetamathTask(MetamathTask.Config()).make(3, seed) for seed in (1, 2))
    observations, _ = envs.reset()
    others.reset()
    for _ in range(9):
        observations, *_ = envs.step(observations["action_mask"].argmax(1))
    others.load_state_dict(envs.state_dict())
    for _ in range(6):
        actions = observations["action_mask"].argmax(1)
        (observations, *told), (same, *as_told) = envs.step(actions), others.step(actions)
        assert data_equivalence(observations, same)
        for a, b in zip(told[:3], as_told[:3], strict=True):
            np.testing.assert_array_equal(a, b)


OPTIONS = {"task.num_envs": 4, "task.max_steps": 12, "task.premises": "cited"}


def test_ppo_learns_on_it_and_is_measured(tmp_path):
    options = OPTIONS | {"algorithm.horizon": 32, "run.dir": str(tmp_path), "run.eval_every": None}
    run = corelab.train("ppo", task="metamath", steps=256, seed=0, options=options)
    assert 0 <= run.evaluate(n=5)["return"] <= 1


@pytest.mark.slow
def test_ppo_proves_more_theorems_that_it_did_not_learn_from_than_chance(tmp_path):
    options = OPTIONS | {"task.num_envs": 8, "algorithm.horizon": 64, "algorithm.lr": 1e-3}
    options |= {"run.dir": str(tmp_path), "run.eval_every": None}
    run = corelab.train("ppo", task="metamath", steps=8_192, seed=0, options=options)
    env = MetamathEnv(part="dev", premises="cited", max_steps=12)
    rng, proofs = np.random.default_rng(0), 0.0
    for seed in range(150):
        env.reset(seed=seed)
        over = cut = False
        while not (over or cut):
            _, gained, over, cut, _ = env.step(int(rng.integers(len(env.inferences))))
            proofs += gained
    assert run.evaluate(n=150)["return"] > 0.15 + proofs / 150


@pytest.mark.slow
@pytest.mark.skipif(not SET.exists(), reason="set.mm is missing")
def test_theorems_of_set_mm_are_proved_by_chance_and_their_proofs_pass_both_checks():
    env = MetamathEnv(path=str(SET), premises="cited", max_steps=8)
    assert len(env.theorems.labels) > 30_000
    data, proofs = env.theorems.database, 0
    rng = np.random.default_rng(0)
    for seed in range(400):
        env.reset(seed=seed)
        over = cut = False
        while not (over or cut):
            choice = int(rng.integers(len(env.inferences)))
            _, gained, over, cut, _ = env.step(choice)
        if gained:
            proofs += 1
            theorem = data.assertions[env.theorem]
            assert refusal(data, theorem, env.proof) == ""
            assert refusal(data, theorem, env.proof[:-1])
            if program() is not None:
                assert refusal_of_program(excerpt(data, theorem, env.proof)) == ""
                assert refusal_of_program(excerpt(data, theorem, env.proof[:-1]))
    assert proofs > 20


@pytest.mark.slow
@pytest.mark.skipif(not SET.exists(), reason="set.mm is missing")
def test_every_statement_of_set_mm_is_understood_and_its_first_proofs_pass():
    library = TheoremSet(SET)._library
    data = library.database
    proved = 0
    for assertion in data.assertions.values():
        if assertion.symbols[0] == "|-":
            shown = library.show(library.grammar.parse(assertion))
            assert shown == " ".join(assertion.symbols[1:])
        if assertion.proof is not None and proved < 5_000:
            proved += 1
            assert refusal(data, assertion, assertion.proof.split()) == ""
