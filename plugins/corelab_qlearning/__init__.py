"""Q-learning: the tabular method, and deep Q-networks up to Rainbow."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms and models of this package."""
    return [
        Component(
            "algorithm",
            "qlearning",
            "corelab_qlearning.qlearning:QLearning",
            "tabular Q-learning, for environments with few states and actions",
            uses=("environment",),
            paper="Watkins and Dayan 1992, Q-learning, Machine Learning 8",
        ),
        Component(
            "algorithm",
            "dqn",
            "corelab_qlearning.dqn:DQN",
            "deep Q-networks: double, dueling, prioritised, n-step, noisy, C51, QR-DQN as options",
            uses=("environment", "q-network"),
            paper="Mnih et al. 2015, Human-level control through deep reinforcement learning",
        ),
        Component(
            "algorithm",
            "rainbow",
            "corelab_qlearning.rainbow:Rainbow",
            "DQN with all of its improvements together",
            uses=("environment", "q-network"),
            paper="Hessel et al. 2018, Rainbow, arXiv:1710.02298",
        ),
        Component(
            "model",
            "mlp",
            "corelab_qlearning.mlp:MLP",
            "a perceptron that gives the values of actions, for vectors",
            provides="q-network",
        ),
        Component(
            "model",
            "cnn",
            "corelab_qlearning.cnn:CNN",
            "a convolutional network that gives the values of actions, for pictures",
            provides="q-network",
        ),
    ]
