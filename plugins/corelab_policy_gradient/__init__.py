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
            "algorithm",
            "reinforce",
            "corelab_policy_gradient.reinforce:REINFORCE",
            "the plain policy gradient, from whole episodes, with or without a baseline",
            uses=("environment", "actor-critic"),
            paper="Williams 1992, Simple Statistical Gradient-Following Algorithms for "
            "Connectionist Reinforcement Learning, Machine Learning 8",
        ),
        Component(
            "algorithm",
            "a2c",
            "corelab_policy_gradient.a2c:A2C",
            "advantage actor-critic: an update after every few steps of many environments",
            uses=("environment", "actor-critic"),
            paper="Mnih et al. 2016, Asynchronous Methods for Deep Reinforcement Learning, "
            "arXiv:1602.01783",
        ),
        Component(
            "algorithm",
            "sac",
            "corelab_policy_gradient.sac:SAC",
            "soft actor-critic: off-policy learning of actions that pay and stay random",
            uses=("environment", "soft-actor-critic"),
            paper="Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications, "
            "arXiv:1812.05905",
        ),
        Component(
            "model",
            "mlp",
            "corelab_policy_gradient.soft_mlp:SoftMLP",
            "three multilayer perceptrons: one to act and two to judge",
            provides="soft-actor-critic",
        ),
        Component(
            "model",
            "mlp",
            "corelab_policy_gradient.mlp:MLP",
            "two multilayer perceptrons, one to act and one to judge",
            provides="actor-critic",
        ),
        Component(
            "model",
            "cnn",
            "corelab_policy_gradient.cnn:CNN",
            "convolutions that actor and critic share, for images and what stands beside them",
            provides="actor-critic",
        ),
        Component(
            "model",
            "lstm",
            "corelab_policy_gradient.lstm:LSTM",
            "a long short-term memory, for what must be remembered",
            provides="actor-critic",
        ),
        Component(
            "model",
            "independent",
            "corelab_policy_gradient.independent:Independent",
            "for several agents: two multilayer perceptrons for each of them",
            provides="actor-critic",
        ),
    ]
