"""Environments to learn from, as tasks: every installed Gymnasium id."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The tasks of this package."""
    return [
        Component(
            "task",
            "gymnasium",
            "corelab_envs.gymnasium_task:GymnasiumTask",
            "any installed Gymnasium environment, named by its id",
            provides="environment",
            pattern=r"(?:[\w.]+:)?(?:[\w-]+/)?[\w.-]+-v\d+",
            examples=("CartPole-v1", "Acrobot-v1", "Pendulum-v1"),
        )
    ]
