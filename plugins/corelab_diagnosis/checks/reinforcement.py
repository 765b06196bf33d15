"""Reinforcement learning: policies, values, replay and episodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelab_diagnosis.interface import Evidence, Finding

_KL, _CLIPPED = 0.05, 0.3
"""KL(π_old ‖ π) in an update, and share of ratios that are clipped, of a policy that jumps."""
_CERTAIN = 0.1
"""Share of its first entropy below which a policy is certain."""
_EARLY = 0.4
"""Share of the budget before which it should not be, unless it is good."""
_LAG = 10
"""Updates by which the policy that acted may be behind."""


def time_limit(e: Evidence) -> Finding | None:
    """An episode that reaches its longest length is cut off, not over."""
    length, cut = e.series("train/episode_length"), e.series("train/truncated")
    if len(length) < 3 or len(length) != len(cut):
        return None
    longest = length.max()
    at_limit = length == longest
    if longest < 10 or at_limit.sum() < max(3, 0.05 * len(length)) or cut[at_limit].any():
        return None
    return Finding(
        "truncation as termination",
        f"in {at_limit.sum()} rows of metrics every episode ended after exactly {longest:.0f} "
        "steps, and none of them was cut off",
        "a time limit that the agent does not see is not the end of what could be earned: counted "
        "as one, good states look worthless shortly before it",
        "let the environment say truncated in place of terminated at its limit (TimeLimit of "
        "Gymnasium does), or show the agent how much time is left",
        "Pardo et al. 2018, Time Limits in Reinforcement Learning, arXiv:1712.00378, section 3",
    )


def stale(e: Evidence) -> Finding | None:
    """What is learned from is not much older than the policy."""
    lag, every = e.late("train/policy_lag"), e.option("target_every")
    if lag is not None and lag > _LAG:
        seen = f"the weights that act are {lag:.0f} updates behind those that learn"
        advice = "fewer rollout workers, or --algorithm.rollout.asynchronous no"
    elif isinstance(every, int) and every > e.steps / 10:
        seen = f"the target network is copied every {every:,} of {e.steps:,} steps"
        advice = "a smaller --algorithm.target-every, a hundredth of the budget or less"
    elif e.option("learning_starts", 0) > e.steps / 2:
        seen = f"{e.option('learning_starts'):,} of {e.steps:,} steps are over before it learns"
        advice = "a smaller --algorithm.learning-starts"
    else:
        return None
    return Finding(
        "stale replay",
        seen,
        "targets and experience of a policy from long ago teach what was good then",
        advice,
        "Fedus et al. 2020, Revisiting Fundamentals of Experience Replay, arXiv:2007.06700, "
        "section 3; Mnih et al. 2015, methods",
    )


def overestimation(e: Evidence) -> Finding | None:
    """No value is above what the rewards allow."""
    values, gamma = e.series("train/q"), e.option("gamma")
    lengths, returns = e.series("train/episode_length"), _returns(e)
    if len(values) < 4 or gamma is None or not len(lengths) or not len(returns):
        return None
    q = float(np.median(values[-max(2, len(values) // 5) :]))  # it may have grown all the time
    best, L = float(returns.max()), lengths.max()
    horizon = L if gamma == 1 else (1 - gamma**L) / (1 - gamma)
    bounds = [2 * max(best, 0.0)]
    if e.play is not None and len(e.play.rewards):
        most = float(e.play.rewards.max())
        bounds.append(most * (horizon if most > 0 else 1.0))
        if e.play.rewards.min() >= 0:
            bounds.append(best)
    # a soft value, such as that of SAC, counts the policy's entropy as a reward, too
    entropies = e.series("train/alpha"), e.series("train/entropy")
    paid = np.prod(entropies, 0) if len(entropies[0]) == len(entropies[1]) else np.zeros(0)
    bound = min(bounds) + float(paid.max(initial=0)) * horizon
    scale = max(1.0, abs(float(np.median(returns))))
    if q <= bound + 0.2 * max(abs(bound), 0.05 * scale):
        return None
    return Finding(
        "overestimation",
        f"states are believed to be worth {q:.4g} on average, but no return of the run allows more "
        f"than {bound:.4g} (the best was {best:.4g}, discounted by {gamma:g})",
        "the largest of several uncertain values is chosen, its error with it, and becomes the "
        "target of others",
        "--algorithm.double, a larger --algorithm.target-every, a smaller step size, or a gamma "
        "below 1",
        "van Hasselt et al. 2016, Deep Reinforcement Learning with Double Q-learning, "
        "arXiv:1509.06461, section 3",
    )


def step_of_policy(e: Evidence) -> Finding | None:
    """An update keeps the policy near the one that acted."""
    kl, clipped = _highest(e, "train/approx_kl"), _highest(e, "train/clip_fraction")
    if kl <= _KL and clipped <= _CLIPPED:
        return None
    return Finding(
        "policy update too large",
        f"for a quarter of the run, an update moves the policy by a KL divergence of {kl:.3g} and "
        f"clips {clipped:.0%} of the ratios (medians)",
        "the surrogate objective holds near the policy that acted only; far from it, it promises "
        "what does not come true",
        "fewer --algorithm.epochs, a smaller step size or clip, or --algorithm.target-kl 0.02",
        "Schulman et al. 2017, arXiv:1707.06347, sections 3 and 4",
    )


def _highest(e: Evidence, name: str) -> float:
    """The median of the metric NAME in the quarter of its rows where that is greatest."""
    values = e.series(name)
    if len(values) < 4:
        return 0.0
    return max(float(np.median(part)) for part in np.array_split(values, 4))


def entropy(e: Evidence) -> Finding | None:
    """A policy does not become certain before it is good."""
    H, when, returns = e.series("train/entropy"), e.when("train/entropy"), _returns(e)
    coefficient = e.option("entropy_coef")
    if len(H) < 6 or len(returns) < 5 or coefficient is None:
        return None
    first = float(np.max(H[:2]))
    certain = np.flatnonzero((_CERTAIN * first if first > 0 else first - 4) > H)
    if not len(certain) or when[certain[0]] > _EARLY or e.progress < _EARLY:
        return None
    if first > 0 and np.median(H[certain[0] :]) > _CERTAIN * first:
        return None
    at = int(certain[0] / len(H) * len(returns))
    n = max(2, len(returns) // 10)
    begun, then, now = (float(np.mean(r)) for r in (returns[:2], returns[at:][:n], returns[-n:]))
    good = now > begun + 0.25 * abs(begun) and then - begun > 0.8 * (now - begun)
    if good and coefficient >= 0:  # with less than 0 it is paid for being certain
        return None
    return Finding(
        "entropy collapse",
        f"the entropy of the policy fell from {first:.3g} to {H[-1]:.2g} nats, below a tenth after "
        f"{when[certain[0]]:.0%} of the budget, at a return of {then:.3g}; now it is {now:.3g}",
        "a policy that always does the same sees nothing new, and no gradient leads away from it",
        "a larger --algorithm.entropy-coef, a smaller step size, or normalised advantages",
        "Mnih et al. 2016, arXiv:1602.01783, section 4; Ahmed et al. 2019, arXiv:1811.11214",
    )


def value(e: Evidence) -> Finding | None:
    """The critic explains some of the returns."""
    explained = e.series("train/explained_variance")
    if len(explained) < 10 or e.progress < 0.6:
        return None
    late = float(np.median(explained[len(explained) // 2 :]))
    returns = _returns(e)
    if late > 0.1 or not len(returns) or returns.std() == 0:
        return None
    return Finding(
        "value explains nothing",
        f"the value explains {max(late, -9.99):.2f} of the variance of the returns (median of the "
        "second half; 1 is all, 0 what a constant would)",
        "without a baseline that knows states apart, advantages are as noisy as returns",
        "a larger --algorithm.value-coef or step size, normalised rewards, or a larger network",
        "Schulman et al. 2016, arXiv:1506.02438, section 5; Andrychowicz et al. 2021, "
        "arXiv:2006.05990, section 3.4",
    )


def _returns(e: Evidence) -> NDArray[np.float64]:
    """The returns of training episodes, or else of evaluations."""
    train = e.series("train/return")
    return train if len(train) else e.series("eval/return")
