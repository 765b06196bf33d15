"""Importing this registers the environments of this package with Gymnasium.

`gymnasium.make("corelab_envs.registry:corelab/Connection-v0")` does both at once.
"""

from __future__ import annotations

import gymnasium as gym

gym.register(
    "corelab/Connection-v0",
    "corelab_envs.theorem.environment:ConnectionEnv",
    vector_entry_point="corelab_envs.theorem.environment:ConnectionVectorEnv",
    disable_env_checker=True,  # which would look at every observation, at ten times the cost
)
gym.register(
    "corelab/Metamath-v0",
    "corelab_envs.metamath.environment:MetamathEnv",
    disable_env_checker=True,
)
