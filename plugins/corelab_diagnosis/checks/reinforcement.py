"""Reinforcement learning: policies, values, replay and episodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelab_diagnosis.interface import SURE, Evidence, Finding, Networks

_KL, _JUMP = 0.1, 0.5
"""KL(π_old ‖ π) of an update that is too large where the policy gets no better, and anyway: there
half of the actions may be others (Pinsker: the total variation is √(KL / 2) at most). Ratios that
all are at the bounds that Schulman et al. set them, 1 ± 0.2, make 0.02."""
_CERTAIN = 0.1
"""Share of the other actions that is left to a policy that is certain."""
_EARLY = 0.4
"""Share of the budget before which it should not be, unless it is good."""
_HARM = -0.5
"""Explained variance of a critic that does harm. At 0 it explains nothing, which is all that can be
had where states are alike, as in much of a run on CartPole."""
_LAG = 10
"""Updates by which the policy that acted may be behind."""
_RANDOM = 1 / 3
"""Share of its updates that a network may make towards targets that know nothing."""
_FIT = 250
"""Updates in which a network can fit targets that rest."""


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
    lag, every = e.late("train/policy_lag"), e.option("target_every", 0)
    waits = e.option("learning_starts", 0)
    updates = e.option("updates", 1) / e.option("train_every", 1)  # in a step
    first = every if every > waits else waits + every
    if lag is not None and lag > _LAG:
        seen = f"the weights that act are {lag:.0f} updates behind those that learn"
        advice = "fewer rollout workers, or --algorithm.rollout.asynchronous no"
    elif every * updates > _FIT and first - waits > _RANDOM * (e.steps - waits):
        seen = f"{first:,} of {e.steps:,} steps are over before the target network is one that has "
        seen += "learned"
        advice = "a smaller --algorithm.target-every, a hundredth of the budget or less"
    elif waits > e.steps / 2:
        seen = f"{waits:,} of {e.steps:,} steps are over before it learns"
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
    longer = 1.0
    if gamma < 1 and e.series("train/truncated").any():  # what is cut off counts as going on
        horizon = 1 / (1 - gamma)
        longer = max(1.0, horizon / L)
    bounds = [2 * max(best, 0.0) * longer]
    if e.play is not None and len(e.play.rewards):
        most = float(e.play.rewards.max())
        bounds.append(most * (horizon if most > 0 else 1.0))
        if e.play.rewards.min() >= 0:
            bounds.append(best * longer)
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
    moves, clipped = e.series("train/approx_kl"), e.series("train/clip_fraction")
    if len(moves) < 3:
        return None
    kl, better = float(np.median(moves)), e.trend(_of_return(e)) > SURE
    if kl <= _KL or (kl <= _JUMP and (better or len(_returns(e)) < 4)):
        return None
    return Finding(
        "policy update too large",
        f"every other update moves the policy by a KL divergence of {kl:.3g} or more"
        + (f" and clips {np.median(clipped):.0%} of the ratios" if len(clipped) else ""),
        "the surrogate objective holds near the policy that acted only; far from it, it promises "
        "what does not come true",
        "fewer --algorithm.epochs, a smaller step size or clip, or --algorithm.target-kl 0.02",
        "Schulman et al. 2017, arXiv:1707.06347, sections 3 and 4; Schulman et al. 2015, "
        "arXiv:1502.05477, sections 3 and 8",
    )


def entropy(e: Evidence) -> Finding | None:
    """A policy does not become certain before it is good."""
    H, when, returns = e.series("train/entropy"), e.when("train/entropy"), _returns(e)
    n = e.play.actions if e.play is not None else 0
    if len(H) < 3 or e.option("entropy_coef") is None or e.progress < _EARLY:
        return None
    full = float(np.log(n)) if n > 1 else float(H[:2].max())
    least = full + np.log(_CERTAIN)  # of a density: a tenth of the volume
    if n > 1 or (H >= 0).all():
        # exp H counts the actions that are in play, of which one always is
        least = np.log1p(_CERTAIN * np.expm1(full))
    certain = np.flatnonzero(least > H)
    if not len(certain) or when[certain[0]] > _EARLY or np.median(H[certain[0] :]) > least:
        return None
    if _got_good(e, returns, certain[0] / len(H)):
        return None
    return Finding(
        "entropy collapse",
        f"the entropy of the policy fell from {full:.3g} to {H[-1]:.2g} nats, below {least:.2g} "
        f"after {when[certain[0]]:.0%} of the budget, and the return does not rise",
        "a policy that always does the same sees nothing new, and no gradient leads away from it",
        "a larger --algorithm.entropy-coef, a smaller step size, or normalised advantages",
        "Mnih et al. 2016, arXiv:1602.01783, section 4; Ahmed et al. 2019, arXiv:1811.11214",
    )


def _got_good(e: Evidence, returns: NDArray[np.float64], share: float) -> bool:
    """Whether RETURNS rise, or had risen to where they are when this SHARE of them was over."""
    if len(returns) < 4:
        return True  # nothing says that it is not
    n, at = max(2, len(returns) // 10), int(share * len(returns))
    begun, then, now = (float(np.mean(r)) for r in (returns[:2], returns[at:][:n], returns[-n:]))
    good = now > begun + 0.25 * abs(begun) and then - begun > 0.8 * (now - begun)
    return good or e.trend(_of_return(e)) > SURE


def value(e: Evidence) -> Finding | None:
    """The critic explains some of the returns, or the policy learns without."""
    explained = e.series("train/explained_variance")
    if len(explained) < 10 or e.progress < 0.6:
        return None
    late = float(np.median(explained[len(explained) // 2 :]))
    returns, idle = _returns(e), _idle(e.end)
    if late > (0.1 if idle else _HARM) or not len(returns) or returns.std() == 0:
        return None
    if not idle and max(e.trend(_of_return(e)), e.trend("train/explained_variance")) > SURE:
        return None
    return Finding(
        "value explains nothing",
        f"the value explains {max(late, -9.99):.2f} of the variance of the returns (median of the "
        f"second half; 1 is all, 0 what a constant would){idle}",
        "without a baseline that knows states apart, advantages are as noisy as returns",
        "a larger --algorithm.value-coef or step size, normalised rewards, or a larger network",
        "Schulman et al. 2016, arXiv:1506.02438, section 5; Andrychowicz et al. 2021, "
        "arXiv:2006.05990, section 3.4",
    )


def _idle(networks: Networks | None) -> str:
    """What says that one of the networks hardly learns while another does; "" if none is so."""
    changes: dict[str, float] = {}
    for layer in (networks or Networks()).layers:
        changes[layer.network] = max(changes.get(layer.network, 0.0), layer.change)
    least, most = min(changes.values(), default=0.0), max(changes.values(), default=0.0)
    if least >= 0.01 * most:
        return ""
    return f", and an update changes one network by {least:.2g} of its size, another by {most:.2g}"


def _of_return(e: Evidence) -> str:
    """The metric that tells the returns of training episodes, or else of evaluations."""
    return "train/return" if len(e.series("train/return")) else "eval/return"


def _returns(e: Evidence) -> NDArray[np.float64]:
    return e.series(_of_return(e))
