"""How well what was learned fits: the data it was learned from, and others; and whether there are
too few or too many units for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelab_diagnosis.interface import SURE, Evidence, Finding, Layer, Networks

_APART = 0.15
"""Error rates in training and on held-out data that are too far from each other; or in training and
what can be had, if it gets no better."""
_NARROW = 8
"""Units of a hidden layer that are few for anything but the smallest task."""
_WIDE = 64
"""Units of a hidden layer, of which many may be of no use."""
_IDLE = 0.25
"""Share of its units below which the effective rank of a layer leaves most of them idle."""
_EXPLAINED = 0.3
"""Share of the variance of returns that a critic explains, if it can tell states apart."""


def few_units(e: Evidence) -> Finding | None:
    """What is learned passes through enough numbers."""
    narrow = min(_hidden(e), key=lambda layer: layer.units, default=None)
    if narrow is None:
        return None
    latent = e.option("latent") if e.provides == "autoencoder" else None
    if isinstance(latent, int) and narrow.units < latent:
        seen = f"where the code has {latent}"
    elif narrow.units <= _NARROW and narrow.used >= 0.5 and (short := _short(e)):
        seen = f"all of them are used (effective rank {narrow.used:.0%}), and {short}"
    else:
        return None
    return Finding(
        "too few units",
        f"{narrow} is given {narrow.units} numbers; {seen}",
        "what a layer does not pass on is lost for all that come after it: the training data "
        "themselves cannot be fitted",
        "twice as many units in every hidden layer, and again until the training error does not "
        "get better",
        "Goodfellow et al. 2016, Deep Learning, section 5.2; Bengio 2012, arXiv:1206.5533, "
        "section 3.2",
    )


def _short(e: Evidence) -> str:
    """What says that learning has come to a stop before it was good; "" if it has not."""
    error, explained = e.series("train/error"), e.late("train/explained_variance")
    if e.progress < 0.9:
        return ""
    if explained is not None and explained < _EXPLAINED:
        return f"the value explains only {explained:.2f} of the variance of the returns"
    if len(error) < 16:
        return ""
    *_, third, last = (float(np.median(part)) for part in np.array_split(error, 4))
    if last - _optimal(e) < _APART or last < 0.9 * third:
        return ""
    return f"the error rate in training stays at {last:.1%}{_rates(e)}"


def many_units(e: Evidence) -> Finding | None:
    """A network that learns by heart is not far larger than what it uses of itself."""
    wide = [layer for layer in _hidden(e) if layer.units >= _WIDE]
    idlest = min(wide, key=lambda layer: layer.used, default=None)
    if idlest is None or idlest.used >= _IDLE or not (apart := _by_heart(e)):
        return None
    return Finding(
        "too many units",
        f"what the {idlest.units} units before {idlest} give has an effective rank of "
        f"{idlest.used:.0%} of them, while {apart}",
        "units that are not needed for the structure of the data are free to fit its noise",
        "a quarter of the units, or dropout or weight decay in so large a network; more data",
        "Goodfellow et al. 2016, Deep Learning, section 5.2; the effective rank: Kumar et al. "
        "2021, arXiv:2010.14498, section 3",
    )


def _hidden(e: Evidence) -> list[Layer]:
    """The hidden layers of which it is known how many of their units are used."""
    return [layer for layer in (e.end or e.start or Networks()).hidden() if layer.used]


_PAIRED = ("bits_per_dim", "nll_nats", "loss")
"""What is measured in training and on held-out data alike: small is good."""


def gap(e: Evidence) -> Finding | None:
    """What gets better on the training data does not get worse on others."""
    if not (seen := _by_heart(e)):
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


def _by_heart(e: Evidence) -> str:
    """What says that the training data are learned by heart; "" if nothing does."""
    return next((seen for name in _PAIRED if (seen := _turned(e, name))), "") or _apart(e)


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
    best, train = _optimal(e), _end(e, "train/error")
    held_out = e.series("eval/error")
    if train is None or not len(held_out) or train - best < 0.3:
        return None
    learns = min(e.trend(name, since=0.5) for name in ("train/error", "train/loss")) < -SURE
    if held_out[-1] - train > train - best or learns:
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


def _optimal(e: Evidence) -> float:
    """The error rate that can be had: 0 if it is not known."""
    known = e.series("eval/optimal_error")
    return float(known[-1]) if len(known) else 0.0


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
