"""Which actions are allowed, where an environment says so.

It does by a Dict of observations with the key "action_mask", a vector of 0 and 1 over its Discrete
actions, as PettingZoo's classic games do. The mask is no observation: networks see the rest, and
that plainly if it is the one key "observation".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from corelab import DataError, PluginError
from corelab_nets.arrays import Array, module_of

KEY = "action_mask"
FORBIDDEN = -1e8
"""The logit of an action that is not allowed: its probability is 0 in every precision."""


def without_mask(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """What of an observation SPACE networks see."""
    if not has_mask(space):
        return space
    assert isinstance(space, spaces.Dict)
    rest = {key: part for key, part in space.spaces.items() if key != KEY}
    return rest["observation"] if set(rest) == {"observation"} else spaces.Dict(rest)


def has_mask(space: spaces.Space[Any]) -> bool:
    """Whether observations of SPACE say which actions are allowed."""
    return isinstance(space, spaces.Dict) and KEY in space.spaces


def check_mask(space: spaces.Space[Any], actions: spaces.Space[Any], of: str) -> None:
    """`PluginError`, naming OF, if the mask in SPACE, if it has one, does not fit ACTIONS."""
    if not has_mask(space):
        return
    assert isinstance(space, spaces.Dict)
    n = int(actions.n) if isinstance(actions, spaces.Discrete) else None
    if space[KEY].shape != (n,):
        raise PluginError(
            f"{of} shows an action_mask {space[KEY]} over actions {actions}; "
            "what fits is a vector with a 0 or 1 for each of n Discrete actions"
        )


def split_mask(observation: Any) -> tuple[Any, NDArray[np.bool_]]:
    """What networks see of an OBSERVATION that has a mask, and the mask [N, n]."""
    rest = {key: part for key, part in observation.items() if key != KEY}
    seen = rest["observation"] if set(rest) == {"observation"} else rest
    return seen, np.array(observation[KEY], np.bool_)


def refuse_empty(mask: NDArray[np.bool_], over: NDArray[np.bool_], of: str, step: int) -> None:
    """`DataError` if MASK [N, n] allows nothing to a copy whose episode is not OVER [N].

    Where it is over, anything will do, so all actions are allowed there, in place.
    """
    mask[over] = True
    if not mask.any(1).all():
        copy = int(mask.any(1).argmin())
        raise DataError(f"{of}: copy {copy} allows no action at step {step}; its mask is all zeros")


def masked(logits: Array, mask: Array | None) -> Array:
    """LOGITS [..., n] with those that MASK forbids at `FORBIDDEN`; both arrays or both tensors."""
    return logits if mask is None else module_of(logits).where(mask, logits, FORBIDDEN)
