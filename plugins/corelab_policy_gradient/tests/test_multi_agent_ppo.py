"""PPO with several agents and in games: what counts, what is saved, and what is learned."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from corelab.context import Context
from corelab.experiments import resolve
from corelab.state import load_tree, save_tree

SPREAD, TICTACTOE = "mpe2/simple_spread_v3", "classic/tictactoe_v3"
PAIR = "mpe2/simple_speaker_listener_v4"
SMALL = {
    "task.num_envs": 4,
    "algorithm.horizon": 16,
    "algorithm.epochs": 2,
    "algorithm.batch_size": 16,
    "model.sizes": [8],
}
LEAGUE = {"algorithm.league.every": 1, "algorithm.league.size": 3}


def build(task, seed=0, model=None, steps=10_000, **values):
    experiment = resolve(
        "ppo", task=task, model=model, values={"seed": seed, "steps": steps, **values}
    )
    context = Context(seed, torch.device("cpu"), steps)
    return experiment.build(context), context


class Leavers:
    """Agents "a" and "b" of episodes of 3 steps; "a" is out after one. An action is its reward."""

    metadata = {}
    possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, ["a", "b"]
        return self.see(self.agents), {}

    def see(self, agents):
        return {agent: np.full(1, self.t / 3, np.float32) for agent in agents}

    def step(self, actions):
        self.t += 1
        over = {agent: agent == "a" or self.t == 3 for agent in actions}
        self.agents = [agent for agent, end in over.items() if not end]
        rewards = {agent: float(agent == "b") for agent in actions}
        return self.see(actions), rewards, over, dict.fromkeys(actions, False), {}

    def close(self):
        pass


def test_agents_that_are_out_are_no_experience(monkeypatch):
    module = SimpleNamespace(parallel_env=Leavers)
    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(leavers_v0=module))
    monkeypatch.setitem(sys.modules, "made.leavers_v0", module)
    values = SMALL | {"task.num_envs": 1, "algorithm.batch_size": 32}
    ppo, _ = build("made/leavers_v0", **values)
    metrics = ppo.step()
    # an episode and its reset take 4 steps: 1 transition of "a" and 3 of "b"
    assert ppo.progress == 4 * (1 + 3)
    assert metrics["return"] == (0 + 3) / 2
    assert metrics["episode_length"] == (1 + 3) / 2


@pytest.mark.parametrize(
    ("task", "model", "values"),
    [
        (TICTACTOE, None, SMALL | LEAGUE),
        (SPREAD, None, SMALL),
        (
            "mpe2/simple_speaker_listener_v4",
            "independent",
            SMALL | {"task.policies": "independent"},
        ),
    ],
)
def test_resume_is_bit_identical(task, model, values, tmp_path):
    whole, context = build(task, 3, model, **values)
    for _ in range(5):
        whole.step()
    whole.save(tmp_path)
    save_tree(tmp_path / "streams", context.state_dict())
    expected = [dict(whole.step()) for _ in range(4)]
    resumed, context = build(task, 3, model, **values)
    resumed.load(tmp_path)
    context.load_state_dict(load_tree(tmp_path / "streams"))
    assert [dict(resumed.step()) for _ in range(4)] == expected
    for a, b in zip(whole.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_league_plays_and_grows():
    ppo, _ = build(TICTACTOE, **SMALL | LEAGUE)
    rows = [ppo.step() for _ in range(8)]
    assert [row["league_size"] for row in rows][:2] == [2, 3]
    assert max(row["league_size"] for row in rows) == 3
    assert all(0 <= row["win_rate"] <= 1 for row in rows[1:])
    assert rows[-1]["elo"] != 0


def test_games_are_measured_against_each_fixed_player():
    ppo, _ = build(TICTACTOE, **SMALL)
    ppo.step()
    before = [p.clone() for p in ppo.net.parameters()]
    metrics = ppo.evaluate("test", 30, 0)
    assert ppo.evaluate("test", 30, 0) == metrics
    assert all(torch.equal(a, b) for a, b in zip(ppo.net.parameters(), before, strict=True))
    for rival in ("random", "perfect"):
        rates = [metrics[f"{result}_rate_{rival}"] for result in ("win", "draw", "loss")]
        assert sum(rates) == pytest.approx(1)
    assert metrics["win_rate_perfect"] == 0
    gained = [metrics[f"win_rate_{r}"] - metrics[f"loss_rate_{r}"] for r in ("random", "perfect")]
    assert metrics["return"] == pytest.approx(np.mean(gained))


@pytest.mark.slow
def test_self_play_learns_tictactoe():
    ppo, context = build(TICTACTOE, steps=150_000)
    with context.owning_globals():
        while ppo.progress < 150_000:
            ppo.step()
    metrics = ppo.evaluate("test", 200, 0)
    assert metrics["win_rate_random"] > 0.8
    assert metrics["loss_rate_random"] < 0.08
    assert metrics["draw_rate_perfect"] > 0.6


@pytest.mark.slow
def test_a_shared_policy_learns_to_spread():
    ppo, context = build(SPREAD, steps=150_000)
    with context.owning_globals():
        while ppo.progress < 150_000:
            ppo.step()
    assert ppo.evaluate("test", 100, 0)["return"] > -19.5  # -25.7 at random
