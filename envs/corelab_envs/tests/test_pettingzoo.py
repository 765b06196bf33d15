"""Environments of several agents as rows side by side."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from corelab_envs.interface import play
from corelab_envs.pettingzoo_task import PettingZooTask
from gymnasium import spaces

from corelab import ConfigError, DataError
from corelab.state import load_tree, save_tree

SPREAD = "mpe2/simple_spread_v3"


def task_of(name, **options):
    return PettingZooTask(PettingZooTask.Config(id=name, **options))


class Team:
    """Agents "a", "b" and "c". Each counts its own steps, and is in from STEP to STEP of LIVES."""

    metadata = {"render_modes": []}
    possible_agents = ["a", "b", "c"]
    observation = spaces.Box(-1000, 1000, (2,), np.float32)

    def __init__(self, lives=((0, 3), (0, 6), (2, 5)), faults=(), cut=(), mask=None):
        self.lives = dict(zip(self.possible_agents, lives, strict=True))
        self.faults, self.cut, self.mask = faults, cut, mask

    def observation_space(self, agent):
        return self.observation

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.t, self.sum = 0, dict.fromkeys(self.possible_agents, 0)
        self.begin = float(np.random.default_rng(seed).integers(100))
        self.agents = [a for a in self.possible_agents if self.lives[a][0] == 0]
        return {a: self.see(a) for a in self.agents}, {a: self.info(a) for a in self.agents}

    def see(self, agent):
        return np.array([self.begin + self.sum[agent], self.t], np.float32)

    def info(self, agent):
        return {} if self.mask is None else {"action_mask": self.mask(agent, self.t)}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        for agent, action in actions.items():
            self.sum[agent] += action
        rewards = {a: float(action) for a, action in actions.items()}
        if self.t in self.faults:
            rewards["a"] = np.nan
        over = {a: self.t == self.lives[a][1] for a in actions}
        terminations = {a: end and a not in self.cut for a, end in over.items()}
        truncations = {a: end and a in self.cut for a, end in over.items()}
        self.agents = [
            a for a in self.possible_agents if self.lives[a][0] <= self.t < self.lives[a][1]
        ]
        seen = {a: self.see(a) for a in {*actions, *self.agents}}
        return seen, rewards, terminations, truncations, {a: self.info(a) for a in seen}

    def close(self):
        pass


@pytest.fixture
def made(monkeypatch):
    """A package `made` whose module `team_v0` makes a `Team`, or what is asked for."""

    def install(parallel_env=Team, **module):
        team = SimpleNamespace(**module)
        if parallel_env is not None:
            team.parallel_env = parallel_env
        monkeypatch.setitem(sys.modules, "made", SimpleNamespace(team_v0=team))
        monkeypatch.setitem(sys.modules, "made.team_v0", team)
        return "made/team_v0"

    return install


def random_actions(task, steps, seed=0):
    task.single_action_space.seed(seed)
    return [
        np.array([task.single_action_space.sample() for _ in range(task.num_envs)])
        for _ in range(steps)
    ]


def test_rows_are_what_the_environment_itself_gives():
    from mpe2 import simple_spread_v3

    task = task_of(SPREAD, num_envs=2)
    assert (task.agents, task.num_envs) == (3, 6)
    envs = task.make(6, seed=1)
    observations, _ = envs.reset()
    peers = [simple_spread_v3.parallel_env() for _ in range(2)]
    begun = np.zeros(2, np.int64)

    def begin(copy):
        words = np.random.SeedSequence([envs._copies[copy]._root, copy, begun[copy]])
        begun[copy] += 1
        return peers[copy].reset(seed=int(words.generate_state(1)[0] >> 1))[0]

    expected = [begin(0), begin(1)]
    for t, actions in enumerate(random_actions(task, 60)):
        for copy in range(2):
            for i in range(3):
                assert np.array_equal(observations[3 * copy + i], expected[copy][f"agent_{i}"])
        observations, rewards, terminations, truncations, _ = envs.step(actions)
        assert not terminations.any()
        for copy, peer in enumerate(peers):
            of = slice(3 * copy, 3 * copy + 3)
            if t % 26 == 25:  # the step after the last is a reset
                expected[copy] = begin(copy)
                assert not rewards[of].any()
                assert not truncations[of].any()
            else:
                acts = {f"agent_{i}": int(actions[3 * copy + i]) for i in range(3)}
                expected[copy], gained, _, cut, _ = peer.step(acts)
                assert rewards[of].tolist() == [gained[f"agent_{i}"] for i in range(3)]
                assert truncations[of].tolist() == [cut[f"agent_{i}"] for i in range(3)]


def test_agents_that_leave_early_or_join_late_wait_without_transitions(made):
    task = task_of(made(lambda: Team(cut=("b",))), num_envs=1)
    envs = task.make(3, seed=0)
    _, info = envs.reset()
    over = info["waits"]
    assert over.tolist() == [False, False, True]
    transitions = {0: [], 1: [], 2: []}
    resets = []
    for t in range(14):
        observations, rewards, terminations, truncations, _ = envs.step(np.array([1, 2, 1]))
        for i in range(3):
            if over[i]:
                assert rewards[i] == 0
            else:
                assert rewards[i] == (2 if i == 1 else 1)
                transitions[i].append((t, bool(terminations[i]), bool(truncations[i])))
        over = terminations | truncations
        if (observations[:2, 1] == 0).all():
            resets.append(t)
    assert resets == [6, 13]
    no, ended, cut = (False, False), (True, False), (False, True)
    once = {
        0: [(0, *no), (1, *no), (2, *ended)],
        1: [(0, *no), (1, *no), (2, *no), (3, *no), (4, *no), (5, *cut)],
        2: [(2, *no), (3, *no), (4, *ended)],
    }
    for i, first in once.items():
        assert transitions[i] == first + [(t + 7, *ends) for t, *ends in first]


def test_the_return_of_an_episode_is_the_mean_over_its_agents(made):
    task = task_of(made(), num_envs=2)
    episodes = play(task, lambda seen: np.full(len(seen), 2), 5, "test", 0)
    assert episodes.returns.tolist() == [2 * (3 + 6 + 3) / 3] * 5
    assert episodes.lengths.tolist() == [6] * 5


@pytest.mark.parametrize("policies", ["shared", "independent"])
@pytest.mark.parametrize("name", [SPREAD, "sisl/multiwalker_v9", "made/team_v0"])
def test_a_restored_team_goes_on_bit_for_bit(name, policies, tmp_path, made):
    made()
    task = task_of(name, num_envs=2, policies=policies)
    envs = task.make(task.num_envs, seed=3)
    envs.reset()
    for step, actions in enumerate(random_actions(task, 60)):
        envs.step(actions)
        if step in (0, 5, 6, 24, 25, 41):
            save_tree(tmp_path / "envs", envs.state_dict())
            others = task.make(task.num_envs, seed=77)
            others.reset()
            others.load_state_dict(load_tree(tmp_path / "envs"))
            for following in random_actions(task, 40, seed=step):
                ours, theirs = envs.step(following), others.step(following)
                same = [np.array_equal(a, b) for a, b in zip(ours[1:4], theirs[1:4], strict=True)]
                assert all(same)
                for a, b in zip(arrays(ours[0]), arrays(theirs[0]), strict=True):
                    assert a.dtype == b.dtype
                    assert np.array_equal(a, b)


def arrays(observations):
    return observations.values() if isinstance(observations, dict) else [observations]


@pytest.mark.slow
def test_an_environment_that_carries_traces_is_made_anew(tmp_path):
    task = task_of("butterfly/knights_archers_zombies_v11", num_envs=1)
    envs = task.make(4, seed=3)
    envs.reset()
    actions = random_actions(task, 500)
    for action in actions[:400]:
        envs.step(action)
    others = task.make(4, seed=3)
    others.reset()
    others.load_state_dict(envs.state_dict())
    for action in actions[400:]:
        assert np.array_equal(envs.step(action)[0], others.step(action)[0])


def test_independent_policies_are_told_whose_row_it_is():
    task = task_of(SPREAD, num_envs=2, policies="independent")
    assert task.single_observation_space["agent"] == spaces.Discrete(3)
    observations, _ = task.make(6, seed=1).reset()
    assert observations["agent"].tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(observations["observation"], task_of(SPREAD).make(6, seed=1).reset()[0])


def test_unequal_agents_are_filled_up_for_independent_policies():
    task = task_of("mpe2/simple_speaker_listener_v4", num_envs=1, policies="independent")
    space = task.single_observation_space
    assert space["observation"].shape == (11,)
    assert task.single_action_space == spaces.Discrete(5)
    observations, _ = task.make(2, seed=0).reset()
    assert observations["action_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert not observations["observation"][0, 3:].any()
    assert observations["observation"][1, 3:].any()
    for part in observations:
        assert space[part].contains(observations[part][0]), part


def test_unequal_agents_cannot_share_a_policy():
    with pytest.raises(
        DataError, match=r"observations of speaker_0 are Box.*\(3,\).* those of lis"
    ):
        task_of("mpe2/simple_speaker_listener_v4")


def test_masks_beside_the_observation_become_part_of_it(made):
    def mask(agent, t):
        return np.array([1, t % 2, agent == "b"], np.int8)

    task = task_of(made(lambda: Team(lives=((0, 2), (0, 4), (0, 4)), mask=mask)), num_envs=1)
    assert set(task.single_observation_space) == {"observation", "action_mask"}
    envs = task.make(3, seed=0)
    masks = [envs.reset()[0]["action_mask"].tolist()]
    masks += [envs.step(np.zeros(3))[0]["action_mask"].tolist() for _ in range(3)]
    assert masks[0] == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert masks[1] == [[1, 1, 0], [1, 1, 1], [1, 1, 0]]
    assert masks[2] == [[1, 1, 1], [1, 0, 1], [1, 0, 0]]  # "a" is out and chooses nothing
    assert masks[3] == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_a_mask_that_allows_nothing_is_told_with_its_step(made):
    mask = lambda agent, t: np.full(3, not (agent == "b" and t == 3), np.int8)  # noqa: E731
    task = task_of(made(lambda: Team(mask=mask)), num_envs=1)
    envs = task.make(3, seed=0)
    envs.reset()
    envs.step(np.zeros(3))
    envs.step(np.zeros(3))
    with pytest.raises(DataError, match=r"^made/team_v0: copy 0 allows b no action in step 3 of e"):
        envs.step(np.zeros(3))


class Unknown(Team):
    """Makes up its agents as it goes."""

    def __getattribute__(self, name):
        if name == "possible_agents":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def __init__(self):
        pass


def test_environments_that_do_not_fit_are_refused(made):
    with pytest.raises(DataError, match=r"^made/team_v0 does not tell beforehand which agents"):
        task_of(made(Unknown))
    with pytest.raises(DataError, match=r"the module made.team_v0 has no environment in it"):
        task_of(made(None))


def test_a_reward_that_is_no_number_is_told_with_its_agent(made):
    envs = task_of(made(lambda: Team(faults=(2,))), num_envs=2).make(6, seed=0)
    envs.reset()
    envs.step(np.zeros(6))
    with pytest.raises(DataError, match=r"team_v0: copy 0 gave a a reward .* finite at step 2"):
        envs.step(np.zeros(6))


def test_only_whole_teams_can_be_made():
    with pytest.raises(DataError, match="its 3 agents are learned side by side, in multiples of 3"):
        task_of(SPREAD).make(4, seed=0)


def test_settings_reach_the_environment():
    task = task_of(SPREAD, settings=("N=5", "max_cycles=7", "continuous_actions=True"))
    assert task.agents == 5
    assert isinstance(task.single_action_space, spaces.Box)
    envs = task.make(5, seed=0)
    envs.reset()
    ends = [envs.step(actions[:5])[3].all() for actions in random_actions(task, 7)]
    assert ends == [False] * 6 + [True]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "mpe2/simple_sprad_v3"}, DataError, "did you mean 'simple_spread_v3'?"),
        ({"name": "sisl/nothing_v0"}, DataError, "it has: multiwalker_v9, pursuit_v5"),
        ({"name": "nobody/has_v0"}, DataError, "there is no package nobody; families"),
        ({"name": SPREAD, "settings": ("N",)}, ConfigError, "of the form setting=value"),
        ({"name": SPREAD, "settings": ("M=3",)}, DataError, "unexpected keyword argument 'M'"),
        ({"name": SPREAD, "num_envs": 0}, ConfigError, "task.num_envs is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(options, error, says):
    with pytest.raises(error) as told:
        task_of(**options)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("fault", ["raise RuntimeError('no licence')", "raise SystemExit(1)"])
def test_a_module_that_fails_to_import_is_told_in_a_sentence(fault, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.py").write_text("")
    with pytest.raises(DataError, match=r"^alone/broken_v0: alone has no environment of this name"):
        task_of("alone/broken_v0")
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "broken_v0.py").write_text(fault)
    with pytest.raises(DataError, match=r"house.broken_v0 cannot be imported: (Run|Sys)\w+: "):
        task_of("house/broken_v0")


@pytest.mark.parametrize(
    ("missing", "name", "extra"),
    [
        ("mpe2", SPREAD, "corelab-ml[mpe]"),
        ("Box2D", "sisl/multiwalker_v9", "corelab-ml[sisl]"),
        ("pettingzoo", "classic/connect_four_v3", "corelab-ml[games]"),
    ],
)
def test_a_missing_package_is_told_with_what_installs_it(missing, name, extra, monkeypatch):
    for module in list(sys.modules):
        if module.partition(".")[0] in ("mpe2", "pettingzoo", "Box2D"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError, match=r"needs a package that is missing: pip install") as told:
        task_of(name)
    assert f'"{extra}"' in str(told.value)
