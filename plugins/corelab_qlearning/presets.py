"""Defaults for single tasks; docs/algorithms/dqn.md and rainbow.md tell what they reach."""

from __future__ import annotations

from typing import Any

_MINATAR: dict[str, dict[str, Any]] = {
    game: {
        "model": "cnn",
        "steps": steps,
        "task.num_envs": 32,
        "algorithm.train_every": 32,
        "algorithm.updates": 2,
        "algorithm.batch_size": 32,
        "algorithm.lr": 1e-3 if game == "Breakout" else 5e-4,
        "algorithm.target_every": 4_000,
        "algorithm.epsilon_start": 1.0,
        "algorithm.exploration": 0.1,
        # the first reward is some 30 steps up
        "algorithm.persistent": game == "Freeway",
    }
    for game, steps in (
        ("Asterix", 600_000),
        ("Breakout", 600_000),
        ("Freeway", 160_000),
        ("Seaquest", 1_000_000),
        ("SpaceInvaders", 160_000),
    )
}
"""The same budget, number of updates and exploration for both algorithms."""

DQN_PRESETS: dict[str, dict[str, Any]] = {
    # Long n-step returns carry rewards, and their absence, quickly to where they were earned.
    "CartPole-v1": {
        "steps": 50_000,
        "task.num_envs": 4,
        "algorithm.updates": 2,
        "algorithm.lr": 2e-3,
        "algorithm.anneal_lr": True,
        "algorithm.double": True,
        "algorithm.n_step": 20,
        "algorithm.target_every": 250,
        "algorithm.epsilon_end": 0.01,
    },
    "Acrobot-v1": {
        "steps": 100_000,
        "task.num_envs": 4,
        "algorithm.anneal_lr": True,
        "algorithm.double": True,
        "algorithm.n_step": 10,
        "algorithm.target_every": 250,
        "algorithm.epsilon_end": 0.02,
    },
    "MountainCar-v0": {
        "steps": 120_000,
        "task.num_envs": 4,
        "algorithm.train_every": 16,
        "algorithm.updates": 8,
        "algorithm.lr": 2e-3,
        "algorithm.anneal_lr": True,
        "algorithm.gamma": 0.98,
        "algorithm.double": True,
        "algorithm.n_step": 3,
        "algorithm.target_every": 600,
        "algorithm.persistent": True,
        "algorithm.exploration": 0.3,
    },
    "LunarLander-v3": {
        "steps": 300_000,
        "task.num_envs": 4,
        "algorithm.anneal_lr": True,
        "algorithm.double": True,
        "algorithm.n_step": 5,
        "algorithm.epsilon_end": 0.02,
    },
    **{
        f"ALE/{game}-v5": {
            "model": "cnn",
            "steps": 10_000_000,
            "algorithm.learning_starts": 100_000,
            "algorithm.batch_size": 32,
            "algorithm.lr": 1e-4,
            "algorithm.target_every": 1_000,
            "algorithm.exploration": 0.1,
            "algorithm.epsilon_end": 0.01,
            "run.checkpoint_seconds": 1_800,
        }
        for game in ("Pong", "Breakout")
    },
    **{f"MinAtar/{game}-v1": options for game, options in _MINATAR.items()},
}

# Chosen by single runs; docs/algorithms/rainbow.md tells of them.
_SEAQUEST = {"algorithm.lr": 1e-3, "algorithm.n_step": 1}

RAINBOW_PRESETS: dict[str, dict[str, Any]] = {
    f"MinAtar/{game}-v1": options | (_SEAQUEST if game == "Seaquest" else {})
    for game, options in _MINATAR.items()
}
