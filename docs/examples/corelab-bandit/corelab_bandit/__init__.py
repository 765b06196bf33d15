"""Multi-armed bandits."""

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """What this plugin offers."""
    return [
        Component(
            kind="task",
            name="bernoulli-bandit",
            target="corelab_bandit.bandit:BernoulliBandit",
            summary="arms that pay 1 or nothing, each with its own odds",
            provides="bandit",
        ),
        Component(
            kind="algorithm",
            name="epsilon-greedy",
            target="corelab_bandit.epsilon_greedy:EpsilonGreedy",
            summary="the best arm so far, and now and then another one",
            uses=("bandit",),
            paper="Sutton & Barto 2018, Reinforcement Learning, section 2.4",
        ),
    ]
