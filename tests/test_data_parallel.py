"""Two processes, each with half of every minibatch, learn what one process learns."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray", reason="needs Ray: pip install 'corelab-ml[ray]'")

from corelab.context import Context

sys.path.insert(0, str(Path(__file__).parent))
from data_parallel import (
    EXPERIENCE,
    UPDATES,
    Weights,
    build,
    learn,
    weights,
)

SMALL: dict[str, Any] = {"algorithm.batch_size": 16, "steps": 1000}
CASES: dict[str, dict[str, Any]] = {
    "vqvae": {
        "algorithm": "vqvae",
        "options": SMALL | {"algorithm.prior_share": 0.97, "algorithm.prior_layers": 2},
    },
    "pixelcnn": {"algorithm": "pixelcnn", "options": SMALL | {"algorithm.conditional": True}},
    "gan-dcgan": {
        "algorithm": "gan",
        "model": "dcgan",
        "options": SMALL | {"algorithm.n_critic": 2},
    },
}
ACTING: dict[str, dict[str, Any]] = {
    "ppo": {
        "how": "acts",
        "algorithm": "ppo",
        "task": "CartPole-v1",
        "options": {
            "task.num_envs": 8,
            "algorithm.horizon": 64,
            "algorithm.batch_size": 512,
            "algorithm.epochs": 2,
            "algorithm.normalise_reward": True,
        },
    },
    "a2c": {
        "how": "acts",
        "algorithm": "a2c",
        "task": "CartPole-v1",
        "options": {
            "task.num_envs": 8,
            "algorithm.horizon": 32,
            "algorithm.normalise_advantage": True,
        },
    },
}

REPLAYING: dict[str, dict[str, Any]] = {
    "dqn": {
        "how": "replays",
        "algorithm": "dqn",
        "task": "CartPole-v1",
        "options": {
            "task.num_envs": 2,
            "algorithm.train_every": 64,
            "algorithm.learning_starts": 128,
            "algorithm.batch_size": 64,
        },
    },
    "sac": {
        "how": "replays",
        "algorithm": "sac",
        "task": "Pendulum-v1",
        "options": {
            "task.num_envs": 2,
            "algorithm.warmup": 64,
            "algorithm.updates": 0.05,
            "algorithm.batch_size": 64,
        },
    },
}

REMEMBERING: dict[str, dict[str, Any]] = {
    "alphazero": {
        "how": "remembers",
        "algorithm": "alphazero",
        "task": "tic-tac-toe",
        "options": {
            "algorithm.games": 8,
            "algorithm.batch_size": 64,
            "algorithm.simulations": 4,
            "algorithm.updates": 1,
        },
    }
}

PLAYING: dict[str, dict[str, Any]] = {
    "reinforce": {
        "how": "plays",
        "algorithm": "reinforce",
        "task": "CartPole-v1",
        "options": {"task.num_envs": 8, "algorithm.normalise_advantage": True},
    }
}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of every case as each of two processes has them."""
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).parent / "data_parallel.py"
    children = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", folder / "rendezvous", folder],
            stdin=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write(json.dumps(CASES | ACTING | REPLAYING | REMEMBERING | PLAYING))
        child.stdin.close()
    assert [child.wait(300) for child in children] == [0, 0]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_the_weights_of_one(name: str, together: Path) -> None:
    before, alone = (learn(CASES[name], Context, updates) for updates in (0, UPDATES))
    first, second = (torch.load(together / f"{name}-{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in alone)
    # Adam makes a full step of a gradient that is nothing but rounding, so single weights differ
    way = _distance(before, alone)
    assert way > 0
    assert _distance(alone, first) < 2e-4 * way


def _distance(one: Weights, other: Weights) -> float:
    squares = [(one[key] - other[key]).double().square().sum() for key in one]
    return float(sum(squares)) ** 0.5


@pytest.mark.parametrize("name", ACTING)
def test_one_process_learns_the_same_from_what_two_have_seen(name: str, together: Path) -> None:
    parts = [torch.load(together / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
    (first, seen, progress), (second, other, _) = parts
    assert not torch.equal(seen["observations"], other["observations"])  # each in its own episodes
    assert all(torch.equal(first[key], second[key]) for key in first)

    algorithm = build(ACTING[name], Context)
    before = {key: value.clone() for key, value in weights(algorithm).items()}
    rollout = algorithm.rollout
    for key in EXPERIENCE:
        joined = [torch.as_tensor(part[key]) for part in (seen, other)]
        torch.as_tensor(getattr(rollout, key)).copy_(torch.cat(joined, 1))
    rollout.observations.tree.copy_(torch.cat([seen["observations"], other["observations"]], 1))
    rollout.collect = dict
    algorithm.step()
    assert algorithm.progress == progress
    after = weights(algorithm)
    assert _distance(after, first) < 2e-4 * _distance(before, after)


@pytest.mark.parametrize("name", REPLAYING)
def test_one_process_learns_the_same_from_what_two_replay(name: str, together: Path) -> None:
    parts = [torch.load(together / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
    (first, seen, progress), (second, other, their_progress) = parts
    assert progress == their_progress
    assert all(torch.equal(first[key], second[key]) for key in first)

    algorithm = build(REPLAYING[name], Context)
    before = {key: value.clone() for key, value in weights(algorithm).items()}
    with torch.no_grad():
        for mine, theirs in zip(seen, other, strict=True):
            if name == "dqn":
                (batch, lr), (their_batch, _) = mine, theirs
                columns = [torch.cat(pair) for pair in zip(batch, their_batch, strict=True)]
                joined = type(batch)(*columns)
                algorithm._update(joined._replace(weight=joined.weight / 2), lr)
            else:
                (batch, noise), (their_batch, their_noise) = mine, theirs
                assert not torch.equal(batch, their_batch)
                B = len(batch)
                halves = [noise[:B], their_noise[:B], noise[B:], their_noise[B:]]
                algorithm._update(torch.cat([batch, their_batch]), torch.cat(halves))
    after = weights(algorithm)
    same = [key for key in after if not key.startswith("target")]
    assert _distance({k: after[k] for k in same}, first) < 2e-4 * _distance(
        {k: before[k] for k in same}, after
    )


@pytest.mark.parametrize("name", REMEMBERING)
def test_one_process_learns_the_same_from_what_two_remember(name: str, together: Path) -> None:
    parts = [torch.load(together / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
    (first, seen, _), (second, other, _) = parts
    assert all(torch.equal(first[key], second[key]) for key in first)

    algorithm = build(REMEMBERING[name], Context)
    before = {key: value.clone() for key, value in weights(algorithm).items()}
    algorithm._mirrored = lambda s, policy, rng: (s, policy)
    for (mine, progress), (theirs, _) in zip(seen, other, strict=True):
        joined = [torch.cat(pair) for pair in zip(mine, theirs, strict=True)]
        algorithm.positions.draw = lambda *_, joined=joined: joined
        algorithm.progress = progress
        algorithm._learn()
    after = weights(algorithm)
    assert _distance(after, first) < 2e-4 * _distance(before, after)


@pytest.mark.parametrize("name", PLAYING)
def test_one_process_learns_the_same_from_what_two_have_played(name: str, together: Path) -> None:
    parts = [torch.load(together / f"{name}-{rank}.pt", weights_only=False) for rank in range(2)]
    (first, seen, progress), (second, other, _) = parts
    assert all(torch.equal(first[key], second[key]) for key in first)

    algorithm = build(PLAYING[name], Context)
    before = {key: value.clone() for key, value in weights(algorithm).items()}
    T = max(len(seen.valid), len(other.valid))
    valid, reward = (
        np.concatenate([_longer(getattr(e, key), T) for e in (seen, other)], 1)
        for key in ("valid", "reward")
    )
    action, shown = (
        torch.cat([*chain(*zip(_by_time(seen, key, T), _by_time(other, key, T), strict=True))])
        for key in ("action", "seen")
    )
    joined = seen._replace(
        seen=shown,
        action=action,
        reward=reward,
        valid=valid,
        last=torch.cat([seen.last, other.last]),
        truncated=np.concatenate([seen.truncated, other.truncated]),
    )
    algorithm._play = lambda: joined
    algorithm.step()
    assert algorithm.progress == progress
    after = weights(algorithm)
    assert _distance(after, first) < 2e-4 * _distance(before, after)


def _longer(rows: Any, T: int) -> Any:
    """ROWS [t, N] with zeros up to T of them."""
    return np.concatenate([rows, np.zeros((T - len(rows), *rows.shape[1:]), rows.dtype)])


def _by_time(experience: Any, key: str, T: int) -> list[torch.Tensor]:
    """The rows of the column KEY in each of T steps."""
    return list(torch.split(getattr(experience, key), _longer(experience.valid, T).sum(1).tolist()))
