"""benchmarks/spread.py: returns as publications tell them, and what a run's line says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import spread


def test_a_return_is_turned_into_that_of_the_first_version() -> None:
    from mpe2 import simple_spread_v3

    env = simple_spread_v3.parallel_env(max_cycles=25)
    rng = np.random.default_rng(0)
    ours = theirs = 0.0
    touches = 0
    for seed in range(4):
        env.reset(seed=seed)
        world = env.unwrapped.world
        while env.agents:
            _, rewards, *_ = env.step({agent: int(rng.integers(5)) for agent in env.agents})
            ours += sum(rewards.values()) / 3 / 4
            agents = np.array([agent.state.p_pos for agent in world.agents])
            landmarks = np.array([landmark.state.p_pos for landmark in world.landmarks])
            d = np.linalg.norm(landmarks[:, None] - agents, axis=-1)  # [landmarks, agents]
            touching = np.linalg.norm(agents[:, None] - agents, axis=-1) < 0.3  # itself, too
            touches += touching.sum() - 3
            each = -d.min(1).sum() - touching.sum(1)
            theirs += each.sum() / 4
    assert touches > 0
    assert spread.originally(ours) == pytest.approx(theirs)


def test_a_run_is_judged_by_both_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "_EPISODES", 20)
    run = spread.measure(0, 3_000, "independent")
    assert run["agent_steps"] >= 3_000
    assert run["original"] == pytest.approx(spread.originally(run["return"]), abs=0.01)
    assert run["original_error"] == pytest.approx(6 * run["return_error"], abs=0.01)
    assert run["curve"][-1][0] == run["agent_steps"]
    assert -400 < run["curve"][-1][1] < -100


def test_curves_are_drawn_beside_what_is_published(tmp_path: Path) -> None:
    curve = [[1e6, -160.0], [2e6, -150.0]]
    lines = [{"policies": policies, "curve": curve} for policies in ("shared", "independent")]
    runs = tmp_path / "runs.jsonl"
    runs.write_text("\n".join(json.dumps(line) for line in [*lines, lines[0]]))
    spread.draw([runs], tmp_path / "curves.svg")
    picture = (tmp_path / "curves.svg").read_text()
    assert [picture.count(f"{kind} policy") for kind in ("shared", "independent")] == [1, 1]
    assert "IPPO, published" in picture
