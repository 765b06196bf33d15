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


def vtrace(
    rewards: NDArray[np.floating],
    values: NDArray[np.floating],
    terminations: NDArray[np.bool_],
    truncations: NDArray[np.bool_],
    log_rho: NDArray[np.floating],
    gamma: float,
    lam: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> NDArray[np.float64]:
    """v_s - V(x_s) [T, N] for the V-trace targets v_s of experience by another policy (Espeholt et
    al. 2018, arXiv:1802.01561, eq. 1).

    LOG_RHO [T, N] is log π(a_t|x_t) - log μ(a_t|x_t), of the policy that learns and the one that
    acted; the rest is as in `gae`, whose estimates these are where π is μ and RHO_BAR and C_BAR are
    at least 1. The traces c_i have the factor LAM (their remark 2). With LAM = 1 and RHO_BAR =
    C_BAR this is also the ρ_s (r_s + γ v_{s+1} - V(x_s)) of their policy gradient (section 4.2).
    """
    rho = np.exp(np.minimum(log_rho, np.log(rho_bar)))  # min(ρ̄, π/μ)
    c = lam * np.exp(np.minimum(log_rho, np.log(c_bar)))
    following_value = gamma * ~terminations * values[1:].astype(np.float64)
    delta = rho * (rewards + following_value - values[:-1])  # δ_t V
    carried = gamma * c * ~(terminations | truncations)
    corrections = np.zeros(rewards.shape)
    following = np.zeros(rewards.shape[1:])
    for t in reversed(range(len(rewards))):  # remark 1: δ_s V + γ c_s (v_{s+1} - V(x_{s+1}))
        corrections[t] = following = delta[t] + carried[t] * following
    return corrections
