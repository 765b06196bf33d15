"""Agents who move in turn, of whom a row is one, held to PettingZoo's own way of playing them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from corelab_envs.interface import play
from corelab_envs.pettingzoo_task import PettingZooTask
from gymnasium import spaces
from pettingzoo import AECEnv

from corelab import DataError
from corelab.state import load_tree, save_tree


class Relay(AECEnv):
    """Agents "a", "b" and "c" name numbers, and the next is given what the one before has named.

    Each is out after as many turns as LIVES says, by truncation those whom CUT names.
    """

    metadata = {"render_modes": []}
    possible_agents = ["a", "b", "c"]
    wide = spaces.Box(-1000, 1000, (3,), np.float32)

    def __init__(self, lives=(4, 2, 3), cut=("c",), fault=None, seen=None, done=None):
        super().__init__()
        self.lives = dict(zip(self.possible_agents, lives, strict=True))
        self.cut, self.fault = cut, fault
        self.seen, self.done = seen or {}, done or {}

    def observation_space(self, agent):
        return self.seen.get(agent, self.wide)

    def action_space(self, agent):
        return self.done.get(agent, spaces.Discrete(3))

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.rewards, self._cumulative_rewards = (dict.fromkeys(self.agents, 0) for _ in range(2))
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos = {agent: {} for agent in self.agents}
        self.turns = dict.fromkeys(self.agents, 0)
        self.named = int(np.random.default_rng(seed).integers(100))
        self.agent_selection = "a"

    def observe(self, agent):
        here = np.array([self.named, self.turns[agent], sum(self.turns.values())], np.float32)
        return self.shown(here[: self.observation_space(agent).shape[0]])

    def shown(self, observation):
        return observation

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        if self.fault and sum(self.turns.values()) == 4:
            self.fault(self)
        assert self.action_space(agent).contains(action)
        place = self.agents.index(agent)
        following = self.agents[(place + 1) % len(self.agents)]
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        self.named = int(np.sum(action))
        self.rewards[following] += self.named
        self.turns[agent] += 1
        if self.turns[agent] == self.lives[agent]:
            (self.truncations if agent in self.cut else self.terminations)[agent] = True
        self.agent_selection = following
        self._accumulate_rewards()
        self._deads_step_first()


class Alike:
    """Opponents that act as `act` does."""

    def draw(self, n):
        return np.zeros(n, np.int64)

    def choose(self, observations, opponents):
        return act(observations)

    def record(self, opponents, returns):
        pass


def act(observations):
    seen = observations["observation"] if isinstance(observations, dict) else observations
    return (seen.sum(-1) % 3).astype(np.int64)


@pytest.fixture
def made(monkeypatch):
    def task(environment=Relay, **options):
        module = SimpleNamespace(env=environment)
        monkeypatch.setitem(sys.modules, "made", SimpleNamespace(relay_v0=module))
        monkeypatch.setitem(sys.modules, "made.relay_v0", module)
        return PettingZooTask(PettingZooTask.Config(id="made/relay_v0", **options))

    return task


def in_petting_zoo(seed, learner):
    """What LEARNER sees, is given and is told of its end in an episode, by `agent_iter`."""
    env = Relay()
    env.reset(seed)
    turns = []
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        if agent == learner:
            turns.append((observation.tolist(), reward, terminated, truncated))
        env.step(None if terminated or truncated else int(act(observation)))
    return turns


def test_the_turns_of_the_learner_are_those_of_petting_zoo(made):
    task = made(num_envs=2)
    assert (task.seats, task.agents, task.rivals) == (3, 1, ())
    envs = task.make(2, seed=0)
    envs.face(Alike())
    observations, _ = envs.reset()
    expected = [[], []]
    for episode in range(6):
        for copy, table in enumerate(envs._tables):
            words = np.random.SeedSequence([table._root, copy, episode]).generate_state(1)
            learner = "abc"[(episode + copy) % 3]
            expected[copy] += in_petting_zoo(int(words[0] >> 1), learner)
    got = [[(observations[copy].tolist(), 0, False, False)] for copy in range(2)]
    for _ in range(17):
        observations, *rest = envs.step(act(observations))
        for copy in range(2):
            got[copy].append((observations[copy].tolist(), *(x[copy] for x in rest[:3])))
    for copy in range(2):
        over = True
        for turn, ours in zip(expected[copy], got[copy], strict=False):
            assert ours[0] == turn[0]
            assert ours[2:] == turn[2:]
            assert over or ours[1] == turn[1]  # what came before its first turn is none of its own
            over = any(turn[2:])
    assert {turn[2:] for turn in got[0]} == {(False, False), (True, False), (False, True)}


def test_episodes_that_end_before_the_learner_moves_are_passed_over(made):
    class Short(Relay):
        def step(self, action):
            self.terminations = dict.fromkeys(self.agents, True)

    envs = made(Short, num_envs=1).make(1, seed=0)
    envs.reset()
    for _ in range(4):  # only the first of them ever moves
        assert envs._tables[0].learner == "a"
        assert envs.step(np.zeros(1))[2].all()
        assert not envs.step(np.zeros(1))[2].any()


@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_a_restored_relay_goes_on_bit_for_bit(policies, made, tmp_path):
    task = made(policies=policies)
    envs = task.make(3, seed=1)
    observations, _ = envs.reset()
    for step in range(20):
        observations = envs.step(act(observations))[0]
        if step % 3 == 0:
            save_tree(tmp_path / "envs", envs.state_dict())
            others = task.make(3, seed=9)
            others.reset()
            others.load_state_dict(load_tree(tmp_path / "envs"))
            for _ in range(8):
                ours, theirs = envs.step(act(observations)), others.step(act(observations))
                observations = ours[0]
                assert all(map(np.array_equal, ours[1:4], theirs[1:4]))
                if policies == "independent":
                    assert np.array_equal(ours[0]["agent"], theirs[0]["agent"])
                    ours, theirs = ([x[0]["observation"]] for x in (ours, theirs))
                assert np.array_equal(ours[0], theirs[0])


def test_the_others_act_at_random_until_somebody_comes(made):
    envs = made().make(200, seed=0)
    seen = envs.reset()[0][:, 0]
    answered = envs.step(np.zeros(200))[0][:, 0]
    second = np.array([table.learner for table in envs._tables]) != "a"
    assert set(seen[second].astype(int)) == {0, 1, 2}  # what the one before has named
    assert np.bincount(answered.astype(int), minlength=3).min() > 40


def test_agents_who_differ_are_filled_up_for_independent_policies(made):
    def unequal():
        narrow = spaces.Box(-1000, 1000, (2,), np.float32)
        return Relay(seen={"b": narrow}, done={"c": spaces.Discrete(2)})

    with pytest.raises(DataError, match=r"of a are Box.* and those of b .*policies independent$"):
        made(unequal)
    task = made(unequal, policies="independent", num_envs=3)
    space = task.single_observation_space
    assert space["agent"] == spaces.Discrete(3)
    observations, _ = task.make(3, seed=0).reset()
    assert observations["agent"].tolist() == [0, 1, 2]  # the seats of three copies
    assert observations["action_mask"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert observations["observation"][1, 2] == 0
    assert observations["observation"][2, 2] == 2


def test_agents_act_within_their_own_bounds(made):
    narrow, wide = (spaces.Box(-k, k, (k,), np.float32) for k in (1, 2))
    done = {"a": narrow, "b": wide, "c": wide}  # which the relay asks of what it is given
    task = made(lambda: Relay(done=done), policies="independent")
    assert task.single_action_space == wide
    episodes = play(task, lambda seen: np.full((len(seen["agent"]), 2), 2.0), 6, "test", 0)
    assert episodes.lengths.tolist() == [4, 2, 3, 4, 2, 3]


def test_real_numbers_can_be_named(made):
    box = spaces.Box(np.array([0, 1], np.float32), np.array([1, 9], np.float32))
    task = made(lambda: Relay(done=dict.fromkeys("abc", box)), num_envs=2)
    episodes = play(task, lambda seen: np.full((len(seen), 2), 1, np.float32), 6, "test", 0)
    assert episodes.lengths.tolist() == [4, 2, 3, 4, 2, 3]
    assert (episodes.returns > 0).all()


def spoil(env):
    env.shown = lambda observation: observation * np.nan


def shorten(env):
    env.shown = lambda observation: observation[:2]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda env: 1 // 0, "failed to step, step 5 of episode 0: ZeroDivisionError: "),
        (lambda env: sys.exit(3), "failed to step, step 5 of episode 0: SystemExit: 3"),
        (spoil, "gave an observation that is not finite at step [12]"),
        (shorten, r"failed to observe, step 5 of .*: .* has the shape \(2,\), not \(3,"),
    ],
)
def test_a_fault_is_told_with_its_copy_and_step(fault, told, made):
    task = made(lambda: Relay(fault=fault))
    with pytest.raises(DataError, match=rf"^made/relay_v0: copy \d+ {told}"):
        play(task, act, 2, "test", 0)


def test_a_turn_that_never_comes_is_told(made):
    class Deaf(Relay):
        def step(self, action):
            self.agent_selection = "b"

    envs = made(Deaf, num_envs=1).make(1, seed=0)
    envs.reset()
    with pytest.raises(DataError, match="copy 0 has not come back to a after 10000 moves of the o"):
        envs.step(np.zeros(1))
