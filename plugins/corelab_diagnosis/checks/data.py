"""What is learned from: inputs and rewards."""

from __future__ import annotations

import numpy as np

from corelab_diagnosis.interface import Evidence, Finding, Networks

_LARGE = 20.0
"""Inputs beyond this are not normalised; no environment of Gymnasium's classic ones gets there."""
_TINY = 1e-3
_REWARD = 100.0
"""Reward of a step beyond which values have to grow for long before they fit."""


def inputs(e: Evidence) -> Finding | None:
    """The data that networks are given are of the order of 1."""
    found = e.end or e.start or e.fresh
    for layer in (found or Networks()).layers:
        if not (layer.data and layer.seen):
            continue
        large = max(layer.mean, layer.std) > _LARGE
        if large or 0 < layer.rms < _TINY:
            return Finding(
                "inputs",
                f"the first layer of {layer.network} is given numbers up to {layer.largest:.3g} "
                f"(mean of a unit up to {layer.mean:.3g}, its deviation up to {layer.std:.3g})",
                "the gradient of a weight is proportional to its input, so no step size fits all "
                "weights, and units saturate or die",
                "give every input mean 0 and standard deviation 1"
                + (
                    ": --algorithm.normalise-observation"
                    if e.option("normalise_observation") is False
                    else ", or divide by its greatest value"
                ),
                "LeCun et al. 1998, Efficient BackProp, section 4.3",
            )
    return None


def rewards(e: Evidence) -> Finding | None:
    """Rewards are of the order of 1, unless the algorithm divides by their scale."""
    if e.option("normalise_reward"):
        return None
    size = 0.0
    if e.play is not None and len(e.play.rewards):
        size = float(np.sqrt(np.mean(e.play.rewards**2)))
    returns, lengths = e.series("train/return"), e.series("train/episode_length")
    if len(returns) and len(returns) == len(lengths):
        size = max(size, float(np.median(np.abs(returns) / np.maximum(lengths, 1))))
    if not (size > _REWARD or (0 < size < _TINY and not _sparse(e))):
        return None
    return Finding(
        "rewards",
        f"a step is rewarded with {size:.3g} on average (root mean square)",
        "values and their gradients are as large as returns: step sizes, clipping and the weight "
        "of the value loss are meant for rewards of about 1",
        "scale the rewards to about 1"
        + (", or --algorithm.normalise-reward" if e.option("normalise_reward") is False else ""),
        "van Hasselt et al. 2016, Learning values across many orders of magnitude, "
        "arXiv:1602.07714, section 1; Henderson et al. 2018, arXiv:1709.06560",
    )


def _sparse(e: Evidence) -> bool:
    """Whether steps are mostly paid nothing, so that their mean says nothing of the scale."""
    return e.play is None or float(np.abs(e.play.rewards).max(initial=0)) in (0.0, 1.0)
