"""What is learned from: inputs, rewards, and how far what was learned carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelab_diagnosis.interface import Evidence, Finding, Networks

_LARGE = 20.0
"""Inputs beyond this are not normalised; no environment of Gymnasium's classic ones gets there."""
_TINY = 1e-3
_APART = 0.15
"""Error rates in training and on held-out data that are too far from each other."""
_REWARD = 100.0
"""Reward of a step beyond which values have to grow for long before they fit."""


def inputs(e: Evidence) -> Finding | None:
    """The data that networks are given are of the order of 1."""
    found = e.end or e.start
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


_PAIRED = ("bits_per_dim", "nll_nats", "loss")
"""What is measured in training and on held-out data alike: small is good."""


def gap(e: Evidence) -> Finding | None:
    """What gets better on the training data does not get worse on others."""
    seen = next((seen for name in _PAIRED if (seen := _turned(e, name))), "") or _apart(e)
    if not seen:
        return None
    return Finding(
        "overfitting",
        seen,
        "the network learns the training examples by heart, and what it learns now does not carry "
        "over to others (variance)",
        "stop earlier (the best checkpoint is kept), take more or augmented data, a smaller model, "
        "dropout or weight decay",
        "Goodfellow et al. 2016, Deep Learning, sections 5.2 and 7.8",
    )


def _turned(e: Evidence, name: str) -> str:
    """What says that NAME fell in training and rose on held-out data."""
    held_out, train = e.series(f"eval/{name}"), e.series(f"train/{name}")
    if len(held_out) < 4 or len(train) < 8:
        return ""
    best = int(held_out.argmin())
    share = e.when(f"eval/{name}")[best]
    n = max(2, len(train) // 10)
    now, then = (float(np.mean(part)) for part in (train[-n:], _around(e, name, share, n)))
    rise, apart = held_out[-1] - held_out[best], held_out[-1] - now
    falls = now < then and rise > 0.05 * abs(held_out[best]) and apart > 0.1 * abs(held_out[-1])
    if best > len(held_out) - 3 or not falls or held_out[-2] <= held_out[best]:
        return ""
    return (
        f"{name} fell from {then:.4g} to {now:.4g} in training but rose from "
        f"{held_out[best]:.4g} to {held_out[-1]:.4g} on held-out data since {share:.0%} of the run"
        + _rates(e)
    )


def _around(e: Evidence, name: str, share: float, n: int) -> NDArray[np.float64]:
    """The N values of the training metric NAME up to this SHARE of the budget."""
    end = max(n, int((e.when(f"train/{name}") <= share).sum()))
    return e.series(f"train/{name}")[end - n : end]


def _apart(e: Evidence) -> str:
    """What says that error rates in training and on held-out data are far from each other."""
    train, held_out = _end(e, "train/error"), e.series("eval/error")
    if train is None or len(held_out) < 4 or e.progress < 0.5:
        return ""
    late = float(np.median(held_out[-3:]))
    if late - train < _APART or late < 3 * train:
        return ""
    return f"errors are {train:.1%} in training but {late:.1%} on held-out data{_rates(e)}"


def bias(e: Evidence) -> Finding | None:
    """The error rates: what can be had, training, validation and test."""
    if e.progress < 0.9 or not len(e.series("train/error")):
        return None
    known = e.series("eval/optimal_error")
    best, train = float(known[-1]) if len(known) else 0.0, _end(e, "train/error")
    held_out = e.series("eval/error")
    if train is None or not len(held_out) or train - best < 0.3:
        return None
    if held_out[-1] - train > train - best:
        return None
    return Finding(
        "bias",
        f"the error rate in training is still {train:.1%}{_rates(e)}",
        "what cannot be told on the data it has seen will not be told on others: the fault is not "
        "one of too few data (bias)",
        "train longer, take a larger model or a better step size, and look whether inputs and "
        "labels belong together",
        "Ng 2018, Machine Learning Yearning, chapters 20 to 24",
    )


def _end(e: Evidence, name: str) -> float | None:
    """The median of the metric NAME in the last fifth of its rows; None for fewer than 10."""
    values = e.series(name)
    return float(np.median(values[-len(values) // 5 :])) if len(values) >= 10 else None


def _rates(e: Evidence) -> str:
    """The four error rates, in words."""
    rates = {
        "optimal": e.series("eval/optimal_error"),
        "training": e.series("train/error"),
        "validation": e.series("eval/error"),
        "test": np.array([e.test["error"]] if "error" in e.test else []),
    }
    if not len(rates["training"]):
        return ""
    said = [f"{name} {v[-1]:.1%}" if len(v) else f"{name} unknown" for name, v in rates.items()]
    return f"; error rates: {', '.join(said)}"
