"""Step sizes and minibatches."""

from __future__ import annotations

import numpy as np

from corelab_diagnosis.interface import Evidence, Finding

_HIGH, _LOW = 0.1, 1e-5
"""‖ΔW‖ / ‖W‖ of an update that no run gets along with, and that leads nowhere."""
_FIRST = 0.5
"""The same of the very first update: that of Adam is of full length whatever the gradient."""
_FAR, _NEAR = 20.0, 0.01
"""‖W - W₀‖ / ‖W₀‖ of a whole run, likewise."""
_FEW, _FEWEST = 100, 30
"""Updates from which on weights should have moved, and below which nothing is learned at all."""
_ROWS, _LARGE = 4, 256
"""Rows of a minibatch whose gradient is mostly noise, and up to which one is small."""
_STEP = (
    "Karpathy, CS231n, Neural Networks Part 3, ratio of weights:updates; Bengio 2012, "
    "arXiv:1206.5533, section 3.1"
)


def learning_rate_high(e: Evidence) -> Finding | None:
    """An update changes weights by a thousandth, not by a tenth, and the loss falls."""
    change, first = _change(e), e.fresh.change if e.fresh else None
    diverged = "became nan" in e.error or "became inf" in e.error or "no longer finite" in e.error
    if first is not None and first > _FIRST:
        change = max(change or 0.0, first)
    large = change is not None and change > _HIGH
    far = e.moved is not None and e.moved > _FAR
    if change is not None and e.moved is not None and change > _HIGH / 2 and e.moved > _FAR / 4:
        large = far = True  # neither alone would prove it
    rising = _rising(e) if change is None or change > _HIGH / 20 else ""
    if not (diverged or large or far or rising):
        return None
    seen = [f"the run ended as {e.error.split(': ', 1)[-1].split(':')[0]}"] if diverged else []
    seen += [f"an update changes weights by {change:.2g} of their size"] if large else []
    seen += (
        [f"weights are {e.moved:.3g} times as far from where they began as these were from 0"]
        if far
        else []
    )
    seen += [rising] if rising and not diverged else []
    return Finding(
        "learning rate too high",
        "; ".join(seen),
        "updates of much more than a thousandth of the weights overshoot: the loss jumps about "
        "or grows, and units die or saturate",
        f"a tenth of the step size{_named(e)}",
        _STEP,
    )


def learning_rate_low(e: Evidence) -> Finding | None:
    """Weights move."""
    change = _change(e)
    if e.moved is None:
        # at the beginning step sizes may have to rise, and towards the end many fall to zero
        still = change is not None and change < _LOW and 0.05 < e.progress < 0.5
    else:
        still = e.moved < _NEAR and e.updates >= _FEW and (change is None or change < 1e-3)
    looks = [networks for networks in (e.start, e.end) if networks is not None]
    stuck = looks and not any(layer.gradient for look in looks for layer in look.layers)
    if not still or stuck:  # where no gradient comes back, no step size helps
        return None
    seen = [f"an update changes weights by {change:.2g} of their size"] if change else []
    if e.moved is not None:
        seen.append(
            f"after {e.updates:,} updates they are still within {e.moved:.2g} of where they began"
        )
    return Finding(
        "learning rate too low",
        "; ".join(seen),
        "an update of about a thousandth of the weights is usual; with much less the budget is "
        "over before anything is learned",
        f"ten times the step size{_named(e)}, and again until the loss gets worse",
        _STEP,
    )


def batch_large(e: Evidence) -> Finding | None:
    """A run makes more than a few updates."""
    size = e.option("batch_size", 0)  # without this option it is the budget that is small
    if not 0 < e.updates < _FEWEST or size <= _LARGE or e.progress < 0.9:
        return None
    return Finding(
        "batch too large",
        f"the whole run made {e.updates} updates, each of {size:,} rows"
        + (f" of {e.examples:,}" if e.examples else ""),
        "beyond the noise scale of the gradient, more rows make an update dearer and no better, "
        "and there are too few updates",
        "a smaller --algorithm.batch-size, or a larger budget",
        "McCandlish et al. 2018, arXiv:1812.06162, section 2.2; Keskar et al. 2017, "
        "arXiv:1609.04836",
    )


def batch_small(e: Evidence) -> Finding | None:
    """An update averages over more than a few rows."""
    networks = e.end or e.start
    rows = (
        [layer.rows for layer in networks.layers if layer.data and layer.seen] if networks else []
    )
    if not rows or max(rows) > _ROWS:
        return None
    return Finding(
        "batch too small",
        f"the networks see {max(rows)} row{'s' * (max(rows) > 1)} in an update",
        "the gradient of so few rows is mostly noise: the step size has to be tiny, and the "
        "machine waits for calls rather than computes",
        "32 rows or more in a minibatch",
        "McCandlish et al. 2018, arXiv:1812.06162, section 2.2",
    )


def _change(e: Evidence) -> float | None:
    """‖ΔW‖ / ‖W‖ of an update, the larger of what was seen at the start and later."""
    seen = [n.change for n in (e.start, e.end) if n is not None and n.change is not None]
    return max(seen, default=None)


def _rising(e: Evidence) -> str:
    """What says that the loss grows, of a loss that should only fall; "" if it does not."""
    if not (e.series("eval/bits_per_dim").size or e.series("eval/loss").size):
        return ""
    loss = e.series("train/loss")
    n = len(loss) // 4
    if n < 5:
        return ""
    first, last = np.median(loss[:n]), np.median(loss[-n:])
    if last <= first + 0.05 * abs(first):
        return ""
    return f"the loss rose from {first:.3g} in the first quarter to {last:.3g} in the last"


def _named(e: Evidence) -> str:
    lr = e.option("lr")
    return f" (--algorithm.lr is {lr:g})" if isinstance(lr, float | int) else ""
