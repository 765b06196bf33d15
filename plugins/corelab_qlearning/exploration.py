"""When to act at random, and how: ε-greedy, and its persistent variant εz-greedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST = 100
"""Steps that a random action is kept to at most."""


class Exploration:
    """Random choices for N environments with so many ACTIONS.

    MASKED says that not all actions are always allowed; PERSISTENT that a random action is kept to
    for a while, whose length comes from a zeta distribution (εz-greedy; Dabney et al. 2021,
    arXiv:2006.01782): mostly one step, sometimes many, which leads further than trembling does.
    """

    def __init__(self, num_envs: int, actions: int, *, masked: bool, persistent: bool) -> None:
        self._shape, self._actions, self._masked = (num_envs,), actions, masked
        self._persistent = persistent
        # The random choice that is kept to, and for how many more steps.
        self._held: NDArray[Any] = self._anything((), np.random.default_rng(0))
        self._remaining = np.zeros(num_envs, np.int64)

    def draw(
        self, steps: int, epsilon: float, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[Any]]]:
        """For each of so many STEPS whether to explore, [N], and what to do then: actions [N] or,
        if masked, a preference for each action, [N, actions], of those allowed the highest counts.
        """
        explores = rng.random((steps, *self._shape)) < epsilon
        anything = self._anything((steps,), rng)
        if self._persistent:
            for t, duration in enumerate(rng.zipf(2.0, explores.shape).clip(max=_LONGEST)):
                begins = explores[t] & (self._remaining == 0)
                self._remaining[begins] = duration[begins]
                self._held[begins] = anything[t][begins]
                explores[t], anything[t] = self._remaining > 0, self._held
                self._remaining -= explores[t]
        return zip(explores, anything, strict=True)

    def _anything(self, steps: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
        shape = (*steps, *self._shape)
        if self._masked:
            return rng.random((*shape, self._actions))
        return rng.integers(self._actions, size=shape)

    def state_dict(self) -> dict[str, Any]:
        """What is kept to."""
        return {"held": self._held, "remaining": self._remaining}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from STATE."""
        self._held, self._remaining = state["held"], state["remaining"]
