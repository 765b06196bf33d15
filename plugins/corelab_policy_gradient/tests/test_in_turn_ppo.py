"""One policy, or one for each, for agents who move in turn."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import AECEnv

from corelab import ConfigError, PluginError
from corelab.context import Context
from corelab.experiments import resolve

SMALL = {
    "task.num_envs": 4,
    "algorithm.horizon": 32,
    "algorithm.batch_size": 32,
    "algorithm.lr": 1e-2,
    "model.sizes": [8],
}


class Chorus(AECEnv):
    """Three agents hear a bit each in turn, eight times; whoever repeats it, or, if ODD, the third
    who does not, earns all of them 1.
    """

    metadata = {"render_modes": []}
    possible_agents = ["a", "b", "c"]
    odd = False

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.rewards, self._cumulative_rewards = (dict.fromkeys(self.agents, 0) for _ in range(2))
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos = {agent: {} for agent in self.agents}
        self.rng, self.t, self.agent_selection = np.random.default_rng(seed), 0, "a"
        self.bit = int(self.rng.integers(2))

    def observe(self, agent):
        return np.array([2 * self.bit - 1], np.float32)

    def step(self, action):
        right = (action == self.bit) != (self.odd and self.agent_selection == "c")
        self.rewards = dict.fromkeys(self.agents, int(right))
        self.t += 1
        self.bit = int(self.rng.integers(2))
        self.agent_selection = "abc"[self.t % 3]
        self.terminations = dict.fromkeys(self.agents, self.t == 24)

    def close(self):
        pass


class Odd(Chorus):
    odd = True


@pytest.fixture
def build(monkeypatch):
    def build(environment=Chorus, algorithm="ppo", model=None, workers=0, **values):
        module = SimpleNamespace(env=environment)
        monkeypatch.setitem(sys.modules, "made", SimpleNamespace(chorus_v0=module))
        monkeypatch.setitem(sys.modules, "made.chorus_v0", module)
        values = {"seed": 0, "steps": 10_000, **values}
        experiment = resolve(algorithm, task="made/chorus_v0", model=model, values=values)
        context = Context(0, torch.device("cpu"), 10_000)
        context.rollout_workers = workers
        with context.owning_globals():
            return experiment.build(context), context

    return build


@pytest.mark.parametrize(
    ("environment", "model", "values"),
    [
        (Chorus, None, {}),
        (Odd, "independent", {"task.policies": "independent"}),
    ],
)
def test_all_agents_learn_and_play_by_what_is_learned(environment, model, values, build):
    ppo, _ = build(environment, model=model, **SMALL | values)
    while ppo.progress < 2_048:
        metrics = ppo.step()
    assert metrics["episode_length"] == 8  # the turns of one of them
    measured = ppo.evaluate("test", 30)
    # eight of their own turns and 16 of others', of which one, on average, is before their first
    assert measured["return"] == pytest.approx(8 + 15, abs=0.2)
    assert measured["return_among_random"] == pytest.approx(8 + 15 / 2, abs=1)


@pytest.mark.parametrize("algorithm", ["a2c", "reinforce"])
def test_others_move_by_the_policy_in_training_too(algorithm, build):
    learner, _ = build(algorithm=algorithm, **{"task.num_envs": 3, "model.sizes": [8]})

    def repeat(seen, mask=None, memory=None, starts=None):
        x = seen.numpy()
        return 100 * np.concatenate([-x, x], 1), memory

    learner.policy.act = repeat
    returns = [metrics["return"] for _ in range(3) if "return" in (metrics := learner.step())]
    assert np.mean(returns) == pytest.approx(23)  # less what came before their first turns


@pytest.mark.parametrize("policies", ["shared", "independent"])
def test_it_is_resumed_bit_for_bit(policies, build, resumed):
    model = "independent" if policies == "independent" else None
    values = SMALL | {"task.policies": policies}
    whole, _ = build(model=model, **values)
    expected = [whole.step() for _ in range(3)]
    resumed(lambda: build(model=model, **values), 2, expected)


def test_what_does_not_fit_is_told(build):
    with pytest.raises(PluginError, match=r"made/chorus_v0 move in turn, .* model without memory"):
        build(model="lstm")
    with pytest.raises(ConfigError, match="of made/chorus_v0 move in turn by the policy, which"):
        build(workers=1, **{"algorithm.rollout.inference": "central"})
