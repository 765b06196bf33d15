"""RLlib's algorithms on corelab's environments, with corelab's verbs and run directories."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms of this package."""
    return [
        Component(
            "algorithm",
            "rllib-ppo",
            "corelab_rllib.algorithms:PPO",
            "RLlib's proximal policy optimization",
            uses=("environment",),
            paper="Liang et al. 2018, RLlib: Abstractions for Distributed Reinforcement Learning, "
            "arXiv:1712.09381; Schulman et al. 2017, arXiv:1707.06347",
        ),
        Component(
            "algorithm",
            "rllib-impala",
            "corelab_rllib.algorithms:IMPALA",
            "RLlib's importance-weighted actor-learners, which act while they learn",
            uses=("environment",),
            paper="Espeholt et al. 2018, IMPALA: Scalable Distributed Deep-RL with Importance "
            "Weighted Actor-Learner Architectures, arXiv:1802.01561",
        ),
        Component(
            "algorithm",
            "rllib-appo",
            "corelab_rllib.algorithms:APPO",
            "RLlib's asynchronous PPO: acts while it learns, with a clipped ratio",
            uses=("environment",),
            paper="Luo et al. 2020, IMPACT: Importance Weighted Asynchronous Architectures with "
            "Clipped Target Networks, arXiv:1912.00167",
        ),
        Component(
            "algorithm",
            "rllib-dqn",
            "corelab_rllib.algorithms:DQN",
            "RLlib's deep Q-network: double, dueling, with prioritized replay",
            uses=("environment",),
            paper="Mnih et al. 2015, Human-level control through deep reinforcement learning, "
            "Nature 518",
        ),
        Component(
            "algorithm",
            "rllib-sac",
            "corelab_rllib.algorithms:SAC",
            "RLlib's soft actor-critic",
            uses=("environment",),
            paper="Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications, "
            "arXiv:1812.05905",
        ),
    ]
