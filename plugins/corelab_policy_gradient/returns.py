"""What the future brings: estimates of advantages from rewards and values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gae(
    rewards: NDArray[np.floating],
    values: NDArray[np.floating],
    terminations: NDArray[np.bool_],
    truncations: NDArray[np.bool_],
    gamma: float,
    lam: float,
) -> NDArray[np.float64]:
    """Generalised advantage estimates Â [T, N] (Schulman et al. 2016, arXiv:1506.02438).

    REWARDS, TERMINATIONS and TRUNCATIONS are [T, N], VALUES are V(s_0) … V(s_T), [T + 1, N]. After
    a termination nothing follows. A truncated episode would have gone on, so V(s_{t+1}) of its last
    observation stands for what it would have brought, but no later step belongs to it. This needs
    s_{t+1} to be that last observation, as it is with Gymnasium's autoreset mode NEXT_STEP; the
    entries of the steps that reset mean nothing, and no other entry depends on them.
    """
    T = len(rewards)
    # eq. 12: δ_t = r_t + γ V(s_{t+1}) - V(s_t)
    delta = rewards + gamma * ~terminations * values[1:].astype(np.float64) - values[:-1]
    carried = gamma * lam * ~(terminations | truncations)
    advantages = np.zeros(rewards.shape)
    following = np.zeros(rewards.shape[1:])
    for t in reversed(range(T)):  # eq. 16: Â_t = δ_t + γ λ Â_{t+1}
        advantages[t] = following = delta[t] + carried[t] * following
    return advantages
