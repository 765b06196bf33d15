"""Which actions are allowed, where an environment says so.

It does by a Dict of observations with the key "action_mask", a vector of 0 and 1 over its Discrete
actions, as PettingZoo's classic games do, or over those of all choices of a MultiDiscrete space.
The mask is no observation: networks see the rest, and that plainly if it is the one key
"observation".
"""

from __future__ import annotations

from collections.abc import Sequence
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


def check_mask(
    space: spaces.Space[Any], actions: spaces.Space[Any], of: str, several: bool = False
) -> None:
    """`PluginError`, naming OF, if the mask in SPACE, if it has one, does not fit ACTIONS: Discrete
    ones or, if SEVERAL choices fit, too, MultiDiscrete ones, over which masks stand side by side.
    """
    if not has_mask(space):
        return
    assert isinstance(space, spaces.Dict)
    n = int(actions.n) if isinstance(actions, spaces.Discrete) else None
    if several and isinstance(actions, spaces.MultiDiscrete):
        n = int(actions.nvec.sum())
    if space[KEY].shape != (n,):
        choices = ", or of each choice of MultiDiscrete ones, side by side" if several else ""
        raise PluginError(
            f"{of} shows an action_mask {space[KEY]} over actions {actions}; "
            f"what fits is a vector with a 0 or 1 for each of n Discrete actions{choices}"
        )


def choices_of(actions: spaces.Space[Any]) -> list[int]:
    """Where in a mask over ACTIONS the choices begin: one, or several of a MultiDiscrete space."""
    if isinstance(actions, spaces.MultiDiscrete):
        return [0, *np.cumsum(actions.nvec.ravel())[:-1].tolist()]
    return [0]


def split_mask(observation: Any) -> tuple[Any, NDArray[np.bool_]]:
    """What networks see of an OBSERVATION that has a mask, and the mask [N, n]."""
    rest = {key: part for key, part in observation.items() if key != KEY}
    seen = rest["observation"] if set(rest) == {"observation"} else rest
    return seen, np.array(observation[KEY], np.bool_)


def refuse_empty(
    mask: NDArray[np.bool_],
    over: NDArray[np.bool_],
    of: str,
    step: int,
    first: int = 0,
    choices: Sequence[int] = (0,),
) -> None:
    """`DataError` if MASK [N, n] allows nothing to a copy whose episode is not OVER [N], in one of
    the CHOICES that begin there; copies are counted from FIRST on.

    Where it is over, anything will do, so all actions are allowed there, in place.
    """
    mask[over] = True
    allows = np.logical_or.reduceat(mask, choices, 1).all(1)
    if not allows.all():
        copy = first + int(allows.argmin())
        where = "" if len(choices) == 1 else " for one of the choices"
        raise DataError(
            f"{of}: copy {copy} allows no action at step {step}; its mask is all zeros{where}"
        )


def masked(logits: Array, mask: Array | None) -> Array:
    """LOGITS [..., n] with those that MASK forbids at `FORBIDDEN`; both arrays or both tensors."""
    return logits if mask is None else module_of(logits).where(mask, logits, FORBIDDEN)
