"""Policy-gradient methods: PPO, and the network that it uses by default."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms and models of this package."""
    return [
        Component(
            "algorithm",
            "ppo",
            "corelab_policy_gradient.ppo:PPO",
            "proximal policy optimization: many clipped updates on each batch of experience",
            uses=("environment", "actor-critic"),
            paper="Schulman et al. 2017, Proximal Policy Optimization Algorithms, arXiv:1707.06347",
        ),
        Component(
            "model",
            "mlp",
            "corelab_policy_gradient.mlp:MLP",
            "two multilayer perceptrons, one to act and one to judge",
            provides="actor-critic",
        ),
    ]
