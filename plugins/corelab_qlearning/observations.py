"""Observations, and the masks of allowed actions that may come with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from corelab_envs.interface import Environment
from corelab_nets.masks import has_mask, split_mask, without_mask
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import PluginError


def split(observation: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """What an OBSERVATION shows, and the mask of allowed actions if it has one."""
    return split_mask(observation) if isinstance(observation, dict) else (observation, None)


def shown(task: Environment) -> tuple[spaces.Box | spaces.Discrete[Any], bool]:
    """The space of what TASK shows besides an action mask, and whether there is a mask."""
    space = task.single_observation_space
    seen = without_mask(space)
    if not isinstance(seen, spaces.Box | spaces.Discrete):
        raise PluginError(
            f"{task.name} shows {space}; dqn and rainbow learn from Box and Discrete, or from a "
            'Dict of an "observation" of these and an "action_mask"'
        )
    return seen, has_mask(space)
