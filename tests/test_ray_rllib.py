"""RLlib's algorithms as corelab's: they learn, are measured, saved and refused like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corelab import CorelabError, Run, train
from corelab.plugins import Plugins

pytest.importorskip("ray.rllib", reason="needs RLlib: pip install 'corelab-ml[ray]'")
pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(autouse=True)
def plugin(install: Callable[..., None]) -> None:
    """Nothing, once the package is installed with the others."""
    if not any(p.name == "rllib" for p in {offer.plugin for offer in Plugins().offers}):
        install("corelab-rllib", None, entry="rllib", module="corelab_rllib")


SMALL = {
    "rllib-ppo": {"algorithm.batch_size": 200, "algorithm.epochs": 1},
    "rllib-impala": {"algorithm.batch_size": 200},
    "rllib-appo": {"algorithm.batch_size": 200},
    "rllib-dqn": {"algorithm.warmup": 480},
    "rllib-sac": {"algorithm.warmup": 480, "algorithm.sizes": [8]},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n[6:] in ("appo", "dqn", "sac") else n
        for n in SMALL
    ],
)
def test_it_runs_stops_and_goes_on_like_any_algorithm(
    name: str, tmp_path: Path, cluster: None
) -> None:
    options = {**SMALL[name], "run.eval_n": 2, "run.eval_every": 0}
    run = train(name, steps=300, run_dir=tmp_path, options=options)
    assert run.status == "done"
    assert run.record["weights_sha256"]
    first = run.progress
    assert 300 <= first < 2000
    figures = run.evaluate(n=2)
    assert set(figures) >= {"return", "return_std", "episode_length"}
    assert figures == Run(run.path).evaluate(n=2)
    weights = run.record["weights_sha256"]
    run = run.resume(steps=first + 100)
    assert first + 100 <= run.progress < first + 2000
    assert run.record["weights_sha256"] != weights
    assert run.record["sessions"][1]["progress"] == first
    rows = run.metrics()
    assert [row["progress"] for row in rows] == sorted(row["progress"] for row in rows)
    assert {"eval/return", "eval/episode_length"} <= set().union(*rows)
    if name != "rllib-sac":  # an episode of its task has not ended in so few steps
        assert {"train/return", "train/episode_length"} <= set().union(*rows)


@pytest.mark.parametrize("name", ["rllib-ppo", pytest.param("rllib-appo", marks=pytest.mark.slow)])
def test_several_agents_share_a_policy(name: str, tmp_path: Path, cluster: None) -> None:
    pytest.importorskip("mpe2")
    task, options = "mpe2/simple_spread_v3", SMALL[name]
    run = train(
        name,
        task=task,
        steps=400,
        run_dir=tmp_path,
        options={**options, "task.num_envs": 3, "run.eval_n": 2, "run.eval_every": 0},
    )
    assert run.progress >= 400
    rows = run.metrics()
    told = [row["train/return"] for row in rows if "train/return" in row]
    measured = run.evaluate(n=4)["return"]
    assert told
    assert abs(told[-1] - measured) < 0.8 * abs(measured)  # of an agent, not of the three
    assert run.record["weights_sha256"]


def test_forbidden_actions_are_not_taken(tmp_path: Path, cluster: None) -> None:
    options = {
        "task.max_inferences": 20,
        "task.max_actions": 8,
        "task.state_features": 16,
        "task.action_features": 4,
        "task.num_envs": 2,
        "algorithm.batch_size": 128,
        "algorithm.epochs": 1,
        "run.eval_every": 0,
        "run.eval_n": 1,
    }
    run = train("rllib-ppo", task="tptp", steps=128, run_dir=tmp_path, options=options)
    algorithm = run.load(device="cpu")
    envs = algorithm.task.make(4, 0)
    observations, _ = envs.reset()
    for _ in range(30):
        mask = observations["action_mask"]
        actions = algorithm._act(observations)
        assert mask[np.arange(4), actions][mask.any(1)].all()  # none is when an episode is over
        observations, *_ = envs.step(actions)
    acting = algorithm._algorithm.get_module()
    learning = algorithm._algorithm.learner_group._learner.module["default_policy"]
    seen = torch.as_tensor(algorithm._see(observations))
    for forward in (acting.forward_exploration, learning.forward_train):
        logits = forward({"obs": seen})["action_dist_inputs"]
        chances = logits.softmax(-1).detach().numpy()
        mask = observations["action_mask"] > 0
        np.testing.assert_array_equal((chances > 0)[mask.any(1)], mask[mask.any(1)])


def test_no_checkpoint_holds_what_could_execute(tmp_path: Path, cluster: None) -> None:
    options = {**SMALL["rllib-ppo"], "run.eval_n": 1, "run.eval_every": 0}
    run = train("rllib-ppo", steps=200, run_dir=tmp_path, options=options)
    files = [file for file in run.checkpoints.pick().rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("name", "task", "options", "sentence"),
    [
        ("rllib-dqn", "tptp", {}, "says which actions are allowed, which RLlib's DQN does not"),
        ("rllib-appo", "tptp", {}, "says which actions are allowed, which RLlib's APPO does not"),
        ("rllib-ppo", "CartPole-v1", {"algorithm.settings": ["clip=="]}, "takes lines of TOML"),
        ("rllib-ppo", "CartPole-v1", {"algorithm.settings": ["clp=1"]}, "algorithm.settings: "),
        ("rllib-ppo", "CartPole-v1", {"algorithm.lr": -1}, "algorithm.lr is -1"),
        ("rllib-dqn", "mpe2/simple_spread_v3", {}, "has several agents"),
        ("rllib-dqn", "Pendulum-v1", {}, "RLlib's DQN does not learn Pendulum-v1"),
    ],
)
def test_what_cannot_be_learned_is_told_in_a_sentence(
    name: str, task: str, options: dict[str, Any], sentence: str, tmp_path: Path, cluster: None
) -> None:
    with pytest.raises(CorelabError) as caught:
        train(name, task=task, run_dir=tmp_path, options=options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rllib-ppo", "rllib-impala", "rllib-appo"])
def test_rollout_workers_are_its_env_runners(name: str, tmp_path: Path, cluster: None) -> None:
    options = {**SMALL[name], "rollout_workers": 1, "run.eval_n": 2, "run.eval_every": 0}
    run = train(name, steps=400, run_dir=tmp_path, options=options)
    assert run.progress >= 400
    assert "train/return" in set().union(*run.metrics())


@pytest.mark.slow
def test_ppo_learns_cart_pole(tmp_path: Path, cluster: None) -> None:
    run = train("rllib-ppo", steps=60_000, run_dir=tmp_path, options={"run.eval_every": 0})
    assert run.best["value"] > 300
